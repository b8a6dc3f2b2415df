"""Drives aiokafka, the client for asyncio."""

import asyncio
import sys
import time

import aiokafka
import aiokafka.errors
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import BrokerResponseError, CommitFailedError, KafkaConnectionError, KafkaError

import contract
from contract import Acknowledged, Commands, Owned, emit

START_SECONDS = 60

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
}


def capabilities():
    return {
        "client": "aiokafka",
        "version": aiokafka.__version__,
        "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
        "idempotent": True,
        "custom_partitioner": True,
        "strategies": sorted(STRATEGIES),
        "cooperative": False,
        "static": True,
        # Its heartbeats do not say whose instance they come from.
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
    if isinstance(error, CommitFailedError):
        # Raised in place of what the broker said.
        error = error.__cause__ or error.__context__
    if not isinstance(error, BrokerResponseError):
        return None
    return contract.KAFKA_NAMES.get(error.errno, error.message)


def produce(options):
    asyncio.run(produce_all(options))


async def produce_all(options):
    codec = options.get("codec", "none")
    batch = options.get("batch")
    settings = {
        "bootstrap_servers": options["bootstrap"],
        "acks": "all",
        "compression_type": None if codec == "none" else codec,
        "enable_idempotence": options.get("idempotent", False),
        "linger_ms": 5,
    }
    if options.get("partitioner") == "custom":
        settings["partitioner"] = lambda key, every, _: contract.partition_of(key, len(every))
    if batch:
        settings["max_batch_size"] = 1 << 20
    acknowledged = Acknowledged()
    commands = Commands()
    sent = []
    producer = AIOKafkaProducer(**settings)
    await start(producer)
    while record := await asyncio.to_thread(commands.next):
        sent.append(await send(producer, options["topic"], record, len(sent), acknowledged))
        # The library bounds a batch by its bytes alone.
        if batch and len(sent) % batch == 0:
            await producer.flush()
    await asyncio.gather(*sent)
    await producer.stop()


async def start(client):
    """Starts a client, which takes a broker that is away for a moment as a reason to give up."""
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            return await client.start()
        except KafkaConnectionError:
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.1)


async def send(producer, topic, record, index, acknowledged):
    future = await producer.send(
        topic,
        key=contract.encoded(record.get("key")),
        value=contract.encoded(record.get("value")),
        headers=[(name, contract.encoded(value)) for name, value in record.get("headers") or ()],
        partition=record.get("partition"),
        timestamp_ms=record.get("timestamp"),
    )

    async def delivered():
        said = await future
        acknowledged.add(index, said.partition, said.offset)

    return asyncio.create_task(delivered())


class Listener(ConsumerRebalanceListener):
    def __init__(self, owned):
        self.owned = owned

    def on_partitions_assigned(self, assigned):
        self.owned.gain(assigned)

    def on_partitions_revoked(self, revoked):
        self.owned.lose("revoked", revoked)


def consume(options):
    asyncio.run(consume_until_closed(options))


async def consume_until_closed(options):
    owned = Owned()
    consumer = AIOKafkaConsumer(**consumer_settings(options))
    if "assign" in options:
        partitions = {TopicPartition(*position[:2]): position[2] for position in options["assign"]}
        consumer.assign(list(partitions))
        await start(consumer)
        for partition, offset in partitions.items():
            consumer.seek(partition, offset)
        owned.gain(partitions)
    else:
        await start(consumer)
        named = {name: options[name] for name in ("topics", "pattern") if name in options}
        consumer.subscribe(**named, listener=Listener(owned))
    commands = Commands()
    while True:
        fetched = await consumer.getmany(timeout_ms=contract.POLL_MS)
        for records in fetched.values():
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
        for command in commands.ready():
            if command["do"] == "close":
                await consumer.stop()
                emit("closed")
                return
            await obey(consumer, owned, command)


def consumer_settings(options):
    settings = {
        "bootstrap_servers": options["bootstrap"],
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


async def obey(consumer, owned, command):
    do = command["do"]
    try:
        if do == "commit":
            await commit(consumer, owned)
        elif do == "pause":
            consumer.pause(*consumer.assignment())
        elif do == "resume":
            consumer.resume(*consumer.assignment())
        elif do == "seek":
            await seek(consumer, owned, command, command["offset"])
        elif do == "seek_time":
            partition = TopicPartition(command["topic"], command["partition"])
            found = (await consumer.offsets_for_times({partition: command["timestamp"]}))[partition]
            await seek(consumer, owned, command, None if found is None else found.offset)
    except KafkaError as error:
        contract.refused(do, error, error_name)


async def commit(consumer, owned):
    positions = owned.positions()
    if positions:
        await consumer.commit({TopicPartition(t, p): o for t, p, o in positions})
    emit("committed", offsets=positions)


async def seek(consumer, owned, command, offset):
    """Goes to `offset`, or to the end where there is none."""
    partition = TopicPartition(command["topic"], command["partition"])
    if offset is None:
        await consumer.seek_to_end(partition)
    else:
        consumer.seek(partition, offset)
    owned.move(partition.topic, partition.partition, offset)


def admin(options):
    loop = asyncio.new_event_loop()
    actions = Actions(options["bootstrap"])
    loop.run_until_complete(actions.start())
    by_name = {name: runs(loop, getattr(actions, name)) for name in Actions.ALL}
    contract.administrate(by_name, KafkaError, error_name)
    loop.run_until_complete(actions.client.close())


def runs(loop, action):
    return lambda **fields: loop.run_until_complete(action(**fields))


class Actions:
    # Its administrator's client knows nothing of offsets but to read a group's; what else there is
    # of them here, a consumer does, as its users write it. No part of it deletes a group.
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
        "list_offsets",
    )

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.client = None

    async def start(self):
        self.client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await start(self.client)

    async def create(self, topic, partitions, configs=None):
        wanted = NewTopic(topic, partitions, 1, topic_configs=configs or {})
        for error in (await self.client.create_topics([wanted])).topic_errors:
            check(error[1])

    async def list(self):
        return {"topics": sorted(await self.client.list_topics())}

    async def describe(self, topic):
        [described] = await self.client.describe_topics([topic])
        check(described["error_code"])
        return {
            "partitions": [
                {
                    "partition": partition["partition"],
                    "leader": partition["leader"],
                    "replicas": partition["replicas"],
                    "isr": partition["isr"],
                }
                for partition in sorted(described["partitions"], key=lambda p: p["partition"])
            ]
        }

    async def add_partitions(self, topic, count):
        await self.client.create_partitions({topic: NewPartitions(count)})

    async def delete(self, topic):
        for error in (await self.client.delete_topics([topic])).topic_error_codes:
            check(error[1])

    async def configs(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        [response] = await self.client.describe_configs([resource])
        [(code, _, _, _, entries)] = response.resources
        check(code)
        return {"configs": {entry[0]: entry[1] for entry in entries}}

    async def list_groups(self):
        listed = await self.client.list_consumer_groups()
        return {"groups": [{"group": group[0], "state": None} for group in sorted(listed)]}

    async def describe_group(self, group):
        [response] = await self.client.describe_consumer_groups([group])
        [described] = response.to_object()["groups"]
        check(described["error_code"])
        return {
            "state": described["state"],
            "protocol": described["protocol"],
            "members": [
                {
                    "member": member["member_id"],
                    "instance": member.get("group_instance_id"),
                    "client": member["client_id"],
                    "host": member["client_host"],
                    "assignment": assignment(member["member_assignment"]),
                }
                for member in described["members"]
            ],
        }

    async def offsets(self, group):
        offsets = await self.client.list_consumer_group_offsets(group)
        return {"offsets": sorted([p.topic, p.partition, o.offset] for p, o in offsets.items())}

    async def reset_offsets(self, group, offsets):
        wanted = {TopicPartition(t, p): o for t, p, o in offsets}
        async with self.consumer(group_id=group) as consumer:
            consumer.assign(list(wanted))
            await consumer.commit(wanted)

    async def list_offsets(self, topic, at):
        described = await self.describe(topic)
        partitions = [TopicPartition(topic, p["partition"]) for p in described["partitions"]]
        async with self.consumer() as consumer:
            if at == "earliest":
                found = await consumer.beginning_offsets(partitions)
            elif at == "latest":
                found = await consumer.end_offsets(partitions)
            else:
                times = await consumer.offsets_for_times(
                    {partition: at for partition in partitions}
                )
                found = {p: -1 if time is None else time.offset for p, time in times.items()}
        return {"offsets": sorted([p.topic, p.partition, o] for p, o in found.items())}

    def consumer(self, **settings):
        return AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, enable_auto_commit=False, **settings
        )


def check(code):
    if code:
        raise aiokafka.errors.for_code(code)()


def assignment(data):
    if not data:
        return []
    partitions = ConsumerProtocolMemberAssignment.decode(data).partitions()
    return sorted([p.topic, p.partition] for p in partitions)


if __name__ == "__main__":
    contract.main(sys.modules[__name__])
