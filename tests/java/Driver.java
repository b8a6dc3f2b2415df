import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.function.ToLongFunction;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.utils.AppInfoParser;

/** kafka-clients by the contract of tests/drivers: one verb, commands in and events out, as JSON lines. */
final class Driver {
    static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    private static final BufferedReader IN =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

    private Driver() {}

    public static void main(String[] arguments) {
        try {
            JsonNode options = JSON.readTree(arguments.length > 1 ? arguments[1] : "{}");
            switch (arguments[0]) {
                case "capabilities" -> print(capabilities());
                case "produce" -> new DriverProducer(options).run();
                case "consume" -> new DriverConsumer(options).run();
                case "admin" -> new DriverAdmin(options).run();
                case "load" -> load();
                default -> throw new IllegalArgumentException("no verb " + arguments[0]);
            }
        } catch (Throwable error) {
            fail(error);
        }
        System.exit(0);
    }

    static void fail(Throwable error) {
        error.printStackTrace();
        print(described(event("error"), error));
        System.exit(1);
    }

    private static ObjectNode capabilities() {
        ObjectNode all = JSON.createObjectNode();
        all.put("client", "kafka-clients").put("version", AppInfoParser.getVersion());
        strings(all.putArray("codecs"), List.of("none", "gzip", "snappy", "lz4", "zstd"));
        strings(all.putArray("strategies"), List.of("range", "roundrobin", "cooperative"));
        strings(all.putArray("admin"), DriverAdmin.KNOWN);
        for (String name : List.of(
                "idempotent", "custom_partitioner", "cooperative", "static", "pattern", "seek_time",
                "isolation", "auto_commit")) {
            all.put(name, true);
        }
        return all;
    }

    /** Loads what the other verbs will load, for an archive of classes; no broker is needed. */
    private static void load() {
        ObjectNode options = JSON.createObjectNode().put("bootstrap", "127.0.0.1:1");
        options.put("group", "none").put("strategy", "cooperative").putArray("topics").add("none");
        new DriverConsumer(options).load();
        new DriverProducer(options).load();
        new DriverAdmin(options).load();
    }

    private static void strings(ArrayNode array, Collection<String> values) {
        values.forEach(array::add);
    }

    static ObjectNode event(String name) {
        return JSON.createObjectNode().put("event", name);
    }

    static synchronized void print(ObjectNode event) {
        OUT.println(event);
        OUT.flush();
    }

    /** The next command, or null at the end of the input. */
    static JsonNode nextCommand() throws IOException {
        String line = IN.readLine();
        try {
            return line == null ? null : JSON.readTree(line);
        } catch (JsonProcessingException error) {
            throw new IllegalArgumentException("not a command: " + line, error);
        }
    }

    /** The error with Kafka's name of it, where it has one. */
    static ObjectNode described(ObjectNode event, Throwable error) {
        boolean wraps = error instanceof ExecutionException || error instanceof CompletionException;
        Throwable cause = wraps ? error.getCause() : error;
        String code = cause instanceof ApiException ? Errors.forException(cause).name() : null;
        return event.put("message", String.valueOf(cause)).put("code", code);
    }

    static Properties properties(JsonNode options) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", options.get("bootstrap").asText());
        return properties;
    }

    /** Sets {@code key} where the options name {@code option}. */
    static void set(Properties properties, String key, JsonNode options, String option) {
        if (options.hasNonNull(option)) {
            properties.put(key, options.get(option).asText());
        }
    }

    static String textOrNull(JsonNode value) {
        return value == null || value.isNull() ? null : value.asText();
    }

    static TopicPartition partition(JsonNode pair) {
        return new TopicPartition(pair.get(0).asText(), pair.get(1).asInt());
    }

    static ArrayNode partitions(Collection<TopicPartition> partitions) {
        ArrayNode array = JSON.createArrayNode();
        sorted(partitions).forEach(partition -> array.add(pair(partition)));
        return array;
    }

    static <T> ArrayNode offsets(Map<TopicPartition, T> offsets, ToLongFunction<T> offset) {
        ArrayNode array = JSON.createArrayNode();
        sorted(offsets.keySet())
                .forEach(partition ->
                        array.add(pair(partition).add(offset.applyAsLong(offsets.get(partition)))));
        return array;
    }

    private static ArrayNode pair(TopicPartition partition) {
        return JSON.createArrayNode().add(partition.topic()).add(partition.partition());
    }

    private static List<TopicPartition> sorted(Collection<TopicPartition> partitions) {
        Comparator<TopicPartition> order = Comparator.comparing(TopicPartition::topic);
        return partitions.stream()
                .sorted(order.thenComparingInt(TopicPartition::partition))
                .toList();
    }
}
