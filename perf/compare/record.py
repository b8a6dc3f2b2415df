"""What a run has measured so far, on the disk: one that was stopped can go on from there."""

import json


class OfAnother(Exception):
    """What is recorded is of another run, or of none."""


class Record:
    """A line that says which run it is, then one for each turn that has come to its end."""

    def __init__(self, path, run, goes_on):
        self.path = path
        self.turns = {}
        if goes_on:
            self.read(run)
        else:
            self.append({"run": run}, "w")

    def read(self, run):
        try:
            first, *rest = self.path.read_text().splitlines(keepends=True)
        except (OSError, ValueError):
            raise OfAnother(f"there is no run to go on with in {self.path}") from None
        recorded = json.loads(first).get("run", {})
        differing = [name for name in run.keys() | recorded.keys()
                     if run.get(name) != recorded.get(name)]
        if differing:
            raise OfAnother(f"the run that was stopped differs in {', '.join(sorted(differing))}")
        # The last one may have been cut off.
        whole = [line for line in rest if line.endswith("\n")]
        for line in map(json.loads, whole):
            self.turns[tuple(line["turn"])] = line
        self.path.write_text("".join([first, *whole]))

    def append(self, line, mode="a"):
        with self.path.open(mode) as file:
            file.write(json.dumps(line) + "\n")

    def has(self, turn):
        return key(turn) in self.turns

    def add(self, turn, samples, seconds, stolen, ticks):
        line = {"turn": key(turn), "seconds": seconds, "stolen": stolen, "ticks": ticks,
                "samples": samples}
        self.turns[key(turn)] = line
        self.append(line)

    def samples(self):
        return [sample for line in self.turns.values() for sample in line["samples"]]

    def sum(self, name):
        return sum(line[name] for line in self.turns.values())


def key(turn):
    return str(turn), turn.repetition
