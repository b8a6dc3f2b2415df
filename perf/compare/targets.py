"""Whether each target is met, by the medians of the loads that were measured side by side.

A target that speaks of a load without a client holds only if it holds with every client that was
measured. Nothing is rounded before it is compared.
"""

from .figures import Missing
from .workloads import CLIENT_NAMES, RATES, SIZES

COST = "cpu_seconds_per_gib"
THREADS = "kernel_threads_seconds_per_gib"
SPEED = "mb_per_second"

# What the best of the other brokers in Rust costs, in CPU seconds per GiB, without syncing;
# measured on a machine like the one of the first results, not in this run.
OTHER_RUST_COST = {"produce-1k-64k": 2.4, "produce-1k-1m": 1.3}

# Bare reads and a broker's never take the same time twice.
DISK_SHARE = 0.95


def verdicts(summary):
    """A line for each: which target, what it asks, the figure, and whether it is met."""
    return [line(summary, *target) for target in targets(summary)]


def line(summary, number, asked, measure):
    try:
        figure, is_met = measure(summary)
    except Missing as missing:
        return {"target": number, "asked": asked, "figure": f"not measured: {missing}", "met": None}
    return {"target": number, "asked": asked, "figure": figure, "met": bool(is_met)}


def targets(summary):
    yield from producing(summary)
    yield from consuming(summary)
    yield from latencies()
    yield from starting()
    yield from scaling()


def clients_of(summary, workload, *brokers):
    """The clients that are to be looked at: without any, `millrace perf`, which then is missing."""
    return summary.clients(workload, *brokers) or ["millrace"]


# --- what is measured

def at_most(workload, figure, bound, unit, client="millrace", form=".2f"):
    def measure(summary):
        value = summary.median(workload, "millrace", figure, client)
        beside = ""
        if figure == COST:
            beside = with_kernel(lambda ours: ours, summary, workload, client, "millrace")
        return f"{value:{form}} {unit}{beside}", value <= bound
    return measure


def below(workload, figure, bound, unit, client="millrace"):
    def measure(summary):
        value = summary.median(workload, "millrace", figure, client)
        return f"{value:.2f} {unit}", value < bound
    return measure


def at_least(workload, figure, bound, unit):
    def measure(summary):
        value = summary.median(workload, "millrace", figure)
        return f"{value:.0f} {unit}", value >= bound
    return measure


def share_of(workload, figure, bound, other="kafka", client="millrace"):
    """Ours by the other's."""
    def measure(summary):
        ours = summary.median(workload, "millrace", figure, client)
        theirs = summary.median(workload, other, figure, client)
        beside = ""
        if figure == COST:
            beside = with_kernel(ratio, summary, workload, client, "millrace", other)
        shown = f"{ours:.3f} / {theirs:.3f} = {ratio(ours, theirs):.3f}"
        return shown + beside, ours <= bound * theirs
    return measure


def times_of(workload, figure, bound, other="kafka", client="millrace"):
    """How many times the other's, where more is better."""
    def measure(summary):
        ours = summary.median(workload, "millrace", figure, client)
        theirs = summary.median(workload, other, figure, client)
        return f"{ours:.1f} / {theirs:.1f} = {ratio(ours, theirs):.2f}", ours >= bound * theirs
    return measure


def per_cpu_second(workload, bound):
    """How many times the other's throughput per CPU second: the other's cost by ours."""
    def measure(summary):
        ours = summary.median(workload, "millrace", COST)
        theirs = summary.median(workload, "kafka", COST)
        beside = with_kernel(ratio, summary, workload, "millrace", "kafka", "millrace")
        return (f"{ratio(1, ours):.3f} / {ratio(1, theirs):.3f} GiB per CPU s = "
                f"{ratio(theirs, ours):.2f}{beside}", theirs >= bound * ours)
    return measure


def with_kernel(shown, summary, workload, client, *brokers):
    """In brackets, what `shown` makes of the costs of these brokers with the kernel's own threads,
    which work for whoever writes; nothing where those were not counted."""
    try:
        both = [summary.median(workload, broker, COST, client)
                + summary.median(workload, broker, THREADS, client) for broker in brokers]
    except Missing:
        return ""
    return f" ({shown(*both):.3f} with the kernel's threads)"


def ratio(one, other):
    return one / other if other else float("inf")


# --- the targets

def producing(summary):
    for client in clients_of(summary, "produce-1k-64k", "millrace", "kafka"):
        with_client = f"1 KiB in 64 KiB batches, {CLIENT_NAMES[client]}: "
        yield 1, with_client + "at most 1/5 of Kafka's CPU s/GiB", share_of(
            "produce-1k-64k", COST, 1 / 5, client=client)
        yield 1, with_client + "at most 0.75 CPU s/GiB", at_most(
            "produce-1k-64k", COST, 0.75, "CPU s/GiB", client)
    yield 1, "1 KiB in 64 KiB batches, one producer: at most 1/5 of Kafka's CPU s/GiB", share_of(
        "produce-1k-64k-1", COST, 1 / 5)
    yield 1, "1 KiB in 64 KiB batches, one producer: at most 0.75 CPU s/GiB", at_most(
        "produce-1k-64k-1", COST, 0.75, "CPU s/GiB")
    for client in clients_of(summary, "produce-1k-1m", "millrace"):
        yield 1, f"1 KiB in 1 MB batches, {CLIENT_NAMES[client]}: at most 0.55 CPU s/GiB", at_most(
            "produce-1k-1m", COST, 0.55, "CPU s/GiB", client)
    yield 1, "1 KiB in 64 KiB batches, millrace perf: at least 850 MB/s on one core", at_least(
        "produce-1k-64k", SPEED, 850, "MB/s")
    for name, cost in OTHER_RUST_COST.items():
        for client in clients_of(summary, name, "millrace"):
            yield 1, (f"{name}, {CLIENT_NAMES[client]}: at most 1/2 of the best other Rust "
                      f"broker's CPU s/GiB ({cost}, measured elsewhere, not syncing)"), at_most(
                name, COST, cost / 2, "CPU s/GiB", client)
        if summary.has(name, "peer", "millrace"):
            yield 1, f"{name}: at most 1/2 of the peer's CPU s/GiB", share_of(
                name, COST, 1 / 2, other="peer")
    for client in clients_of(summary, "produce-100b", "millrace", "kafka"):
        yield 2, f"100 B, {CLIENT_NAMES[client]}: at most 1/6 of Kafka's CPU s/GiB", share_of(
            "produce-100b", COST, 1 / 6, client=client)
        yield 2, f"100 B, {CLIENT_NAMES[client]}: at most 1.0 CPU s/GiB", at_most(
            "produce-100b", COST, 1.0, "CPU s/GiB", client)
    yield 2, "50 producers, small keyed batches: at least 4 times Kafka's throughput per CPU s", (
        per_cpu_second("produce-50-keyed", 4))
    for name, producers in (
            ("produce-1k-64k", "8 producers"), ("produce-1k-64k-1", "one producer")):
        yield 3, f"at least 8 times the throughput of Kafka with flush.messages=1, {producers}", (
            times_of(name, SPEED, 8, other="kafka-flush"))


def consuming(summary):
    for client in clients_of(summary, "consume-fresh", "millrace", "kafka"):
        yield 4, f"just written, {CLIENT_NAMES[client]}: at most 0.30 CPU s/GiB", at_most(
            "consume-fresh", COST, 0.30, "CPU s/GiB", client)
        yield 4, f"just written, {CLIENT_NAMES[client]}: below Kafka's CPU s/GiB", (
            less_than_kafka(client))
    for client in clients_of(summary, "consume-cold", "millrace"):
        yield 4, f"cold, {CLIENT_NAMES[client]}: at most 0.35 CPU s/GiB", at_most(
            "consume-cold", COST, 0.35, "CPU s/GiB", client)
    yield 4, (f"cold, millrace perf: no slower than the disk allows (at least {DISK_SHARE} of bare "
              "direct reads)"), disk_speed("consume-cold", DISK_SHARE)
    yield 4, "100 consumers: CPU s/GiB at most 1.2 times that of one cold consumer", hundred(
        COST, lambda many, one: many <= 1.2 * one)
    yield 4, "100 consumers: MB/s together at least 0.8 times that of one cold consumer", hundred(
        SPEED, lambda many, one: many >= 0.8 * one)
    yield 4, ("100 consumers: MB/s together at least 0.8 times what the disk allows (bare direct "
              "reads at 100 places in turn)"), disk_speed("consume-100", 0.8)


def less_than_kafka(client):
    def measure(summary):
        ours = summary.median("consume-fresh", "millrace", COST, client)
        theirs = summary.median("consume-fresh", "kafka", COST, client)
        return f"{ours:.3f} against {theirs:.3f}", ours < theirs
    return measure


def disk_speed(workload, share):
    def measure(summary):
        ours = summary.median(workload, "millrace", SPEED)
        disk = summary.median(workload, "millrace", "disk_mb_per_second")
        return f"{ours:.0f} / {disk:.0f} MB/s = {ratio(ours, disk):.2f}", ours >= share * disk
    return measure


def hundred(figure, holds):
    def measure(summary):
        many = summary.median("consume-100", "millrace", figure)
        one = summary.median("consume-cold", "millrace", figure)
        return f"{many:.3f} / {one:.3f} = {ratio(many, one):.2f}", holds(many, one)
    return measure


def latencies():
    for size in SIZES:
        for rate in RATES:
            load = f"{rate:,}/s of {size} B"
            quiet, cold = f"latency-{rate}-{size}b", f"latency-cold-{rate}-{size}b"
            yield 5, f"{load}: p50 at most 1/2 of Kafka's", share_of(quiet, "p50_ms", 1 / 2)
            yield 5, f"{load}: p99 at most 1/5 of Kafka's", share_of(quiet, "p99_ms", 1 / 5)
            yield 5, (f"{load}: p99.9 at most 1/10 of Kafka's or 1.5 times the bare loop's, "
                      "whichever is larger"), tail(quiet)
            for figure in ("p50_ms", "p99_ms", "p99_9_ms"):
                shown = figure.removesuffix("_ms").replace("_", ".")
                yield 5, (f"{load} beside a cold consumer: {shown} at most twice the quiet one"), (
                    beside(cold, quiet, figure))


def tail(workload):
    def measure(summary):
        ours = summary.median(workload, "millrace", "p99_9_ms")
        kafka = summary.median(workload, "kafka", "p99_9_ms")
        floor = summary.median(workload, "floor", "p99_9_ms")
        bound = max(kafka / 10, 1.5 * floor)
        least, most = summary.range(workload, "floor", "p99_9_ms")
        return (f"{ours:.3f} ms against {bound:.3f} (Kafka {kafka:.3f}, bare loop {floor:.3f}, "
                f"{least:.3f}-{most:.3f})",
                ours <= bound)
    return measure


def beside(cold, quiet, figure):
    def measure(summary):
        disturbed = summary.median(cold, "millrace", figure)
        alone = summary.median(quiet, "millrace", figure)
        return (f"{disturbed:.3f} / {alone:.3f} ms = {ratio(disturbed, alone):.2f}",
                disturbed <= 2 * alone)
    return measure


def starting():
    for workload, asked, bound in (
        ("ready-empty", "ready in 50 ms with no data", 50),
        ("ready-clean", "10,000 partitions and 16 GiB: ready in 2 s after a clean stop", 2000),
        ("ready-killed", "10,000 partitions and 16 GiB: ready in 5 s after kill -9", 5000),
    ):
        yield 6, asked, at_most(workload, "ready_ms", bound, "ms", "start", ".0f")
    yield 6, "idle with two shards: under 32 MB of memory", idle_memory
    yield 6, "idle with two shards: under 2% of a core a shard", below(
        "idle", "cpu_percent_of_a_core", 2, "%", "start")


def idle_memory(summary):
    megabytes = summary.median("idle", "millrace", "resident_mib", "start") * (1 << 20) / 1e6
    return f"{megabytes:.1f} MB", megabytes < 32


def scaling():
    for count, goal in ((1_000, 0.8), (10_000, 0.6)):
        name = f"many-{count}"
        yield 7, f"{count:,} partitions: at least Kafka's throughput per CPU s", (
            per_cpu_second(name, 1))
        yield 7, f"{count:,} partitions: {goal:.0%} of our own throughput with 6", kept_share(
            name, goal)
    yield 8, "two shards on two cores: at most 1.25 times the CPU s/GiB of one", two_shards(
        "shards-2")
    yield 8, ("two shards on two cores, each advertised as a broker: at most 1.25 times the CPU "
              "s/GiB of one"), two_shards("shards-2-advertised")
    for figure, shown in ((SPEED, "produce MB/s"), (COST, "produce CPU s/GiB"),
                          ("tail_mb_per_second", "tail-read MB/s"),
                          ("tail_cpu_seconds_per_gib", "CPU s/GiB with a tail reader")):
        yield 9, f"{shown}: with 24 GiB kept less than 5% off that with 2 GiB", constant(figure)


def kept_share(workload, goal):
    def measure(summary):
        many = summary.median(workload, "millrace", SPEED)
        few = summary.median("many-6", "millrace", SPEED)
        return f"{many:.0f} / {few:.0f} MB/s = {ratio(many, few):.2f}", many >= goal * few
    return measure


def two_shards(workload):
    def measure(summary):
        two = summary.median(workload, "millrace", COST)
        one = summary.median("shards-1", "millrace", COST)
        return f"{two:.3f} / {one:.3f} = {ratio(two, one):.2f}", two <= 1.25 * one
    return measure


def constant(figure):
    """By how far the two are apart within each turn."""
    def measure(summary):
        few = summary.median("kept-2", "millrace", figure)
        many = summary.median("kept-24", "millrace", figure)
        off = summary.median("kept-24", "millrace", f"{figure}_off")
        return f"{many:.3f} and {few:.3f}, in the same turn {off:.1%} apart", off < 0.05
    return measure
