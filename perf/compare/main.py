"""`perf/run`: prepares, runs all turns, writes the results."""

import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import brokers
from brokers import ROOT, TARGET, WORK, run

from . import clients, disk, figures, floor, headline, machine, plan, report, targets, turns
from .disk import Disk
from .options import PUBLISHED, parse
from .record import OfAnother, Record

RESULTS = "comparison"
README = ROOT / "README.md"
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
            sys.exit("stopped: nothing was written; --go-on measures what is missing")
        except OfAnother as why:
            sys.exit(f"--go-on: {why}")


def compare(options):
    planned = plan.turns(options.workloads, options.brokers, options.clients, options.repetitions,
                         options.are_brokers_named)
    prepare(options, planned)
    options.results.mkdir(parents=True, exist_ok=True)
    # Those of an earlier run stay until this one has come to its end.
    options.times = WORK / "times"
    if not options.goes_on:
        shutil.rmtree(options.times, ignore_errors=True)
    options.times.mkdir(exist_ok=True)
    options.disk = Disk(options.data_dir, options.filesystem, options.image_gib)
    options.directory = options.disk.directory
    try:
        with machine.free_memory_kept():
            results = measure(options, planned)
        # Before the disk is put away, which may fail.
        write(results, options)
    finally:
        brokers.end_all()
        options.disk.close()
    if results["complaints"]:
        sys.exit("not every turn counts: the page says which, and why")


def raise_open_files():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))


def prepare(options, planned):
    plan.Progress.say("fetching Apache Kafka and building Millrace and the clients ...")
    brokers.prepare(["millrace"])
    clients.prepare({client for turn in planned for client in turn.clients})
    if any(turn.broker == "floor" for turn in planned):
        floor.prepare()
    if any(turn.kind == "consume-cold" for turn in planned):
        disk.prepare()


def measure(options, planned):
    described = {"machine": machine.describe(options.directory),
                 "versions": machine.versions(options.clients)}
    run_of = {"versions": described["versions"], "settings": settings(options),
              "workloads": [workload.name for workload in options.workloads]}
    record = Record(WORK / "samples.jsonl", run_of, options.goes_on)
    left = [turn for turn in planned if not record.has(turn)]
    progress = plan.Progress(left)
    # What this program does itself, it does not do on the broker's core.
    os.sched_setaffinity(0, {options.client_core})
    for turn in left:
        with locked(options.lock):
            progress.begin(turn)
            (stolen, ticks), began = machine.ticks(), time.monotonic()
            came = turns.perform(turn, options)
            now_stolen, now_ticks = machine.ticks()
            record.add(turn, came, time.monotonic() - began, now_stolen - stolen,
                       now_ticks - ticks)
        progress.end(turn, [line(sample) for sample in came])
    described["machine"] |= {
        "stolen by the hypervisor": f"{record.sum('stolen') / max(record.sum('ticks'), 1):.1%}",
        "the run took": plan.clock(record.sum("seconds"))
        + (", not all at one time" if options.goes_on else ""),
        "page cache": "dropped as root" if options.disk.is_cache_dropped
        else "dropped by file, without root"}
    return summed_up(described, record.samples(), options)


@contextmanager
def locked(path):
    if path is None:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def line(sample):
    """What a turn came to, for who watches."""
    if not sample["counts"]:
        return f"{sample['workload']}: does not count: {sample['why']}"
    shown = ", ".join(f"{name} {value:.3g}" for name, value in list(sample["figures"].items())[:5])
    return f"{sample['workload']} {sample['client']}: {shown}"


def summed_up(described, samples, options):
    rows = figures.summarize(samples)
    smaller = {}
    if options.ready_gib < 16 or options.ready_partitions < 10_000:
        smaller |= dict.fromkeys(("ready-clean", "ready-killed"), "less data than is asked for")
    if options.kept_gib[0] > 2 or options.kept_gib[1] < 24:
        smaller |= dict.fromkeys(("kept-2", "kept-24"), "less data than is asked for")
    kafka = {"properties": brokers.KAFKA_PROPERTIES, "jvm": " ".join(brokers.KAFKA_JVM)}
    return described | {
        "scope": scope(options), "settings": settings(options), "kafka": kafka,
        "targets": targets.verdicts(figures.Summary(rows, smaller)), "rows": rows,
        "complaints": list(dict.fromkeys(
            f"{sample['workload']}, {report.NAMES[sample['broker']]}, repetition "
            f"{sample['repetition']}: {shown(sample['why'])}"
            for sample in samples if not sample["counts"])),
        "commands": commands(samples), "samples": samples,
    }


def scope(options):
    said = f"{options.repetitions} repetitions of {len(options.workloads)} workloads."
    if options.quick:
        said = ("**This was `--quick`: small loads and few repetitions, to see whether it works. "
                "Do not quote it.** " + said)
    elif options.repetitions < 5:
        said += " **Fewer than the 5 repetitions that a comparison needs.**"
    return said


def settings(options):
    return {
        "repetitions": options.repetitions, "produced in a turn, at least": f"{options.gib} GiB",
        "produced to warm up, at least": f"{options.warmup_gib} GiB",
        "seconds of that": options.produce_warmup_seconds,
        "seconds of a load": options.seconds,
        "seconds of the warm-up of latencies": options.warmup_seconds,
        "data in starts": f"{options.ready_gib} GiB in {options.ready_partitions} partitions",
        "data kept": " and ".join(f"{gib:g} GiB" for gib in options.kept_gib),
        "the broker's core": options.broker_core, "the client's core": options.client_core,
        "file system": options.filesystem, "brokers": ", ".join(options.brokers),
        "clients": ", ".join(options.clients),
        "Millrace": "its defaults, with millrace.shards=1 (2 where two shards are said, and "
                    "millrace.advertise.shards=true where they are advertised)",
        "Kafka": "its server.properties and start script, as they are shipped",
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
    return [shown(" ".join(command)) for command in seen.values()]


def shown(text):
    """Without the places of this machine."""
    return text.replace(str(TARGET), "target").replace(str(ROOT), ".")


def write(results, options):
    for sample in results["samples"]:
        sample["command"] = [shown(part) for part in sample["command"]]
        sample["why"] = shown(sample["why"])
    path = options.results / f"{RESULTS}.json"
    shutil.rmtree(options.results / "times", ignore_errors=True)
    shutil.copytree(options.times, options.results / "times")
    path.write_text(json.dumps(results, indent=1) + "\n")
    results["plots"] = draw(path, options.results)
    page = report.page(results)
    path.with_suffix(".md").write_text(page)
    if options.results.resolve() == PUBLISHED:
        README.write_text(headline.put(README.read_text(), results))
    plan.Progress.say(f"written to {path.with_suffix('.md')}")
    if options.json:
        keys = ("scope", "machine", "versions", "targets", "rows", "complaints")
        print(json.dumps({key: results[key] for key in keys}))
    else:
        print(page)


def draw(path, directory):
    """Draws in an environment of its own, which is made once; a page without plots is a page
    too."""
    venv, wanted = WORK / "venv", Path(__file__).with_name("requirements.txt")
    done = venv / "made-from"
    for old in directory.glob("*.svg"):
        old.unlink()
    try:
        if not done.is_file() or done.read_bytes() != wanted.read_bytes():
            shutil.rmtree(venv, ignore_errors=True)
            run([sys.executable, "-m", "venv", str(venv)], capture_output=True)
            run([str(venv / "bin" / "pip"), "install", "--quiet", "--requirement", str(wanted)],
                capture_output=True)
            done.write_bytes(wanted.read_bytes())
        run([str(venv / "bin" / "python"), "-m", "compare.plots", str(path), str(directory)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "perf")}, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = clients.last(getattr(error, "stderr", "") or str(error))
        plan.Progress.say(f"no plots: matplotlib is not to be had here ({why})")
        return []
    return sorted(picture.name for picture in directory.glob("*.svg"))
