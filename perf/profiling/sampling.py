"""Linux' perf: whether it is there and allowed, and what it records and counts of one process.

It runs on the client's core. The samples are by the processor's cycles where it counts them for us,
which a virtual machine often does not, and by a clock of the kernel otherwise.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from brokers import WORK, Failed, end, pinned, spawn

FREQUENCY = 499
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
HARDWARE = ("cycles", "instructions", "branch-misses", "cache-references", "cache-misses",
            "dTLB-load-misses")
SOFTWARE = ("task-clock", "cpu-clock", "context-switches", "cpu-migrations", "page-faults",
            "major-faults")


def check():
    """Fails, with what to do, unless perf may sample another process and the kernel beside."""
    if not shutil.which("perf"):
        raise Failed("perf is not installed: it is in the package linux-perf (Debian), "
                     "linux-tools-$(uname -r) (Ubuntu) or perf (Fedora, Arch)")
    # With a privilege of its own (CAP_PERFMON) one may whatever the setting is: so it is tried.
    command = ["perf", "stat", "-e", "cpu-clock:k", "-p", str(os.getpid()), "--", "true"]
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode == 0 and "not supported" not in tried.stderr:
        return
    setting = PARANOID.read_text().strip() if PARANOID.exists() else "not there"
    said = " ".join(tried.stderr.split())[:200]
    raise Failed(f"perf may not sample the kernel (perf_event_paranoid is {setting}): be root, or "
                 "`sysctl kernel.perf_event_paranoid=1 kernel.kptr_restrict=0`; in a container it "
                 f"needs CAP_PERFMON besides. It says: {said}")


class Sampling:
    """`perf record` and `perf stat` on a process with all its threads, for so many seconds."""

    def __init__(self, pid, seconds, core):
        self.seconds = seconds
        directory = Path(tempfile.mkdtemp(prefix="profile-", dir=WORK))
        self.directory = directory
        self.data = directory / "perf.data"
        self.counted = directory / "perf-stat.csv"
        self.said = directory / "perf.log"
        self.event = "cycles" if has_cycles() else "cpu-clock"
        record = ["perf", "record", "-q", "--no-buildid-cache", "-e", self.event,
                  "-F", str(FREQUENCY), "--call-graph", "fp", "-o", str(self.data)]
        stat = ["perf", "stat", "-x", ";", "-o", str(self.counted),
                "-e", ",".join((*SOFTWARE, *HARDWARE))]
        self.log = self.said.open("w")
        self.processes = [
            spawn(pinned(core, [*command, "-p", str(pid), "--", "sleep", str(seconds)]),
                  stdout=self.log, stderr=self.log) for command in (stat, record)]

    def wait(self):
        """Until both have written what they have seen."""
        codes = [process.wait(120) for process in self.processes]
        self.stop()
        if any(codes):
            raise Failed(f"perf ended with {codes}: {self.said.read_text()[-300:]}")

    def stop(self):
        for process in self.processes:
            end(process)
        self.log.close()

    def close(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def counts(self):
        """By event; None where it is not to be had here."""
        return read_counts(self.counted.read_text())

    def script(self):
        """The samples as text, for `stacks.parse`."""
        command = ["perf", "script", "-i", str(self.data), "--no-inline", "--max-stack", "127",
                   "-F", "comm,tid,period,ip,sym,dso"]
        finished = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if finished.returncode != 0:
            raise Failed(f"perf script: {finished.stderr[-300:]}")
        return finished.stdout


def has_cycles():
    finished = subprocess.run(["perf", "stat", "-x", ";", "-e", "cycles", "true"],
                              capture_output=True, text=True)
    return read_counts(finished.stderr).get("cycles") is not None


def read_counts(text):
    """What `perf stat -x ;` has written."""
    counts = {}
    for line in text.splitlines():
        fields = line.split(";")
        if len(fields) < 3 or line.startswith("#"):
            continue
        event = fields[2].partition(":")[0]
        try:
            counts[event] = float(fields[0])
        except ValueError:
            counts[event] = None
    return counts
