"""The page of a load: where its CPU goes, what was counted, and what the figures are worth."""

import math

from .classes import beneficiary, classify
from .stacks import by, innermost, is_whole, total

HOTTEST = 30
# Of a share's doubt.
SIGMAS = 2
# What every module has done for it.
SHARED = ("memmove and memcpy", "CRC", "allocator")


def page(load, workload, profile):
    """`profile` is what `main.profiled` has gathered."""
    samples, spent = profile["samples"], profile["sampled"]["cpu_seconds_per_gib"]
    return "\n".join([
        f"# Where the CPU goes: {load}", "",
        f"{workload.what[0].upper()}{workload.what[1:]}. {shape(workload)} One shard on one core, "
        f"the client on another.", "",
        *speeds(profile), "",
        "## By class", "", *classes(samples, spent), "",
        "## For whom", "", *for_whom(samples, spent), "",
        "## The hottest symbols", "", *hottest(samples, spent), "",
        "## Counters", "", *counters(profile), "",
        "## How", "", *how(load, profile), ""])


def shape(workload):
    rate = f" at {workload.rate:,} records/s" if workload.rate else ""
    if workload.kind.startswith("consume"):
        return f"{counted(workload.consumers, 'consumer')}, {workload.partitions} partitions."
    return (f"{counted(workload.producers, 'producer')}{rate}, records of "
            f"{workload.record_bytes:,} bytes in batches of {workload.batch_bytes:,}, "
            f"{workload.partitions} partitions, acks=all.")


def counted(number, what):
    return f"{number} {what}{'' if number == 1 else 's'}"


def speeds(profile):
    rows = ["| | MB/s | CPU s/GiB | CPU s each second | kernel threads, CPU s/GiB |",
            "|---|---|---|---|---|"]
    (before, after), sampled = profile["bare"], profile["sampled"]
    for name, figures in (("not sampled, before", before), ("sampled", sampled),
                          ("not sampled, after", after)):
        rows.append(f"| {name} | {figures['mb_per_second']:.1f} "
                    f"| {figures['cpu_seconds_per_gib']:.3f} "
                    f"| {figures['cpu_seconds_per_second']:.2f} "
                    f"| {figures['kernel_threads_seconds_per_gib']:.3f} |")
    alone = [figures["cpu_seconds_per_gib"] for figures in (before, after)]
    cost = sampled["cpu_seconds_per_gib"] / (sum(alone) / len(alone)) - 1
    return [*rows, "", f"Runs of {profile['seconds']} s, one after the other, on the same process. "
            f"Sampled, a GiB costs {cost:+.1%} against the mean of the others, which differ by "
            f"{max(alone) / min(alone) - 1:.1%}. perf itself runs on the client's core, which "
            "slows the client down. Threads of the kernel's own are not sampled."]


def classes(samples, spent):
    whole = total(samples)
    rows = ["| class | share | ± | CPU s/GiB |", "|---|---|---|---|"]
    found = by(samples, classify)
    kernel = sum(weight for name, weight in found if name.startswith("kernel"))
    rows.append(row("**kernel, all of it**", kernel / whole, len(samples), spent))
    rows += [row(name, weight / whole, len(samples), spent) for name, weight in found]
    return rows


def for_whom(samples, spent):
    """What every module has done for it, by the module."""
    whole = total(samples)
    rows = ["By the innermost module of the broker's own in the stack.", "",
            "| class | for | share | CPU s/GiB |", "|---|---|---|---|"]
    shared = [sample for sample in samples if classify(sample) in SHARED]
    for (name, module), weight in by(shared, lambda each: (classify(each), beneficiary(each))):
        share = weight / whole
        rows.append(f"| {name} | {module} | {share:.1%} | {share * spent:.4f} |")
    return rows


def row(name, share, number, spent):
    doubt = SIGMAS * math.sqrt(share * (1 - share) / number)
    return f"| {name} | {share:.1%} | {doubt:.1%} | {share * spent:.4f} |"


def hottest(samples, spent):
    whole = total(samples)
    rows = ["| symbol | where | share | CPU s/GiB |", "|---|---|---|---|"]
    for (name, place), weight in by(samples, symbol)[:HOTTEST]:
        share = weight / whole
        rows.append(f"| `{shortened(name)}` | {place} | {share:.1%} | {share * spent:.4f} |")
    return rows


def symbol(sample):
    frame = innermost(sample)
    place = "kernel" if frame.is_kernel else frame.dso.rpartition("/")[2]
    return frame.name, place


def shortened(name):
    name = name.replace("|", "¦").replace("`", "'")
    return name if len(name) <= 110 else name[:80] + " … " + name[-27:]


def counters(profile):
    counts, gib = profile["counts"], profile["gib"]
    rows = [f"Over {profile['window']:.1f} s of the run that was sampled, of the broker's threads.",
            "", "| event | count | each GiB |", "|---|---|---|"]
    for event, value in counts.items():
        if value is not None:
            unit = " ms" if event.endswith("-clock") else ""
            # perf counts these clocks in milliseconds.
            rows.append(f"| {event} | {value:,.0f}{unit} | {value / gib:,.1f}{unit} |")
    missing = [event for event, value in counts.items() if value is None]
    if missing:
        rows += ["", f"Not to be had on this machine: {', '.join(missing)}."]
    if counts.get("instructions") and counts.get("cycles"):
        each = counts["instructions"] / counts["cycles"]
        rows += ["", f"{each:.2f} instructions a cycle."]
    return rows


def how(load, profile):
    by_clock = profile["event"] == "cpu-clock"
    cut = sum(not is_whole(sample) for sample in profile["samples"])
    lines = [
        f"- `perf/profile --load {load} --seconds {profile['seconds']}`: "
        f"{len(profile['samples']):,} samples of `perf record -e {profile['event']} -F "
        f"{profile['frequency']} --call-graph fp`, of all threads of the broker. ± is twice the "
        "standard error of a share of so many.",
        "- The program: release as Cargo.toml has it, and frame pointers "
        f"(`{profile['flag']}`), without which a stack cannot be followed; they cost a little, so "
        "the figures are not those of a release build.",
        "- A share is of all samples, by the innermost function that is of a class; CPU s/GiB is "
        "the share of what the broker's process used in the window, by /proc.",
        "- " + ("What is inlined counts where its source is, by the line tables."
                if profile["has_inlines"] else
                "There is neither llvm-symbolizer nor addr2line: what is inlined counts as the "
                "function that it is in."),
        "- The delivery to the peer is TCP's receiving half, which on the loopback device runs in "
        "the sender's time; the delivery of what clients send is in theirs. To wake a client that "
        "sleeps on another core costs a virtual machine an exit to its host.",
        f"- Stacks that do not reach the beginning of their thread: "
        f"{cut / len(profile['samples']):.1%}. Functions of the C library have no frame pointer, "
        "so they hide who called them: a memmove stands on its caller's caller.",
    ]
    if by_clock:
        lines.append(
            "- There is no counter of cycles, so a timer's interrupt takes the samples: what runs "
            "with interrupts off is seen where they are on again (`_raw_spin_unlock_irqrestore`, "
            "`finish_task_switch` and the like), within the same class as a rule.")
    return [*lines, "", *machine(profile["machine"])]


def machine(known):
    return ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in
                                           known.items())]
