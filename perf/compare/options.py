"""The command line of `perf/run`."""

import argparse
import os
from pathlib import Path

from brokers import ROOT, WORK

from .workloads import BROKERS, CLIENTS, NAMED, QUICK, SETS, WORKLOADS

ABOUT = """\
Compares Millrace with Apache Kafka 4.3.1, and with any broker that speaks its protocol.

The brokers take turns (A B A B ...) on one core, the same clients on another, on the same data and
disk, each turn with a fresh process, an empty directory and a warm-up. Writes a page, its figures
as JSON, and plots into perf/results/. Needs Linux, two cores, Python 3, cargo, Maven and a JDK; for
librdkafka's client cc and make. Everything is built and written under target/.
"""

# How much of each, and with --quick.
FULL = {"repetitions": 5, "gib": 2.0, "seconds": 8, "warmup_seconds": 60, "read_warmup_seconds": 20}
QUICKLY = {"repetitions": 1, "gib": 0.4, "seconds": 4, "warmup_seconds": 4,
           "read_warmup_seconds": 2}

# What the repository shows.
PUBLISHED = ROOT / "perf" / "results"


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=ABOUT, epilog=listing(),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--quick", action="store_true",
                      help="a part of the targets with small loads, in under 5 minutes once all is "
                      "built: to see whether it works, not to quote")
    what.add_argument("--set", type=listed(SETS), default=SETS, metavar="SET,...", dest="sets",
                      help=f"of {', '.join(SETS)} (default: all, one after the other); each is "
                      "written when it has come to its end, beside what is there of the others")
    what.add_argument("--only", type=listed(NAMED), metavar="WORKLOAD,...")
    what.add_argument("--brokers", type=listed(BROKERS), metavar="BROKER,...",
                      help=f"of {', '.join(BROKERS)} (default: all, peer if there is one); each "
                      "takes part where it has something to say, variants of Kafka in few rows "
                      "unless they are named here")
    what.add_argument("--clients", type=listed(CLIENTS), metavar="CLIENT,...",
                      help=f"of {', '.join(CLIENTS)} (default: all, with --quick millrace)")
    what.add_argument("--go-on", action="store_true", dest="goes_on", help="measure what a run of "
                      "the same sets, arguments and versions, which was stopped, has not")
    what.add_argument("--peer", metavar="HOST:PORT", help="a broker on this machine that runs "
                      "already; it is neither pinned nor started anew between turns")
    what.add_argument("--peer-pid", type=int, metavar="PID", help="its process, for its CPU time")
    much = parser.add_argument_group("how much")
    much.add_argument("--repetitions", type=int, help="default 5, with --quick 1")
    much.add_argument("--gib", type=float, help="what a producer sends at least, and as much "
                      "more as --seconds take at the speed of the warm-up, up to 8 GiB; default "
                      "2, with --quick 0.4; a third of it in records of 100 bytes")
    much.add_argument("--seconds", type=int, help="of each load; default 8, with --quick 4; of a "
                      "latency at 1,000 records/s three times as long")
    much.add_argument("--warmup-seconds", type=int, help="before latencies, over all rates; "
                      "default 60, with --quick 4")
    much.add_argument("--read-warmup-seconds", type=int, help="before consumers; default 20, with "
                      "--quick 2")
    much.add_argument("--cold-budget-mib", type=int, default=256, help="Millrace's memory where "
                      "data is called cold, which is ten times as much (default: 256)")
    much.add_argument("--ready-gib", type=float, default=16)
    much.add_argument("--ready-partitions", type=int, default=10_000)
    much.add_argument("--kept-gib", type=lambda text: tuple(map(float, text.split(","))),
                      default=(2, 24), metavar="FEW,MANY")
    where = parser.add_argument_group("where")
    where.add_argument("--data-dir", type=Path, default=WORK, help="data directories are made "
                       "under it, and removed (default: target/perf)")
    where.add_argument("--filesystem", choices=["root", "ext4", "xfs"], default="root",
                       help="root is that of --data-dir; the others are made there in an image on "
                       "a loop device, which needs root")
    where.add_argument("--image-gib", type=int, default=20)
    where.add_argument("--broker-core", type=int, default=0)
    where.add_argument("--client-core", type=int, default=1)
    where.add_argument("--lock", type=Path, metavar="FILE", help="hold this lock (flock) during "
                       "each turn, so that others who share the machine can keep still")
    where.add_argument("--results", type=Path, help="default perf/results, where the page is that "
                       "the repository shows; where less than that is measured, or elsewhere, "
                       "target/perf/results")
    where.add_argument("--json", action="store_true", help="print a summary as JSON")
    options = parser.parse_args(arguments)
    return completed(parser, options)


def listed(choices):
    def split(text):
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(choices)}")
        return names
    return split


def listing():
    lines = [f"  {workload.name:24} {workload.set:8} {workload.what}" for workload in WORKLOADS]
    return "workloads, and the sets they are in:\n" + "\n".join(lines)


def completed(parser, options):
    if bool(options.peer) != bool(options.peer_pid):
        parser.error("--peer and --peer-pid go together")
    if options.broker_core == options.client_core:
        parser.error("broker and client need a core each")
    if not {options.broker_core, options.client_core} <= os.sched_getaffinity(0):
        parser.error("--broker-core or --client-core is not there for us")
    # Else until loads are alike.
    options.warm_loads = (2, 2, 0) if options.quick else None
    for name, full in FULL.items():
        if getattr(options, name) is None:
            setattr(options, name, QUICKLY[name] if options.quick else full)
        if getattr(options, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be more than 0")
    # What is less than the whole comparison is not what the repository shows.
    options.is_less = any(getattr(options, name) < value for name, value in FULL.items())
    options.is_part = options.is_less or bool(
        options.only or options.clients or options.brokers or options.peer
        or options.filesystem != "root" or (options.ready_gib, options.ready_partitions,
                                            options.kept_gib) != (16, 10_000, (2, 24)))
    if options.results is None:
        options.results = WORK / "results" if options.is_part else PUBLISHED
    if options.clients is None:
        options.clients = ["millrace"] if options.quick else list(CLIENTS)
    options.are_brokers_named = options.brokers is not None
    if options.brokers is None:
        options.brokers = [name for name in BROKERS if name != "peer" or options.peer]
        if options.quick:
            options.brokers = [name for name in options.brokers if not name.startswith("kafka-")]
    if "peer" in options.brokers and not options.peer:
        parser.error("the peer needs --peer and --peer-pid")
    options.workloads = chosen(options)
    return options


def chosen(options):
    if options.only:
        return [NAMED[name] for name in options.only]
    if options.quick:
        return [NAMED[name] for name in QUICK]
    return [workload for workload in WORKLOADS if workload.set in options.sets]
