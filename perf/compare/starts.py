"""Turns that measure a start, or a broker that has nothing to do."""

import signal
import subprocess
import time
from dataclasses import replace

from brokers import Failed, end, pinned, process_seconds, records_in, spawn

from . import clients, wire
from .figures import GIB
from .serving import Topics, all_there, broker_for, load, resident_mib, sample

# How long a broker is left alone before it is looked at, and how long it is looked at then.
SETTLED_SECONDS = 5
IDLE_SECONDS = 15
# How long a broker is written to before it is killed.
WRITTEN_SECONDS = 3


def started(broker, topic=None, partitions=0):
    """Starts the process once more; milliseconds until it serves."""
    began = time.monotonic()
    broker.launch()
    ms = wire.wait_until_ready(broker.process, broker.address, began, topic, partitions)
    if ms is None:
        raise Failed(f"the broker does not get ready: see {broker.log.name}")
    return ms


def own(turn):
    if turn.broker == "peer":
        raise Failed("a broker that somebody else has started is not started again")


def ready_empty(turn, options):
    own(turn)
    ((workload, _),) = turn.loads
    with broker_for(turn, options) as broker:
        # Formatted, and the program in the page cache; that start is not counted.
        broker.end()
        ms = started(broker)
        figures = {"ready_ms": ms, "resident_mib": resident_mib(broker.pid)}
    return [sample(workload, turn, "start", figures)]


def ready_full(turn, options):
    """After a clean stop, and after a kill while it is written to. As where a broker starts anew on
    a machine that goes on, the page cache is as the broker left it."""
    own(turn)
    partitions = options.ready_partitions
    clean, killed = (replace(workload, partitions=partitions) for workload, _ in turn.loads)
    options.disk.need(options.ready_gib * GIB)
    samples = []
    with broker_for(turn, options) as broker, Topics(broker, turn) as topics:
        topic = topics.make("data", partitions)
        records = load("millrace", broker, topic, clean, options.ready_gib * GIB, options).records
        all_there(broker, topic, clean, records)
        broker.end()
        if broker.is_unclean:
            raise Failed(f"the broker did not stop cleanly: see {broker.log.name}")
        samples.append(again(broker, topic, clean, turn, records))
        kill_while_written(broker, topic, killed, options)
        samples.append(again(broker, topic, killed, turn, records))
    return samples


def again(broker, topic, workload, turn, records):
    """Starts once more; at least so many records must be there."""
    ms = started(broker, topic, workload.partitions)
    figures = {"ready_ms": ms, "resident_mib": resident_mib(broker.pid)}
    stored = records_in(broker.address, topic, workload.partitions)
    if stored < records:
        raise Failed(f"{broker.name} holds {stored} records of {records} after its start")
    return sample(workload, turn, "start", figures)


def kill_while_written(broker, topic, workload, options):
    command = clients.produce_command("millrace", broker, topic, workload, 1 << 40)
    writer = spawn(pinned(options.client_core, [str(part) for part in command]),
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(WRITTEN_SECONDS)
        if writer.poll() is not None:
            raise Failed("the producer ended before the broker was killed")
        broker.end(signal.SIGKILL)
    finally:
        end(writer)


def idle(turn, options):
    """With two shards on two cores, and with a topic and a client that has gone."""
    own(turn)
    ((workload, _),) = turn.loads
    with broker_for(turn, options, shards=2) as broker, Topics(broker, turn) as topics:
        topics.make("idle", workload.partitions)
        time.sleep(SETTLED_SECONDS)
        before = process_seconds(broker.pid)
        time.sleep(IDLE_SECONDS)
        spent = process_seconds(broker.pid) - before
        figures = {"resident_mib": resident_mib(broker.pid),
                   "cpu_percent_of_a_core": 100 * spent / IDLE_SECONDS / workload.shards}
    return [sample(workload, turn, "start", figures)]
