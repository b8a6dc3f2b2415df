"""The command line of `perf/profile`, and one load from its broker's start to its page."""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from brokers import ROOT, WORK, Broker, Failed, end, obey_signals, pinned, run, spawn
from compare import machine
from compare.consuming import FRESH_BYTES
from compare.disk import Disk
from compare.figures import GIB, MIB

from . import build, flame, inlines, loads, stacks
from .page import page
from .sampling import FREQUENCY, Sampling, check

ABOUT = """\
Where the broker's CPU goes under a load: by class of work, by symbol, and as a flame graph.

Starts Millrace with one shard on one core, warms it up, and puts the load on it three times from
another core; the second time Linux' perf samples the broker's threads and counts their events.
Writes LOAD.md and LOAD.svg. The broker is built with frame pointers, into a target directory of its
own. Needs two cores and perf, and the right to use it on the kernel. What it stores it removes.
"""

WARM_SECONDS = 5
# What sampling leaves out at either end of the run: the client's times are not perf's.
EDGE_SECONDS = 0.5
# A producer fills the disk no faster than this, as far as room is made.
PRODUCED_PER_SECOND = 1.5e9
COLD_BUDGET = 256 * MIB
STORED = {"consume": FRESH_BYTES, "consume-cold": 10 * COLD_BUDGET}


def main():
    options = parse()
    obey_signals()
    check()
    WORK.mkdir(parents=True, exist_ok=True)
    options.results.mkdir(parents=True, exist_ok=True)
    program = options.program or build.build()
    with machine.memory_kept():
        for load in options.load:
            profile = profiled(load, program, options)
            write(load, profile, options)


def parse():
    parser = argparse.ArgumentParser(
        description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=listed, default=["produce"], metavar="LOAD,...",
                        help=f"of {', '.join(loads.LOADS)}, or all (default: produce)")
    parser.add_argument("--seconds", type=int, default=10, help="of each run (default: 10)")
    parser.add_argument("--results", type=Path, default=ROOT / "perf" / "results" / "profile",
                        metavar="DIR", help="default perf/results/profile")
    parser.add_argument("--data-dir", type=Path, default=WORK, help="data directories are made "
                        "under it, and removed (default: target/perf)")
    parser.add_argument("--program", type=lambda text: Path(text).resolve(),
                        help="a millrace built already, with frame pointers")
    parser.add_argument("--broker-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    options = parser.parse_args()
    if options.seconds < 2:
        parser.error("--seconds must be 2 at least")
    cores = {options.broker_core, options.client_core}
    if len(cores) < 2 or not cores <= os.sched_getaffinity(0):
        parser.error("broker and client need a core each, of those that are there for us")
    return options


def listed(text):
    names = list(loads.LOADS) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in loads.LOADS:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(loads.LOADS)}")
    return names


class Profiled(Broker):
    """A broker of the build that can be profiled."""

    def __init__(self, program, *arguments):
        self.program = program
        super().__init__("millrace", *arguments)

    def millrace(self):
        return [str(self.program), *super().millrace()[1:]]


def profiled(load, program, options):
    """What the page of a load is made of."""
    workload = loads.LOADS[load]
    with ExitStack() as closing:
        disk = Disk(options.data_dir)
        closing.callback(disk.close)
        room = PRODUCED_PER_SECOND * (options.seconds + loads.SETTLE_SECONDS)
        disk.need(STORED.get(workload.kind, room))
        known = machine.describe(disk.directory)
        is_cold = workload.kind == "consume-cold"
        overrides = {"millrace.memory.bytes": COLD_BUDGET} if is_cold else {}
        broker = Profiled(program, f"profile-{load}", options.broker_core, overrides,
                          disk.directory)
        closing.callback(broker.stop)
        runs = Runs(load, broker, disk, options)
        runs.warm_up()
        before, _ = runs.measured("not-sampled")
        sampled, sampling = runs.measured("sampled", is_sampled=True)
        closing.callback(sampling.close)
        after, _ = runs.measured("not-sampled-again")
        return gathered(sampling, program, options) | {
            "machine": known, "bare": (before, after), "sampled": sampled,
            "gib": sampled["gib_per_second"] * sampling.seconds}


def gathered(sampling, program, options):
    """What perf has seen."""
    samples = stacks.parse(sampling.script())
    if not samples:
        raise Failed(f"perf has no samples of the broker: {sampling.said.read_text()[-300:]}")
    return {"has_inlines": inlines.expand(samples, program), "samples": samples,
            "counts": sampling.counts(), "event": sampling.event, "window": sampling.seconds,
            "frequency": FREQUENCY, "seconds": options.seconds, "flag": build.FLAG}


class Runs:
    """The runs of the client on one broker."""

    def __init__(self, load, broker, disk, options):
        self.load = load
        self.workload = loads.LOADS[load]
        self.broker = broker
        self.disk = disk
        self.options = options
        # What consumers read; producers have a topic in each run, which goes with it.
        self.stored = None

    def warm_up(self):
        if loads.is_consumer(self.workload):
            self.stored = "stored"
            command = loads.fill_command(self.broker.program, self.broker, self.stored,
                                         self.workload, STORED[self.workload.kind])
            self.told("is filled", run(self.pinned(command), capture_output=True).stdout)
        self.measured("warm-up", seconds=WARM_SECONDS)

    def measured(self, name, seconds=None, is_sampled=False):
        """Figures of a run of the client, and of a sampled one what samples."""
        seconds = seconds or self.options.seconds
        topic = self.stored or name
        if self.workload.kind == "consume-cold":
            self.disk.drop_page_cache()
        machine.touch_memory()
        command = loads.command(self.broker.program, self.broker, topic, self.workload, seconds)
        client = spawn(self.pinned(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True)
        sampling = None
        try:
            if is_sampled:
                time.sleep(loads.SETTLE_SECONDS + EDGE_SECONDS)
                sampling = Sampling(self.broker.pid, seconds - 2 * EDGE_SECONDS,
                                    self.options.client_core)
            out, err = client.communicate(timeout=seconds + 120)
            if client.returncode != 0:
                raise Failed(f"millrace perf ended with {client.returncode}: {err[-300:]}")
            if sampling:
                sampling.wait()
        except BaseException:
            if sampling:
                sampling.close()
            raise
        finally:
            end(client)
        if not self.stored:
            self.delete(topic)
        return self.told(name, out), sampling

    def pinned(self, command):
        return pinned(self.options.client_core, [str(part) for part in command])

    def delete(self, topic):
        """Until its files are gone: the disk is not to fill, nor the next run to pay for it."""
        run(self.pinned([self.broker.program, "topics", "delete", topic, "--bootstrap-server",
                         self.broker.address]), capture_output=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and any(self.broker.data.glob(f"{topic}-*/*.log")):
            time.sleep(0.2)
        os.sync()

    def told(self, name, out):
        found = figures(json.loads(out))
        print(f"{self.load}: {name}: {found['mb_per_second']:.1f} MB/s, "
              f"{found['cpu_seconds_per_gib']:.3f} CPU s/GiB", file=sys.stderr, flush=True)
        return found


def figures(report):
    """Of `millrace perf`; of its loads the first, since a latency's records come twice."""
    gib = report["loads"][0]["bytes"] / GIB
    used = report["broker"] or {"cpu_seconds": 0.0, "kernel_threads_cpu_seconds": 0.0}
    if not gib:
        raise Failed("the load did nothing")
    return {
        "mb_per_second": report["loads"][0]["mb_per_second"],
        "gib_per_second": gib / report["seconds"],
        "cpu_seconds_per_gib": used["cpu_seconds"] / gib,
        "cpu_seconds_per_second": used["cpu_seconds"] / report["seconds"],
        "kernel_threads_seconds_per_gib": used["kernel_threads_cpu_seconds"] / gib,
    }


def write(load, profile, options):
    text = page(load, loads.LOADS[load], profile)
    sampled = profile["sampled"]
    title = (f"Millrace, {load}: {sampled['mb_per_second']:.0f} MB/s, "
             f"{sampled['cpu_seconds_per_gib']:.3f} CPU s/GiB")
    (options.results / f"{load}.md").write_text(text)
    (options.results / f"{load}.svg").write_text(flame.svg(stacks.fold(profile["samples"]), title))
    print(text.partition("## For whom")[0])
    print(f"written to {options.results / load}.md and .svg", file=sys.stderr, flush=True)
