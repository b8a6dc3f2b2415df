"""Producers: a process is warmed up by loads until one costs what the next does, then each workload
and client has loads of its own to warm up, and one that is measured.
"""

import statistics
from dataclasses import replace

from .figures import GIB, MIB
from .serving import Topics, all_there, attempted, broker_for, load, sample
from .workloads import WORKLOADS

# A process is warmed up on so many partitions, whatever it is to serve then.
PARTITIONS = 6

# A load of a warm-up takes about so long, and is at least so large.
WARMING_SECONDS = 1.5
WARMING_BYTES_MIN = 64 * MIB
# Loads are alike when the medians of the last three and of the three before differ by no more.
ALIKE = 0.05
# How many loads warm up, at least and at most: a new process, whose JVM compiles what is used, and
# one that has served others before.
OF_A_PROCESS = (16, 40)
OF_A_LOAD = (3, 12)
# What is measured is at most so many times what is asked for.
LARGER_MAX = 8


def turn(planned, options):
    """All workloads and clients on one process, each with a topic of its own."""
    first = min((workload for workload, _ in planned.loads), key=WORKLOADS.index)
    advertised = {"millrace.advertise.shards": "true"} if first.are_advertised else {}
    with broker_for(planned, options, advertised, shards=first.shards) as broker, \
            Topics(broker, planned) as topics:
        warm_process(broker, topics, first, options)
        return [attempted(measure, workload, planned, client, broker, topics, options)
                for workload, client in planned.loads]


def warm_process(broker, topics, workload, options):
    workload = replace(workload, partitions=min(workload.partitions, PARTITIONS))
    topic = topics.make("warm", workload.partitions)
    warm_up("millrace", broker, topic, workload, options, options.warm_loads or OF_A_PROCESS)


def measure(workload, planned, client, broker, topics, options):
    """With nothing on the disk but what this load writes."""
    topics.delete_all()
    topic = topics.make(f"{workload.name}-{client}", workload.partitions)
    warm, sent = warm_up(client, broker, topic, workload, options, options.warm_loads or OF_A_LOAD)
    size = lasting(options.seconds, warm[-1], options.gib * GIB * workload.share)
    loaded = load(client, broker, topic, workload, size, options)
    all_there(broker, topic, workload, sent + loaded.records)
    # Whether the warm-up was long enough is seen where both cost the same.
    figures = loaded.figures | {"warm_loads": len(warm)} | {
        f"warm_{name}": statistics.median(each.figures[name] for each in warm[-3:])
        for name in ("mb_per_second", "cpu_seconds_per_gib")}
    return sample(workload, planned, client, figures, loaded.command)


def warm_up(client, broker, topic, workload, options, bounds):
    """Loads until they are alike; these, and how many records they are."""
    least, most = bounds
    loads = [load(client, broker, topic, workload, WARMING_BYTES_MIN, options)]
    while len(loads) < least or not (len(loads) >= most or are_alike(
            [each.figures["cpu_seconds_per_gib"] for each in loads])):
        size = lasting(WARMING_SECONDS, loads[-1], WARMING_BYTES_MIN)
        loads.append(load(client, broker, topic, workload, size, options))
    return loads, sum(each.records for each in loads)


def are_alike(costs):
    """Whether the last three cost what the three before did; where there are no six yet, whether
    the last three cost the same."""
    if len(costs) >= 6:
        before, last = statistics.median(costs[-6:-3]), statistics.median(costs[-3:])
        return abs(last - before) <= ALIKE * before
    return len(costs) >= 3 and max(costs[-3:]) - min(costs[-3:]) <= ALIKE * min(costs[-3:])


def lasting(seconds, loaded, least):
    """How many bytes take so long at the speed of a load: at least these, and not so many that they
    fill the disk."""
    return max(least, min(loaded.figures["mb_per_second"] * 1e6 * seconds, LARGER_MAX * GIB))
