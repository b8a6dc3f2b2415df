"""Medians and spread: what the samples of all turns come to."""

import statistics

MIB, GIB = 1 << 20, 1 << 30


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarize(samples):
    """A row for each workload, broker and client, in the order in which they came first. Only
    samples that count are in its figures; how many do not is beside."""
    rows = {}
    for sample in samples:
        rows.setdefault((sample["workload"], sample["broker"], sample["client"]), []).append(sample)
    return [row(*key, mine) for key, mine in rows.items()]


def row(workload, broker, client, samples):
    counted = [sample["figures"] for sample in samples if sample["counts"]]
    names = dict.fromkeys(name for figures in counted for name in figures)
    return {
        "workload": workload, "broker": broker, "client": client,
        "turns": len(counted), "failed_turns": len(samples) - len(counted),
        "figures": {name: spread([figures[name] for figures in counted if name in figures])
                    for name in names},
    }


class Missing(Exception):
    """A figure that this run has not measured."""


class Summary:
    """The medians, by workload, broker, client and name. What was measured with less than is asked
    for (`smaller`, by workload, and why) has none."""

    def __init__(self, rows, smaller=()):
        self.rows = {(row["workload"], row["broker"], row["client"]): row for row in rows}
        self.smaller = dict(smaller)

    def median(self, workload, broker, figure, client="millrace"):
        return self.figure(workload, broker, figure, client)["median"]

    def range(self, workload, broker, figure, client="millrace"):
        """The smallest and the largest."""
        found = self.figure(workload, broker, figure, client)
        return found["min"], found["max"]

    def figure(self, workload, broker, figure, client):
        if workload in self.smaller:
            raise Missing(f"{workload} with {self.smaller[workload]}")
        row = self.rows.get((workload, broker, client))
        if row is None or row["turns"] + row["failed_turns"] == 0:
            raise Missing(f"{workload} of {broker} with {client}")
        if row["failed_turns"]:
            raise Missing(f"{workload} of {broker} with {client}: {row['failed_turns']} turns of "
                          f"{row['turns'] + row['failed_turns']} do not count")
        if figure not in row["figures"]:
            raise Missing(f"{workload} of {broker} with {client}")
        return row["figures"][figure]

    def clients(self, workload, *brokers):
        """The clients with which all of these brokers were measured, or should have been."""
        found = dict.fromkeys(client for name, _, client in self.rows if name == workload)
        return [client for client in found
                if all(self.has(workload, broker, client) for broker in brokers)]

    def has(self, workload, broker, client):
        return (workload, broker, client) in self.rows
