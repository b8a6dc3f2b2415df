"""What a run has measured so far of a set, on the disk, so that one that was stopped can go on."""

import json
from datetime import date


class OfAnother(Exception):
    """What is recorded is of another run."""


class Record:
    """A line that says which run it is, then one for each turn that has come to its end. What is
    there already is gone on with, if it is of such a run."""

    def __init__(self, path, run):
        self.path = path
        self.turns = {}
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        # The last one may have been cut off.
        whole = [line for line in lines if line.endswith("\n")]
        if whole:
            self.read(run, whole)
        else:
            self.append({"run": run}, "w")

    def read(self, run, lines):
        recorded = json.loads(lines[0]).get("run", {})
        differing = [name for name in run.keys() | recorded.keys()
                     if run.get(name) != recorded.get(name)]
        if differing:
            raise OfAnother(f"the run that was stopped differs in {', '.join(sorted(differing))} "
                            f"({self.path})")
        for line in map(json.loads, lines[1:]):
            self.turns[tuple(line["turn"])] = line
        self.path.write_text("".join(lines))

    def append(self, line, mode="a"):
        with self.path.open(mode) as file:
            file.write(json.dumps(line) + "\n")

    def has(self, turn):
        """Whether it was measured, and all of it counts: else it is measured again."""
        line = self.turns.get(key(turn))
        return line is not None and all(sample["counts"] for sample in line["samples"])

    def add(self, turn, samples, seconds, stolen, ticks):
        line = {"turn": key(turn), "date": date.today().isoformat(), "seconds": seconds,
                "stolen": stolen, "ticks": ticks, "samples": samples}
        self.turns[key(turn)] = line
        self.append(line)

    def samples(self):
        return [sample for line in self.turns.values() for sample in line["samples"]]

    def dates(self):
        return [line["date"] for line in self.turns.values()]

    def sum(self, name):
        return sum(line[name] for line in self.turns.values())


def key(turn):
    return str(turn), turn.repetition
