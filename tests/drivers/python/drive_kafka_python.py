"""Drives kafka-python, the client in pure Python."""

import sys

import kafka
import kafka.errors
from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    OffsetSpec,
    TopicPartition,
)
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import BrokerResponseError, CommitFailedError, KafkaError
from kafka.partitioner import Partitioner
from kafka.structs import MemberState

import contract
from contract import Acknowledged, Commands, Owned, emit

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative": CooperativeStickyAssignor,
}

CONFIGS_ALL = "all"

JOIN_MS = 1_000


def capabilities():
    return {
        "client": "kafka-python",
        "version": kafka.__version__,
        "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
        "idempotent": True,
        "custom_partitioner": True,
        "strategies": sorted(STRATEGIES),
        "cooperative": True,
        "static": True,
        # Its heartbeats hear that another has the instance's name, and keep it to themselves.
        "fenced": False,
        "pattern": True,
        "new_partitions": True,
        "pause": True,
        "assign": True,
        "seek_time": True,
        "isolation": True,
        "auto_commit": True,
        "admin": sorted(Actions.ALL),
    }


def error_name(error):
    if isinstance(error, CommitFailedError) and error.args:
        # Its argument is what the broker said.
        error = error.args[0]
    if not isinstance(error, BrokerResponseError):
        return None
    return contract.KAFKA_NAMES.get(error.errno, error.message)


def connection(options):
    return {
        "bootstrap_servers": options["bootstrap"],
        "reconnect_backoff_max_ms": 500,
    }


class SumPartitioner(Partitioner):
    def partition(self, topic, key, serialized_key, value, serialized_value, cluster):
        return contract.partition_of(serialized_key, len(cluster.partitions_for_topic(topic)))


def produce(options):
    codec = options.get("codec", "none")
    settings = {
        **connection(options),
        "acks": "all",
        "compression_type": None if codec == "none" else codec,
        "enable_idempotence": options.get("idempotent", False),
        "linger_ms": 5,
    }
    if options.get("partitioner") == "custom":
        settings["partitioner"] = SumPartitioner()
    batch = options.get("batch")
    if batch == 1:
        settings["batch_size"] = 0
    elif batch:
        settings["batch_size"] = 1 << 20
    producer = KafkaProducer(**settings)
    acknowledged = Acknowledged()
    commands = Commands()
    futures = []
    while record := commands.next():
        futures.append(send(producer, options["topic"], record, len(futures), acknowledged))
        # The library bounds a batch by its bytes alone.
        if batch and len(futures) % batch == 0:
            producer.flush()
    for future in futures:
        future.get()
    producer.close()


def send(producer, topic, record, index, acknowledged):
    future = producer.send(
        topic,
        key=contract.encoded(record.get("key")),
        value=contract.encoded(record.get("value")),
        headers=[(name, contract.encoded(value)) for name, value in record.get("headers") or ()],
        partition=record.get("partition"),
        timestamp_ms=record.get("timestamp"),
    )
    future.add_callback(lambda sent: acknowledged.add(index, sent.partition, sent.offset))
    return future


class Listener(ConsumerRebalanceListener):
    def __init__(self, owned):
        self.owned = owned

    def on_partitions_assigned(self, assigned):
        self.owned.gain(assigned)

    def on_partitions_revoked(self, revoked):
        self.owned.lose("revoked", revoked)

    def on_partitions_lost(self, lost):
        self.owned.lose("lost", lost)


def consume(options):
    owned = Owned()
    consumer = KafkaConsumer(**consumer_settings(options))
    if "assign" in options:
        partitions = {TopicPartition(*position[:2]): position[2] for position in options["assign"]}
        consumer.assign(list(partitions))
        for partition, offset in partitions.items():
            consumer.seek(partition, offset)
        owned.gain(partitions)
    else:
        named = {name: options[name] for name in ("topics", "pattern") if name in options}
        consumer.subscribe(**named, listener=Listener(owned))
    commands = Commands()
    while True:
        for records in consumer.poll(timeout_ms=poll_ms(consumer)).values():
            for record in records:
                owned.print_record(
                    record.topic,
                    record.partition,
                    record.offset,
                    record.key,
                    record.value,
                    record.headers,
                    record.timestamp,
                )
        take_join_to_its_end(consumer)
        for command in commands.ready():
            if command["do"] == "close":
                consumer.close()
                emit("closed")
                return
            obey(consumer, owned, command)


def poll_ms(consumer):
    """How long to wait for records. Where the topics are a pattern, a join begins anew with their
    metadata in every call, so it gets the time for all of it in one.
    """
    state = consumer.group_metadata().state
    is_joining = consumer.subscription() is not None and state != MemberState.STABLE
    return JOIN_MS if is_joining else contract.POLL_MS


def take_join_to_its_end(consumer):
    """Keeps a member from being stuck when `poll` came to its end in the middle of a join.

    A leader that rejoined because the topics changed sees no reason to go on with that join once it
    has assigned the new partitions, and its heartbeats stay off. Asking for a join, which is then
    the one under way, gives it the reason.
    """
    if consumer.group_metadata().state == MemberState.REBALANCING:
        consumer._coordinator.request_rejoin()


def consumer_settings(options):
    settings = {
        **connection(options),
        "group_id": options.get("group"),
        "group_instance_id": options.get("instance"),
        "enable_auto_commit": options.get("auto_commit", False),
        "auto_offset_reset": options.get("reset", "latest"),
        "isolation_level": options.get("isolation", "read_uncommitted"),
        "fetch_max_wait_ms": 100,
    }
    named = {
        "auto_commit_ms": "auto_commit_interval_ms",
        "session_ms": "session_timeout_ms",
        "heartbeat_ms": "heartbeat_interval_ms",
        "metadata_max_age_ms": "metadata_max_age_ms",
    }
    for option, name in named.items():
        if options.get(option) is not None:
            settings[name] = options[option]
    if "strategy" in options:
        settings["partition_assignment_strategy"] = [STRATEGIES[options["strategy"]]]
    return settings


def obey(consumer, owned, command):
    do = command["do"]
    try:
        if do == "commit":
            commit(consumer, owned)
        elif do == "pause":
            consumer.pause(*consumer.assignment())
        elif do == "resume":
            consumer.resume(*consumer.assignment())
        elif do == "seek":
            seek(consumer, owned, command, command["offset"])
        elif do == "seek_time":
            partition = TopicPartition(command["topic"], command["partition"])
            found = consumer.offsets_for_times({partition: command["timestamp"]})[partition]
            seek(consumer, owned, command, None if found is None else found.offset)
    except KafkaError as error:
        contract.refused(do, error, error_name)


def commit(consumer, owned):
    positions = owned.positions()
    if positions:
        consumer.commit(
            {TopicPartition(t, p): OffsetAndMetadata(o, "", -1) for t, p, o in positions}
        )
    emit("committed", offsets=positions)


def seek(consumer, owned, command, offset):
    """Goes to `offset`, or to the end where there is none."""
    partition = TopicPartition(command["topic"], command["partition"])
    if offset is None:
        consumer.seek_to_end(partition)
    else:
        consumer.seek(partition, offset)
    owned.move(partition.topic, partition.partition, offset)


def admin(options):
    client = KafkaAdminClient(**connection(options))
    actions = Actions(client)
    by_name = {name: getattr(actions, name) for name in Actions.ALL}
    contract.administrate(by_name, KafkaError, error_name)
    client.close()


class Actions:
    ALL = (
        "create",
        "list",
        "describe",
        "add_partitions",
        "delete",
        "configs",
        "list_groups",
        "describe_group",
        "offsets",
        "reset_offsets",
        "delete_group",
        "list_offsets",
    )

    def __init__(self, client):
        self.client = client

    def create(self, topic, partitions, configs=None):
        wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": configs or {}}
        self.client.create_topics({topic: wanted})

    def list(self):
        return {"topics": sorted(self.client.list_topics())}

    def describe(self, topic):
        [described] = self.client.describe_topics([topic])
        check(described["error_code"])
        return {
            "partitions": [
                {
                    "partition": partition["partition_index"],
                    "leader": partition["leader_id"],
                    "replicas": partition["replica_nodes"],
                    "isr": partition["isr_nodes"],
                }
                for partition in sorted(described["partitions"], key=lambda p: p["partition_index"])
            ]
        }

    def add_partitions(self, topic, count):
        self.client.create_partitions({topic: count})

    def delete(self, topic):
        self.client.delete_topics([topic])

    def configs(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        entries = self.client.describe_configs([resource], config_filter=CONFIGS_ALL)["topic"][
            topic
        ]
        return {"configs": {name: entry["value"] for name, entry in entries.items()}}

    def list_groups(self):
        listed = self.client.list_groups()
        groups = [
            {"group": group["group_id"], "state": group.get("group_state")} for group in listed
        ]
        return {"groups": sorted(groups, key=lambda group: group["group"])}

    def describe_group(self, group):
        described = self.client.describe_groups([group])[group]
        if described["error"]:
            # Given as a text: "[Error 69] GroupIdNotFoundError: ...".
            check(int(described["error"].removeprefix("[Error ").split("]")[0]))
        return {
            "state": described["group_state"],
            "protocol": described["protocol_data"],
            "members": [
                {
                    "member": member["member_id"],
                    "instance": member["group_instance_id"],
                    "client": member["client_id"],
                    "host": member["client_host"],
                    "assignment": assignment(member["member_assignment"]),
                }
                for member in described["members"]
            ],
        }

    def offsets(self, group):
        offsets = self.client.list_group_offsets(group)[group]
        return {"offsets": sorted([p.topic, p.partition, o.offset] for p, o in offsets.items())}

    def reset_offsets(self, group, offsets):
        wanted = {TopicPartition(t, p): OffsetAndMetadata(o, "", -1) for t, p, o in offsets}
        for error in self.client.alter_group_offsets(group, wanted).values():
            check(error.errno)

    def delete_group(self, group):
        said = self.client.delete_groups([group])[group]
        if said != "OK":
            # Given as the name of the error's class.
            raise getattr(kafka.errors, said)()

    def list_offsets(self, topic, at):
        named = {"earliest": OffsetSpec.EARLIEST, "latest": OffsetSpec.LATEST}
        partitions = [
            TopicPartition(topic, p["partition"]) for p in self.describe(topic)["partitions"]
        ]
        found = self.client.list_partition_offsets(
            {partition: named.get(at, at) for partition in partitions}
        )
        return {"offsets": sorted([p.topic, p.partition, o.offset] for p, o in found.items())}


def check(code):
    if code:
        raise kafka.errors.for_code(code)()


def assignment(decoded):
    return sorted(
        [topic["topic"], partition]
        for topic in (decoded or {}).get("assigned_partitions", ())
        for partition in topic["partitions"]
    )


if __name__ == "__main__":
    contract.main(sys.modules[__name__])
