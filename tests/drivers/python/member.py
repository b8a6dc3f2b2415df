"""What a consumer does for the contract, whatever its library: the loop, and the commands."""

import asyncio

from contract import Commands, Owned, emit, refused


class Member:
    """A member of a group, or a reader of partitions it was told. A driver inherits from it.

    The driver's part is to `start`, which subscribes or takes the partitions of `assign`; to `poll` for
    a moment and print the records; to `commit`, `pause`, `resume`, `seek` to an offset or to the end
    for `None`, find the `offset_at` a time, and `close`. All of these are awaited, whether or not the
    library is made for asyncio, so that the loop is written once. `errors` is what the library raises
    where it refuses a command, and `error_name` gives Kafka's name of it.
    """

    def __init__(self, options):
        self.options = options
        self.owned = Owned()

    def run(self):
        asyncio.run(self._run())

    async def _run(self):
        await self.start()
        commands = Commands()
        while True:
            await self.poll()
            for command in commands.ready():
                if command["do"] == "close":
                    await self.close()
                    emit("closed")
                    return
                try:
                    await self._obey(**command)
                except self.errors as error:
                    refused(command["do"], error, self.error_name)

    async def _obey(self, do, topic=None, partition=None, offset=None, timestamp=None):
        if do == "commit":
            positions = self.owned.positions()
            if positions:
                await self.commit(positions)
            emit("committed", offsets=positions)
        elif do == "pause":
            await self.pause()
            emit("paused")
        elif do == "resume":
            await self.resume()
            emit("resumed")
        elif do == "seek":
            await self._seek(topic, partition, offset)
        elif do == "seek_time":
            await self._seek(topic, partition, await self.offset_at(topic, partition, timestamp))

    async def _seek(self, topic, partition, offset):
        await self.seek(topic, partition, offset)
        self.owned.move(topic, partition, offset)


def keyword_settings(options, strategies):
    """The settings of a consumer as kafka-python and aiokafka name them both."""
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
    settings |= {name: options[option] for option, name in named.items() if option in options}
    if "strategy" in options:
        settings["partition_assignment_strategy"] = [strategies[options["strategy"]]]
    return settings


def print_records(owned, fetched):
    """Prints what kafka-python and aiokafka give: lists of records by partition."""
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
