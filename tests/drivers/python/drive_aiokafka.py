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
from contract import Acknowledged, Commands
from member import Member, keyword_settings, print_records

START_SECONDS = 60

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
}


CAPABILITIES = {
    "client": "aiokafka",
    "version": aiokafka.__version__,
    "strategies": sorted(STRATEGIES),
    "cooperative": False,
    # Its heartbeats do not say whose instance they come from.
    "fenced": False,
    # No part of it deletes a group.
    "admin": [name for name in contract.ADMIN if name != "delete_group"],
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
    future = await producer.send(topic, **contract.keyword_record(record))

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
    Consuming(options).run()


class Consuming(Member):
    errors = KafkaError
    error_name = staticmethod(error_name)

    async def start(self):
        self.consumer = AIOKafkaConsumer(**keyword_settings(self.options, STRATEGIES))
        if "assign" in self.options:
            partitions = {TopicPartition(t, p): o for t, p, o in self.options["assign"]}
            self.consumer.assign(list(partitions))
            await start(self.consumer)
            for partition, offset in partitions.items():
                self.consumer.seek(partition, offset)
            self.owned.gain(partitions)
        else:
            await start(self.consumer)
            names = [name for name in ("topics", "pattern") if name in self.options]
            named = {name: self.options[name] for name in names}
            self.consumer.subscribe(**named, listener=Listener(self.owned))

    async def poll(self):
        print_records(self.owned, await self.consumer.getmany(timeout_ms=contract.POLL_MS))

    async def commit(self, positions):
        await self.consumer.commit({TopicPartition(t, p): o for t, p, o in positions})

    async def pause(self):
        self.consumer.pause(*self.consumer.assignment())

    async def resume(self):
        self.consumer.resume(*self.consumer.assignment())

    async def seek(self, topic, partition, offset):
        if offset is None:
            await self.consumer.seek_to_end(TopicPartition(topic, partition))
        else:
            self.consumer.seek(TopicPartition(topic, partition), offset)

    async def offset_at(self, topic, partition, timestamp):
        partition = TopicPartition(topic, partition)
        found = (await self.consumer.offsets_for_times({partition: timestamp}))[partition]
        return None if found is None else found.offset

    async def close(self):
        await self.consumer.stop()


def admin(options):
    loop = asyncio.new_event_loop()
    actions = Actions(options["bootstrap"])
    loop.run_until_complete(actions.start())
    contract.administrate(Waiting(actions, loop), KafkaError, error_name)
    loop.run_until_complete(actions.client.close())


class Waiting:
    """Actions that are waited for."""

    def __init__(self, actions, loop):
        self.actions = actions
        self.loop = loop

    def __getattr__(self, name):
        action = getattr(self.actions, name)
        return lambda **fields: self.loop.run_until_complete(action(**fields))


class Actions:
    """Its administrator's client knows nothing of offsets but to read a group's; what else there is of
    them here, a consumer does, as its users write it.
    """

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
        return {"offsets": contract.rows({p: o.offset for p, o in offsets.items()})}

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
        return {"offsets": contract.rows(found)}

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
