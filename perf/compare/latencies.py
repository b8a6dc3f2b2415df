"""End-to-end latencies in an open loop, quiet and beside a consumer of old data."""

import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace

from brokers import Failed, end, pinned, spawn

from . import clients
from .consuming import budget, cold_bytes, fill
from .serving import Topics, attempted, broker_for, sample, seconds_of

# Of a warm-up, the share of each rate: what a JVM has to compile it sees most of at the highest.
WARMING = {1_000: 0.1, 10_000: 0.2, 50_000: 0.7}


def turn(planned, options):
    """All rates and sizes on one process, each with a topic of its own, so on fresh segments."""
    is_cold = planned.kind == "latency-cold"
    overrides = budget(planned, options) if is_cold else {}
    with broker_for(planned, options, overrides) as broker, Topics(broker, planned) as topics:
        warm_up(broker, topics, planned, options)
        old = None
        if is_cold:
            # Records of the same size in each repetition, whoever comes first.
            like = replace(planned.loads[0][0], record_bytes=1024)
            old, _ = fill(broker, topics, "old", like, cold_bytes(options), options)
        return [attempted(measure, workload, planned, client, broker, topics, old, options)
                for workload, client in planned.loads]


def warm_up(broker, topics, planned, options):
    """The same loads, the highest rate first; unmeasured, for Kafka's JVM above all."""
    workloads = [workload for workload, _ in planned.loads]
    shares = sum(WARMING[workload.rate] for workload in workloads)
    for workload in sorted(workloads, key=lambda each: each.rate, reverse=True):
        topic = topics.make(f"warm-{workload.name}", workload.partitions)
        seconds = max(round(options.warmup_seconds * WARMING[workload.rate] / shares), 1)
        command = latency_command(broker, topic, workload, seconds, None)
        clients.perform("millrace", command, options.client_core)


def latency_command(broker, topic, workload, seconds, hdr):
    written = ["--hdr", hdr] if hdr else []
    return [clients.MILLRACE, "perf", "latency", "--bootstrap-server", broker.address, "--topic",
            topic, "--partitions", workload.partitions, "--rate", workload.rate, "--record-bytes",
            workload.record_bytes, "--acks", "all", "--duration", f"{seconds}s", "--warmup", "2s",
            "--broker-pid", broker.pid, *written, "--json"]


def measure(workload, planned, client, broker, topics, old, options):
    topic = topics.make(workload.name, workload.partitions)
    hdr = options.times / f"{workload.name}.{planned.broker}.{planned.repetition}.hgrm"
    seconds = seconds_of(workload, options)
    command = latency_command(broker, topic, workload, seconds, hdr)
    with cold_reader(broker, old, seconds, options) as reading:
        outcome = clients.perform(client, command, options.client_core)
    hdr.with_name(hdr.name + ".produce").unlink(missing_ok=True)
    produced, received = outcome.report["loads"]
    due = workload.rate * seconds
    for counted in (produced, received):
        # At either end of the window a record of each partition may be on either side of it.
        if abs(counted["records"] - due) > workload.partitions:
            hdr.unlink(missing_ok=True)
            raise Failed(f"{counted['records']} records of {due} were timed ({counted['load']})")
    names = ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "p99_99_ms", "max_ms")
    figures = {name: received[name] for name in names}
    figures |= {f"ack_{name}": produced[name] for name in names}
    figures["cpu_seconds_per_second"] = (
        outcome.report["broker"]["cpu_seconds"] / outcome.report["seconds"])
    return sample(workload, planned, client, figures | reading, outcome.command)


@contextmanager
def cold_reader(broker, topic, lasting, options):
    """A consumer of old data at full speed, for as long as this lasts and on the clients' core,
    which it leaves to whoever else wants it; gives how fast it read, when it is over."""
    reading = {}
    if topic is None:
        yield reading
        return
    options.disk.drop_page_cache()
    seconds = lasting + 3
    command = [clients.MILLRACE, "perf", "consume", "--bootstrap-server", broker.address, "--topic",
               topic, "--again", "--warmup", "0s", "--duration", f"{seconds}s", "--json"]
    reader = spawn(["chrt", "--idle", "0", *pinned(options.client_core, [str(p) for p in command])],
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        yield reading
        out, err = reader.communicate(timeout=60)
        if reader.returncode != 0:
            raise Failed(f"the cold consumer: {clients.last(err)}")
        (load,) = clients.read("millrace", out, err, seconds, command).report["loads"]
        if load["bytes"] == 0:
            raise Failed("the cold consumer read nothing")
        reading["cold_mb_per_second"] = load["mb_per_second"]
    finally:
        end(reader)
