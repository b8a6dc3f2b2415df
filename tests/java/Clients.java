import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.Utils;

/** The Java producer, idempotent as it is by default, and consumers of assigned partitions. */
final class Clients {
    private static final long FIRST_TIME = 1_700_000_000_000L;

    private final Connect connect;

    private Clients(Connect connect) {
        this.connect = connect;
    }

    public static void main(String[] arguments) {
        Clients clients = new Clients(new Connect(arguments[0], arguments[1]));
        Scenarios scenarios = new Scenarios();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            scenarios.run("whole-" + codec, () -> clients.everyRecordComesBackWhole(codec));
        }
        for (String acks : List.of("0", "1", "all")) {
            scenarios.run("acks-" + acks, () -> clients.everyAcknowledgementDelivers(acks));
        }
        scenarios.run("partitioning", clients::aKeyDecidesThePartition);
        scenarios.run("order", clients::partitionsKeepTheirOrder);
        scenarios.run("seek", clients::aConsumerSeeksAnywhere);
        scenarios.run("seek-by-time", clients::offsetsAreFoundByTime);
        scenarios.run("append-time", clients::theBrokerStampsAppendTime);
        scenarios.run("out-of-range", clients::anOffsetOutOfRangeIsTold);
        scenarios.run("read-committed", clients::readCommittedSeesEverythingOutsideTransactions);
        scenarios.run("refused", clients::aRefusedRecordNeverAppears);
        scenarios.run("auto-create", clients::aTopicComesIntoBeingWithItsFirstRecord);
        scenarios.run("no-auto-create", clients::aConsumerMayForbidCreation);
        scenarios.run("long-poll", clients::aWaitingConsumerIsWoken);
        scenarios.end();
    }

    private static byte[] bytes(Random random, int count) {
        byte[] bytes = new byte[count];
        random.nextBytes(bytes);
        return bytes;
    }

    /** Records of every shape: keys and values absent, empty and long; headers twice and null. */
    private static List<ProducerRecord<byte[], byte[]>> shapes(String topic, int count) {
        Random random = new Random(7);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            byte[] key = i % 3 == 0 ? null : i % 3 == 1 ? new byte[0] : bytes(random, 9);
            byte[] value = i % 4 == 0 ? null : i % 4 == 1 ? new byte[0] : bytes(random, random.nextInt(2_000));
            RecordHeaders headers = new RecordHeaders();
            if (i % 2 == 0) {
                headers.add("trace", bytes(random, 16)).add("twice", new byte[] {1});
                headers.add("twice", null).add("empty", new byte[0]);
            }
            records.add(new ProducerRecord<>(topic, 0, FIRST_TIME + i * 10L, key, value, headers));
        }
        return records;
    }

    /** Sends and waits for every acknowledgement: of a single partition, in order, without a gap. */
    private List<RecordMetadata> produce(
            List<ProducerRecord<byte[], byte[]>> records, Map<String, ?> settings) throws Exception {
        List<RecordMetadata> acknowledged = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = connect.producer(settings)) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (ProducerRecord<byte[], byte[]> record : records) {
                futures.add(producer.send(record));
            }
            producer.flush();
            for (Future<RecordMetadata> future : futures) {
                acknowledged.add(future.get());
            }
        }
        return acknowledged;
    }

    private void everyRecordComesBackWhole(String codec) throws Exception {
        String topic = "whole-" + codec;
        connect.createTopic(topic, 1, Map.of());
        List<ProducerRecord<byte[], byte[]>> sent = shapes(topic, 1_000);
        List<RecordMetadata> acknowledged = produce(sent, Map.of("compression.type", codec));
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of())) {
            List<ConsumerRecord<byte[], byte[]>> read = Connect.readAll(consumer, new TopicPartition(topic, 0));
            Scenarios.equal(sent.size(), read.size(), "records");
            for (int i = 0; i < sent.size(); i++) {
                Scenarios.equal((long) i, acknowledged.get(i).offset(), "acknowledged offset");
                Scenarios.equal(sent.get(i).timestamp(), acknowledged.get(i).timestamp(), "acknowledged time");
                same(sent.get(i), i, read.get(i));
            }
        }
    }

    private static void same(
            ProducerRecord<byte[], byte[]> sent, long offset, ConsumerRecord<byte[], byte[]> read) {
        Scenarios.equal(offset, read.offset(), "offset");
        Scenarios.equal(sent.key(), read.key(), "key at " + offset);
        Scenarios.equal(sent.value(), read.value(), "value at " + offset);
        Scenarios.equal(sent.timestamp(), read.timestamp(), "time at " + offset);
        Scenarios.equal(TimestampType.CREATE_TIME, read.timestampType(), "time's type at " + offset);
        Header[] expected = sent.headers().toArray();
        Header[] actual = read.headers().toArray();
        Scenarios.equal(expected.length, actual.length, "headers at " + offset);
        for (int h = 0; h < expected.length; h++) {
            Scenarios.equal(expected[h].key(), actual[h].key(), "header's key at " + offset);
            Scenarios.equal(expected[h].value(), actual[h].value(), "header's value at " + offset);
        }
    }

    private void everyAcknowledgementDelivers(String acks) throws Exception {
        String topic = "acks-" + acks;
        connect.createTopic(topic, 1, Map.of());
        List<ProducerRecord<byte[], byte[]>> sent = shapes(topic, 300);
        produce(sent, Map.of("acks", acks, "enable.idempotence", acks.equals("all")));
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of())) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            // acks=0 tells nothing: the records may be on their way still.
            List<ConsumerRecord<byte[], byte[]>> read = Connect.read(consumer, sent.size());
            for (int i = 0; i < sent.size(); i++) {
                same(sent.get(i), i, read.get(i));
            }
        }
    }

    private void aKeyDecidesThePartition() throws Exception {
        connect.createTopic("partitioning", 7, Map.of());
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        Random random = new Random(3);
        for (int i = 0; i < 500; i++) {
            sent.add(new ProducerRecord<>("partitioning", bytes(random, 1 + random.nextInt(20)), bytes(random, 8)));
        }
        List<RecordMetadata> acknowledged = produce(sent, Map.of());
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of())) {
            Scenarios.equal(7, consumer.partitionsFor("partitioning").size(), "partitions");
            TopicPartition[] all = new TopicPartition[7];
            for (int p = 0; p < 7; p++) {
                all[p] = new TopicPartition("partitioning", p);
            }
            Map<TopicPartition, Map<Long, byte[]>> values = new HashMap<>();
            for (ConsumerRecord<byte[], byte[]> record : Connect.readAll(consumer, all)) {
                TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                values.computeIfAbsent(partition, p -> new HashMap<>()).put(record.offset(), record.value());
            }
            for (int i = 0; i < sent.size(); i++) {
                int partition = Utils.toPositive(Utils.murmur2(sent.get(i).key())) % 7;
                Scenarios.equal(partition, acknowledged.get(i).partition(), "partition of record " + i);
                byte[] value = values.get(all[partition]).get(acknowledged.get(i).offset());
                Scenarios.equal(sent.get(i).value(), value, "value of record " + i);
            }
        }
    }

    private void partitionsKeepTheirOrder() throws Exception {
        int partitions = 6;
        int count = 60_000;
        connect.createTopic("order", partitions, Map.of());
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            byte[] value = java.nio.ByteBuffer.allocate(100).putInt(i).array();
            sent.add(new ProducerRecord<>("order", i % partitions, null, value));
        }
        List<RecordMetadata> acknowledged = produce(sent, Map.of("linger.ms", 2, "batch.size", 4_000));
        for (int i = 0; i < count; i++) {
            Scenarios.equal((long) (i / partitions), acknowledged.get(i).offset(), "offset of record " + i);
        }
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of("fetch.min.bytes", 20_000))) {
            TopicPartition[] all = new TopicPartition[partitions];
            for (int p = 0; p < partitions; p++) {
                all[p] = new TopicPartition("order", p);
            }
            for (ConsumerRecord<byte[], byte[]> record : Connect.readAll(consumer, all)) {
                int number = java.nio.ByteBuffer.wrap(record.value()).getInt();
                Scenarios.equal(number % partitions, record.partition(), "partition of record " + number);
                Scenarios.equal((long) (number / partitions), record.offset(), "offset of record " + number);
            }
        }
    }

    private void aConsumerSeeksAnywhere() throws Exception {
        connect.createTopic("seek", 1, Map.of());
        produce(shapes("seek", 300), Map.of("batch.size", 3_000));
        TopicPartition partition = new TopicPartition("seek", 0);
        List<TopicPartition> all = List.of(partition);
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of())) {
            consumer.assign(all);
            Scenarios.equal(0L, consumer.beginningOffsets(all).get(partition), "beginning");
            Scenarios.equal(300L, consumer.endOffsets(all).get(partition), "end");
            consumer.seekToBeginning(all);
            Scenarios.equal(0L, consumer.position(partition), "position at the beginning");
            consumer.seekToEnd(all);
            Scenarios.equal(300L, consumer.position(partition), "position at the end");
            for (long offset : new long[] {0, 1, 299, 150, 29, 30, 31, 7}) {
                consumer.seek(partition, offset);
                List<ConsumerRecord<byte[], byte[]>> read = Connect.read(consumer, (int) (300 - offset));
                for (int i = 0; i < read.size(); i++) {
                    Scenarios.equal(offset + i, read.get(i).offset(), "offset after seek to " + offset);
                }
            }
            consumer.seek(partition, 300);
            Scenarios.equal(0, consumer.poll(Duration.ofMillis(600)).count(), "records at the end");
        }
    }

    private void offsetsAreFoundByTime() throws Exception {
        connect.createTopic("seek-by-time", 1, Map.of());
        produce(shapes("seek-by-time", 300), Map.of("batch.size", 3_000));
        TopicPartition partition = new TopicPartition("seek-by-time", 0);
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of())) {
            consumer.assign(List.of(partition));
            for (int i : new int[] {0, 1, 57, 123, 299}) {
                long exact = FIRST_TIME + i * 10L;
                for (long time : new long[] {exact, exact - 5}) {
                    OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(partition, time)).get(partition);
                    Scenarios.equal((long) i, found.offset(), "offset at " + time);
                    Scenarios.equal(exact, found.timestamp(), "time at " + time);
                    Scenarios.equal(Optional.of(0), found.leaderEpoch(), "leader epoch at " + time);
                }
                consumer.seek(partition, i);
                Scenarios.equal(exact, Connect.read(consumer, 300 - i).get(0).timestamp(), "first time");
            }
            long late = FIRST_TIME + 300 * 10L;
            Scenarios.equal(null, consumer.offsetsForTimes(Map.of(partition, late)).get(partition), "after the last");
        }
    }

    private void theBrokerStampsAppendTime() throws Exception {
        connect.createTopic("append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        List<RecordMetadata> acknowledged =
                produce(shapes("append-time", 50), Map.of("compression.type", "lz4"));
        long after = System.currentTimeMillis();
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of())) {
            List<ConsumerRecord<byte[], byte[]>> read =
                    Connect.readAll(consumer, new TopicPartition("append-time", 0));
            for (int i = 0; i < 50; i++) {
                long time = read.get(i).timestamp();
                Scenarios.equal(TimestampType.LOG_APPEND_TIME, read.get(i).timestampType(), "time's type");
                Scenarios.holds(before <= time && time <= after, "the broker's time is now");
                Scenarios.equal(time, acknowledged.get(i).timestamp(), "acknowledged time");
            }
        }
    }

    private void anOffsetOutOfRangeIsTold() throws Exception {
        connect.createTopic("out-of-range", 1, Map.of());
        produce(shapes("out-of-range", 10), Map.of());
        TopicPartition partition = new TopicPartition("out-of-range", 0);
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of())) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 11);
            Scenarios.fails(OffsetOutOfRangeException.class, () -> Connect.read(consumer, 1));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of("auto.offset.reset", "earliest"))) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 11);
            Scenarios.equal(0L, Connect.read(consumer, 10).get(0).offset(), "reset to the beginning");
        }
    }

    private void readCommittedSeesEverythingOutsideTransactions() throws Exception {
        connect.createTopic("read-committed", 1, Map.of());
        produce(shapes("read-committed", 100), Map.of());
        TopicPartition partition = new TopicPartition("read-committed", 0);
        Map<String, String> settings = Map.of("isolation.level", "read_committed");
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(settings)) {
            Scenarios.equal(100, Connect.readAll(consumer, partition).size(), "records");
        }
    }

    private void aRefusedRecordNeverAppears() throws Exception {
        connect.createTopic("refused", 1, Map.of("max.message.bytes", "10000"));
        Map<String, ?> settings = Map.of("max.request.size", 5_000_000);
        byte[] large = bytes(new Random(1), 20_000);
        byte[] small = new byte[] {1};
        long future = System.currentTimeMillis() + Duration.ofDays(2).toMillis();
        try (KafkaProducer<byte[], byte[]> producer = connect.producer(settings)) {
            Scenarios.fails(
                    RecordTooLargeException.class,
                    () -> producer.send(new ProducerRecord<>("refused", 0, null, large)).get());
            Scenarios.fails(
                    InvalidTimestampException.class,
                    () -> producer.send(new ProducerRecord<>("refused", 0, future, null, small)).get());
            long offset = producer.send(new ProducerRecord<>("refused", 0, null, small)).get().offset();
            Scenarios.equal(0L, offset, "the first accepted record");
        }
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of())) {
            List<ConsumerRecord<byte[], byte[]>> read =
                    Connect.readAll(consumer, new TopicPartition("refused", 0));
            Scenarios.equal(1, read.size(), "records");
            Scenarios.equal(small, read.get(0).value(), "value");
        }
    }

    private void aTopicComesIntoBeingWithItsFirstRecord() throws Exception {
        byte[] value = new byte[] {42};
        List<RecordMetadata> acknowledged =
                produce(List.of(new ProducerRecord<>("auto-created", value)), Map.of());
        Scenarios.equal(0L, acknowledged.get(0).offset(), "offset");
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(Map.of())) {
            List<ConsumerRecord<byte[], byte[]>> read =
                    Connect.readAll(consumer, new TopicPartition("auto-created", 0));
            Scenarios.equal(value, read.get(0).value(), "value");
        }
    }

    private void aConsumerMayForbidCreation() throws Exception {
        Map<String, ?> settings = Map.of("allow.auto.create.topics", false, "default.api.timeout.ms", 1_500);
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(settings)) {
            try {
                List<?> partitions = consumer.partitionsFor("never-created");
                Scenarios.holds(partitions.isEmpty(), "no partitions: " + partitions);
            } catch (TimeoutException | UnknownTopicOrPartitionException expected) {
                // Either way there is no such topic.
            }
            Scenarios.holds(!consumer.listTopics().containsKey("never-created"), "it was not created");
        }
    }

    private void aWaitingConsumerIsWoken() throws Exception {
        connect.createTopic("long-poll", 1, Map.of());
        TopicPartition partition = new TopicPartition("long-poll", 0);
        Map<String, ?> settings = Map.of("fetch.max.wait.ms", 20_000);
        try (KafkaConsumer<byte[], byte[]> consumer = connect.consumer(settings);
                KafkaProducer<byte[], byte[]> producer = connect.producer(Map.of())) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 0);
            for (int i = 0; i < 5; i++) {
                // The fetch is on its way, and waits, before the record is written.
                Scenarios.equal(0, consumer.poll(Duration.ofMillis(300)).count(), "records before the write");
                producer.send(new ProducerRecord<>("long-poll", 0, null, new byte[] {(byte) i})).get();
                long start = System.nanoTime();
                Scenarios.equal((long) i, Connect.read(consumer, 1).get(0).offset(), "offset");
                long waited = (System.nanoTime() - start) / 1_000_000;
                Scenarios.holds(waited < 5_000, "woken after " + waited + " ms, not by the wait's end");
            }
        }
    }
}
