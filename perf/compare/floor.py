"""The floor under latency, in the brokers' place: a bare write-and-fdatasync loop (floor.rs)."""

import json
import subprocess
from pathlib import Path

from brokers import ROOT, WORK, Failed, pinned, run

from .serving import sample, seconds_of

PROGRAM = WORK / "floor"
WARMUP_SECONDS = 2


def prepare():
    source = Path(__file__).with_suffix(".rs")
    run(["rustc", "-O", "--edition", "2024", str(source), "-o", str(PROGRAM)], cwd=ROOT)


def turn(planned, options):
    return [measure(workload, planned, options) for workload, _ in planned.loads]


def measure(workload, planned, options):
    path = options.directory / "floor-data"
    seconds = seconds_of(workload, options)
    size = workload.rate * workload.record_bytes * (seconds + WARMUP_SECONDS)
    hdr = options.times / f"{workload.name}.floor.{planned.repetition}.hgrm"
    command = [PROGRAM, path, workload.rate, workload.record_bytes, WARMUP_SECONDS,
               seconds, hdr]
    try:
        run(["fallocate", "--length", str(size), str(path)])
        finished = subprocess.run(pinned(options.broker_core, [str(part) for part in command]),
                                  capture_output=True, text=True)
        if finished.returncode != 0:
            raise Failed(f"the bare loop: {finished.stderr.strip()}")
    finally:
        path.unlink(missing_ok=True)
    said = json.loads(finished.stdout)
    if said.pop("records") != workload.rate * seconds:
        raise Failed("the bare loop has not written every record")
    return sample(workload, planned, "millrace", said, command)
