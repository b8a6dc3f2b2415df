"""What is measured: a row of the table each, in sets that are run together."""

from dataclasses import dataclass

CLIENT_NAMES = {"millrace": "millrace perf", "librdkafka": "librdkafka", "java": "Kafka's own"}
CLIENTS = tuple(CLIENT_NAMES)
BROKERS = ("millrace", "kafka", "kafka-flush", "floor", "peer")
BOTH = ("millrace", "kafka")

RATES = (1_000, 10_000, 50_000)
SIZES = (100, 1024)
# Producers of `millrace perf` where it is to fill a core of the broker, each with five requests in
# flight; the other clients are one producer.
FEW = 8


@dataclass(frozen=True)
class Workload:
    """`kind` says how it is measured; those of one `group` are measured in one turn, on one process
    of the broker."""

    name: str
    what: str
    kind: str
    set: str = "targets"
    group: str = ""
    brokers: tuple = BOTH
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
    # A turn's seconds, before any was seen.
    estimate: int = 40


def latency(rate, size, kind):
    cold = kind == "latency-cold"
    return Workload(
        f"{kind}-{rate}-{size}b",
        f"end-to-end latency at {rate:,} records/s of {size:,} bytes, acks=all, open loop"
        + (", beside a consumer of old data at full speed" if cold else ""),
        kind, group=kind, brokers=BOTH if cold else (*BOTH, "floor"), rate=rate, record_bytes=size,
        estimate=25)


WORKLOADS = (
    Workload("produce-1k-64k", "produce 1 KiB records in 64 KiB batches", "produce",
             brokers=(*BOTH, "kafka-flush"), clients=CLIENTS, producers=FEW),
    Workload("produce-1k-64k-1", "the same by one producer", "produce",
             brokers=(*BOTH, "kafka-flush")),
    Workload("produce-1k-1m", "produce 1 KiB records in 1 MB batches", "produce", clients=CLIENTS,
             batch_bytes=1_000_000, linger_ms=50, producers=FEW),
    Workload("produce-100b", "produce 100 B records in 64 KiB batches", "produce", clients=CLIENTS,
             record_bytes=100, share=0.34, producers=FEW),
    Workload("produce-50-keyed", "50 producers, keyed 100 B records in 4 KiB batches, 100 "
             "partitions", "produce", record_bytes=100, batch_bytes=4096, key_bytes=16,
             producers=50, partitions=100, share=0.34),
    Workload("consume-fresh", "consume what was just written", "consume", clients=CLIENTS),
    Workload("consume-cold", "consume old data, ten times the memory budget, page cache dropped",
             "consume-cold", group="cold", clients=CLIENTS, estimate=90),
    Workload("consume-100", "100 consumers of old data, each somewhere else", "consume-cold",
             group="cold", consumers=100),
    *(latency(rate, size, "latency") for size in SIZES for rate in RATES),
    *(latency(rate, size, "latency-cold") for size in SIZES for rate in RATES),
    Workload("ready-empty", "from the start to ready, no data", "ready-empty", clients=("start",),
             estimate=5),
    Workload("idle", "two shards and nothing to do", "idle", clients=("start",), shards=2,
             estimate=35),
    Workload("shards-1", "produce to one shard on one core", "produce", brokers=("millrace",),
             producers=FEW),
    Workload("shards-2", "produce to two shards on two cores, of which the client has one too",
             "produce", brokers=("millrace",), shards=2, producers=FEW),
    Workload("shards-2-advertised", "the same, each shard advertised as a broker of its own",
             "produce", brokers=("millrace",), shards=2, are_advertised=True, producers=FEW),
    Workload("ready-clean", "from the start to ready, 10,000 partitions and 16 GiB, after a clean "
             "stop", "ready-full", set="starts", group="ready-full", clients=("start",),
             partitions=10_000, estimate=180),
    Workload("ready-killed", "the same after kill -9 while it was written to", "ready-full",
             set="starts", group="ready-full", clients=("start",), partitions=10_000, estimate=60),
    Workload("many-6", "produce to 6 partitions", "produce", set="many", producers=FEW),
    Workload("many-1000", "produce to 1,000 partitions, all written", "produce", set="many",
             partitions=1_000, producers=FEW, estimate=60),
    Workload("many-10000", "produce to 10,000 partitions, all written", "produce", set="many",
             partitions=10_000, producers=FEW, estimate=180),
    Workload("kept-2", "produce, and read the tail, with 2 GiB kept", "kept", set="kept",
             group="kept", estimate=60),
    Workload("kept-24", "the same with 24 GiB kept", "kept", set="kept", group="kept",
             estimate=180),
)
NAMED = {workload.name: workload for workload in WORKLOADS}
SETS = tuple(dict.fromkeys(workload.set for workload in WORKLOADS))
QUICK = ("produce-1k-64k", "consume-fresh", "latency-10000-1024b", "ready-empty")
