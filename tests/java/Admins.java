import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** The Java administration client: cluster, topics, partitions, settings, offsets. */
final class Admins {
    private final Connect connect;

    private Admins(Connect connect) {
        this.connect = connect;
    }

    public static void main(String[] arguments) {
        Admins admins = new Admins(new Connect(arguments[0], arguments[1]));
        Scenarios scenarios = new Scenarios();
        scenarios.run("cluster", admins::aSingleNodeIsTheCluster);
        scenarios.run("create", admins::aCreatedTopicIsDescribed);
        scenarios.run("create-refused", admins::aTopicThatCannotBeIsRefused);
        scenarios.run("validate-only", admins::aDryRunCreatesNothing);
        scenarios.run("partitions", admins::partitionsOnlyGrow);
        scenarios.run("delete", admins::aDeletedTopicIsGone);
        scenarios.run("topic-configs", admins::aTopicsSettingsAreTold);
        scenarios.run("broker-configs", admins::aBrokersSettingsAreTold);
        scenarios.run("offsets", admins::offsetsAreListed);
        scenarios.run("many-topics", admins::manyTopicsAreDescribedPageByPage);
        scenarios.end();
    }

    private void aSingleNodeIsTheCluster() throws Exception {
        try (Admin admin = connect.admin()) {
            DescribeClusterResult cluster = admin.describeCluster();
            Collection<Node> nodes = cluster.nodes().get();
            Scenarios.equal(1, nodes.size(), "nodes");
            Node node = nodes.iterator().next();
            Scenarios.equal(connect.bootstrap, node.host() + ":" + node.port(), "address");
            Scenarios.equal(node, cluster.controller().get(), "controller");
            String id = cluster.clusterId().get();
            Scenarios.holds(id != null && !id.isEmpty(), "a cluster id");
        }
    }

    private void aCreatedTopicIsDescribed() throws Exception {
        try (Admin admin = connect.admin()) {
            NewTopic topic = new NewTopic("created", 3, (short) 1);
            topic.configs(Map.of("retention.ms", "3600000", "cleanup.policy", "compact,delete"));
            CreateTopicsResult result = admin.createTopics(List.of(topic));
            Uuid id = result.topicId("created").get();
            Scenarios.holds(!id.equals(Uuid.ZERO_UUID), "a topic id");
            Scenarios.equal(3, result.numPartitions("created").get(), "partitions");
            Scenarios.equal(1, result.replicationFactor("created").get(), "replication factor");
            Config config = result.config("created").get();
            Scenarios.equal("3600000", config.get("retention.ms").value(), "retention.ms");
            Scenarios.equal(ConfigSource.DYNAMIC_TOPIC_CONFIG, config.get("retention.ms").source(), "source");
            Scenarios.equal(ConfigSource.DEFAULT_CONFIG, config.get("segment.bytes").source(), "source");

            Scenarios.holds(admin.listTopics().names().get().contains("created"), "listed");
            Map<String, TopicDescription> byName = admin.describeTopics(List.of("created")).allTopicNames().get();
            Map<Uuid, TopicDescription> byId = admin.describeTopics(
                    TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get();
            TopicDescription description = byName.get("created");
            Scenarios.equal(id, description.topicId(), "topic id");
            Scenarios.equal("created", byId.get(id).name(), "name by id");
            Scenarios.equal(3, byId.get(id).partitions().size(), "partitions by id");
            Scenarios.equal(3, description.partitions().size(), "partitions");
            for (int p = 0; p < 3; p++) {
                TopicPartitionInfo partition = description.partitions().get(p);
                Scenarios.equal(p, partition.partition(), "partition");
                Scenarios.equal(List.of(partition.leader()), partition.replicas(), "replicas");
                Scenarios.equal(List.of(partition.leader()), partition.isr(), "in-sync replicas");
            }
            NewTopic defaults = new NewTopic("defaults", Optional.empty(), Optional.empty());
            CreateTopicsResult byDefault = admin.createTopics(List.of(defaults));
            Scenarios.equal(1, byDefault.numPartitions("defaults").get(), "num.partitions");
            Scenarios.equal(1, byDefault.replicationFactor("defaults").get(), "default.replication.factor");
        }
    }

    private void aTopicThatCannotBeIsRefused() throws Exception {
        try (Admin admin = connect.admin()) {
            admin.createTopics(List.of(new NewTopic("taken", 1, (short) 1))).all().get();
            refused(admin, TopicExistsException.class, new NewTopic("taken", 1, (short) 1));
            refused(admin, InvalidTopicException.class, new NewTopic("no spaces", 1, (short) 1));
            refused(admin, InvalidTopicException.class, new NewTopic("..", 1, (short) 1));
            refused(admin, InvalidTopicException.class, new NewTopic("x".repeat(250), 1, (short) 1));
            refused(admin, InvalidPartitionsException.class, new NewTopic("none", 0, (short) 1));
            refused(admin, InvalidReplicationFactorException.class, new NewTopic("wide", 1, (short) 2));
            refused(admin, InvalidConfigurationException.class,
                    new NewTopic("odd", 1, (short) 1).configs(Map.of("no.such.setting", "1")));
            refused(admin, InvalidConfigurationException.class,
                    new NewTopic("odd", 1, (short) 1).configs(Map.of("retention.ms", "long")));
            refused(admin, InvalidConfigurationException.class,
                    new NewTopic("odd", 1, (short) 1).configs(Map.of("segment.bytes", "1024")));
            Set<String> names = admin.listTopics().names().get();
            for (String name : List.of("none", "wide", "odd")) {
                Scenarios.holds(!names.contains(name), name + " was not created");
            }
        }
    }

    private static void refused(Admin admin, Class<? extends Exception> why, NewTopic topic) throws Exception {
        Scenarios.fails(why, () -> admin.createTopics(List.of(topic)).all().get());
    }

    private void aDryRunCreatesNothing() throws Exception {
        try (Admin admin = connect.admin()) {
            CreateTopicsOptions dry = new CreateTopicsOptions().validateOnly(true);
            admin.createTopics(List.of(new NewTopic("dry", 2, (short) 1)), dry).all().get();
            Scenarios.fails(InvalidPartitionsException.class,
                    () -> admin.createTopics(List.of(new NewTopic("dry", 0, (short) 1)), dry).all().get());
            Scenarios.holds(!admin.listTopics().names().get().contains("dry"), "nothing was created");
        }
    }

    private void partitionsOnlyGrow() throws Exception {
        try (Admin admin = connect.admin()) {
            admin.createTopics(List.of(new NewTopic("grown", 2, (short) 1))).all().get();
            CreatePartitionsOptions dry = new CreatePartitionsOptions().validateOnly(true);
            admin.createPartitions(Map.of("grown", NewPartitions.increaseTo(4)), dry).all().get();
            Scenarios.equal(2, partitions(admin, "grown"), "partitions after a dry run");
            admin.createPartitions(Map.of("grown", NewPartitions.increaseTo(5))).all().get();
            Scenarios.equal(5, partitions(admin, "grown"), "partitions");
            Scenarios.fails(InvalidPartitionsException.class,
                    () -> admin.createPartitions(Map.of("grown", NewPartitions.increaseTo(5))).all().get());
            Scenarios.fails(InvalidPartitionsException.class,
                    () -> admin.createPartitions(Map.of("grown", NewPartitions.increaseTo(3))).all().get());
            Scenarios.fails(UnknownTopicOrPartitionException.class,
                    () -> admin.createPartitions(Map.of("absent", NewPartitions.increaseTo(3))).all().get());
        }
        try (KafkaProducer<byte[], byte[]> producer = connect.producer(Map.of())) {
            ProducerRecord<byte[], byte[]> record = new ProducerRecord<>("grown", 4, null, new byte[] {1});
            Scenarios.equal(0L, producer.send(record).get().offset(), "the new partition takes records");
        }
    }

    private static int partitions(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
    }

    private void aDeletedTopicIsGone() throws Exception {
        try (Admin admin = connect.admin()) {
            NewTopic topic = new NewTopic("deleted", 2, (short) 1);
            Uuid first = admin.createTopics(List.of(topic)).topicId("deleted").get();
            try (KafkaProducer<byte[], byte[]> producer = connect.producer(Map.of())) {
                producer.send(new ProducerRecord<>("deleted", 0, null, new byte[] {1})).get();
            }
            admin.deleteTopics(List.of("deleted")).all().get();
            connect.settle();
            Scenarios.fails(UnknownTopicOrPartitionException.class,
                    () -> admin.describeTopics(List.of("deleted")).allTopicNames().get());
            Scenarios.fails(UnknownTopicOrPartitionException.class,
                    () -> admin.deleteTopics(List.of("deleted")).all().get());

            // A topic of the same name is another topic: a new id, and none of the old records.
            Uuid second = admin.createTopics(List.of(topic)).topicId("deleted").get();
            Scenarios.holds(!second.equals(first), "a new topic id");
            TopicPartition partition = new TopicPartition("deleted", 0);
            long end = admin.listOffsets(Map.of(partition, OffsetSpec.latest()))
                    .partitionResult(partition).get().offset();
            Scenarios.equal(0L, end, "the new topic is empty");
            admin.deleteTopics(TopicCollection.ofTopicIds(List.of(second))).all().get();
            connect.settle();
            Scenarios.fails(UnknownTopicIdException.class,
                    () -> admin.deleteTopics(TopicCollection.ofTopicIds(List.of(second))).all().get());
            Scenarios.holds(!admin.listTopics().names().get().contains("deleted"), "not listed");
        }
    }

    private void aTopicsSettingsAreTold() throws Exception {
        connect.createTopic("settings", 1, Map.of("max.message.bytes", "54321"));
        try (Admin admin = connect.admin()) {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, "settings");
            DescribeConfigsOptions options =
                    new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
            Config config = admin.describeConfigs(List.of(resource), options).all().get().get(resource);
            ConfigEntry own = config.get("max.message.bytes");
            Scenarios.equal("54321", own.value(), "max.message.bytes");
            Scenarios.equal(ConfigSource.DYNAMIC_TOPIC_CONFIG, own.source(), "source");
            List<String> synonyms = own.synonyms().stream().map(s -> s.name() + " " + s.source()).toList();
            Scenarios.equal(
                    List.of("max.message.bytes DYNAMIC_TOPIC_CONFIG", "message.max.bytes DEFAULT_CONFIG"),
                    synonyms, "synonyms");
            Map<String, String> defaults = Map.of(
                    "cleanup.policy", "delete", "retention.ms", "604800000", "segment.bytes", "1073741824",
                    "compression.type", "producer",
                    "message.timestamp.type", "CreateTime", "retention.bytes", "-1",
                    "message.timestamp.after.max.ms", "3600000");
            for (Map.Entry<String, String> entry : defaults.entrySet()) {
                ConfigEntry actual = config.get(entry.getKey());
                Scenarios.equal(entry.getValue(), actual.value(), entry.getKey());
                Scenarios.equal(ConfigSource.DEFAULT_CONFIG, actual.source(), entry.getKey() + "'s source");
                Scenarios.holds(actual.documentation() != null, entry.getKey() + " is documented");
            }
            ConfigResource absent = new ConfigResource(ConfigResource.Type.TOPIC, "absent");
            Scenarios.fails(UnknownTopicOrPartitionException.class,
                    () -> admin.describeConfigs(List.of(absent)).all().get());
        }
    }

    private void aBrokersSettingsAreTold() throws Exception {
        try (Admin admin = connect.admin()) {
            String node = admin.describeCluster().nodes().get().iterator().next().idString();
            ConfigResource resource = new ConfigResource(ConfigResource.Type.BROKER, node);
            Config config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            Scenarios.equal("1", config.get("default.replication.factor").value(), "default.replication.factor");
            Scenarios.equal("true", config.get("auto.create.topics.enable").value(), "auto.create.topics.enable");
            Scenarios.equal("1048588", config.get("message.max.bytes").value(), "message.max.bytes");
            Scenarios.equal(ConfigSource.STATIC_BROKER_CONFIG, config.get("log.dirs").source(), "log.dirs' source");
        }
    }

    private void offsetsAreListed() throws Exception {
        connect.createTopic("offsets", 1, Map.of());
        long time = 1_700_000_000_000L;
        try (KafkaProducer<byte[], byte[]> producer = connect.producer(Map.of())) {
            // The largest time is neither the first nor the last.
            for (long late : new long[] {0, 10, 50, 20, 30}) {
                producer.send(new ProducerRecord<>("offsets", 0, time + late, null, new byte[] {1})).get();
            }
        }
        TopicPartition partition = new TopicPartition("offsets", 0);
        try (Admin admin = connect.admin()) {
            offset(admin, partition, OffsetSpec.earliest(), 0, -1);
            offset(admin, partition, OffsetSpec.latest(), 5, -1);
            offset(admin, partition, OffsetSpec.earliestLocal(), 0, -1);
            offset(admin, partition, OffsetSpec.maxTimestamp(), 2, time + 50);
            offset(admin, partition, OffsetSpec.forTimestamp(time + 11), 2, time + 50);
            offset(admin, partition, OffsetSpec.forTimestamp(time + 51), -1, -1);
        }
    }

    private static void offset(Admin admin, TopicPartition partition, OffsetSpec spec, long offset, long time)
            throws Exception {
        ListOffsetsResultInfo found = admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
        String what = spec.getClass().getSimpleName();
        Scenarios.equal(offset, found.offset(), what);
        Scenarios.equal(time, found.timestamp(), what + "'s time");
    }

    private void manyTopicsAreDescribedPageByPage() throws Exception {
        try (Admin admin = connect.admin()) {
            List<NewTopic> topics = new java.util.ArrayList<>();
            for (int i = 0; i < 60; i++) {
                topics.add(new NewTopic("many-" + i, 3, (short) 1));
            }
            admin.createTopics(topics).all().get();
            List<String> names = topics.stream().map(NewTopic::name).toList();
            org.apache.kafka.clients.admin.DescribeTopicsOptions paged =
                    new org.apache.kafka.clients.admin.DescribeTopicsOptions().partitionSizeLimitPerResponse(10);
            Map<String, TopicDescription> all = admin.describeTopics(names, paged).allTopicNames().get();
            Scenarios.equal(60, all.size(), "topics");
            for (TopicDescription description : all.values()) {
                Scenarios.equal(3, description.partitions().size(), description.name() + "'s partitions");
            }
            admin.deleteTopics(names).all().get();
        }
    }
}
