"""What the Python drivers share: the command line, the lines of JSON, and what a member owns.

The contract is `tests/drivers/README.md`. A driver is a module with `CAPABILITIES`, `error_name`,
`produce`, `consume` and `admin`; only this one reads standard input and writes standard output.
"""

import json
import logging
import os
import queue
import sys
import threading
import traceback

# Kafka's names where a library has others for the same number.
KAFKA_NAMES = {
    -1: "UNKNOWN_SERVER_ERROR",
    2: "CORRUPT_MESSAGE",
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    4: "INVALID_FETCH_SIZE",
    6: "NOT_LEADER_OR_FOLLOWER",
    10: "MESSAGE_TOO_LARGE",
    11: "STALE_CONTROLLER_EPOCH",
    13: "NETWORK_EXCEPTION",
    14: "COORDINATOR_LOAD_IN_PROGRESS",
    15: "COORDINATOR_NOT_AVAILABLE",
    16: "NOT_COORDINATOR",
    17: "INVALID_TOPIC_EXCEPTION",
    39: "INVALID_REPLICA_ASSIGNMENT",
}

# What the clients have in common; a driver names its library and what that lacks.
COMMON = {
    "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
    "idempotent": True,
    "custom_partitioner": True,
    "cooperative": True,
    "static": True,
    "fenced": True,
    "pattern": True,
    "new_partitions": True,
    "pause": True,
    "assign": True,
    "seek_time": True,
    "isolation": True,
    "auto_commit": True,
}

# What an administrator is asked to do.
ADMIN = (
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

POLL_MS = 50
"""How long a consumer may wait for records before it looks for commands."""

_stdout = threading.Lock()


def emit(event, **fields):
    """Prints one event. Clients call back from threads of their own, so lines are kept whole."""
    line = json.dumps({"event": event, **fields}) + "\n"
    with _stdout:
        sys.stdout.write(line)
        sys.stdout.flush()


def encoded(text):
    return None if text is None else text.encode()


def decoded(data):
    return None if data is None else data.decode()


def partition_of(key, partitions):
    """The custom partitioner: the sum of the key's bytes, modulo the number of partitions."""
    return sum(key or b"") % partitions


def fields_of(command):
    return {name: value for name, value in command.items() if name != "do"}


class Commands:
    """Standard input, read by a thread of its own so that the client's loop never waits for it."""

    def __init__(self):
        self._queue = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in sys.stdin:
            if line.strip():
                try:
                    self._queue.put(json.loads(line))
                except ValueError as error:
                    fail(f"not a command: {line}: {error}", None)
        self._queue.put(None)

    def next(self):
        """The next command, waited for; `None` at the end."""
        return self._queue.get()

    def ready(self):
        """The commands that have come, without waiting; the end is a command to close."""
        while not self._queue.empty():
            yield self._queue.get() or {"do": "close"}


class Acknowledged:
    """Prints acknowledgements in the order of the commands, in whatever order they come."""

    def __init__(self):
        self._lock = threading.Lock()
        self._early = {}
        self._index = 0

    def add(self, index, partition, offset):
        with self._lock:
            self._early[index] = (partition, offset)
            while self._index in self._early:
                partition, offset = self._early.pop(self._index)
                emit("produced", index=self._index, partition=partition, offset=offset)
                self._index += 1


class Owned:
    """The partitions that a consumer owns, and the positions behind the records printed."""

    def __init__(self):
        self._partitions = set()
        self._positions = {}

    def gain(self, partitions):
        self._partitions.update((p.topic, p.partition) for p in partitions)
        self._print()

    def lose(self, event, partitions):
        lost = {(p.topic, p.partition) for p in partitions}
        if not lost:
            return
        self._partitions -= lost
        for partition in lost:
            self._positions.pop(partition, None)
        emit(event, partitions=sorted(lost))
        self._print()

    def _print(self):
        emit("assigned", partitions=sorted(self._partitions))

    def print_record(self, topic, partition, offset, key, value, headers, timestamp):
        emit(
            "record",
            topic=topic,
            partition=partition,
            offset=offset,
            key=decoded(key),
            value=decoded(value),
            headers=[[name, decoded(data)] for name, data in headers or ()],
            timestamp=timestamp,
        )
        self.move(topic, partition, offset + 1)

    def move(self, topic, partition, offset):
        """Notes the position; `None` when the client alone knows it, as after a seek to the end."""
        if offset is None:
            self._positions.pop((topic, partition), None)
        else:
            self._positions[topic, partition] = offset

    def positions(self):
        return [
            [topic, partition, offset]
            for (topic, partition), offset in sorted(self._positions.items())
        ]


def rows(offsets):
    """`[[topic, partition, offset], ...]` of what a library gives: an offset for each partition."""
    return sorted([each.topic, each.partition, offset] for each, offset in offsets.items())


def keyword_record(record):
    """A record to produce as kafka-python and aiokafka name its parts both."""
    return {
        "key": encoded(record.get("key")),
        "value": encoded(record.get("value")),
        "headers": [(name, encoded(value)) for name, value in record.get("headers") or ()],
        "partition": record.get("partition"),
        "timestamp_ms": record.get("timestamp"),
    }


def administrate(actions, errors, error_name):
    """Answers each command by what the method of its name gives."""
    commands = Commands()
    while command := commands.next():
        do = command["do"]
        if do not in ADMIN:
            raise ValueError(f"no command {do}")
        try:
            emit("done", do=do, **(getattr(actions, do)(**fields_of(command)) or {}))
        except errors as error:
            refused(do, error, error_name)


def refused(do, error, error_name):
    emit("failed", do=do, code=error_name(error), message=str(error))


def main(driver):
    """Runs the verb of the command line; whatever goes wrong is printed, and the exit code is 1."""
    logging.basicConfig(level=logging.WARNING)
    verb = sys.argv[1]
    given = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    options = {name: value for name, value in given.items() if value is not None}
    verbs = {"produce": driver.produce, "consume": driver.consume, "admin": driver.admin}
    try:
        if verb == "capabilities":
            print(json.dumps({**COMMON, **driver.CAPABILITIES}))
        else:
            verbs[verb](options)
    except Exception as error:
        traceback.print_exc()
        fail(str(error), driver.error_name(error))


def fail(message, code):
    """Ends the program. Threads may still run; nothing of theirs is worth waiting for."""
    emit("error", message=message, code=code)
    sys.stderr.flush()
    os._exit(1)
