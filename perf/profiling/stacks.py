"""Samples as `perf script` prints them, and stacks folded together."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

HEAD = re.compile(r"^(?P<comm>\S.*?)\s+(?P<tid>\d+)\s+(?P<period>\d+)\s*:?\s*$")
FRAME = re.compile(r"^\s+(?P<ip>[0-9a-f]+) (?P<name>.*) \((?P<dso>.*?)\)$")
HASH = re.compile(r"(::h[0-9a-f]{16})?( ?\[clone [^]]*\])?(\+0x[0-9a-f]+)?$")
BEGINNING = re.compile(r"^(_start|__libc_start|start_thread|__?clone3?$|ret_from_fork|main$)")


class Frame(NamedTuple):
    """A function of a stack. `file` is its source's, where that is known: of functions that the
    compiler has inlined, and those that they are in."""

    name: str
    dso: str = ""
    address: int = 0
    file: str = ""
    is_inlined: bool = False

    @property
    def is_kernel(self):
        return self.dso.startswith("[kernel") or self.dso.endswith((".ko", ".ko.xz", ".ko.zst"))


@dataclass
class Sample:
    """`frames` begin with the innermost; `weight` is what perf says it stands for."""

    thread: str
    weight: int
    frames: tuple


def parse(text):
    """The samples of `perf script -F comm,tid,period,ip,sym,dso`."""
    samples, head, frames = [], None, []
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if head and frames:
                samples.append(Sample(head["comm"], int(head["period"]), tuple(frames)))
            head, frames = None, []
        elif head is None:
            head = HEAD.match(line)
        elif found := FRAME.match(line):
            frames.append(Frame(plain(found["name"]), found["dso"], int(found["ip"], 16)))
    return samples


def plain(name):
    """A symbol without what is not of interest: the compiler's hash, the offset."""
    return HASH.sub("", name) or "[unknown]"


def total(samples):
    return sum(sample.weight for sample in samples)


def by(samples, key):
    """What the samples weigh by a key of each, the heaviest first."""
    counted = Counter()
    for sample in samples:
        counted[key(sample)] += sample.weight
    return counted.most_common()


def innermost(sample):
    """The function that ran, which is what a symbol stands for: what is inlined is a part of it."""
    return next((frame for frame in sample.frames if not frame.is_inlined), sample.frames[-1])


def is_whole(sample):
    """Whether a stack goes back to where its thread began."""
    return bool(BEGINNING.match(sample.frames[-1].name))


def fold(samples):
    """By stack, outermost first, with the thread's name below all: its weight."""
    folded = Counter()
    for sample in samples:
        names = (label(frame) for frame in reversed(sample.frames))
        folded[sample.thread, *names] += sample.weight
    return folded


def label(frame):
    """The name in a flame graph: what is inlined has no path in its name, but it has a file."""
    if frame.is_kernel:
        return f"{frame.name} [k]"
    return f"{frame.name} ({short(frame.file)})" if frame.is_inlined else frame.name


def short(file):
    """A source file as it is known in its crate: storage/log.rs, crc32c/src/lib.rs."""
    crate = re.search(r"/(?:registry/src/[^/]+|library)/(?P<path>.*)$", file)
    if crate:
        return re.sub(r"^([^/]+?)-\d[^/]*/", r"\1/", crate["path"])
    return re.sub(r"^.*/src/|^src/", "", file)
