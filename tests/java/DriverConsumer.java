import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;

/** The verb {@code consume}: a member of a group, or a reader of partitions it was told. */
final class DriverConsumer implements ConsumerRebalanceListener {
    private static final Duration POLL = Duration.ofMillis(50);

    private final JsonNode options;
    private final KafkaConsumer<String, String> consumer;
    /** Behind the records that were printed, and not revoked since. */
    private final Map<TopicPartition, OffsetAndMetadata> printed = new HashMap<>();
    private final BlockingQueue<JsonNode> commands = new LinkedBlockingQueue<>();

    DriverConsumer(JsonNode options) {
        this.options = options;
        StringDeserializer text = new StringDeserializer();
        this.consumer = new KafkaConsumer<>(properties(options), text, text);
    }

    private static Properties properties(JsonNode options) {
        Properties properties = Driver.properties(options);
        Driver.set(properties, "group.id", options, "group");
        Driver.set(properties, "group.instance.id", options, "instance");
        Driver.set(properties, "auto.offset.reset", options, "reset");
        Driver.set(properties, "auto.commit.interval.ms", options, "auto_commit_ms");
        Driver.set(properties, "session.timeout.ms", options, "session_ms");
        Driver.set(properties, "heartbeat.interval.ms", options, "heartbeat_ms");
        Driver.set(properties, "isolation.level", options, "isolation");
        Driver.set(properties, "metadata.max.age.ms", options, "metadata_max_age_ms");
        properties.put("enable.auto.commit", options.path("auto_commit").asBoolean(false));
        switch (options.path("strategy").asText()) {
            case "range" -> properties.put("partition.assignment.strategy", RangeAssignor.class.getName());
            case "roundrobin" ->
                properties.put("partition.assignment.strategy", RoundRobinAssignor.class.getName());
            case "cooperative" ->
                properties.put("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
            default -> { }
        }
        return properties;
    }

    void load() {
        subscribe();
        print(consumer.poll(POLL));
        consumer.close(CloseOptions.timeout(Duration.ZERO));
    }

    void run() throws InterruptedException {
        subscribe();
        readCommands();
        for (boolean open = true; open; ) {
            print(consumer.poll(POLL));
            for (JsonNode command = commands.poll(); open && command != null; command = commands.poll()) {
                open = obey(command);
            }
        }
        consumer.close();
        Driver.print(Driver.event("closed"));
    }

    private void subscribe() {
        if (options.has("assign")) {
            List<TopicPartition> partitions = new ArrayList<>();
            options.get("assign").forEach(row -> partitions.add(Driver.partition(row)));
            consumer.assign(partitions);
            options.get("assign").forEach(row -> consumer.seek(Driver.partition(row), row.get(2).asLong()));
            printAssignment();
        } else if (options.hasNonNull("pattern")) {
            consumer.subscribe(Pattern.compile(options.get("pattern").asText()), this);
        } else {
            List<String> topics = new ArrayList<>();
            options.get("topics").forEach(topic -> topics.add(topic.asText()));
            consumer.subscribe(topics, this);
        }
    }

    /** Commands come from a thread of their own; the end of the input is one to close. */
    private void readCommands() {
        Thread reader = new Thread(() -> {
            try {
                JsonNode command;
                while ((command = Driver.nextCommand()) != null) {
                    commands.add(command);
                }
            } catch (Exception error) {
                Driver.fail(error);
            }
            commands.add(Driver.JSON.createObjectNode().put("do", "close"));
        });
        reader.setDaemon(true);
        reader.start();
    }

    /** False where the command was to close. */
    private boolean obey(JsonNode command) throws InterruptedException {
        switch (command.get("do").asText()) {
            case "commit" -> commit();
            case "seek" -> seek(partitionOf(command), command.get("offset").asLong());
            case "seek_time" -> seekTime(partitionOf(command), command.get("timestamp").asLong());
            case "pause" -> {
                consumer.pause(consumer.assignment());
                Driver.print(Driver.event("paused"));
            }
            case "resume" -> {
                consumer.resume(consumer.paused());
                Driver.print(Driver.event("resumed"));
            }
            case "close" -> {
                return false;
            }
            default -> throw new IllegalArgumentException("no command " + command);
        }
        return true;
    }

    private static TopicPartition partitionOf(JsonNode command) {
        return new TopicPartition(command.get("topic").asText(), command.get("partition").asInt());
    }

    private void commit() {
        try {
            Map<TopicPartition, OffsetAndMetadata> offsets = Map.copyOf(printed);
            consumer.commitSync(offsets);
            Driver.print(committed(offsets));
        } catch (CommitFailedException | RebalanceInProgressException error) {
            // The group moves on without this member; so does the member.
            Driver.print(Driver.described(Driver.event("failed").put("do", "commit"), error));
        }
    }

    private static ObjectNode committed(Map<TopicPartition, OffsetAndMetadata> offsets) {
        ObjectNode event = Driver.event("committed");
        event.set("offsets", Driver.offsets(offsets, OffsetAndMetadata::offset));
        return event;
    }

    private void seek(TopicPartition partition, long offset) {
        consumer.seek(partition, offset);
        printed.remove(partition);
    }

    private void seekTime(TopicPartition partition, long timestamp) {
        OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(partition, timestamp)).get(partition);
        if (found == null) {
            consumer.seekToEnd(List.of(partition));
            printed.remove(partition);
        } else {
            seek(partition, found.offset());
        }
    }

    private void print(ConsumerRecords<String, String> records) {
        for (ConsumerRecord<String, String> record : records) {
            ObjectNode event = Driver.event("record")
                    .put("topic", record.topic())
                    .put("partition", record.partition())
                    .put("offset", record.offset())
                    .put("key", record.key())
                    .put("value", record.value())
                    .put("timestamp", record.timestamp());
            ArrayNode headers = event.putArray("headers");
            for (Header header : record.headers()) {
                byte[] value = header.value();
                headers.addArray()
                        .add(header.key())
                        .add(value == null ? null : new String(value, StandardCharsets.UTF_8));
            }
            Driver.print(event);
        }
        printed.putAll(records.nextOffsets());
    }

    private void printAssignment() {
        ObjectNode event = Driver.event("assigned");
        event.set("partitions", Driver.partitions(consumer.assignment()));
        Driver.print(event);
    }

    private void printTaken(String name, Collection<TopicPartition> partitions) {
        printed.keySet().removeAll(partitions);
        ObjectNode event = Driver.event(name);
        event.set("partitions", Driver.partitions(partitions));
        Driver.print(event);
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> added) {
        printAssignment();
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        printTaken("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        printTaken("lost", partitions);
    }
}
