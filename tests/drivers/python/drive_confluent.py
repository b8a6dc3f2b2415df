"""Drives confluent-kafka, Confluent's Python client on librdkafka."""

import sys

import confluent_kafka
from confluent_kafka import (
    OFFSET_END,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

import contract
from contract import Acknowledged, Commands
from member import Member

REQUEST_SECONDS = 30

STRATEGIES = {
    "range": "range",
    "roundrobin": "roundrobin",
    "cooperative": "cooperative-sticky",
}


CAPABILITIES = {
    "client": "confluent-kafka",
    "version": confluent_kafka.__version__,
    # librdkafka's hook for a partitioner is not given on to Python.
    "custom_partitioner": False,
    "strategies": sorted(STRATEGIES),
    "admin": contract.ADMIN,
}


def error_name(error):
    if not isinstance(error, KafkaException):
        return None
    error = error.args[0]
    if error.code() == KafkaError._FATAL:
        error = cause(error)
    return contract.KAFKA_NAMES.get(error.code(), error.name())


def cause(fatal):
    """The broker's error that a consumer died of, of which the library gives on only the text."""
    errors = (KafkaError(code) for code in range(1, 200))
    return next((error for error in errors if error.str() in fatal.str()), fatal)


def connection(options):
    return {
        "bootstrap.servers": options["bootstrap"],
        "reconnect.backoff.max.ms": 500,
    }


def produce(options):
    settings = {
        **connection(options),
        "acks": "all",
        "compression.type": options.get("codec", "none"),
        "enable.idempotence": options.get("idempotent", False),
        "linger.ms": 5,
    }
    if "batch" in options:
        settings["batch.num.messages"] = options["batch"]
    producer = Producer(settings)
    acknowledged = Acknowledged()
    commands = Commands()
    index = 0
    done = False
    while not done or len(producer):
        producer.poll(0.01)
        for command in commands.ready():
            if command.get("do") == "close":
                done = True
                break
            send(producer, options["topic"], command, index, acknowledged)
            index += 1


def send(producer, topic, record, index, acknowledged):
    def delivered(error, message):
        if error is not None:
            raise KafkaException(error)
        acknowledged.add(index, message.partition(), message.offset())

    optional = {
        name: record[name] for name in ("partition", "timestamp") if record.get(name) is not None
    }
    headers = [(name, contract.encoded(value)) for name, value in record.get("headers") or ()]
    while True:
        try:
            producer.produce(
                topic,
                key=record.get("key"),
                value=record.get("value"),
                headers=headers,
                on_delivery=delivered,
                **optional,
            )
            return
        except BufferError:
            producer.poll(0.01)


def consume(options):
    Consuming(options).run()


class Consuming(Member):
    errors = KafkaException
    error_name = staticmethod(error_name)

    async def start(self):
        self.consumer = Consumer(consumer_settings(self.options))
        if "assign" in self.options:
            partitions = [TopicPartition(*position) for position in self.options["assign"]]
            self.consumer.assign(partitions)
            self.owned.gain(partitions)
            return
        pattern = self.options.get("pattern")
        self.consumer.subscribe(
            [anchored(pattern)] if pattern else self.options["topics"],
            on_assign=lambda _, partitions: self.owned.gain(partitions),
            on_revoke=lambda _, partitions: self.owned.lose("revoked", partitions),
            on_lost=lambda _, partitions: self.owned.lose("lost", partitions),
        )

    async def poll(self):
        message = self.consumer.poll(contract.POLL_MS / 1000)
        if message is not None:
            print_message(self.owned, message)

    async def commit(self, positions):
        partitions = [TopicPartition(*position) for position in positions]
        for committed in self.consumer.commit(offsets=partitions, asynchronous=False):
            if committed.error is not None:
                raise KafkaException(committed.error)

    async def pause(self):
        self.consumer.pause(self.consumer.assignment())

    async def resume(self):
        self.consumer.resume(self.consumer.assignment())

    async def seek(self, topic, partition, offset):
        to = OFFSET_END if offset is None else offset
        self.consumer.seek(TopicPartition(topic, partition, to))

    async def offset_at(self, topic, partition, timestamp):
        time = TopicPartition(topic, partition, timestamp)
        [found] = self.consumer.offsets_for_times([time], REQUEST_SECONDS)
        # It names the end by a number of its own.
        return found.offset if found.offset >= 0 else None

    async def close(self):
        self.consumer.close()


def consumer_settings(options):
    settings = {
        **connection(options),
        # The library wants a name even where no group is used.
        "group.id": options.get("group", "none"),
        "enable.auto.commit": options.get("auto_commit", False),
        "auto.offset.reset": options.get("reset", "latest"),
        "isolation.level": options.get("isolation", "read_uncommitted"),
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 100,
    }
    named = {
        "instance": ["group.instance.id"],
        "auto_commit_ms": ["auto.commit.interval.ms"],
        "session_ms": ["session.timeout.ms"],
        "heartbeat_ms": ["heartbeat.interval.ms"],
        "metadata_max_age_ms": ["metadata.max.age.ms", "topic.metadata.refresh.interval.ms"],
    }
    for option, names in named.items():
        if options.get(option) is not None:
            settings.update((name, options[option]) for name in names)
    if "strategy" in options:
        settings["partition.assignment.strategy"] = STRATEGIES[options["strategy"]]
    return settings


def anchored(pattern):
    """librdkafka takes a name that begins so for a regular expression."""
    return pattern if pattern.startswith("^") else "^" + pattern


def print_message(owned, message):
    if message.error() is not None:
        if message.error().code() == KafkaError._FATAL:
            raise KafkaException(message.error())
        # The library mends what is not fatal.
        contract.logging.warning("%s", message.error())
        return
    owned.print_record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.headers(),
        message.timestamp()[1],
    )


def admin(options):
    actions = Actions(AdminClient(connection(options)))
    contract.administrate(actions, KafkaException, error_name)


class Actions:
    def __init__(self, client):
        self.client = client

    def create(self, topic, partitions, configs=None):
        only(self.client.create_topics([NewTopic(topic, partitions, 1, config=configs or {})]))

    def list(self):
        return {"topics": sorted(self.client.list_topics(timeout=REQUEST_SECONDS).topics)}

    def describe(self, topic):
        described = only(self.client.describe_topics(TopicCollection([topic])))
        return {
            "partitions": [
                {
                    "partition": partition.id,
                    "leader": partition.leader.id,
                    "replicas": [node.id for node in partition.replicas],
                    "isr": [node.id for node in partition.isr],
                }
                for partition in described.partitions
            ]
        }

    def add_partitions(self, topic, count):
        only(self.client.create_partitions([NewPartitions(topic, count)]))

    def delete(self, topic):
        only(self.client.delete_topics([topic]))

    def configs(self, topic):
        entries = only(self.client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
        return {"configs": {name: entry.value for name, entry in entries.items()}}

    def list_groups(self):
        listed = self.client.list_consumer_groups().result()
        for error in listed.errors:
            raise error
        groups = [
            {"group": group.group_id, "state": kafka_state(group.state)} for group in listed.valid
        ]
        return {"groups": sorted(groups, key=lambda group: group["group"])}

    def describe_group(self, group):
        described = only(self.client.describe_consumer_groups([group]))
        return {
            "state": kafka_state(described.state),
            "protocol": described.partition_assignor,
            "members": [
                {
                    "member": member.member_id,
                    "instance": member.group_instance_id,
                    "client": member.client_id,
                    "host": member.host,
                    "assignment": sorted(
                        [p.topic, p.partition] for p in member.assignment.topic_partitions
                    ),
                }
                for member in described.members
            ],
        }

    def offsets(self, group):
        listed = only(
            self.client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        )
        return {"offsets": contract.rows({p: p.offset for p in checked(listed)})}

    def reset_offsets(self, group, offsets):
        partitions = [TopicPartition(*offset) for offset in offsets]
        request = ConsumerGroupTopicPartitions(group, partitions)
        checked(only(self.client.alter_consumer_group_offsets([request])))

    def delete_group(self, group):
        only(self.client.delete_consumer_groups([group]))

    def list_offsets(self, topic, at):
        named = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest}
        spec = named[at]() if at in named else OffsetSpec.for_timestamp(at)
        partitions = [
            TopicPartition(topic, p["partition"]) for p in self.describe(topic)["partitions"]
        ]
        found = self.client.list_offsets(
            {partition: spec for partition in partitions},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
        )
        return {"offsets": contract.rows({p: f.result().offset for p, f in found.items()})}


def only(futures):
    """The answer about the one thing that was asked about."""
    [future] = futures.values()
    return future.result()


def checked(listed):
    for partition in listed.topic_partitions:
        if partition.error is not None:
            raise KafkaException(partition.error)
    return listed.topic_partitions


def kafka_state(state):
    """Kafka's spelling of a group's state, which the library's is not."""
    names = {
        "PREPARING_REBALANCING": "PreparingRebalance",
        "COMPLETING_REBALANCING": "CompletingRebalance",
    }
    return names.get(state.name, state.name.title().replace("_", ""))


if __name__ == "__main__":
    contract.main(sys.modules[__name__])
