"""Drives kafka-python, the client in pure Python."""

import sys
import time

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
from contract import Acknowledged, Commands
from member import Member, keyword_settings, print_records

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative": CooperativeStickyAssignor,
}

CONFIGS_ALL = "all"

JOIN_MS = 1_000


CAPABILITIES = {
    "client": "kafka-python",
    "version": kafka.__version__,
    "strategies": sorted(STRATEGIES),
    # Its heartbeats hear that another has the instance's name, and keep it to themselves.
    "fenced": False,
    "admin": contract.ADMIN,
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
    future = producer.send(topic, **contract.keyword_record(record))
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
    Consuming(options).run()


class Consuming(Member):
    errors = KafkaError
    error_name = staticmethod(error_name)

    def __init__(self, options):
        super().__init__(options)
        settings = connection(options) | keyword_settings(options, STRATEGIES)
        self.consumer = KafkaConsumer(**settings)
        # Since when it has been joining.
        self.joins_since = None

    async def start(self):
        if "assign" in self.options:
            partitions = {TopicPartition(t, p): o for t, p, o in self.options["assign"]}
            self.consumer.assign(list(partitions))
            for partition, offset in partitions.items():
                self.consumer.seek(partition, offset)
            self.owned.gain(partitions)
        else:
            self.subscribe()

    def subscribe(self):
        named = {name: self.options[name] for name in ("topics", "pattern") if name in self.options}
        self.consumer.subscribe(**named, listener=Listener(self.owned))

    async def poll(self):
        # Where the topics are a pattern, a join begins anew with their metadata in every call, so it
        # gets the time for all of it in one.
        wait_ms = JOIN_MS if self.joins_since else contract.POLL_MS
        print_records(self.owned, self.consumer.poll(timeout_ms=wait_ms))
        self.look_after_join()

    def look_after_join(self):
        """Subscribes anew where a join does not come to its end.

        It never does if `poll` returned in the middle of one that was due to a change of the topics:
        once the leader has assigned the new partitions it sees no reason to go on, and its heartbeats
        stay off. When its session is over it has lost its place anyway.
        """
        in_group = self.consumer.subscription() is not None
        if not in_group or self.consumer.group_metadata().state == MemberState.STABLE:
            self.joins_since = None
        elif self.joins_since is None:
            self.joins_since = time.monotonic()
        elif time.monotonic() - self.joins_since > 2 * self.options["session_ms"] / 1000:
            contract.logging.warning("subscribes anew: a join did not end")
            self.consumer.unsubscribe()
            self.subscribe()
            self.joins_since = None

    async def commit(self, positions):
        self.consumer.commit(with_metadata(positions))

    async def pause(self):
        self.consumer.pause(*self.consumer.assignment())

    async def resume(self):
        self.consumer.resume(*self.consumer.assignment())

    async def seek(self, topic, partition, offset):
        if offset is None:
            self.consumer.seek_to_end(TopicPartition(topic, partition))
        else:
            self.consumer.seek(TopicPartition(topic, partition), offset)

    async def offset_at(self, topic, partition, timestamp):
        partition = TopicPartition(topic, partition)
        found = self.consumer.offsets_for_times({partition: timestamp})[partition]
        return None if found is None else found.offset

    async def close(self):
        self.consumer.close()


def with_metadata(positions):
    return {TopicPartition(t, p): OffsetAndMetadata(o, "", -1) for t, p, o in positions}


def admin(options):
    client = KafkaAdminClient(**connection(options))
    contract.administrate(Actions(client), KafkaError, error_name)
    client.close()


class Actions:
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
        return {"offsets": contract.rows({p: o.offset for p, o in offsets.items()})}

    def reset_offsets(self, group, offsets):
        wanted = with_metadata(offsets)
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
        return {"offsets": contract.rows({p: o.offset for p, o in found.items()})}


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
