"""What this machine is: processor, kernel, disk, file system, governor; and which versions ran."""

import mmap
import os
import platform
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import brokers
from brokers import JARS, ROOT

from . import clients

UNKNOWN = "unknown"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


# A guest of a host that takes free memory back pays for each page of it that it uses anew: 1.5 to 3
# CPU seconds a GiB where that was measured, which a broker that fills the page cache would be
# charged. Free blocks of this order and more are offered to the host; none is larger than MOST.
REPORTING = Path("/sys/module/page_reporting/parameters/page_reporting_order")
MOST = 10
LEFT_BYTES = 2 << 30
# A kernel thread that looks for memory that is not used and drops it from the page cache.
DAMON = Path("/sys/kernel/mm/damon/admin/kdamonds/0/state")


@contextmanager
def set_to(path, value):
    """Writes a value into a file of the kernel's, and at the end the one before. Gives whether that
    could be done."""
    try:
        before = path.read_text()
        path.write_text(value)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        path.write_text(before)


@contextmanager
def memory_kept():
    """The kernel gives no free memory to the host, where it gives it at all and can be told, and
    what the host has taken before is had again; and nobody drops what is in the page cache but for
    want of memory. Gives what the page is to say about it."""
    is_there = DAMON.exists() and DAMON.read_text().strip() == "on"
    with set_to(REPORTING, str(MOST + 1)) as is_kept, \
            set_to(DAMON if is_there else Path("/nowhere"), "off") as is_off:
        if is_kept:
            touch_memory()
        yield {
            "free memory": "kept from the host during the run, and nearly all used once before"
            if is_kept else "given back to the host, which costs who uses it anew"
            if REPORTING.exists() else "not known to be given back to a host",
            "page cache": "dropped for want of memory only" if is_off or not is_there
            else "dropped by DAMON when it was not used for a while"}


def touch_memory():
    """Has the machine have what is free: it may be the host's."""
    free = re.search(r"MemFree:\s*(\d+)", read("/proc/meminfo"))
    size = int(free.group(1)) * 1024 - LEFT_BYTES if free else 0
    if size > 0:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0x8000)
        mmap.mmap(-1, size, flags=flags).close()


def device_counts(directory):
    """What the kernel counts of the device below a directory; nothing where it has none."""
    fields = mount_of(directory.resolve())
    stat = read(f"/sys/dev/block/{fields[2]}/stat", "") if fields else ""
    return [int(count) for count in stat.split()]


def written_bytes(directory):
    """What was written so far to the device below a directory; 0 where it has none."""
    counts = device_counts(directory)
    # The kernel counts in 512 bytes, whatever the device does.
    return counts[6] * 512 if counts else 0


def discarded(directory):
    """How many discards that device has had: a file system may send them after files are gone."""
    counts = device_counts(directory)
    return counts[11] if len(counts) > 11 else 0


def read(path, otherwise=UNKNOWN):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return otherwise


def said(*command):
    try:
        finished = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                                  cwd=ROOT)
    except OSError:
        return UNKNOWN
    lines = (finished.stdout or finished.stderr).strip().splitlines()
    return lines[0] if finished.returncode == 0 and lines else UNKNOWN


def processor():
    info = read("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def describe(directory):
    info = read("/proc/cpuinfo")
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "virtual machine": "yes" if " hypervisor" in info else "no",
        "governor": read(GOVERNOR, "none to be seen"),
        "memory, GiB": round(int(memory.group(1)) / (1 << 20), 1) if memory else UNKNOWN,
        "kernel": platform.release(),
        "system": read("/etc/os-release").partition('PRETTY_NAME="')[2].partition('"')[0],
        "disk": disk_below(directory),
        "file system": filesystem(directory),
        "huge pages": read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "readahead, KiB": read_ahead(directory),
        "dirty pages": ", ".join(f"{name} {read(f'/proc/sys/vm/{name}')}" for name in (
            "dirty_background_ratio", "dirty_ratio", "dirty_expire_centisecs")),
        "socket buffers": ", ".join(f"{name} {' '.join(read(f'/proc/sys/net/{name}').split())}"
                                    for name in ("core/rmem_max", "core/wmem_max",
                                                 "ipv4/tcp_rmem", "ipv4/tcp_wmem")),
        "cores that share an execution unit": siblings(),
    }


def siblings():
    """The kernel's word, which a hypervisor may have kept from it."""
    lists = {read(path, "") for path in
             Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")}
    shared = sorted(each for each in lists if "," in each or "-" in each)
    return "; ".join(shared) or "none that the kernel knows of"


def read_ahead(directory):
    fields = mount_of(directory.resolve())
    return read(f"/sys/class/bdi/{fields[2]}/read_ahead_kb") if fields else UNKNOWN


def mount_of(directory):
    """The line of /proc/self/mountinfo of the file system on which the directory is."""
    best = None
    for line in read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        point = Path(fields[4])
        if directory == point or point in directory.parents:
            if best is None or len(fields[4]) >= len(best[4]):
                best = fields
    return best


def filesystem(directory):
    fields = mount_of(directory.resolve())
    if not fields:
        return UNKNOWN
    kind, _source, options = fields[fields.index("-") + 1:][:3]
    named = f"{kind} ({fields[5]}; {options})"
    if kind == "ext4":
        named += ", with a journal" if has_journal(fields[2]) else ", without a journal"
    return named


def has_journal(device):
    """ext4's journal has a thread in the kernel that is named after the device."""
    name = Path(f"/sys/dev/block/{device}").resolve().name
    threads = (read(path, "") for path in Path("/proc").glob("[0-9]*/comm"))
    return any(thread.startswith(f"jbd2/{name}"[:15]) for thread in threads)


def disk_below(directory):
    fields = mount_of(directory.resolve())
    if not fields:
        return UNKNOWN
    device = Path(f"/sys/dev/block/{fields[2]}").resolve()
    if not (device / "queue").is_dir():
        device = device.parent
    queue = device / "queue"
    parts = [device.name.rstrip("0123456789"), read(device / "device" / "model", "")]
    if backing := read(device / "loop" / "backing_file", ""):
        parts.append("an image with direct I/O on " + disk_below(Path(backing).parent))
    fua = {"1": "with FUA", "0": "without FUA"}.get(read(queue / "fua"), "FUA unknown")
    parts += [f"write cache: {read(queue / 'write_cache')}", fua,
              f"scheduler: {read(queue / 'scheduler')}"]
    return ", ".join(part for part in parts if part)


def versions(names):
    found = {
        "millrace": f"{said(clients.MILLRACE, 'version')}, commit {commit()}",
        "rustc": said("rustc", "--version"),
        "python": platform.python_version(),
    }
    if brokers.JARS.is_dir():
        jar = next(JARS.glob("kafka_2.13-*.jar"), None)
        found["kafka"] = jar.stem.partition("-")[2] if jar else UNKNOWN
        found["java"] = java()
    if "librdkafka" in names:
        found["librdkafka"] = clients.librdkafka_version()
    return found


def java():
    finished = subprocess.run([brokers.JAVA, "-version"], capture_output=True, text=True)
    return ", ".join(line.strip() for line in finished.stderr.splitlines())


def commit():
    name = said("git", "rev-parse", "--short", "HEAD")
    # What a run itself writes there is none.
    changed = said("git", "status", "--porcelain", "src", "Cargo.lock", "perf",
                   ":(exclude)perf/results")
    return name if changed == UNKNOWN else f"{name} with changes"


def ticks():
    """Of all processors together: stolen by the hypervisor, and in all."""
    fields = [int(field) for field in read("/proc/stat").splitlines()[0].split()[1:9]]
    return fields[7], sum(fields)
