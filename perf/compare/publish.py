"""What is written: the figures of each set, and of all sets that are there a page, its summary as
JSON, plots, and the table of the README.
"""

import json
import shutil
from pathlib import Path

from brokers import ROOT

from . import drawing, headline, plan, report, targets
from .figures import Summary
from .options import PUBLISHED
from .workloads import SETS

README = ROOT / "README.md"
PAGE, SUMMARY = "comparison.md", "comparison.json"


def begin(options):
    """Sets that were published before stay until they are measured again; nothing is left of an
    earlier part."""
    options.results.mkdir(parents=True, exist_ok=True)
    for name in SETS if options.is_part and not options.goes_on else ():
        (options.results / f"{name}.json").unlink(missing_ok=True)


def part(results, options):
    """Writes a set, and with it the page anew; gives that page."""
    times = options.results / "times"
    times.mkdir(exist_ok=True)
    if results["set"] == "latency":
        shutil.rmtree(times)
        shutil.copytree(options.times, times)
    (options.results / f"{results['set']}.json").write_text(json.dumps(results, indent=1) + "\n")
    summary = joined(parts(options.results))
    path = options.results / SUMMARY
    path.write_text(json.dumps(summary, indent=1) + "\n")
    page = report.page(summary | {"plots": draw(path, options.results)})
    (options.results / PAGE).write_text(page)
    if options.results.resolve() == PUBLISHED:
        README.write_text(headline.put(README.read_text(), summary))
    plan.Progress.say(f"written to {options.results / PAGE}")
    return page


def show(page, options):
    print((options.results / SUMMARY).read_text() if options.json else page)


def parts(directory):
    """The sets that are there, in their order."""
    paths = [directory / f"{name}.json" for name in SETS]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def joined(sets):
    """All of them as one, without their samples."""
    rows = [row for results in sets for row in results["rows"]]
    smaller = {name: why for results in sets for name, why in results["smaller"].items()}
    return {
        "targets": targets.verdicts(Summary(rows, smaller)), "rows": rows,
        "complaints": [said for results in sets for said in results["complaints"]],
        "sets": [{key: results[key] for key in (
            "set", "run", "scope", "machine", "versions", "settings", "kafka", "commands")}
            for results in sets],
    }


def draw(path, directory):
    """A page without plots is a page too."""
    for old in directory.glob("*.svg"):
        old.unlink()
    try:
        drawing.draw("compare.plots", path, directory)
    except drawing.NoPlots as why:
        plan.Progress.say(f"no plots: matplotlib is not to be had here ({why})")
        return []
    return sorted(picture.name for picture in directory.glob("*.svg"))
