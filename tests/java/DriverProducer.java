import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Partitioner;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.StringSerializer;

/** The verb {@code produce}: a record for each command, an event for each acknowledgement. */
final class DriverProducer {
    private final JsonNode options;
    private final BlockingQueue<Future<RecordMetadata>> sent = new LinkedBlockingQueue<>();

    DriverProducer(JsonNode options) {
        this.options = options;
    }

    void load() {
        StringSerializer text = new StringSerializer();
        new KafkaProducer<>(properties(), text, text).close(Duration.ZERO);
    }

    private Properties properties() {
        Properties properties = Driver.properties(options);
        properties.put("acks", "all");
        Driver.set(properties, "compression.type", options, "codec");
        Driver.set(properties, "enable.idempotence", options, "idempotent");
        if (options.path("partitioner").asText().equals("custom")) {
            properties.put("partitioner.class", SumOfBytes.class.getName());
        }
        // The client counts a batch in bytes: one record of its own, or whatever comes together.
        if (options.path("batch").asInt(100) == 1) {
            properties.put("batch.size", 0);
        } else {
            properties.put("linger.ms", 20);
        }
        return properties;
    }

    void run() throws Exception {
        CompletableFuture<Void> told = new CompletableFuture<>();
        Thread teller = new Thread(() -> tell(told));
        teller.setDaemon(true);
        teller.start();
        StringSerializer text = new StringSerializer();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties(), text, text)) {
            String topic = options.get("topic").asText();
            for (JsonNode command = Driver.nextCommand(); command != null; command = Driver.nextCommand()) {
                sent.add(producer.send(record(topic, command)));
            }
            producer.flush();
            sent.add(CompletableFuture.completedFuture(null));
            told.get();
        }
    }

    private static ProducerRecord<String, String> record(String topic, JsonNode command) {
        RecordHeaders headers = new RecordHeaders();
        for (JsonNode header : command.path("headers")) {
            String value = Driver.textOrNull(header.get(1));
            byte[] bytes = value == null ? null : value.getBytes(StandardCharsets.UTF_8);
            headers.add(header.get(0).asText(), bytes);
        }
        return new ProducerRecord<>(
                topic,
                command.hasNonNull("partition") ? command.get("partition").asInt() : null,
                command.hasNonNull("timestamp") ? command.get("timestamp").asLong() : null,
                Driver.textOrNull(command.get("key")),
                Driver.textOrNull(command.get("value")),
                headers);
    }

    /** Prints the acknowledgements in the order of the commands; a null one is the end. */
    private void tell(CompletableFuture<Void> told) {
        try {
            for (long index = 0; ; index++) {
                RecordMetadata metadata = sent.take().get();
                if (metadata == null) {
                    told.complete(null);
                    return;
                }
                Driver.print(Driver.event("produced")
                        .put("index", index)
                        .put("partition", metadata.partition())
                        .put("offset", metadata.offset()));
            }
        } catch (Exception error) {
            told.completeExceptionally(error);
        }
    }

    /** The partitioner of the contract: the sum of the key's bytes. */
    public static final class SumOfBytes implements Partitioner {
        @Override
        public int partition(
                String topic, Object key, byte[] keyBytes, Object value, byte[] valueBytes, Cluster cluster) {
            int sum = 0;
            for (byte part : keyBytes == null ? new byte[0] : keyBytes) {
                sum += Byte.toUnsignedInt(part);
            }
            return sum % cluster.partitionCountForTopic(topic);
        }

        @Override
        public void configure(Map<String, ?> configs) {}

        @Override
        public void close() {}
    }
}
