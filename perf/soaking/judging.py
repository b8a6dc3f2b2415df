"""Whether a line is flat: the end of it beside an early part, by medians. Pure."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Flat:
    """`figure` may be larger at the end than early by a share of that, or by so much, whichever is
    more."""

    figure: str
    unit: str
    share: float
    least: float


# Of the samples.
OF_SAMPLES = (Flat("resident_mib", "MiB", 0.03, 8), Flat("descriptors", "", 0.03, 16),
              Flat("threads", "", 0, 2), Flat("segments", "", 0.10, 12))
# Of the pieces of the load.
OF_PIECES = (Flat("p50_ms", "ms", 0.25, 0.2), Flat("p99_ms", "ms", 0.25, 1.0),
             Flat("cpu_seconds_per_gib", "s/GiB", 0.10, 0.02))
# The first twelfth is the way to the steady state: caches fill, and segments until the first go.
EARLY = (1 / 12, 3 / 12)
LATE = (10 / 12, 1)


def verdict(flat, rows):
    """A line: what it was early and at the end, and whether that is flat."""
    early, late = (statistics.median(part(flat.figure, rows, bounds)) for bounds in (EARLY, LATE))
    allowed = max(early * flat.share, flat.least)
    return {"figure": flat.figure, "unit": flat.unit, "early": early, "late": late,
            "allowed": allowed, "is_flat": late - early <= allowed}


def part(figure, rows, bounds):
    first, last = (round(len(rows) * bound) for bound in bounds)
    values = [row[figure] for row in rows[first:max(last, first + 1)]]
    if not values:
        raise ValueError(f"there are not enough samples of {figure}")
    return values


def verdicts(samples, pieces):
    return [*(verdict(flat, samples) for flat in OF_SAMPLES),
            *(verdict(flat, pieces) for flat in OF_PIECES)]
