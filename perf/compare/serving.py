"""What all turns are made of: a broker that serves, topics of the turn's own, a load of producers,
and what the broker used meanwhile.
"""

import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from brokers import Broker, Failed, KernelThreads, process_seconds, records_in

from . import clients, machine, wire
from .figures import GIB

# What is deleted is to be off the disk soon, so that the next load has room.
DELETED_SOON = {"log.segment.delete.delay.ms": 1000}
OVERRIDES = {
    "kafka-flush": {"log.flush.interval.messages": 1},
    # What its documentation advises: larger socket buffers for high bandwidth.
    "kafka-tuned": {"socket.send.buffer.bytes": 1 << 20, "socket.receive.buffer.bytes": 1 << 20},
}
TOPIC_SERVED_WITHIN = 300
TOPIC_GONE_WITHIN = 120
# A disk that gets no discard for so long has had them all; and how long is waited at most.
DISCARDS_REST = 0.5
DISCARDED_WITHIN = 20
# Kafka's controller takes no more than 10,000 changes in one request.
PARTITIONS_AT_ONCE = 5_000


class Peer:
    """A broker that somebody else has started, and that goes on after this program."""

    name = "peer"

    def __init__(self, address, pid):
        self.address = address
        self.pid = pid

    def stop(self):
        pass


def sample(workload, turn, client, figures, command=()):
    return {"workload": workload.name, "broker": turn.broker, "client": client,
            "repetition": turn.repetition, "counts": True, "why": "", "figures": figures,
            "command": [str(part) for part in command]}


def failed(workload, turn, client, why):
    """What does not count, and why."""
    said = str(why) if isinstance(why, Failed) else f"{type(why).__name__}: {why}"
    return sample(workload, turn, client, {}) | {"counts": False, "why": said}


# Whatever goes wrong in one turn, it must not cost the hours before.
FAILURES = (Failed, Exception)


def attempted(measure, workload, turn, client, *arguments):
    """One of several measurements on a process, whose failure leaves the others alone."""
    try:
        return measure(workload, turn, client, *arguments)
    except FAILURES as why:
        return failed(workload, turn, client, why)


@contextmanager
def broker_for(turn, options, overrides=(), shards=1):
    """A broker that serves, with nothing in it; gone when this ends."""
    if turn.broker == "peer":
        yield Peer(options.peer, options.peer_pid)
        return
    own = {"millrace.shards": shards} if turn.broker == "millrace" else {}
    own |= DELETED_SOON | OVERRIDES.get(turn.broker, {}) | dict(overrides)
    broker = Broker(turn.broker, f"{turn.name}-{turn.repetition}",
                    cores_of(options, shards), own, options.directory)
    try:
        yield broker
    finally:
        broker.stop()


def cores_of(options, shards):
    cores = [options.broker_core, options.client_core]
    return ",".join(str(core) for core in cores[:shards])


class Topics:
    """Topics of a turn's own, which a broker that goes on gets rid of at the end."""

    def __init__(self, broker, turn):
        self.broker = broker
        self.turn = turn
        self.directory = Path(getattr(broker, "data", "/"))
        self.made = []

    def make(self, name, partitions):
        name = f"perf-{self.turn.name}-{name}-{os.getpid()}-{self.turn.repetition}"
        self.command("create", name, "--partitions", min(partitions, PARTITIONS_AT_ONCE))
        self.made.append(name)
        for total in range(2 * PARTITIONS_AT_ONCE, partitions + PARTITIONS_AT_ONCE,
                           PARTITIONS_AT_ONCE):
            self.wait(name, total - PARTITIONS_AT_ONCE)
            self.command("add-partitions", name, "--partitions", min(total, partitions))
        self.wait(name, partitions)
        return name

    def wait(self, name, partitions):
        """A topic is made before its partitions have leaders, and Kafka tells clients so."""
        deadline = time.monotonic() + TOPIC_SERVED_WITHIN
        while not wire.is_ready(self.broker.address, name, partitions):
            if time.monotonic() > deadline:
                raise Failed(f"{self.broker.name} does not serve {name}")
            time.sleep(0.1)

    def delete_all(self):
        """Takes the topics away, and waits until nothing of them is on the disk."""
        while self.made:
            name = self.made[-1]
            self.command("delete", name)
            self.wait_until_gone(name)
            self.made.pop()
        os.sync()
        self.wait_for_discards()

    def wait_for_discards(self):
        """The disk may be told of what is free only after it is gone, and that takes it time."""
        deadline = time.monotonic() + DISCARDED_WITHIN
        before, now = None, 0
        while before != now and time.monotonic() < deadline:
            before = machine.discarded(self.directory)
            time.sleep(DISCARDS_REST)
            now = machine.discarded(self.directory)

    def wait_until_gone(self, name):
        deadline = time.monotonic() + TOPIC_GONE_WITHIN
        while not isinstance(self.broker, Peer) and any(self.broker.data.glob(f"{name}-*")):
            if time.monotonic() > deadline:
                raise Failed(f"{self.broker.name} keeps the files of {name}, which is deleted")
            time.sleep(0.1)

    def command(self, *arguments):
        command = [clients.MILLRACE, "topics", *arguments, "--bootstrap-server",
                   self.broker.address, "--timeout", "300s"]
        finished = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if finished.returncode != 0:
            raise Failed(f"topics {arguments[0]}: {finished.stderr.strip()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if isinstance(self.broker, Peer):
            self.delete_all()


def records_for(size, workload):
    return max(int(size) // workload.record_bytes, 1)


def seconds_of(workload, options):
    """How long a latency is measured: a high percentile of few records is one of them."""
    return options.seconds * 3 if workload.rate <= 1_000 else options.seconds


class Usage:
    """What a broker's process, and beside it the kernel's own threads, have used from now on, and
    what was written to the disk."""

    def __init__(self, broker, directory):
        os.sync()
        self.broker = broker
        self.directory = directory
        self.written = machine.written_bytes(directory)
        self.kernel = KernelThreads()
        self.before = process_seconds(broker.pid)

    def figures(self, size):
        """By GiB. What is still dirty in the page cache is written first, by a sync(2): it is paid
        for too."""
        spent = process_seconds(self.broker.pid) - self.before
        os.sync()
        gib = size / GIB
        return {"cpu_seconds_per_gib": spent / gib,
                "kernel_threads_seconds_per_gib": self.kernel.seconds() / gib,
                "written_per_byte": (machine.written_bytes(self.directory) - self.written) / size}


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise Failed("the broker has ended")


@dataclass
class Loaded:
    """What producers have written, and what that took."""

    records: int
    bytes: int
    seconds: float
    figures: dict
    command: list


def load(client, broker, topic, workload, size, options):
    """Writes so many bytes, or to the end of the last batch. Whether all are there is the caller's
    to see, by `all_there`."""
    records = records_for(size, workload)
    command = clients.produce_command(client, broker, topic, workload, records)
    usage = Usage(broker, options.directory)
    outcome = clients.perform(client, command, options.client_core)
    size = outcome.records * workload.record_bytes
    figures = {"mb_per_second": outcome.mb_per_second(workload.record_bytes), **usage.figures(size),
               "resident_mib": resident_mib(broker.pid)}
    # What `millrace perf` has measured beside: how long acknowledgements took.
    loads = outcome.report.get("loads", ())
    figures |= {f"ack_{name}": loads[0][name] for name in ("p50_ms", "p99_ms") if loads}
    surplus = workload.batch_bytes // workload.record_bytes
    if not 0 <= outcome.records - records <= surplus * workload.producers:
        raise Failed(f"{client} sent {outcome.records} records of {records}")
    return Loaded(outcome.records, size, outcome.seconds, figures, outcome.command)


def all_there(broker, topic, workload, sent):
    """Fails unless the topic holds what was sent to it, by Kafka's own tool."""
    stored = records_in(broker.address, topic, workload.partitions)
    if stored != sent:
        raise Failed(f"{broker.name} holds {stored} records of {sent}")
