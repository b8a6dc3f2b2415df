"""The loads that are profiled: rows of the comparison, for a time instead of for an amount."""

from compare.workloads import NAMED

# By the name that is asked for: the row of perf/run whose records, batches and partitions it has.
LOADS = {
    "produce": NAMED["produce-1k-64k"],
    "produce-1m": NAMED["produce-1k-1m"],
    "produce-100b": NAMED["produce-100b"],
    "produce-50-keyed": NAMED["produce-50-keyed"],
    "consume-fresh": NAMED["consume-fresh"],
    "consume-cold": NAMED["consume-cold"],
    "latency": NAMED["latency-10000-1024b"],
}
# How long the load runs, in each run of the client, before anything is measured.
SETTLE_SECONDS = 2


def is_consumer(workload):
    return workload.kind.startswith("consume")


def command(program, broker, topic, workload, seconds):
    """`millrace perf` for so many seconds, after those in which the load settles."""
    return [program, "perf", *kind(workload), "--bootstrap-server", broker.address, "--topic",
            topic, "--duration", f"{seconds}s", "--warmup", f"{SETTLE_SECONDS}s", "--broker-pid",
            broker.pid, "--json"]


def kind(workload):
    if is_consumer(workload):
        return ["consume", "--from", "earliest", "--again", "--consumers", workload.consumers]
    rate = ["--rate", workload.rate] if workload.rate else []
    return ["latency" if workload.kind == "latency" else "produce", "--partitions",
            workload.partitions, "--producers", workload.producers, "--record-bytes",
            workload.record_bytes, "--batch-bytes", workload.batch_bytes, "--acks", "all", *rate]


def fill_command(program, broker, topic, workload, size):
    """Writes so many bytes for consumers to read."""
    return [program, "perf", "produce", "--bootstrap-server", broker.address, "--topic", topic,
            "--partitions", workload.partitions, "--records", size // workload.record_bytes,
            "--record-bytes", workload.record_bytes, "--batch-bytes", workload.batch_bytes,
            "--acks", "all", "--broker-pid", broker.pid, "--json"]
