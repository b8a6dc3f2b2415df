import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;

/** The verb {@code admin}: one answer for each command. */
final class DriverAdmin {
    static final List<String> KNOWN = List.of(
            "create", "list", "describe", "add_partitions", "delete", "configs", "list_groups",
            "describe_group", "offsets", "reset_offsets", "delete_group", "list_offsets");

    private final JsonNode options;

    DriverAdmin(JsonNode options) {
        this.options = options;
    }

    void load() {
        Admin.create(Driver.properties(options)).close(Duration.ZERO);
    }

    void run() throws Exception {
        try (Admin admin = Admin.create(Driver.properties(options))) {
            for (JsonNode command = Driver.nextCommand(); command != null; command = Driver.nextCommand()) {
                String name = command.get("do").asText();
                ObjectNode done = Driver.event("done").put("do", name);
                try {
                    perform(admin, command, done);
                    Driver.print(done);
                } catch (Exception error) {
                    Driver.print(Driver.described(Driver.event("failed").put("do", name), error));
                }
            }
        }
    }

    private static void perform(Admin admin, JsonNode command, ObjectNode done) throws Exception {
        String topic = command.path("topic").asText();
        String group = command.path("group").asText();
        switch (command.get("do").asText()) {
            case "create" -> create(admin, topic, command);
            case "list" -> {
                ArrayNode topics = done.putArray("topics");
                new TreeSet<>(admin.listTopics().names().get()).forEach(topics::add);
            }
            case "describe" -> describe(admin, topic, done.putArray("partitions"));
            case "add_partitions" -> {
                NewPartitions wanted = NewPartitions.increaseTo(command.get("count").asInt());
                admin.createPartitions(Map.of(topic, wanted)).all().get();
            }
            case "delete" -> admin.deleteTopics(List.of(topic)).all().get();
            case "configs" -> configs(admin, topic, done.putObject("configs"));
            case "list_groups" -> listGroups(admin, done.putArray("groups"));
            case "describe_group" -> describeGroup(admin, group, done);
            case "offsets" -> {
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>(
                        admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
                offsets.values().removeIf(offset -> offset == null);
                done.set("offsets", Driver.offsets(offsets, OffsetAndMetadata::offset));
            }
            case "reset_offsets" -> {
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                command.get("offsets").forEach(row ->
                        offsets.put(Driver.partition(row), new OffsetAndMetadata(row.get(2).asLong())));
                admin.alterConsumerGroupOffsets(group, offsets).all().get();
            }
            case "delete_group" -> admin.deleteConsumerGroups(List.of(group)).all().get();
            case "list_offsets" -> listOffsets(admin, topic, command.get("at"), done);
            default -> throw new IllegalArgumentException("no command " + command);
        }
    }

    private static void create(Admin admin, String topic, JsonNode command) throws Exception {
        Map<String, String> configs = new HashMap<>();
        command.path("configs").properties().forEach(entry ->
                configs.put(entry.getKey(), entry.getValue().asText()));
        NewTopic wanted = new NewTopic(topic, command.get("partitions").asInt(), (short) 1);
        admin.createTopics(List.of(wanted.configs(configs))).all().get();
    }

    private static TopicDescription description(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private static void describe(Admin admin, String topic, ArrayNode partitions) throws Exception {
        for (TopicPartitionInfo info : description(admin, topic).partitions()) {
            ObjectNode row = partitions.addObject().put("partition", info.partition());
            row.put("leader", info.leader() == null ? -1 : info.leader().id());
            ids(row.putArray("replicas"), info.replicas());
            ids(row.putArray("isr"), info.isr());
        }
    }

    private static void ids(ArrayNode array, List<Node> nodes) {
        nodes.forEach(node -> array.add(node.id()));
    }

    private static void configs(Admin admin, String topic, ObjectNode configs) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        admin.describeConfigs(List.of(resource)).all().get().get(resource).entries()
                .forEach(entry -> configs.put(entry.name(), entry.value()));
    }

    private static void listGroups(Admin admin, ArrayNode groups) throws Exception {
        for (GroupListing listing : admin.listGroups().all().get()) {
            String state = listing.groupState().map(Object::toString).orElse(null);
            groups.addObject().put("group", listing.groupId()).put("state", state);
        }
    }

    private static void describeGroup(Admin admin, String group, ObjectNode done) throws Exception {
        ConsumerGroupDescription description =
                admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        done.put("state", description.groupState().toString());
        done.put("protocol", description.partitionAssignor());
        ArrayNode members = done.putArray("members");
        for (MemberDescription member : description.members()) {
            members.addObject()
                    .put("member", member.consumerId())
                    .put("instance", member.groupInstanceId().orElse(null))
                    .put("client", member.clientId())
                    .put("host", member.host())
                    .set("assignment", Driver.partitions(member.assignment().topicPartitions()));
        }
    }

    private static void listOffsets(Admin admin, String topic, JsonNode at, ObjectNode done) throws Exception {
        OffsetSpec spec = switch (at.asText()) {
            case "earliest" -> OffsetSpec.earliest();
            case "latest" -> OffsetSpec.latest();
            default -> OffsetSpec.forTimestamp(at.asLong());
        };
        Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
        for (TopicPartitionInfo info : description(admin, topic).partitions()) {
            asked.put(new TopicPartition(topic, info.partition()), spec);
        }
        done.set("offsets", Driver.offsets(admin.listOffsets(asked).all().get(), ListOffsetsResultInfo::offset));
    }
}
