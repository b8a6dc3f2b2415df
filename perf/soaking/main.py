"""`perf/soak`: the broker, the load in pieces, and the page.

First the most that the broker takes is measured, by the same load without a rate; the soak has
half of that. Each piece is a run of `millrace perf mixed`, each record sent when it is due:
producers, and a consumer that reads what is written. The topic keeps so little that segments roll
and are deleted all the time.
"""

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path

import brokers
from brokers import ROOT, WORK, Broker, Failed
from compare import clients, drawing, machine
from compare.figures import GIB, MIB

from . import judging
from .watching import Churn, Sampler

TOPIC = "soak"
PARTITIONS = 12
PRODUCERS = 4
RECORD_BYTES = 1024
SEGMENT_BYTES = 64 * MIB
RETENTION_BYTES = 256 * MIB
SETTINGS = {"log.retention.check.interval.ms": 5_000, "log.segment.delete.delay.ms": 1_000,
            "log.initial.task.delay.ms": 5_000}
# What is needed on the disk: what is kept, what is deleted and not yet gone, and a margin.
ROOM_BYTES = 16 * GIB


def main():
    options = parse()
    brokers.obey_signals()
    brokers.prepare(["millrace"])
    directory = options.results
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    if shutil.disk_usage(WORK).free < ROOM_BYTES:
        raise Failed(f"{ROOM_BYTES // GIB} GiB are needed below {WORK}")
    broker = Broker("millrace-soak", "soak", options.broker_core, SETTINGS)
    try:
        rate = options.rate or measured_rate(broker, options)
        began = time.monotonic()
        soak(broker, rate, options)
        minutes = (time.monotonic() - began) / 60
        broker.end()
        if broker.is_unclean:
            raise Failed(f"the broker did not stop cleanly: see {broker.log.name}")
        verified = verify(broker)
    finally:
        broker.stop()
    finish(options, rate, minutes, verified)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--rate", type=int, metavar="RECORDS",
                        help="records of 1 KiB a second; without it half of what is measured first")
    parser.add_argument("--piece-seconds", type=int, default=55)
    parser.add_argument("--broker-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--results", type=Path, default=WORK / "soak",
                        help="default target/perf/soak; the repository shows perf/results/soak")
    return parser.parse_args()


def mixed(broker, seconds, rate, options):
    limited = ["--rate", rate] if rate else []
    settings = {"segment.bytes": SEGMENT_BYTES, "retention.bytes": RETENTION_BYTES}
    configs = [part for key, value in settings.items() for part in ("--config", f"{key}={value}")]
    command = [clients.MILLRACE, "perf", "mixed", "--bootstrap-server", broker.address, "--topic",
               TOPIC, "--partitions", PARTITIONS, *configs, "--producers", PRODUCERS,
               "--record-bytes", RECORD_BYTES, "--cold-consumers", 0, "--duration", f"{seconds}s",
               *limited, "--broker-pid", broker.pid, "--json"]
    return clients.perform("millrace", command, options.client_core).report


def measured_rate(broker, options):
    """Half of what it takes, in records a second."""
    say("measuring how much it takes ...")
    taken = [mixed(broker, 10, None, options)["loads"][0]["records_per_second"] for _ in range(3)]
    say("records/s: " + ", ".join(f"{each:,.0f}" for each in taken))
    return int(sorted(taken)[1] / 2)


def soak(broker, rate, options):
    say(f"{rate:,} records/s for {options.minutes:g} minutes ...")
    directory, began = options.results, time.monotonic()
    with Sampler(broker, TOPIC, directory / "samples.jsonl") as sampler, \
            Churn(broker, options.client_core) as churn, \
            (directory / "pieces.jsonl").open("w") as file:
        while (passed := time.monotonic() - began) < options.minutes * 60:
            line = piece(mixed(broker, options.piece_seconds, rate, options), passed)
            file.write(json.dumps(line | {"churned": churn.turns}) + "\n")
            file.flush()
            say(f"{passed / 60:5.1f} min: acknowledged after {line['p50_ms']:.2f}, p99 "
                f"{line['p99_ms']:.2f} ms; {line['resident_mib']:.0f} MiB; {sampler.made} segments "
                f"made, {len(sampler.names)} there; {churn.turns} topics and groups came and went")
            for thread in (sampler, churn):
                thread.check()


def piece(report, passed):
    produced, received, _ = report["loads"]
    names = ("p50_ms", "p99_ms", "p99_9_ms", "max_ms")
    return {"seconds": passed, "records": produced["records"],
            **{name: produced[name] for name in names},
            **{f"received_{name}": received[name] for name in names},
            "cpu_seconds_per_gib": report["broker"]["cpu_seconds_per_gib"],
            "resident_mib": report["broker"]["resident_bytes"] / MIB}


def verify(broker):
    """What `millrace log verify` comes to at the end."""
    ran = subprocess.run([str(clients.MILLRACE), "log", "verify", str(broker.data)],
                         capture_output=True, text=True)
    if ran.returncode != 0:
        raise Failed(f"log verify found damage:\n{ran.stdout[-2000:]}{ran.stderr[-500:]}")
    return f"{sum(line.endswith(' ok') for line in ran.stdout.splitlines())} partitions, all ok"


def finish(options, rate, minutes, verified):
    directory = options.results
    samples, pieces = ([json.loads(line) for line in (directory / name).open()]
                       for name in ("samples.jsonl", "pieces.jsonl"))
    lines = judging.verdicts(samples, pieces)
    try:
        drawing.draw("soaking.plots", directory)
        drawn = ["![soak](soak.svg)", ""]
    except drawing.NoPlots as why:
        say(f"no plots: matplotlib is not to be had here ({why})")
        drawn = []
    page = [
        "# Soak", "",
        f"{minutes:.0f} minutes of {rate:,} records/s of {RECORD_BYTES} bytes "
        f"({rate * RECORD_BYTES / 1e6:.0f} MB/s) to {PARTITIONS} partitions by {PRODUCERS} "
        f"producers{'' if options.rate else ', half of what was measured before'}, read by a "
        "consumer meanwhile. "
        f"{sum(each['records'] for each in pieces):,} records were acknowledged, "
        f"{samples[-1]['segments_made']:,} segments made and all but "
        f"{samples[-1]['segments']} of them deleted, {pieces[-1]['churned']} topics and groups "
        "came and went.", "",
        f"`millrace log verify` at the end: {verified}", "",
        "| line | early | at the end | may grow by | flat |", "|---|--:|--:|--:|---|",
        *(f"| {it['figure']} | {it['early']:.2f} {it['unit']} | {it['late']:.2f} {it['unit']} | "
          f"{it['allowed']:.2f} | {'yes' if it['is_flat'] else '**no**'} |" for it in lines),
        "", *drawn, "Early is from a twelfth to a quarter of the time, the end its last sixth, by "
        "medians.", "",
        *(f"- {key}: {value}" for key, value in
          (machine.describe(directory) | machine.versions({"millrace"})).items()), ""]
    (directory / "soak.md").write_text("\n".join(page))
    print("\n".join(page))
    if not all(it["is_flat"] for it in lines):
        raise Failed("something grows")


def say(line):
    print(line, flush=True)
