"""A turn: one broker from an empty directory, warmed up, a load, and what came of it.

Only what is complete counts: the topic's end offsets are compared with what the clients were told
to send, a consumer must have had every record, and a client's error fails the turn, with the
reason.
"""

import subprocess
import time
from contextlib import contextmanager

from brokers import Failed, end, pinned, records_in, spawn

from . import clients, disk, floor, starts
from .figures import GIB, MIB
from .serving import (
    FAILURES, Peer, Topics, Usage, attempted, broker_for, failed, idle_share, load, records_for,
    sample, seconds_of)

# What a consumer of fresh data reads, again and again: what was just written, a tenth of a second
# to a second of it, which both brokers have in memory as they are shipped.
FRESH_BYTES = 128 * MIB
# What a producer sends is at most so many times what is asked for.
LARGER_MAX = 8
# How often the clients that read everything once do so.
PASSES = 6


def perform(turn, options):
    """Runs a turn; gives its samples."""
    kinds = {"produce": produce, "consume": consume_fresh, "consume-cold": consume_cold,
             "latency": latency, "latency-cold": latency, "ready-empty": starts.ready_empty,
             "ready-full": starts.ready_full, "idle": starts.idle, "kept": kept}
    try:
        if turn.broker == "floor":
            return floor.turn(turn, options)
        return kinds[turn.kind](turn, options)
    except FAILURES as why:
        return [failed(workload, turn, client, why) for workload in turn.workloads
                for client in turn.clients if client in workload.clients]


# --- producers

def produce(turn, options):
    """Each client in a turn of its own: what they leave would fill the disk."""
    (workload,), (client,) = turn.workloads, turn.clients
    advertised = {"millrace.advertise.shards": "true"} if workload.are_advertised else {}
    with broker_for(turn, options, advertised, shards=workload.shards) as broker, \
            Topics(broker, turn) as topics:
        topic = topics.make("load", workload.partitions)
        warm, before = warmed_up(client, broker, topic, workload, options)
        least = options.gib * GIB * workload.share
        size = max(lasting(options.seconds, warm, least), least)
        loaded = load(client, broker, topic, workload, records_for(size, workload), options, before)
    # Whether the warm-up was long enough is seen where both cost the same.
    figures = loaded.figures | {
        f"warm_up_{name}": warm.figures[name] for name in ("mb_per_second", "cpu_seconds_per_gib")}
    return [sample(workload, turn, client, figures, loaded.command)]


def warmed_up(client, broker, topic, workload, options):
    """Sends what is asked for, and then what fills the time: a JVM compiles while it is used. Gives
    the last of the two, and how many records there are."""
    least = options.warmup_gib * GIB * workload.share
    first = load(client, broker, topic, workload, records_for(least, workload), options)
    left = options.produce_warmup_seconds - first.bytes / 1e6 / first.figures["mb_per_second"]
    if left < 1:
        return first, first.records
    records = records_for(lasting(left, first, least), workload)
    second = load(client, broker, topic, workload, records, options, first.records)
    return second, first.records + second.records


def lasting(seconds, loaded, least):
    """How many bytes take so long at the speed of a load, but not so many that they fill the
    disk."""
    return min(loaded.figures["mb_per_second"] * 1e6 * seconds, LARGER_MAX * least)


# --- consumers

def fill(broker, topics, name, workload, size, options):
    """A topic that holds so much, written in batches of 64 KiB."""
    topic = topics.make(name, workload.partitions)
    loaded = load("millrace", broker, topic, workload, records_for(size, workload), options)
    return topic, loaded.records


def consume_fresh(turn, options):
    (workload,) = turn.workloads
    with broker_for(turn, options) as broker, Topics(broker, turn) as topics:
        return [attempted(read_fresh, workload, turn, client, broker, topics, options)
                for client in turn.clients]


def read_fresh(workload, turn, client, broker, topics, options):
    """What was just written, once without being measured."""
    topic, records = fill(broker, topics, client, workload, FRESH_BYTES, options)
    consume(client, broker, topic, workload, records, options)
    if client == "millrace":
        return read_again(workload, turn, broker, topic, options)
    # Most of a pass is the client's start and the forming of its group.
    idle = 0.0 if isinstance(broker, Peer) else idle_share(broker)
    usage = Usage(broker, options.directory)
    outcomes = [consume(client, broker, topic, workload, records, options) for _ in range(PASSES)]
    size = PASSES * records * workload.record_bytes
    seconds = sum(outcome.seconds for outcome in outcomes)
    figures = {"mb_per_second": size / 1e6 / seconds, **usage.figures(size, idle)}
    return sample(workload, turn, client, figures, outcomes[0].command)


def consume(client, broker, topic, workload, records, options):
    """Everything once."""
    command = clients.consume_command(client, broker, topic, workload, records)
    outcome = clients.perform(client, command, options.client_core)
    if outcome.records < records:
        raise Failed(f"{client} read {outcome.records} records of {records}")
    return outcome


def read_again(workload, turn, broker, topic, options):
    """For the whole time, from the beginning again at the end."""
    command = clients.consume_command("millrace", broker, topic, workload, 0, options.seconds)
    outcome = clients.perform("millrace", command, options.client_core)
    if outcome.records == 0:
        raise Failed("nothing was read")
    used = outcome.report["broker"]
    gib = outcome.records * workload.record_bytes / GIB
    figures = {
        "mb_per_second": outcome.mb_per_second(workload.record_bytes),
        "cpu_seconds_per_gib": used["cpu_seconds"] / gib,
        "kernel_threads_seconds_per_gib": used["kernel_threads_cpu_seconds"] / gib,
    }
    return sample(workload, turn, "millrace", figures, outcome.command)


def consume_cold(turn, options):
    """All of the group read the same topic, whose first reading only warms up."""
    with broker_for(turn, options, budget(turn, options)) as broker, Topics(broker, turn) as topics:
        first = turn.workloads[0]
        topic, records = fill(broker, topics, "old", first, cold_bytes(options), options)
        consume("millrace", broker, topic, first, records, options)
        return [attempted(read_cold, workload, turn, client, broker, topic, records, options)
                for workload in turn.workloads
                for client in turn.clients if client in workload.clients]


def budget(turn, options):
    """What Millrace may use where data is called cold: a tenth of it. Kafka has the page cache."""
    if turn.broker != "millrace":
        return {}
    return {"millrace.memory.bytes": options.cold_budget_mib * MIB}


def cold_bytes(options):
    return 10 * options.cold_budget_mib * MIB


def read_cold(workload, turn, client, broker, topic, records, options):
    """All of it once, or by many for the whole time; and beside it what bare direct reads of the
    same files reach."""
    options.disk.drop_page_cache()
    size = records * workload.record_bytes
    if workload.consumers > 1:
        taken = read_again(workload, turn, broker, topic, options)
    else:
        usage = Usage(broker, options.directory)
        outcome = consume(client, broker, topic, workload, records, options)
        speed = outcome.mb_per_second(workload.record_bytes)
        figures = {"mb_per_second": speed, **usage.figures(size)}
        taken = sample(workload, turn, client, figures, outcome.command)
    if not isinstance(broker, Peer):
        options.disk.drop_page_cache()
        files = broker.data.glob(f"{topic}-*/*.log")
        taken["figures"]["disk_mb_per_second"] = disk.bare_reads(
            files, options.broker_core, workload.consumers)
    return taken


# --- latency

def latency(turn, options):
    """All rates and sizes on one process, each with a topic of its own, so on fresh segments."""
    is_cold = turn.kind == "latency-cold"
    overrides = budget(turn, options) if is_cold else {}
    with broker_for(turn, options, overrides) as broker, Topics(broker, turn) as topics:
        warm_up(broker, topics, turn, options)
        old = None
        if is_cold:
            old, _ = fill(broker, topics, "old", turn.workloads[0], cold_bytes(options),
                          options)
        # None is always the first, which has the coldest JVM.
        first = (turn.repetition - 1) % len(turn.workloads)
        return [attempted(measure_latency, workload, turn, "millrace", broker, topics, old, options)
                for workload in turn.workloads[first:] + turn.workloads[:first]]


def warm_up(broker, topics, turn, options):
    """The same kinds of load, the highest rate first; unmeasured, for Kafka's JVM above all."""
    by_rate = sorted(turn.workloads, key=lambda each: each.rate, reverse=True)
    for workload in by_rate:
        topic = topics.make(f"warm-{workload.name}", workload.partitions)
        seconds = max(options.warmup_seconds // len(by_rate), 1)
        command = latency_command(broker, topic, workload, seconds, None)
        clients.perform("millrace", command, options.client_core)


def latency_command(broker, topic, workload, seconds, hdr):
    written = ["--hdr", hdr] if hdr else []
    return [clients.MILLRACE, "perf", "latency", "--bootstrap-server", broker.address, "--topic",
            topic, "--partitions", workload.partitions, "--rate", workload.rate, "--record-bytes",
            workload.record_bytes, "--acks", "all", "--duration", f"{seconds}s", "--warmup", "2s",
            "--broker-pid", broker.pid, *written, "--json"]


def measure_latency(workload, turn, client, broker, topics, old, options):
    topic = topics.make(workload.name, workload.partitions)
    hdr = options.times / f"{workload.name}.{turn.broker}.{turn.repetition}.hgrm"
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
    return sample(workload, turn, client, figures | reading, outcome.command)


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


# --- with more and more kept

def kept(turn, options):
    """Produce, and produce with a reader at the end, once 2 GiB are stored and once 24 are."""
    samples = []
    # Beside what is kept, what is measured: that the reader gets within its time as well.
    options.disk.need((options.kept_gib[-1] + options.gib) * GIB + options.seconds * 1e9)
    with broker_for(turn, options) as broker, Topics(broker, turn) as topics:
        first = turn.workloads[0]
        topic, stored = topics.make("data", first.partitions), 0
        for workload, gib in zip(turn.workloads, options.kept_gib):
            records = records_for(gib * GIB, workload) - stored
            if records > 0:
                stored += load("millrace", broker, topic, workload, records, options,
                               stored).records
            samples.append(measure_kept(broker, topic, workload, stored, turn, options))
            stored = records_in(broker.address, topic, workload.partitions)
    return samples


def measure_kept(broker, topic, workload, stored, turn, options):
    records = records_for(options.gib * GIB, workload)
    loaded = load("millrace", broker, topic, workload, records, options, stored)
    mixed = [clients.MILLRACE, "perf", "mixed", "--bootstrap-server", broker.address, "--topic",
             topic, "--cold-consumers", 0, "--duration", f"{options.seconds}s", "--broker-pid",
             broker.pid, "--json"]
    report = clients.perform("millrace", mixed, options.client_core).report
    produced, consumed = report["loads"][:2]
    tail = {"tail_mb_per_second": consumed["mb_per_second"], "tail_p99_ms": consumed["p99_ms"],
            "tail_cpu_seconds_per_gib":
                report["broker"]["cpu_seconds"] * GIB / produced["bytes"]}
    return sample(workload, turn, "millrace", loaded.figures | tail, loaded.command)
