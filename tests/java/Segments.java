import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/**
 * Reads a partition of many segments from every place where a read could go wrong. Each record's
 * value begins with its own offset. Arguments: broker, peer, topic, a file with the first offset of
 * each segment, one a line, and the end offset.
 */
final class Segments {
    private final Connect connect;
    private final TopicPartition partition;
    private final List<Long> bases = new ArrayList<>();
    private final long end;

    private Segments(String[] arguments) throws Exception {
        connect = new Connect(arguments[0], arguments[1]);
        partition = new TopicPartition(arguments[2], 0);
        for (String line : Files.readAllLines(Path.of(arguments[3]))) {
            bases.add(Long.parseLong(line));
        }
        end = Long.parseLong(arguments[4]);
    }

    public static void main(String[] arguments) throws Exception {
        Segments segments = new Segments(arguments);
        Scenarios scenarios = new Scenarios();
        Map<String, Map<String, ?>> sizes = Map.of(
                "small", Map.of("max.partition.fetch.bytes", 1, "fetch.max.bytes", 1),
                "default", Map.of(),
                "large", Map.of("max.partition.fetch.bytes", 100_000_000, "fetch.max.bytes", 100_000_000));
        for (Map.Entry<String, Map<String, ?>> size : sizes.entrySet()) {
            String name = size.getKey();
            Map<String, ?> settings = size.getValue();
            scenarios.run("start-" + name, () -> segments.readToEnd(settings, 0));
            scenarios.run("middle-" + name, () -> segments.readToEnd(settings, segments.end / 2 + 1));
            scenarios.run("across-" + name, () -> segments.readAcross(settings));
        }
        scenarios.run("idle", segments::waitInSilence);
        scenarios.end();
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, ?> settings) {
        KafkaConsumer<byte[], byte[]> consumer = connect.consumer(settings);
        consumer.assign(List.of(partition));
        return consumer;
    }

    private void readToEnd(Map<String, ?> settings, long from) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(settings)) {
            consumer.seek(partition, from);
            follow(consumer, from, end);
        }
    }

    /** From before and from after each border between two segments. */
    private void readAcross(Map<String, ?> settings) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(settings)) {
            for (long base : bases.subList(1, bases.size())) {
                for (long from = base - 2; from <= base + 1; from++) {
                    consumer.seek(partition, from);
                    follow(consumer, from, base + 3);
                }
            }
        }
    }

    /** Reads at least up to {@code to}; no offset may be missing, double or another's. */
    private static void follow(KafkaConsumer<byte[], byte[]> consumer, long from, long to) {
        long next = from;
        long deadline = System.nanoTime() + Connect.WITHIN.toNanos();
        while (next < to) {
            Scenarios.holds(System.nanoTime() < deadline, "from " + from + " stuck at " + next);
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                Scenarios.equal(next, record.offset(), "offset read from " + from);
                Scenarios.equal(next, ByteBuffer.wrap(record.value()).getLong(), "offset in the value");
                next++;
            }
        }
    }

    private void waitInSilence() {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            consumer.seek(partition, end);
            for (int i = 0; i < 30; i++) {
                Scenarios.equal(0, consumer.poll(Duration.ofMillis(100)).count(), "records at the end");
            }
        }
    }
}
