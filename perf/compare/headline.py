"""The short table of the README, from the results that are published."""

BEGIN = "<!-- speed: begin -->\n"
END = "<!-- speed: end -->"

# The title, the columns, and the rows, each a workload, its client and its name.
BROKERS = {"millrace": "Millrace, durable", "kafka": "Kafka, not syncing",
           "kafka-tuned": "Kafka, larger heap and buffers, not syncing",
           "kafka-flush": "Kafka, `flush.messages=1`"}
THROUGHPUT = (
    (("mb_per_second", "{:,.0f} MB/s"), ("cpu_seconds_per_gib", "{:.2f} CPU s/GiB")),
    (("produce-1k-64k", "millrace", "produce 1 KiB records in 64 KiB batches, 8 producers"),
     ("produce-1k-64k-1", "millrace", "the same by one producer"),
     ("produce-1k-64k", "java", "the same by Kafka's own producer"),
     ("produce-1k-64k", "librdkafka", "the same by librdkafka"),
     ("produce-100b", "millrace", "produce 100 B records in 64 KiB batches, 8 producers"),
     ("produce-50-keyed", "millrace", "50 producers of small keyed batches, 100 partitions"),
     ("consume-fresh", "millrace", "consume what was just written"),
     ("consume-cold", "millrace", "consume what is in no memory")))
LATENCY = (
    (("p50_ms", "{:.2f}"), ("p99_ms", "{:.2f}"), ("p99_9_ms", "{:.2f} ms")),
    (("latency-1000-1024b", "millrace", "1,000 records/s of 1 KiB: p50, p99, p99.9"),
     ("latency-50000-100b", "millrace", "50,000 records/s of 100 B: p50, p99, p99.9")))
STARTS = (
    (("ready_ms", "{:,.0f} ms"), ("resident_mib", "{:,.0f} MiB")),
    (("ready-empty", "start", "from the start to ready"),
     ("idle", "start", "memory with nothing to do")))


def table(results):
    """Medians; only rows and columns that were measured."""
    figures = {(row["workload"], row["client"], row["broker"]): row["figures"]
               for row in results["rows"]}
    used = [broker for broker in BROKERS if any(key[2] == broker for key in figures)]
    lines = [f"| | {' | '.join(BROKERS[broker] for broker in used)} |",
             "|---|" + "--:|" * len(used)]
    for columns, rows in (THROUGHPUT, LATENCY, STARTS):
        for workload, client, name in rows:
            cells = [cell(figures.get((workload, client, broker), {}), columns) for broker in used]
            if any(cells):
                lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(figures, columns):
    return ", ".join(form.format(figures[name]["median"]) for name, form in columns
                     if name in figures)


def block(results):
    """What stands between the marks of the README."""
    first = results["sets"][0]
    machine, versions = first["machine"], first["versions"]
    return (f"{table(results)}\nMedians of {first['settings']['repetitions']} turns on "
            f"{machine['processor']}, kernel {machine['kernel']}, {versions['millrace']}, Kafka "
            f"{versions['kafka']}; one core for the broker, acks=all. Spread, targets, plots and "
            "what is fair about it: [perf/results](perf/results/comparison.md).\n")


def put(text, results):
    """The README with the block of these results."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the README has no place for the table of speed")
    return before + begin + block(results) + end + after


def taken(text):
    """The block that stands there."""
    return text.partition(BEGIN)[2].partition(END)[0]
