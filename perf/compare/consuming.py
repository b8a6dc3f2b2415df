"""Consumers: of what was just written, and of old data with the page cache dropped."""

import statistics
import time
from dataclasses import replace

from brokers import Failed, process_seconds

from . import clients, disk
from .figures import GIB, MIB
from .serving import (
    Peer, Topics, Usage, all_there, attempted, broker_for, load, sample)

# What a consumer of fresh data reads, again and again: what was just written, a tenth of a second
# to a second of it, which both brokers have in memory as they are shipped.
FRESH_BYTES = 128 * MIB
# How often the clients that read everything once do so, and how often they do before that counts.
PASSES = 10
WARM_PASSES = 2
COLD_PASSES = 3


def fill(broker, topics, name, workload, size, options):
    """A topic that holds so much, written in batches of 64 KiB."""
    topic = topics.make(name, workload.partitions)
    loaded = load("millrace", broker, topic, workload, size, options)
    all_there(broker, topic, workload, loaded.records)
    return topic, loaded.records


def fresh(planned, options):
    with broker_for(planned, options) as broker, Topics(broker, planned) as topics:
        topic, _ = fill(broker, topics, "warm", planned.loads[0][0], FRESH_BYTES, options)
        again(broker, topic, planned.loads[0][0], options, options.read_warmup_seconds)
        return [attempted(read_fresh, workload, planned, client, broker, topics, options)
                for workload, client in planned.loads]


def read_fresh(workload, planned, client, broker, topics, options):
    """What was just written. Most of a pass of a client that reads everything once is its start and
    the forming of its group, which passes over next to nothing tell."""
    little = fill(broker, topics, f"{client}-little", workload, 1, options)
    much = fill(broker, topics, f"{client}-much", workload, FRESH_BYTES, options)
    if client == "millrace":
        return read_again(workload, planned, broker, much[0], options)
    for _ in range(WARM_PASSES):
        consume(client, broker, *much, workload, options)
    spent, seconds = [], 0.0
    for _ in range(PASSES):
        over_little, _ = cost_of_pass(client, broker, little, workload, options)
        over_much, outcome = cost_of_pass(client, broker, much, workload, options)
        spent.append(over_much - over_little)
        seconds += outcome.seconds
    if sum(spent) <= 0:
        raise Failed("passes over next to nothing cost more than those over what was just written")
    size = PASSES * much[1] * workload.record_bytes
    figures = {"mb_per_second": size / 1e6 / seconds,
               "cpu_seconds_per_gib": sum(spent) / (size / GIB)}
    return sample(workload, planned, client, figures, outcome.command)


def cost_of_pass(client, broker, held, workload, options):
    before = process_seconds(broker.pid)
    outcome = consume(client, broker, *held, workload, options)
    return process_seconds(broker.pid) - before, outcome


def consume(client, broker, topic, records, workload, options):
    """Everything once."""
    command = clients.consume_command(client, broker, topic, workload, records)
    outcome = clients.perform(client, command, options.client_core)
    if outcome.records < records:
        raise Failed(f"{client} read {outcome.records} records of {records}")
    return outcome


def again(broker, topic, workload, options, seconds):
    """For the whole time, from the beginning again at the end."""
    command = clients.consume_command("millrace", broker, topic, workload, 0, seconds)
    outcome = clients.perform("millrace", command, options.client_core)
    if outcome.records == 0:
        raise Failed("nothing was read")
    return outcome


def read_again(workload, planned, broker, topic, options):
    outcome = again(broker, topic, workload, options, options.seconds)
    used = outcome.report["broker"]
    gib = outcome.records * workload.record_bytes / GIB
    figures = {
        "mb_per_second": outcome.mb_per_second(workload.record_bytes),
        "cpu_seconds_per_gib": used["cpu_seconds"] / gib,
        "kernel_threads_seconds_per_gib": used["kernel_threads_cpu_seconds"] / gib,
    }
    return sample(workload, planned, "millrace", figures, outcome.command)


def cold(planned, options):
    """All of the group read the same topic, first without being measured."""
    with broker_for(planned, options, budget(planned, options)) as broker, \
            Topics(broker, planned) as topics:
        first = replace(planned.loads[0][0], consumers=1)
        topic, records = fill(broker, topics, "old", first, cold_bytes(options), options)
        until = time.monotonic() + options.read_warmup_seconds
        while time.monotonic() < until:
            options.disk.drop_page_cache()
            consume("millrace", broker, topic, records, first, options)
        return [attempted(read_cold, workload, planned, client, broker, topic, records, options)
                for workload, client in planned.loads]


def budget(planned, options):
    """What Millrace may use where data is called cold: a tenth of it. Kafka has the page cache."""
    if planned.broker != "millrace":
        return {}
    return {"millrace.memory.bytes": options.cold_budget_mib * MIB}


def cold_bytes(options):
    return 10 * options.cold_budget_mib * MIB


def read_cold(workload, planned, client, broker, topic, records, options):
    """All of it a few times over, or by many for the whole time; and beside it what bare direct
    reads of the same files reach."""
    options.disk.drop_page_cache()
    if workload.consumers > 1:
        taken = read_again(workload, planned, broker, topic, options)
    else:
        taken = read_passes(workload, planned, client, broker, topic, records, options)
    if not isinstance(broker, Peer):
        options.disk.drop_page_cache()
        files = broker.data.glob(f"{topic}-*/*.log")
        taken["figures"]["disk_mb_per_second"] = disk.bare_reads(
            files, options.broker_core, workload.consumers)
    return taken


def read_passes(workload, planned, client, broker, topic, records, options):
    """The median of a few passes, each over data that is in no memory."""
    consume(client, broker, topic, records, workload, options)
    size, passes = records * workload.record_bytes, []
    for _ in range(COLD_PASSES):
        options.disk.drop_page_cache()
        usage = Usage(broker, options.directory)
        outcome = consume(client, broker, topic, records, workload, options)
        passes.append({"mb_per_second": outcome.mb_per_second(workload.record_bytes),
                       **usage.figures(size)})
    figures = {name: statistics.median(each[name] for each in passes) for name in passes[0]}
    return sample(workload, planned, client, figures, outcome.command)
