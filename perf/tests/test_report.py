"""The page says what was measured, and what was not."""

import unittest

from compare import report


def row(workload, broker, figures, client="millrace"):
    return {"workload": workload, "broker": broker, "client": client, "turns": 5,
            "failed_turns": 0, "figures": {name: dict(zip(("min", "median", "max"), values))
                                           for name, values in figures.items()}}


def measured(name, **others):
    return {
        "set": name, "scope": "5 repetitions", "machine": {"processor": "a fast one"},
        "versions": {"millrace": "0.1, commit abc", "kafka": "4.3.1"},
        "run": {"dates": "2026-01-01", "took": "1 h 00 min", "stolen by the hypervisor": "0.1%",
                "cold data": "dropped"},
        "settings": {"repetitions": 5, "seconds of a load": 10},
        "kafka": {"properties": "num.io.threads=8\n", "jvm": "-Xmx1G", "jvm_tuned": "-Xmx6g"},
        "commands": ["run this"],
    } | others


def results(**others):
    return {
        "sets": [measured("produce"), measured("latency")], "complaints": [],
        "targets": [{"target": 3, "asked": "much", "figure": "9", "met": True},
                    {"target": 4, "asked": "more", "figure": "1", "met": False},
                    {"target": 9, "asked": "most", "figure": "not measured", "met": None}],
        "rows": [row("produce-1k-64k", "millrace", {"mb_per_second": (800, 850.4, 900)}),
                 row("produce-1k-64k", "kafka-flush", {"mb_per_second": (98, 98, 98)}),
                 row("latency-1000-100b", "floor", {"p99_9_ms": (1, 1.5, 2)})],
    } | others


class Report(unittest.TestCase):
    def test_targets_are_met_missed_or_not_measured(self):
        page = report.page(results())
        self.assertIn("| 3 | much | 9 | met |", page)
        self.assertIn("| 4 | more | 1 | **missed** |", page)
        self.assertIn("1 of 2 are met.", page)
        self.assertIn("- 9: most", page)

    def test_tables_have_medians_with_their_spread_and_only_columns_that_are_used(self):
        page = report.page(results())
        self.assertIn("| produce-1k-64k | millrace perf | Millrace | 5 | 850 (800-900) |", page)
        self.assertIn("| produce-1k-64k | millrace perf | Kafka, flush.messages=1 | 5 | 98 |", page)
        self.assertIn("bare write and fdatasync | 5 | 1.500 (1.000-2.000) |", page)
        self.assertNotIn("p50", page.partition("## What is fair")[0])
        self.assertNotIn("bare direct reads", page.partition("## What is fair")[0])

    def test_what_did_not_count_stands_at_the_top(self):
        self.assertNotIn("What did not count", report.page(results()))
        page = report.page(results(complaints=["Kafka holds 5 records of 6"]))
        self.assertLess(page.index("Kafka holds 5 records of 6"), page.index("## Targets"))

    def test_machine_versions_settings_and_commands_are_told(self):
        page = report.page(results(plots=["cpu.svg"]))
        for said in ("a fast one", "4.3.1", "num.io.threads=8", "-Xmx1G", "run this",
                     "![cpu](cpu.svg)", "| latency | 5 repetitions | 0.1, commit abc |"):
            self.assertIn(said, page)

    def test_what_sets_have_in_common_is_told_once(self):
        page = report.page(results())
        self.assertEqual(page.count("a fast one"), 1)
        other = measured("latency", machine={"processor": "a slow one"})
        page = report.page(results(sets=[measured("produce"), other]))
        for said in ("### produce", "a fast one", "### latency", "a slow one"):
            self.assertEqual(page.count(said), 1, said)
