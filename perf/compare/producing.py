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
# Loads are alike when medians of three and of the three before differ by no more.
ALIKE = 0.05
# How many loads warm up, at least and at most, and for how many seconds at least: a new process,
# whose JVM compiles what is used, and one that has served others before.
OF_A_PROCESS = (16, 60, 40)
OF_A_LOAD = (3, 12, 0)
# A topic of a warm-up is deleted when it has so much, and another one is made.
WARM_TOPIC_BYTES = 4 * GIB
# What is measured is at most so much.
LOAD_BYTES_MAX = 8 * GIB
# What all of a turn may have on the disk at a time.
ON_DISK_BYTES_MAX = WARM_TOPIC_BYTES + 2 * GIB + LOAD_BYTES_MAX


def turn(planned, options):
    """All workloads and clients on one process, each with a topic of its own."""
    first = min((workload for workload, _ in planned.loads), key=WORKLOADS.index)
    advertised = {"millrace.advertise.shards": "true"} if first.are_advertised else {}
    options.disk.need(ON_DISK_BYTES_MAX)
    with broker_for(planned, options, advertised, shards=first.shards) as broker, \
            Topics(broker, planned) as topics:
        warm = warm_process(broker, topics, first, options)
        return [attempted(measure, workload, planned, client, broker, topics, options, warm)
                for workload, client in planned.loads]


def warm_process(broker, topics, workload, options):
    """Gives what is told of it."""
    workload = replace(workload, partitions=min(workload.partitions, PARTITIONS))
    bounds = options.warm_loads or OF_A_PROCESS
    _, _, loads = warm_up("millrace", broker, topics, "warm", workload, options, bounds)
    return {"process_warm_loads": len(loads), "process_is_warm": are_alike(costs_of(loads))}


def measure(workload, planned, client, broker, topics, options, process):
    """With nothing on the disk but what this load writes, and the end of its warm-up."""
    topics.delete_all()
    topic, sent, warm = warm_up(client, broker, topics, f"{workload.name}-{client}", workload,
                                options, options.warm_loads or OF_A_LOAD)
    size = lasting(options.seconds, warm[-1], options.gib * GIB * workload.share)
    loaded = load(client, broker, topic, workload, size, options)
    all_there(broker, topic, workload, sent + loaded.records)
    # Whether the warm-up was long enough is seen where both cost the same.
    figures = loaded.figures | process | {
        "gib": loaded.bytes / GIB, "seconds": loaded.seconds, "warm_loads": len(warm),
        "is_warm": are_alike(costs_of(warm))} | {
        f"warm_{name}": statistics.median(each.figures[name] for each in warm[-3:])
        for name in ("mb_per_second", "cpu_seconds_per_gib")}
    return sample(workload, planned, client, figures, loaded.command)


def warm_up(client, broker, topics, name, workload, options, bounds):
    """Loads until they are alike. Gives the topic that they ended with, how many records that has,
    and the loads."""
    least, most, seconds = bounds
    loads, topic, sent = [], topics.make(name, workload.partitions), 0
    while len(loads) < least or (len(loads) < most and not (
            are_alike(costs_of(loads)) and sum(each.seconds for each in loads) >= seconds)):
        if sent * workload.record_bytes > WARM_TOPIC_BYTES:
            topics.delete_all()
            topic, sent = topics.make(f"{name}-{len(loads)}", workload.partitions), 0
        size = lasting(WARMING_SECONDS, loads[-1], WARMING_BYTES_MIN) if loads \
            else WARMING_BYTES_MIN
        loads.append(load(client, broker, topic, workload, size, options))
        sent += loads[-1].records
    return topic, sent, loads


def costs_of(loads):
    return [each.figures["cpu_seconds_per_gib"] for each in loads]


def are_alike(costs):
    """Whether the last nine cost the same by the medians of three, or the last six where there are
    no nine yet; where there are fewer, whether the last three do."""
    if len(costs) < 3:
        return False
    thirds = [costs[max(end - 3, 0):end] for end in range(len(costs), 2, -3)][:3]
    compared = list(map(statistics.median, thirds)) if len(thirds) > 1 else costs[-3:]
    return max(compared) - min(compared) <= ALIKE * min(compared)


def lasting(seconds, loaded, least):
    """How many bytes take so long at the speed of a load: at least these, and not so many that they
    fill the disk."""
    return max(least, min(loaded.figures["mb_per_second"] * 1e6 * seconds, LOAD_BYTES_MAX))
