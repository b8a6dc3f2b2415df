"""`perf/run`: prepares, runs the turns of one set after the other, writes the results of each."""

import fcntl
import os
import resource
import shutil
import sys
import time
from contextlib import ExitStack, contextmanager
from itertools import groupby

import brokers
from brokers import ROOT, TARGET, WORK

from . import clients, disk, figures, floor, machine, plan, publish, report, turns
from .disk import Disk
from .options import parse
from .record import OfAnother, Record
from .workloads import SETS

OPEN_FILES = 1 << 17


def main():
    options = parse()
    brokers.obey_signals()
    raise_open_files()
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "running").open("w") as alone:
        try:
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another perf/run is running here: they would measure each other")
        try:
            compare(options)
        except (KeyboardInterrupt, brokers.Stopped):
            sys.exit("stopped: sets that came to their end are written; --go-on measures what is "
                     "missing of this one")
        except OfAnother as why:
            sys.exit(f"--go-on: {why}")


def compare(options):
    planned = {name: plan.turns([each for each in options.workloads if each.set == name],
                                options.brokers, options.clients, options.repetitions,
                                options.are_brokers_named)
               for name in SETS}
    planned = {name: mine for name, mine in planned.items() if mine}
    everything = [turn for mine in planned.values() for turn in mine]
    begin(planned, options)
    progress = plan.Progress(everything)
    complaints = []
    with ExitStack() as stack:
        with locked(options.lock):
            prepare(everything, options)
            memory = stack.enter_context(machine.memory_kept())
        options.disk = Disk(options.data_dir, options.filesystem, options.image_gib)
        stack.callback(options.disk.close)
        stack.callback(brokers.end_all)
        options.directory = options.disk.directory
        described = {"machine": machine.describe(options.directory) | memory,
                     "versions": machine.versions(
                         {client for turn in everything for _, client in turn.loads})}
        for name, mine in planned.items():
            part = measure(name, mine, options, progress, described)
            complaints += part["complaints"]
            page = publish.part(part, options)
        publish.show(page, options)
    if complaints:
        sys.exit("not every turn counts: the page says which, and why; --go-on repeats them")


def begin(planned, options):
    """Forgets what an earlier run has measured of these sets, unless it is gone on with."""
    options.kept = WORK / ("parts" if options.is_part else "published")
    options.times = options.kept / "times"
    options.times.mkdir(parents=True, exist_ok=True)
    for name in () if options.goes_on else planned:
        (options.kept / f"{name}.jsonl").unlink(missing_ok=True)
        if name == "latency":
            shutil.rmtree(options.times)
            options.times.mkdir()
    for left in WORK.glob("brokers-*"):
        # Of a run that was killed: this one has the lock.
        if left.is_dir() and not os.path.ismount(left):
            shutil.rmtree(left)
    publish.begin(options)


def raise_open_files():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))


def prepare(planned, options):
    plan.Progress.say("fetching Apache Kafka and building Millrace and the clients ...")
    brokers.prepare(["millrace"])
    clients.prepare({client for turn in planned for _, client in turn.loads})
    if any(turn.broker == "floor" for turn in planned):
        floor.prepare()
    if any(turn.kind == "consume-cold" for turn in planned):
        disk.prepare()


def measure(name, planned, options, progress, described):
    """All turns of a set that were not measured yet; what they come to."""
    run_of = described | {
        "settings": settings(options),
        "workloads": sorted({load.name for turn in planned for load, _ in turn.loads})}
    record = Record(options.kept / f"{name}.jsonl", run_of)
    # What this program does itself, it does not do on the broker's core.
    os.sched_setaffinity(0, {options.client_core})
    # Brokers that are compared are measured one right after the other.
    for _, compared in groupby(planned, lambda turn: (turn.repetition, turn.name)):
        with locked(options.lock):
            for turn in compared:
                if record.has(turn):
                    progress.skip()
                else:
                    one(turn, options, record, progress)
    took = {
        "dates": " to ".join(dict.fromkeys((min(record.dates()), max(record.dates())))),
        "took": plan.clock(record.sum("seconds")),
        "stolen by the hypervisor": f"{record.sum('stolen') / max(record.sum('ticks'), 1):.1%}",
        "cold data": "page cache dropped as root" if options.disk.is_cache_dropped
        else "page cache dropped by file, without root"}
    return summed_up({"set": name, "run": took} | described, record.samples(), options)


def one(turn, options, record, progress):
    # What others have left in the page cache is not written beside this turn.
    os.sync()
    progress.begin(turn)
    (stolen, ticks), began = machine.ticks(), time.monotonic()
    came = turns.perform(turn, options)
    now_stolen, now_ticks = machine.ticks()
    record.add(turn, came, time.monotonic() - began, now_stolen - stolen, now_ticks - ticks)
    progress.end(turn, [line(sample) for sample in came])


@contextmanager
def locked(path):
    if path is None:
        yield
        return
    # Others that wait for it have their turn between two of ours.
    time.sleep(0.5)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def line(sample):
    """What a turn came to, for who watches."""
    if not sample["counts"]:
        return f"{sample['workload']} {sample['client']}: does not count: {sample['why']}"
    shown = ", ".join(f"{name} {value:.3g}" for name, value in list(sample["figures"].items())[:5])
    return f"{sample['workload']} {sample['client']}: {shown}"


def summed_up(described, samples, options):
    for sample in samples:
        sample["command"] = [shown(part) for part in sample["command"]]
        sample["why"] = shown(sample["why"])
    kafka = {"properties": brokers.KAFKA_PROPERTIES, "jvm": " ".join(brokers.KAFKA_JVM),
             "jvm_tuned": " ".join(brokers.KAFKA_JVM_TUNED)}
    return described | {
        "scope": scope(options), "settings": settings(options), "kafka": kafka,
        "rows": figures.summarize(samples), "smaller": smaller(options),
        "complaints": list(dict.fromkeys(
            f"{sample['workload']}, {report.NAMES[sample['broker']]}, {sample['client']}, "
            f"repetition {sample['repetition']}: {sample['why']}"
            for sample in samples if not sample["counts"])),
        "commands": commands(samples), "samples": samples,
    }


def smaller(options):
    """The workloads that were measured with less than their targets ask for, and with how much."""
    found = {}
    if options.is_less:
        found |= {each.name: "smaller loads" for each in options.workloads}
    if options.ready_gib < 16 or options.ready_partitions < 10_000:
        found |= dict.fromkeys(("ready-clean", "ready-killed"), "less data than is asked for")
    if options.kept_gib[0] > 2 or options.kept_gib[1] < 24:
        found |= dict.fromkeys(("kept-2", "kept-24"), "less data than is asked for")
    return found


def scope(options):
    if options.quick:
        return ("**`--quick`: small loads and few repetitions, to see whether it works. "
                "Do not quote it.**")
    if options.repetitions < 5:
        return f"**{options.repetitions} repetitions, fewer than the 5 that a comparison needs**"
    return f"{options.repetitions} repetitions"


def settings(options):
    return {
        "repetitions": options.repetitions, "seconds of a load": options.seconds,
        "produced in a load, at least": f"{options.gib:g} GiB",
        "warm-up of producers": f"{options.warm_loads[0]} loads" if options.warm_loads
        else "until loads are alike: of a new process 16 to 60 and for 40 s at least, of each "
             "load 3 to 12",
        "warm-up of consumers": f"{options.read_warmup_seconds} s",
        "warm-up of latencies": f"{options.warmup_seconds} s, mostly at 50,000 records/s, and 2 s "
                                "before each",
        "data in starts": f"{options.ready_gib:g} GiB in {options.ready_partitions:,} partitions",
        "data kept": " and ".join(f"{gib:g} GiB" for gib in options.kept_gib),
        "the broker's core": options.broker_core, "the client's core": options.client_core,
        "file system": options.filesystem, "brokers": ", ".join(options.brokers),
        "clients": ", ".join(options.clients),
        "all brokers": "log.segment.delete.delay.ms=1000, so that what was measured makes room",
        "Millrace": "its defaults, with millrace.shards=1 (2 where two shards are said, and "
                    "millrace.advertise.shards=true where they are advertised)",
        "Kafka": "its server.properties and start script, as they are shipped",
        "Kafka, larger heap and buffers":
            "with a heap of 6 GiB, the JVM's other arguments that its documentation shows for a "
            "busy cluster, and socket buffers of 1 MiB",
        "Kafka, flush.messages=1": "with log.flush.interval.messages=1 for the whole broker",
        "cold data": f"ten times {options.cold_budget_mib} MiB, which Millrace has as "
                     "millrace.memory.bytes",
    }


def commands(samples):
    seen = {}
    for sample in samples:
        if sample["command"]:
            is_floor = sample["broker"] == "floor"
            seen.setdefault((sample["workload"], sample["client"], is_floor), sample["command"])
    return [" ".join(command) for command in seen.values()]


def shown(text):
    """Without the places of this machine."""
    return text.replace(str(TARGET), "target").replace(str(ROOT), ".")
