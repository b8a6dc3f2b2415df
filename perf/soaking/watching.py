"""What is looked at meanwhile, and what comes and goes beside the load, a thread each."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

from brokers import Failed, process_seconds, stat_seconds
from compare import clients

SAMPLED_EVERY = 1.0
CHURNED_EVERY = 10.0
# Whoever takes longer to come or go is a finding.
CHURN_WITHIN = 60


class Thread:
    """Calls `step` again and again until it ends. What goes wrong is kept, and told by `check`."""

    def __init__(self, every, step):
        self.every = every
        self.step = step
        self.stopped = threading.Event()
        self.why = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def run(self):
        due = time.monotonic()
        while not self.stopped.wait(max(due - time.monotonic(), 0)):
            try:
                self.step()
            except (Failed, Exception) as why:
                self.why = why
                return
            due += self.every

    def check(self):
        if self.why:
            raise self.why


class Sampler(Thread):
    """A line each second: memory, descriptors and threads of the process, segments of the topic on
    the disk, and what is free there."""

    def __init__(self, broker, topic, path):
        super().__init__(SAMPLED_EVERY, self.sample)
        self.broker = broker
        self.topic = topic
        self.file = path.open("w")
        self.began = time.monotonic()
        self.names = set()
        self.made = 0

    def sample(self):
        process = Path(f"/proc/{self.broker.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        names = {path.parent.name + path.name
                 for path in self.broker.data.glob(f"{self.topic}-*/*.log")}
        self.made += len(names - self.names)
        self.names = names
        space = os.statvfs(self.broker.data)
        line = {
            "seconds": time.monotonic() - self.began,
            "resident_mib": kib(status["VmRSS"]) / 1024, "peak_mib": kib(status["VmHWM"]) / 1024,
            "threads": int(status["Threads"]), "descriptors": len(os.listdir(process / "fd")),
            "segments": len(names), "segments_made": self.made,
            "free_gib": space.f_bavail * space.f_frsize / 2**30,
            "cpu_seconds": process_seconds(self.broker.pid),
            "client_cpu_seconds": stat_seconds(Path("/proc/self/stat")),
        }
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def __exit__(self, *_):
        super().__exit__()
        self.file.close()


def kib(value):
    return int(value.split()[0])


class Churn(Thread):
    """A topic comes, is written to, is read by a group, and both go."""

    def __init__(self, broker, core):
        super().__init__(CHURNED_EVERY, self.turn)
        self.broker = broker
        self.core = core
        self.turns = 0

    def turn(self):
        topic = group = f"churn-{self.turns}"
        self.millrace("topics", "create", topic, "--partitions", "3")
        self.millrace("produce", topic, given="".join(f"{n}\n" for n in range(30)))
        read = self.millrace("consume", topic, "--group", group)
        if sorted(map(int, read.split())) != list(range(30)):
            raise Failed(f"{topic} was read as {read!r}")
        self.millrace("groups", "delete", group)
        self.millrace("topics", "delete", topic)
        self.turns += 1

    def millrace(self, *arguments, given=None):
        command = ["taskset", "-c", str(self.core), str(clients.MILLRACE), *arguments,
                   "--bootstrap-server", self.broker.address]
        ran = subprocess.run(command, input=given, capture_output=True, text=True,
                             timeout=CHURN_WITHIN)
        if ran.returncode != 0:
            raise Failed(f"{' '.join(arguments)}: {clients.last(ran.stderr)}")
        return ran.stdout
