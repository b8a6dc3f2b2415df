"""The pictures: `python -m soaking.plots DIRECTORY`, which has the samples and the pieces."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first)

from compare.plots import COLOURS, save  # noqa: E402

LINES = (
    ("memory, MiB", "samples", ("resident_mib",), False),
    ("descriptors and threads", "samples", ("descriptors", "threads"), False),
    ("segments on the disk", "samples", ("segments",), False),
    ("acknowledged after, ms", "pieces", ("p50_ms", "p99_ms", "p99_9_ms"), True),
    ("with the consumer after, ms", "pieces",
     ("received_p50_ms", "received_p99_ms", "received_p99_9_ms"), True),
    ("broker's CPU s/GiB", "pieces", ("cpu_seconds_per_gib",), False),
)
SHADES = tuple(COLOURS.values())


def main():
    directory = Path(sys.argv[1])
    rows = {name: [json.loads(line) for line in (directory / f"{name}.jsonl").open()]
            for name in ("samples", "pieces")}
    pyplot.rcParams["svg.hashsalt"] = "millrace"
    drawn, all_axes = pyplot.subplots(len(LINES), 1, figsize=(9, 2.1 * len(LINES)), sharex=True,
                                      layout="constrained")
    for axes, (label, of, figures, is_log) in zip(all_axes, LINES):
        minutes = [row["seconds"] / 60 for row in rows[of]]
        for figure, colour in zip(figures, SHADES):
            axes.plot(minutes, [row[figure] for row in rows[of]], color=colour, linewidth=0.9,
                      label=figure)
        if is_log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_title(label, fontsize=9)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=7)
        if len(figures) > 1:
            axes.legend(fontsize=7, frameon=False, ncols=len(figures))
    all_axes[-1].set_xlabel("minutes")
    save(drawn, directory / "soak.svg")


if __name__ == "__main__":
    main()
