"""Starts and stops Millrace and Apache Kafka 4.3.1 for measurements, each pinned to its cores.

Kafka runs as shipped: its server.properties, its start script's heap and collector settings, from
its jars. Everything is built and written under target/, unless data is asked for elsewhere.

Whatever is started here is ended when the program ends, by its id: at the end, at Ctrl-C, and when
it is told to end. Each process has a session of its own, so that Ctrl-C reaches this program alone.
"""

import atexit
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = TARGET / "perf"
JARS = TARGET / "java" / "jars"
TICKS = os.sysconf("SC_CLK_TCK")

# bin/kafka-server-start.sh and bin/kafka-run-class.sh of Apache Kafka 4.3.1.
KAFKA_JVM = (
    "-Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 "
    "-XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent "
    "-Djava.awt.headless=true"
).split()

# What its documentation shows as the arguments of a busy cluster (operations, Java version).
KAFKA_JVM_TUNED = (
    "-Xmx6g -Xms6g -server -XX:MetaspaceSize=96m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 "
    "-XX:InitiatingHeapOccupancyPercent=35 -XX:G1HeapRegionSize=16M -XX:MinMetaspaceFreeRatio=50 "
    "-XX:MaxMetaspaceFreeRatio=80 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true"
).split()

# config/server.properties of Apache Kafka 4.3.1, with a port and a directory of our own.
KAFKA_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs={data}
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""

LOG4J = """\
status = error
appender.file.type = File
appender.file.name = file
appender.file.fileName = {log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pinned(cores, command):
    return ["taskset", "-c", str(cores), *command]


def run(command, **options):
    return subprocess.run(command, check=True, text=True, **options)


RUNNING = []


def spawn(command, **options):
    """Starts a process that does not outlive this one."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    RUNNING.append(process)
    return process


def end(process, how=signal.SIGTERM, within=120):
    """Ends a process, and waits until it is gone. Its exit code; a JVM has 143 after SIGTERM."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process in RUNNING:
        RUNNING.remove(process)
    return process.returncode


@atexit.register
def end_all():
    for process in list(RUNNING):
        end(process, within=30)


class Stopped(SystemExit):
    """By a signal."""


def obey_signals():
    """Lets a signal to end this program go through its `finally` clauses."""
    def leave(number, _frame):
        raise Stopped(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        # Under nohup it is to go on.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, leave)


def newest_java():
    """The program of the newest JVM that is installed: Kafka's documentation advises that. Without
    any in the usual place, that of the PATH."""
    found = {}
    for release in Path("/usr/lib/jvm").glob("*/release"):
        named = re.search(r'^JAVA_VERSION="([\d.]+)', release.read_text(), re.MULTILINE)
        program = release.parent / "bin" / "java"
        if named and program.is_file():
            found[tuple(map(int, named.group(1).strip(".").split(".")))] = str(program)
    return found[max(found)] if found else "java"


JAVA = newest_java()


def java(class_name, *arguments, jvm=()):
    return [JAVA, *jvm, "-cp", f"{JARS}/*", class_name, *map(str, arguments)]


def prepare(names):
    """Fetches and builds what the brokers of these names need."""
    WORK.mkdir(parents=True, exist_ok=True)
    pom = ROOT / "tests" / "java" / "pom.xml"
    done = JARS / "fetched-by"
    if not done.is_file() or done.read_bytes() != pom.read_bytes():
        shutil.rmtree(JARS, ignore_errors=True)
        run(["mvn", "--batch-mode", "--quiet", "--file", str(pom),
             "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"])
        done.write_bytes(pom.read_bytes())
    if "millrace" in names:
        run(["cargo", "build", "--release", "--locked", "--bin", "millrace"], cwd=ROOT)


class Failed(SystemExit):
    """A measurement that did not come off, and why. Who does nothing about it ends with it."""


class Broker:
    """A broker's process on its cores, with a data directory under `parent` that is empty at first.

    `name` is millrace or kafka, which may have a variant behind a dash, for the names of files.
    """

    def __init__(self, name, turn, cores, overrides=(), parent=WORK):
        self.name = name
        self.cores = cores
        self.port = free_port()
        self.overrides = dict(overrides)
        self.data = Path(parent) / f"{name}-data"
        shutil.rmtree(self.data, ignore_errors=True)
        self.turn = turn
        self.log = (WORK / f"{name}-{turn}.log").open("wb")
        self.process = None
        # Whether it ended last otherwise than asked to.
        self.is_unclean = False
        try:
            self.format()
            self.start()
        except BaseException:
            # Nobody else has it yet, not even to stop it.
            self.stop()
            raise

    @property
    def pid(self):
        return self.process.pid

    @property
    def is_kafka(self):
        return self.name.startswith("kafka")

    def start(self):
        """Starts it, on what data it has, and waits until it answers."""
        self.launch()
        self.wait()

    def launch(self):
        command = self.kafka() if self.is_kafka else self.millrace()
        self.process = spawn(pinned(self.cores, command), stdout=self.log, stderr=self.log,
                             cwd=WORK)

    def end(self, how=signal.SIGTERM):
        """Ends its process and keeps its data."""
        if self.process:
            code = end(self.process, how)
            self.is_unclean = code != (143 if self.is_kafka else 0)

    @property
    def properties(self):
        return WORK / f"{self.name}.properties"

    def format(self):
        """Kafka starts on a directory only that was formatted for it."""
        if not self.is_kafka:
            return
        text = KAFKA_PROPERTIES.format(port=self.port, controller=free_port(), data=self.data)
        # Kafka takes the last of two lines with the same key.
        added = [f"{key}={value}\n" for key, value in self.overrides.items()]
        self.properties.write_text(text + "".join(added))
        run(java("kafka.tools.StorageTool", "format", "--standalone", "-t",
                 "bWlsbHJhY2UtcGVyZi1vbmU", "-c", str(self.properties)), stdout=self.log)

    def kafka(self):
        logging = WORK / f"{self.name}-log4j2.properties"
        logging.write_text(LOG4J.format(log=WORK / f"{self.name}-server-{self.turn}.log"))
        arguments = KAFKA_JVM_TUNED if self.name == "kafka-tuned" else KAFKA_JVM
        jvm = [*arguments, f"-Dlog4j2.configurationFile={logging}"]
        return java("kafka.Kafka", str(self.properties), jvm=jvm)

    def millrace(self):
        settings = {
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": self.data,
            "millrace.shards": 1,
            **self.overrides,
        }
        overrides = [f"--override={key}={value}" for key, value in settings.items()]
        return [str(TARGET / "release" / "millrace"), "start", *overrides]

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def topics(self, *arguments):
        """kafka-topics, whose success also says that the broker serves."""
        command = java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.address,
                       *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def wait(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed(f"the broker ended with {self.process.returncode}: see "
                             f"{self.log.name}")
            if answers(self.port):
                return
            time.sleep(0.1)
        raise Failed(f"the broker does not serve: see {self.log.name}")

    def create_topic(self, name, partitions):
        finished = self.topics("--create", "--topic", name, "--partitions", str(partitions),
                               "--replication-factor", "1")
        if finished.returncode != 0:
            raise Failed(f"the topic was not created: {finished.stdout}{finished.stderr}")

    def stop(self):
        self.end()
        self.log.close()
        shutil.rmtree(self.data, ignore_errors=True)


def records_in(address, topic, partitions):
    """How many records a topic holds: the sum of its partitions' end offsets, by Kafka's tool."""
    command = java("org.apache.kafka.tools.GetOffsetShell", "--bootstrap-server", address,
                   "--topic", topic)
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    ends = [line.split(":") for line in finished.stdout.splitlines() if line.startswith(topic)]
    if finished.returncode != 0 or len(ends) != partitions:
        raise Failed(f"{topic} tells {len(ends)} end offsets of {partitions}: "
                     f"{finished.stderr[-300:]}")
    return sum(int(end[2]) for end in ends)


def answers(port):
    """Whether a broker on the port answers an ApiVersions request, version 0."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            reply = connection.recv(10)
    except OSError:
        return False
    return len(reply) == 10 and struct.unpack(">iih", reply)[1:] == (1, 0)


def stat_seconds(path):
    """User and system seconds of a process with all its threads, those that ended included."""
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def process_seconds(pid):
    """To the nanosecond, by the clock of the process, those of its threads that ended included."""
    return time.clock_gettime((~pid << 3) | 2)


class KernelThreads:
    """The CPU seconds of the kernel's own threads, the children of kthreadd, from now on. A thread
    that ends in between takes its last seconds along, and nothing else."""

    def __init__(self):
        self.before = self.all()

    def seconds(self):
        return sum(now - self.before.get(thread, 0.0) for thread, now in self.all().items())

    @staticmethod
    def all():
        """By id and start time, since ids come again."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
                if fields[1] == "2":
                    found[path.parent.name, fields[19]] = stat_seconds(path)
            except OSError:
                continue
        return found
