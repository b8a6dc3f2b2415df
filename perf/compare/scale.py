"""What more cores would do: a model of producing, fitted to what perf/run measured on one and two.

Each core runs one shard. A request costs what it costs on the shard that owns the partition, and,
if its connection is another shard's, the way there and back besides. With connections and
partitions spread evenly over N shards all requests but one in N travel:

    cost(N) = own + travel * (1 - 1/N)          CPU seconds for each GiB, kernel threads included

`own` is the row shards-1, and `travel` twice what the row shards-2 costs more, since half of its
requests travel. The kernel spreads connections by a hash, so the fullest shard has more of them
than the mean; when it is full the others are not, and that is what the share in use says. The
machine's limits are assumptions to be given, and the table says which of them is reached first.

    perf/scale --results perf/results/comparison.json --connections 1000
"""

import argparse
import json
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GIB_IN_GB = 2**30 / 1e9
# How often a byte that is produced crosses the memory bus: the network's write, the copy from the
# socket, the copy into the unit (a read and a write each), and the disk's read.
MEMORY_PASSES = 6


def cost_of(results, workload):
    """CPU seconds for each GiB of a row of Millrace, the kernel's threads included."""
    for row in results["rows"]:
        if row["workload"] == workload and row["broker"] == "millrace":
            figures = row["figures"]
            return sum(figures[name]["median"] for name in (
                "cpu_seconds_per_gib", "kernel_threads_seconds_per_gib"))
    sys.exit(f"perf/scale: there is no row {workload} of Millrace in these results")


def fullest_over_mean(shards, connections):
    """Of `connections` thrown at `shards` by chance: what the fullest has over the mean, about."""
    return 1 + math.sqrt(2 * math.log(shards) * shards / connections) if shards > 1 else 1.0


def predicted(own, travel, shards, options):
    cost = own + travel * (1 - 1 / shards)
    fullest = fullest_over_mean(shards, options.connections)
    limits = {
        "the fullest shard": shards / cost * GIB_IN_GB / fullest,
        "memory": options.memory / MEMORY_PASSES,
        "network": options.network / 8,
        "disks": options.disks,
    }
    first = min(limits, key=limits.get)
    return {"shards": shards, "cpu_seconds_per_gib": cost, "share_in_use": 1 / fullest,
            "gb_per_second_of_cores": limits["the fullest shard"],
            "gb_per_second": limits[first], "first_limit": first}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "perf/results/comparison.json")
    parser.add_argument("--shards", default="1,2,16,64,192")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--memory", type=float, default=300, help="GB/s of the memory bus")
    parser.add_argument("--network", type=float, default=200, help="Gbit/s of the network")
    parser.add_argument("--disks", type=float, default=20, help="GB/s that all disks write")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = json.loads(options.results.read_text())
    own = cost_of(results, "shards-1")
    travel = max(0.0, 2 * (cost_of(results, "shards-2") - own))
    rows = [predicted(own, travel, int(shards), options) for shards in options.shards.split(",")]
    if options.json:
        print(json.dumps({"own": own, "travel": travel, "rows": rows}))
        return
    print(f"own {own:.3f}, travel {travel:.3f} CPU s/GiB; {options.connections} connections; "
          f"memory {options.memory:g} GB/s, network {options.network:g} Gbit/s, "
          f"disks {options.disks:g} GB/s\n")
    print("| shards | CPU s/GiB | cores in use | GB/s of the cores | GB/s | first limit |")
    print("|--:|--:|--:|--:|--:|---|")
    for row in rows:
        print(f"| {row['shards']} | {row['cpu_seconds_per_gib']:.2f} | {row['share_in_use']:.0%} | "
              f"{row['gb_per_second_of_cores']:.1f} | {row['gb_per_second']:.1f} | "
              f"{row['first_limit']} |")
