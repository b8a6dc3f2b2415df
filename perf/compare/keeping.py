"""The same loads with little and with much kept."""

import statistics

from brokers import records_in

from . import clients, producing
from .figures import GIB
from .serving import Topics, all_there, broker_for, load, sample

# How many loads are measured with each: their median counts.
LOADS = 3
COMPARED = ("mb_per_second", "cpu_seconds_per_gib", "tail_mb_per_second",
            "tail_cpu_seconds_per_gib")


def turn(planned, options):
    """Produce, and produce with a reader at the end, once 2 GiB are stored and once 24 are. How far
    the two are apart is taken within the turn."""
    samples, first = [], planned.loads[0][0]
    kept = dict(zip(("kept-2", "kept-24"), options.kept_gib))
    # Beside what is kept, what is measured: that the reader gets within its time as well.
    options.disk.need((options.kept_gib[-1] + 2 * LOADS * options.gib) * GIB
                      + 2 * options.seconds * 1e9)
    with broker_for(planned, options) as broker, Topics(broker, planned) as topics:
        producing.warm_process(broker, topics, first, options)
        topics.delete_all()
        topic, stored = topics.make("data", first.partitions), 0
        for workload, client in planned.loads:
            size = kept[workload.name] * GIB - stored
            if size > 0:
                stored += load(client, broker, topic, workload, size, options).bytes
            figures, command = measure(broker, topic, workload, stored, options)
            stored = workload.record_bytes * records_in(
                broker.address, topic, workload.partitions)
            if samples:
                few = samples[0]["figures"]
                figures |= {f"{name}_off": abs(figures[name] / few[name] - 1) for name in COMPARED}
            samples.append(sample(workload, planned, client, figures, command))
    return samples


def measure(broker, topic, workload, stored, options):
    """Figures, and the command of a load."""
    loads = [load("millrace", broker, topic, workload, options.gib * GIB, options)
             for _ in range(LOADS)]
    figures = {name: statistics.median(each.figures[name] for each in loads)
               for name in loads[0].figures}
    stored += sum(each.bytes for each in loads)
    all_there(broker, topic, workload, stored // workload.record_bytes)
    mixed = [clients.MILLRACE, "perf", "mixed", "--bootstrap-server", broker.address, "--topic",
             topic, "--cold-consumers", 0, "--duration", f"{options.seconds}s", "--broker-pid",
             broker.pid, "--json"]
    report = clients.perform("millrace", mixed, options.client_core).report
    produced, consumed = report["loads"][:2]
    tail = {"tail_mb_per_second": consumed["mb_per_second"], "tail_p99_ms": consumed["p99_ms"],
            "tail_cpu_seconds_per_gib":
                report["broker"]["cpu_seconds"] * GIB / produced["bytes"]}
    return figures | tail, loads[0].command
