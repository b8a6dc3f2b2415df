"""The clients: librdkafka's rdkafka_performance, Kafka's own ProducerPerformance and
ConsumerPerformance, and `millrace perf`. How each is told what to do, and what it says it did.

An Outcome's figures are the client's own words, where it has them. The broker's CPU is counted by
who calls, from before the client starts to after it ends, except where `millrace perf` works for a
time: that counts it over what it measures.
"""

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from brokers import TARGET, WORK, Failed, java, pinned, run

MILLRACE = TARGET / "release" / "millrace"
RDKAFKA_PERFORMANCE = WORK / "librdkafka" / "examples" / "rdkafka_performance"
# A Java client gets as much memory as Kafka's own scripts give a tool, twice over.
CLIENT_JVM = ("-Xmx1G", "-Xms1G")
SECONDS_MAX = 1800


@dataclass
class Outcome:
    """What a client did."""

    records: int
    seconds: float
    command: list
    # From `millrace perf`: its whole report.
    report: dict = field(default_factory=dict)

    def mb_per_second(self, record_bytes):
        return self.records * record_bytes / 1e6 / self.seconds


def prepare(names):
    """Builds rdkafka_performance from the librdkafka that Cargo.lock names."""
    if "librdkafka" not in names or RDKAFKA_PERFORMANCE.is_file():
        return
    for tool in ("cc", "make"):
        if not shutil.which(tool):
            raise Failed(f"librdkafka's client needs {tool}")
    source = librdkafka_source()
    built = WORK / "librdkafka.building"
    shutil.rmtree(built, ignore_errors=True)
    shutil.copytree(source, built)
    log = (WORK / "librdkafka.log").open("wb")
    with log:
        options = ("--disable-gssapi", "--disable-ssl", "--disable-curl", "--disable-zstd",
                   "--disable-lz4-ext")
        for command in (["bash", "./configure", *options], ["make", f"-j{os.cpu_count()}", "libs"],
                        ["make", "-C", "examples", "rdkafka_performance"]):
            finished = subprocess.run(command, cwd=built, stdout=log, stderr=log)
            if finished.returncode != 0:
                raise Failed(f"librdkafka is not built: see {log.name}")
    shutil.rmtree(RDKAFKA_PERFORMANCE.parent.parent, ignore_errors=True)
    built.rename(RDKAFKA_PERFORMANCE.parent.parent)


def librdkafka_source():
    """Where cargo has put the source of the crate that Millrace's own commands are built with."""
    described = run(["cargo", "metadata", "--format-version=1", "--locked"], capture_output=True,
                    cwd=Path(__file__).parent)
    for package in json.loads(described.stdout)["packages"]:
        if package["name"] == "rdkafka-sys":
            return Path(package["manifest_path"]).parent / "librdkafka"
    raise Failed("Cargo.lock names no rdkafka-sys")


def librdkafka_version():
    finished = subprocess.run([RDKAFKA_PERFORMANCE, "-h"], capture_output=True, text=True)
    found = re.search(r"librdkafka version (\S+)", finished.stdout + finished.stderr)
    return found.group(1) if found else "unknown"


# --- what they are told

def produce_command(client, broker, topic, workload, records):
    if client == "millrace":
        return [MILLRACE, "perf", "produce", "--bootstrap-server", broker.address, "--topic", topic,
                "--partitions", workload.partitions, "--records", records, "--acks", "all",
                "--record-bytes", workload.record_bytes, "--batch-bytes", workload.batch_bytes,
                "--key-bytes", workload.key_bytes, "--producers", workload.producers,
                "--broker-pid", broker.pid, "--json"]
    if client == "librdkafka":
        settings = {"batch.size": workload.batch_bytes, "linger.ms": workload.linger_ms,
                    "sticky.partitioning.linger.ms": 2 * workload.linger_ms,
                    "batch.num.messages": 1_000_000, "queue.buffering.max.kbytes": 262_144,
                    "queue.buffering.max.messages": 1_000_000}
        return [RDKAFKA_PERFORMANCE, "-P", "-b", broker.address, "-t", topic, "-a", -1, "-s",
                workload.record_bytes, "-c", records, *properties(settings)]
    settings = {"acks": "all", "batch.size": workload.batch_bytes,
                "linger.ms": workload.linger_ms, "buffer.memory": 134_217_728}
    return java("org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", broker.address,
                "--topic", topic, "--num-records", records, "--record-size", workload.record_bytes,
                "--throughput", -1, "--command-property",
                *(f"{key}={value}" for key, value in settings.items()), jvm=CLIENT_JVM)


def consume_command(client, broker, topic, workload, records, again=None):
    """`again`: for so many seconds, from the beginning again at the end; only `millrace perf`."""
    if client == "millrace":
        where = "spread" if workload.consumers > 1 else "earliest"
        window = ["--again", "--duration", f"{again}s", "--warmup", "2s"] if again else []
        return [MILLRACE, "perf", "consume", "--bootstrap-server", broker.address, "--topic", topic,
                "--from", where, "--consumers", workload.consumers, *window, "--broker-pid",
                broker.pid, "--json"]
    if client == "librdkafka":
        partitions = [part for index in range(workload.partitions) for part in ("-p", index)]
        settings = {"queued.min.messages": 1_000_000, "queued.max.messages.kbytes": 262_144}
        return [RDKAFKA_PERFORMANCE, "-C", "-b", broker.address, "-t", topic, *partitions, "-o",
                "beginning", "-c", records, *properties(settings)]
    return java("org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", broker.address,
                "--topic", topic, "--num-records", records, "--timeout", 60_000, "--hide-header",
                jvm=CLIENT_JVM)


def properties(settings):
    return [part for key, value in settings.items() for part in ("-X", f"{key}={value}")]


# --- what they say

def perform(client, command, core):
    """Runs a client on its core to its end."""
    command = [str(part) for part in command]
    began = time.monotonic()
    finished = subprocess.run(pinned(core, command), capture_output=True, text=True,
                              timeout=SECONDS_MAX, start_new_session=True)
    seconds = time.monotonic() - began
    if finished.returncode != 0:
        complaint = finished.stderr.strip() or last(finished.stdout)
        raise Failed(f"{client} ended with {finished.returncode}: {complaint[:300]}")
    return read(client, finished.stdout, finished.stderr, seconds, command)


def read(client, out, err, seconds, command):
    """What a client's words come to."""
    if client == "millrace":
        report = json.loads(out)
        if report["overdue"]:
            raise Failed(f"{report['overdue']} records were due and not acknowledged")
        records = sum(load["records"] for load in report["loads"])
        return Outcome(records, report["seconds"], command, report)
    complaint = re.search(r".*(%[0-3]\||exception|error|timed out|failed to).*", out + err,
                          re.IGNORECASE)
    if complaint:
        raise Failed(f"{client} complains: {complaint.group(0).strip()}")
    if client == "librdkafka":
        return read_librdkafka(out, seconds, command)
    return read_java(out, command)


def read_librdkafka(out, seconds, command):
    if consumed := re.findall(r"% (\d+) messages \(\d+ bytes\) consumed in (\d+)ms", out):
        records, ms = consumed[-1]
        return Outcome(int(records), int(ms) / 1000, command)
    sent = re.findall(r"delivered \(offset -?\d+, (\d+) failed\)", out)
    delivered = re.findall(r"(\d+) delivered", out)
    if not sent or sent[-1] != "0":
        raise Failed(f"librdkafka: {last(out)}")
    # Its own time ends when the last record is queued, not when it is acknowledged.
    return Outcome(int(delivered[-1]), seconds, command)


def read_java(out, command):
    line = last(out)
    if sent := re.match(r"(\d+) records sent, ([\d.]+) records/sec", line):
        records = int(sent.group(1))
        return Outcome(records, records / float(sent.group(2)), command)
    fields = [part.strip() for part in line.split(",")]
    if len(fields) != 10:
        raise Failed(f"Kafka's tool says: {line}")
    # Without the time in which the group forms, which is a setting of the broker.
    return Outcome(int(fields[4]), int(fields[7]) / 1000, command)


def last(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
