"""What is measured: a row of the table each, in sets that are run and published together."""

from dataclasses import dataclass

CLIENT_NAMES = {"millrace": "millrace perf", "librdkafka": "librdkafka", "java": "Kafka's own"}
CLIENTS = tuple(CLIENT_NAMES)
BROKERS = ("millrace", "kafka", "kafka-tuned", "kafka-flush", "floor", "peer")
BOTH = ("millrace", "kafka")

RATES = (1_000, 10_000, 50_000)
SIZES = (100, 1024)
# Producers of `millrace perf` where it is to fill a core of the broker, each with five requests in
# flight; the other clients are one producer.
FEW = 8


@dataclass(frozen=True)
class Workload:
    """`kind` says how it is measured; those of one `group` are measured in one turn, on one process
    of the broker. Who is in `beside` is measured with `millrace perf` alone."""

    name: str
    what: str
    kind: str
    set: str
    group: str = ""
    brokers: tuple = BOTH
    beside: tuple = ()
    clients: tuple = ("millrace",)
    record_bytes: int = 1024
    batch_bytes: int = 65_536
    linger_ms: int = 5
    partitions: int = 6
    producers: int = 1
    key_bytes: int = 0
    rate: int = 0
    # Of what is asked for with --gib: small records take longer.
    share: float = 1.0
    shards: int = 1
    # Whether clients take each of them for a broker.
    are_advertised: bool = False
    consumers: int = 1
    # A turn's seconds for each client, before any was seen.
    estimate: int = 25


def latency(rate, size, kind):
    is_cold = kind == "latency-cold"
    return Workload(
        f"{kind}-{rate}-{size}b",
        f"end-to-end latency at {rate:,} records/s of {size:,} bytes, acks=all, open loop"
        + (", beside a consumer of old data at full speed" if is_cold else ""),
        kind, "latency", group=kind, brokers=("millrace",) if is_cold else (*BOTH, "floor"),
        rate=rate, record_bytes=size)


WORKLOADS = (
    Workload("produce-1k-64k", "produce 1 KiB records in 64 KiB batches", "produce", "produce",
             group="produce", beside=("kafka-tuned", "kafka-flush"), clients=CLIENTS,
             producers=FEW),
    Workload("produce-1k-64k-1", "the same by one producer", "produce", "produce", group="produce",
             beside=("kafka-tuned", "kafka-flush")),
    Workload("produce-1k-1m", "produce 1 KiB records in 1 MB batches", "produce", "produce",
             group="produce", beside=("kafka-tuned",), clients=CLIENTS, batch_bytes=1_000_000,
             linger_ms=50, producers=FEW),
    Workload("produce-100b", "produce 100 B records in 64 KiB batches", "produce", "produce",
             group="produce", beside=("kafka-tuned",), clients=CLIENTS, record_bytes=100,
             share=0.34, producers=FEW),
    Workload("produce-50-keyed", "50 producers, keyed 100 B records in 4 KiB batches, 100 "
             "partitions", "produce", "produce", group="produce", beside=("kafka-tuned",),
             record_bytes=100, batch_bytes=4096, key_bytes=16, producers=50, partitions=100,
             share=0.34),
    Workload("shards-1", "produce to one shard on one core", "produce", "shards",
             brokers=("millrace",), producers=FEW),
    Workload("shards-2", "produce to two shards on two cores, of which the client has one too",
             "produce", "shards", brokers=("millrace",), shards=2, producers=FEW),
    Workload("shards-2-advertised", "the same, each shard advertised as a broker of its own",
             "produce", "shards", brokers=("millrace",), shards=2, are_advertised=True,
             producers=FEW),
    Workload("consume-fresh", "consume what was just written", "consume", "consume",
             clients=CLIENTS, estimate=40),
    Workload("consume-cold", "consume old data, ten times the memory budget, page cache dropped",
             "consume-cold", "consume", group="cold", clients=CLIENTS, estimate=40),
    Workload("consume-100", "100 consumers of old data, each somewhere else", "consume-cold",
             "consume", group="cold", consumers=100),
    *(latency(rate, size, "latency") for size in SIZES for rate in RATES),
    *(latency(rate, size, "latency-cold") for size in SIZES for rate in RATES),
    Workload("ready-empty", "from the start to ready, no data", "ready-empty", "starts",
             clients=("start",), estimate=5),
    Workload("idle", "two shards and nothing to do", "idle", "starts", clients=("start",), shards=2,
             estimate=25),
    Workload("ready-clean", "from the start to ready, 10,000 partitions and 16 GiB, after a clean "
             "stop", "ready-full", "starts", group="ready-full", brokers=("millrace",),
             clients=("start",), partitions=10_000, estimate=60),
    Workload("ready-killed", "the same after kill -9 while it was written to", "ready-full",
             "starts", group="ready-full", brokers=("millrace",), clients=("start",),
             partitions=10_000, estimate=30),
    Workload("many-6", "produce to 6 partitions", "produce", "many", producers=FEW, estimate=60),
    Workload("many-1000", "produce to 1,000 partitions, all written", "produce", "many",
             partitions=1_000, producers=FEW, estimate=60),
    Workload("many-10000", "produce to 10,000 partitions, all written", "produce", "many",
             partitions=10_000, producers=FEW, estimate=120),
    Workload("kept-2", "produce, and read the tail, with 2 GiB kept", "kept", "kept",
             group="kept", brokers=("millrace",), estimate=60),
    Workload("kept-24", "the same with 24 GiB kept", "kept", "kept", group="kept",
             brokers=("millrace",), estimate=90),
)
NAMED = {workload.name: workload for workload in WORKLOADS}
SETS = tuple(dict.fromkeys(workload.set for workload in WORKLOADS))
QUICK = ("produce-1k-64k", "consume-fresh", "latency-10000-1024b", "ready-empty")
