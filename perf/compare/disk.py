"""Where the data lies: a directory, or a file system of its own in an image on a loop device; an
empty page cache; and what bare direct reads of the same files reach."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from brokers import ROOT, WORK, Failed, pinned, run

MIB = 1 << 20
GIB = 1 << 30
READS = WORK / "reads"
# KiB of a read, and reads in flight.
SIZES_AND_DEPTHS = ((256, 8), (1024, 4), (1024, 8))
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
# Loop mounts of the two file systems as their tools make them; the tables are written at once, so
# that nothing in the background does it while we measure.
MAKE = {"ext4": ["mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
        "xfs": ["mkfs.xfs", "-q", "-K"]}


class Disk:
    """The directory under which the brokers' data directories are made; with `filesystem` ext4 or
    xfs it is mounted there, and unmounted and removed in `close`."""

    def __init__(self, parent, filesystem="root", image_gib=16):
        self.filesystem = filesystem
        self.device = None
        parent.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="brokers-", dir=parent))
        self.image = self.directory.with_suffix(".img")
        self.is_cache_dropped = True
        if filesystem != "root":
            try:
                self.mount(image_gib)
            except BaseException:
                self.close()
                raise

    def mount(self, image_gib):
        if os.geteuid() != 0:
            raise Failed(f"--filesystem {self.filesystem} mounts a loop device: it needs root")
        self.need(image_gib * GIB)
        # Written once, so that the file system below allocates nothing while we measure.
        step("dd", "if=/dev/zero", f"of={self.image}", "bs=4M", f"count={image_gib * 256}",
             "oflag=direct", "status=none")
        self.device = step("losetup", "--find", "--show", "--direct-io=on", self.image).strip()
        step(*MAKE[self.filesystem], self.device)
        step("mount", "-o", "noatime", self.device, self.directory)

    def need(self, size):
        """Fails unless there is room for so many bytes, and a little more."""
        free = shutil.disk_usage(self.directory).free
        if free < size * 1.1 + 2 * GIB:
            raise Failed(f"{size / GIB:.0f} GiB are needed and {free / GIB:.0f} GiB are free "
                         f"in {self.directory}")

    def drop_page_cache(self):
        """Everything clean leaves the page cache, which needs root; without it the files do that
        are under our directory, if nobody maps them."""
        os.sync()
        if os.geteuid() == 0 and os.access(DROP_CACHES, os.W_OK):
            DROP_CACHES.write_text("3\n")
            return
        self.is_cache_dropped = False
        for path in self.directory.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self):
        if os.path.ismount(self.directory):
            step("umount", self.directory)
        if self.device:
            step("losetup", "-d", self.device)
            self.device = None
        self.image.unlink(missing_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)


def step(*command):
    command = [str(part) for part in command]
    try:
        finished = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is not installed") from error
    if finished.returncode != 0:
        raise Failed(f"{' '.join(command)}: {finished.stderr.strip()}")
    return finished.stdout


def prepare():
    source = Path(__file__).with_name("reads.rs")
    run(["rustc", "-O", "--edition", "2024", str(source), "-o", str(READS)], cwd=ROOT)


def bare_reads(files, core, streams=1):
    """MB/s of bare direct reads (reads.rs) through these files, by so many readers in turn, on one
    core: what the disk allows. The best of several sizes and depths counts."""
    files = [str(path) for path in sorted(files)]
    if not files:
        raise Failed("there is no file to read")
    reached = []
    for kib, in_flight in SIZES_AND_DEPTHS:
        command = [str(READS), str(kib), str(in_flight), str(streams), *files]
        reached.append(float(step(*pinned(core, command))))
    return max(reached)
