"""The pictures: throughput and CPU per GiB as bars, latency as percentile curves. Runs in an
environment that has matplotlib: `python -m compare.plots comparison.json DIRECTORY`.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  (the backend is chosen first)

from compare.report import CLIENTS, NAMES  # noqa: E402
from compare.workloads import NAMED  # noqa: E402

# Told apart also by those who see no red or green.
COLOURS = {"millrace": "#0072b2", "kafka": "#d55e00", "kafka-tuned": "#cc79a7",
           "kafka-flush": "#e69f00", "floor": "#777777", "peer": "#009e73"}
BARS = (
    ("throughput", "mb_per_second", "MB/s (more is better)", ".0f"),
    ("cpu", "cpu_seconds_per_gib", "broker's CPU seconds per GiB (less is better)", ".2f"),
)
THROUGHPUT_KINDS = ("produce", "consume", "consume-cold")
PERCENTILES = (0.5, 0.9, 0.99, 0.999, 0.9999)


def main():
    path, directory = map(Path, sys.argv[1:])
    results = json.loads(path.read_text())
    pyplot.rcParams["svg.hashsalt"] = "millrace"
    for name, figure, label, form in BARS:
        bars(results["rows"], directory / f"{name}.svg", figure, label, form)
    for kind in ("latency", "latency-cold"):
        curves(results["rows"], directory / "times", directory / f"{kind}.svg", kind)


def save(figure, path):
    # Without the date, so that the same figures make the same file.
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def bars(rows, path, figure, label, form):
    """A group for each workload and client, a bar for each broker; whiskers from the smallest to
    the largest."""
    rows = [row for row in rows
            if NAMED[row["workload"]].kind in THROUGHPUT_KINDS and figure in row["figures"]]
    groups = list(dict.fromkeys((row["workload"], row["client"]) for row in rows))
    if not groups:
        return
    drawn, axes = pyplot.subplots(figsize=(9, 1.2 + 0.62 * len(groups)), layout="constrained")
    most = 0
    for at, group in enumerate(groups):
        mine = [row for row in rows if (row["workload"], row["client"]) == group]
        height = 0.8 / len(mine)
        for place, row in enumerate(mine):
            value = row["figures"][figure]
            y = at - 0.4 + height * (place + 0.5)
            spread = [[value["median"] - value["min"]], [value["max"] - value["median"]]]
            axes.barh(y, value["median"], height * 0.92, color=COLOURS[row["broker"]])
            axes.errorbar(value["median"], y, xerr=spread, color="black", linewidth=0.8, capsize=2)
            axes.annotate(f" {value['median']:{form}}", (value["max"], y), va="center", fontsize=7)
            most = max(most, value["max"])
    axes.set_yticks(range(len(groups)),
                    [f"{workload}\n{CLIENTS[client]}" for workload, client in groups], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, most * 1.1)
    axes.set_xlabel(label)
    legend(drawn, dict.fromkeys(row["broker"] for row in rows))
    save(drawn, path)


def legend(drawn, names):
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in names]
    drawn.legend(handles, [NAMES[name] for name in names], loc="outside upper center",
                 ncols=len(names), frameon=False)


def curves(rows, times, path, kind):
    """A picture for each rate and size, in it a thin line for each turn of each broker."""
    names = list(dict.fromkeys(row["workload"] for row in rows
                               if NAMED[row["workload"]].kind == kind and row["figures"]))
    if not names:
        return
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    drawn, all_axes = pyplot.subplots(lines, columns, figsize=(1 + 3.6 * columns, 1 + 2.9 * lines),
                                      layout="constrained", squeeze=False)
    used = {}
    for axes in all_axes.flat[len(names):]:
        axes.set_visible(False)
    for axes, name in zip(all_axes.flat, names):
        for broker in COLOURS:
            for file in sorted(times.glob(f"{name}.{broker}.*.hgrm")):
                points = read(file)
                axes.plot(*zip(*points), color=COLOURS[broker], linewidth=0.9, alpha=0.75)
                used[broker] = True
        workload = NAMED[name]
        axes.set_title(f"{workload.rate:,}/s of {workload.record_bytes} B", fontsize=9)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([1 / (1 - share) for share in PERCENTILES],
                        [f"{100 * share:g}%" for share in PERCENTILES], fontsize=7)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set_ylabel("ms", fontsize=8)
        axes.tick_params(axis="y", labelsize=7)
    legend(drawn, used)
    save(drawn, path)


def read(path):
    """The points of a file of percentiles: how rare (1 in so many), and how many ms."""
    points = []
    for line in path.read_text().splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[0][0].isdigit() and fields[3] != "inf":
            points.append((float(fields[3]), max(float(fields[0]), 0.001)))
    # The last ones, of a handful of records, say what the longest was, again and again.
    return [point for at, point in enumerate(points) if point[1] != points[-1][1]
            or points[at - 1][1] != point[1]]


if __name__ == "__main__":
    main()
