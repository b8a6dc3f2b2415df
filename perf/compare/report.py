"""The page: targets, tables, what is fair and what is not, the machine, versions and settings."""

import textwrap

from .workloads import CLIENT_NAMES, NAMED

NAMES = {
    "millrace": "Millrace", "kafka": "Kafka", "kafka-tuned": "Kafka, larger heap and buffers",
    "kafka-flush": "Kafka, flush.messages=1",
    "floor": "bare write and fdatasync", "peer": "peer",
}
CLIENTS = CLIENT_NAMES | {"start": ""}

# Title, the figures of its columns, and who is in it: kinds of workloads.
TABLES = (
    ("Throughput and CPU", ("produce", "consume", "consume-cold"), (
        ("mb_per_second", "MB/s", ".0f"),
        ("cpu_seconds_per_gib", "broker's CPU s/GiB", ".2f"),
        ("kernel_threads_seconds_per_gib", "kernel threads s/GiB", ".2f"),
        ("written_per_byte", "bytes to the disk for each", ".2f"),
        ("resident_mib", "resident MiB", ".0f"),
        ("warm_cpu_seconds_per_gib", "at the end of the warm-up", ".2f"),
        ("disk_mb_per_second", "bare direct reads MB/s", ".0f"))),
    ("End-to-end latency, ms", ("latency", "latency-cold"), (
        ("p50_ms", "p50", ".3f"), ("p99_ms", "p99", ".3f"), ("p99_9_ms", "p99.9", ".3f"),
        ("p99_99_ms", "p99.99", ".3f"), ("max_ms", "max", ".2f"),
        ("cpu_seconds_per_second", "broker's CPU s/s", ".2f"),
        ("cold_mb_per_second", "cold consumer MB/s", ".0f"))),
    ("Starts and idling", ("ready-empty", "ready-full", "idle"), (
        ("ready_ms", "ready after ms", ".0f"), ("resident_mib", "resident MiB", ".1f"),
        ("cpu_percent_of_a_core", "% of a core, of two", ".2f"))),
    ("With more and more kept", ("kept",), (
        ("mb_per_second", "produce MB/s", ".0f"),
        ("cpu_seconds_per_gib", "produce CPU s/GiB", ".3f"),
        ("tail_mb_per_second", "tail-read MB/s", ".0f"),
        ("tail_cpu_seconds_per_gib", "CPU s/GiB with a tail reader", ".3f"))),
)

FAIRNESS = """\
What is the same for both: the core of the broker and that of the client, the clients and what they
are told, the records (which clients build beforehand and do not compress), the directory and the
disk, the order of turns (A B B A, a fresh process and an empty directory each) and of the loads
within them (another in each repetition), and how CPU is counted: all of the broker's process with
its threads by the clock of the process, the kernel's own threads beside, with a closing sync(2), so
that pages left dirty are paid for. Targets go by the process; what they come to with the kernel's
threads stands in brackets. Those threads complete direct writes and write pages back on whichever
core they like, the client's too. A load of producers counts only if the topic's end offsets, asked
by Kafka's own tool, are those of every record that was sent; a consumer's only if it had every
record, or read for the whole time; a latency's only if as many records were timed as were due; and
none in which a client complained. Where a load does not count, its target has no verdict.

For producers a process is warmed up until what a load costs stays the same: 16 loads and 40 s at
least, and until the last nine loads are within 5 % by the medians of three. Then it serves all
loads of its turn, each after a warm-up of its own of 3 to 12 loads, on a topic that is deleted, off
the disk and discarded before the next begins. The JSON says how many loads warmed up, whether they
were alike in the end, and what the last of them cost. A measured load takes {seconds} s at the
speed of its warm-up, but 2 GiB at least (a third of that in records of 100 bytes) and 8 GiB at
most, so that a faster broker writes more. Before consumers a process serves reads for 20 s, before
latencies a minute of the same loads.

On a virtual machine whose host takes free memory back, using it anew costs the guest CPU: 1.5 to 3
s a GiB where that was measured. A broker that fills the page cache would be charged for that. So
the kernel is told, where it can be, to keep what is free, and nearly all of it is used once before;
and not to drop from the page cache what is not used for a while.

What is unfair to Kafka: one core is not where it is run, and its JVM keeps collecting and compiling
on that core; 1 GiB of heap is what it ships with, and no more. Its server.properties sets socket
buffers of 100 KiB, which cost it CPU where much is in flight on a loopback; Millrace lets the
kernel choose that of receiving. The rows with a larger heap and buffers have 6 GiB and 1 MiB; those
and the rows of `flush.messages=1` serve fewer loads in a turn, so their JVM is younger. It was made
for many replicas that do not sync; here it is one node. Its warm-up is a minute or two, where a
server runs for weeks. Where latencies are measured each record goes out when it is due, with
nothing to wait for others (`linger.ms=0`, where Kafka's producer waits 5 ms by default), which
makes more requests.

What is unfair to Millrace: as shipped, Kafka answers before anything is on the disk, and Millrace
only when all of it is, so that a loss of power costs the one records and the other none. The one
that syncs too is `flush.messages=1`, which is not how it is run. Kafka may use all of the machine's
memory as page cache, Millrace has a quarter of it and 1 GiB a shard at most, and a tenth of the
data where that is called cold. A hundred consumers of Kafka read from the page cache once the first
has read. The others have the page cache dropped before each reading.

What is unfair to both: client and broker talk over loopback, so that no network limits either. The
client has one core, and where it fills that, the throughput is the client's, not the broker's: then
compare CPU per GiB. `millrace perf` has 8 producers, so that the broker's core is what is filled;
the other clients are one producer, and Kafka's own waits for acknowledgements after 5 requests.
What was just written are 128 MiB, which both brokers have in memory; where each pass of it is a
client's start and a group's forming, what passes over a few records cost is taken off. Where two
shards have two cores, the client shares one of them. Starts find what the process before has left
in the page cache. A durable write of this disk takes what the rows of the bare loop say: a slower
one makes Millrace slower, and Kafka only when it syncs. The figures of the best other Rust broker
were measured elsewhere, on a machine like that of the first results: `--peer` compares with one
here. Virtual machines lend their cores and disks to others, too: look at the spread, and at the
stolen time above.\
"""


def page(results):
    parts = [
        "# Millrace and Apache Kafka, side by side",
        "Written by `perf/run`; figures are medians of the loads that count, the smallest and the "
        "largest in brackets.",
        runs(results["sets"]),
        "## Targets", target_table(results["targets"]),
        *tables(results["rows"]),
        *pictures(results.get("plots", ())),
        "## What is fair about it, and what is not",
        FAIRNESS.format(seconds=results["sets"][0]["settings"]["seconds of a load"]),
        "## The machine", *by_sets(results["sets"], "machine", pairs),
        "## Versions", *by_sets(results["sets"], "versions", pairs),
        "## Settings", *by_sets(results["sets"], "settings", pairs),
        *by_sets(results["sets"], "kafka", kafka),
        "## Commands", "The clients, as they were called in the first turn of each:",
        code("\n".join(command for each in results["sets"] for command in each["commands"])),
    ]
    if results["complaints"]:
        parts[3:3] = ["## What did not count", bullets(results["complaints"])]
    return "\n\n".join(parts) + "\n"


def target_table(verdicts):
    met = {True: "met", False: "**missed**"}
    measured = [verdict for verdict in verdicts if verdict["met"] is not None]
    others = [verdict for verdict in verdicts if verdict["met"] is None]
    lines = []
    if measured:
        lines = ["| target | asked | figure | |", "|--:|---|---|---|"]
        lines += [f"| {verdict['target']} | {verdict['asked']} | {verdict['figure']} "
                  f"| {met[verdict['met']]} |" for verdict in measured]
        lines.append(f"\n{sum(verdict['met'] for verdict in measured)} of {len(measured)} are met.")
    if others:
        lines.append(f"{len(others)} were not measured in this run:\n")
        lines += [f"- {verdict['target']}: {verdict['asked']}" for verdict in others]
    return "\n".join(lines)


def tables(rows):
    for title, kinds, columns in TABLES:
        mine = [row for row in rows if NAMED[row["workload"]].kind in kinds and row["figures"]]
        if mine:
            yield f"## {title}"
            yield table(mine, columns)


def table(rows, columns):
    """Only columns that any row has."""
    columns = [column for column in columns if any(column[0] in row["figures"] for row in rows)]
    titles = ["workload", "client", "broker", "turns", *(title for _, title, _ in columns)]
    lines = [f"| {' | '.join(titles)} |", "|---|---|---|--:|" + "--:|" * len(columns)]
    for row in rows:
        cells = [cell(row["figures"].get(name), form) for name, _, form in columns]
        cells = [row["workload"], CLIENTS[row["client"]], NAMES[row["broker"]], str(row["turns"]),
                 *cells]
        lines.append(f"| {' | '.join(cells)} |")
    used = dict.fromkeys(row["workload"] for row in rows)
    lines.append("")
    lines += [f"- `{name}`: {NAMED[name].what}" for name in used]
    return "\n".join(lines)


def cell(value, form):
    if value is None:
        return ""
    least, middle, most = (f"{value[key]:{form}}" for key in ("min", "median", "max"))
    return middle if least == most else f"{middle} ({least}-{most})"


def pictures(names):
    if names:
        yield "## Plots"
        yield "\n".join(f"![{name.removesuffix('.svg')}]({name})" for name in names)


def pairs(values):
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |"
                                             for key, value in values.items())])


def bullets(lines):
    return "\n".join(f"- {line}" for line in lines)


def runs(sets):
    """When each set was measured, and of what commit."""
    lines = ["| set | measured | of | on | took | stolen by the hypervisor | for cold data |",
             "|---|---|---|---|---|---|---|"]
    for each in sets:
        run = each["run"]
        cells = [each["set"], each["scope"], each["versions"]["millrace"], run["dates"],
                 run["took"], run["stolen by the hypervisor"], run["cold data"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def by_sets(sets, name, shown):
    """What sets have in common once, under their names where they differ."""
    found = {}
    for each in sets:
        found.setdefault(shown(each[name]), []).append(each["set"])
    for said, names in found.items():
        if len(found) > 1:
            yield f"### {', '.join(names)}"
        yield said


def kafka(said):
    return "\n\n".join([
        "Kafka's `server.properties`, with its port and its directory:", code(said["properties"]),
        f"Its JVM: `{said['jvm']}`; with a larger heap: `{said['jvm_tuned']}`"])


def code(text):
    return textwrap.indent(text.strip("\n"), "    ")
