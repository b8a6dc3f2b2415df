"""What the compiler has inlined at an address of a program, by its line tables.

An optimized broker is a few large functions: what is inlined into them says more than their names
do. The symbolizers of LLVM and of binutils tell; without either, stacks are as perf has them.
"""

import shutil
import struct
import subprocess

from .stacks import Frame

SYMBOLIZERS = (("llvm-symbolizer", "--output-style=GNU", "--addresses", "--inlines", "--demangle"),
               ("addr2line", "-a", "-i", "-f", "-C"))
LOADED = 1


def symbolizer():
    return next((command for command in SYMBOLIZERS if shutil.which(command[0])), None)


def expand(samples, program):
    """Puts what is inlined into the stacks. Whether that could be told."""
    tool = symbolizer()
    if not tool:
        return False
    # perf gives offsets in the file; those of callers are where they go on after the call.
    wanted = {offset(frame, index) for sample in samples
              for index, frame in enumerate(sample.frames) if frame.dso == str(program)}
    known = inlined(tool, program, sorted(wanted))
    for sample in samples:
        sample.frames = tuple(
            part for index, frame in enumerate(sample.frames)
            for part in parts(frame, index, program, known))
    return True


def offset(frame, index):
    return frame.address - (1 if index else 0)


def parts(frame, index, program, known):
    """A frame as those that were inlined into it, and itself with its file."""
    found = known.get(offset(frame, index)) if frame.dso == str(program) else None
    if not found:
        return [frame]
    *inner, (_, file) = found
    return [*(Frame(plain(name), frame.dso, frame.address, source, True) for name, source in inner),
            frame._replace(file=file)]


def plain(name):
    """Without the types that a generic function is for, which are longer than all the rest."""
    return name.partition("<")[0] or name


def inlined(tool, program, offsets):
    """By offset: pairs of function and file, the innermost first."""
    shift = address_of(program)
    addresses = {hex(each + shift(each)): each for each in offsets}
    finished = subprocess.run([*tool, "-e", str(program)], input="\n".join(addresses) + "\n",
                              capture_output=True, text=True, errors="replace")
    return {addresses[hex(address)]: found for address, found in read(finished.stdout)
            if hex(address) in addresses}


def read(text):
    """What a symbolizer says: an address, and then a function and a place for each."""
    answers, name = [], None
    for line in text.splitlines():
        if line.startswith("0x") and name is None:
            answers.append((int(line, 16), []))
        elif not line.strip():
            continue
        elif name is None:
            name = line.strip()
        else:
            answers[-1][1].append((name, line.rpartition(":")[0]))
            name = None
    return answers


def address_of(program):
    """How far an offset in an ELF file is from its address: by the segments that are loaded."""
    with open(program, "rb") as file:
        head = file.read(64)
        start, = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        file.seek(start)
        table = file.read(size * count)
    segments = []
    for index in range(count):
        kind, _, begin, address, _, length = struct.unpack_from("<IIQQQQ", table, index * size)
        if kind == LOADED:
            segments.append((begin, begin + length, address - begin))
    return lambda at: next((shift for begin, end, shift in segments if begin <= at < end), 0)
