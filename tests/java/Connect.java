import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Clients of one broker, with their defaults unless a scenario says otherwise. */
final class Connect {
    static final Duration WITHIN = Duration.ofSeconds(30);

    final String bootstrap;
    private final String peer;

    Connect(String bootstrap, String peer) {
        this.bootstrap = bootstrap;
        this.peer = peer;
    }

    /** Kafka answers a change of metadata before its broker has seen it; Millrace answers after. */
    void settle() throws InterruptedException {
        if (peer.equals("kafka")) {
            Thread.sleep(1_000);
        }
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, ?> settings) {
        Properties all = properties(settings);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** A consumer without a group: partitions are assigned by hand. */
    KafkaConsumer<byte[], byte[]> consumer(Map<String, ?> settings) {
        Properties all = properties(settings);
        all.putIfAbsent(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "none");
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    Admin admin() {
        return Admin.create(properties(Map.of()));
    }

    void createTopic(String name, int partitions, Map<String, String> configs) throws Exception {
        try (Admin admin = admin()) {
            NewTopic topic = new NewTopic(name, partitions, (short) 1).configs(configs);
            admin.createTopics(List.of(topic)).all().get(30, TimeUnit.SECONDS);
        }
    }

    private Properties properties(Map<String, ?> settings) {
        Properties all = new Properties();
        all.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        all.putAll(settings);
        return all;
    }

    /** Polls until {@code count} records have come. */
    static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long end = System.nanoTime() + WITHIN.toNanos();
        while (records.size() < count) {
            Scenarios.holds(System.nanoTime() < end, records.size() + " of " + count + " records came");
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        Scenarios.equal(count, records.size(), "records read");
        return records;
    }

    /** Reads a partition from its beginning to its present end. */
    static List<ConsumerRecord<byte[], byte[]>> readAll(
            KafkaConsumer<byte[], byte[]> consumer, TopicPartition... partitions) {
        Collection<TopicPartition> all = Arrays.asList(partitions);
        consumer.assign(all);
        consumer.seekToBeginning(all);
        long count = 0;
        Map<TopicPartition, Long> beginnings = consumer.beginningOffsets(all);
        for (Map.Entry<TopicPartition, Long> end : consumer.endOffsets(all).entrySet()) {
            count += end.getValue() - beginnings.get(end.getKey());
        }
        return read(consumer, Math.toIntExact(count));
    }
}
