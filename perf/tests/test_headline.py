"""The README's table is that of the published results, and of nothing else."""

import json
import unittest

from brokers import ROOT
from compare import headline

README = ROOT / "README.md"
PUBLISHED = ROOT / "perf" / "results" / "comparison.json"


def row(workload, broker, client="millrace", **figures):
    return {"workload": workload, "broker": broker, "client": client,
            "figures": {name: {"median": value} for name, value in figures.items()}}


RESULTS = {
    "sets": [{"machine": {"processor": "a fast one", "kernel": "6.18"},
              "versions": {"millrace": "millrace 1", "kafka": "4.3.1"},
              "settings": {"repetitions": 5}}],
    "rows": [
        row("produce-1k-64k-1", "millrace", mb_per_second=1234.4, cpu_seconds_per_gib=0.514),
        row("produce-1k-64k-1", "kafka", mb_per_second=500, cpu_seconds_per_gib=2),
        row("latency-1000-1024b", "kafka", p50_ms=0.25, p99_ms=1, p99_9_ms=20.126),
        row("idle", "millrace", "start", resident_mib=10.6),
    ],
}


class Headline(unittest.TestCase):
    def test_what_was_measured_stands_in_rows_and_columns(self):
        self.assertEqual(headline.table(RESULTS).splitlines(), [
            "| | Millrace, durable | Kafka, not syncing |",
            "|---|--:|--:|",
            "| the same by one producer | 1,234 MB/s, 0.51 CPU s/GiB | 500 MB/s, 2.00 CPU s/GiB |",
            "| 1,000 records/s of 1 KiB: p50, p99, p99.9 |  | 0.25, 1.00, 20.13 ms |",
            "| memory with nothing to do | 11 MiB |  |",
        ])

    def test_only_what_is_between_the_marks_changes(self):
        text = f"before\n{headline.BEGIN}old\n{headline.END}\nafter\n"
        put = headline.put(text, RESULTS)
        self.assertEqual(headline.taken(put), headline.block(RESULTS))
        self.assertEqual(headline.put(put, RESULTS), put)
        self.assertTrue(put.startswith("before\n") and put.endswith("\nafter\n"))
        with self.assertRaises(ValueError):
            headline.put("no marks", RESULTS)

    def test_the_readme_shows_what_is_published(self):
        shown = headline.taken(README.read_text())
        if PUBLISHED.exists():
            self.assertEqual(shown, headline.block(json.loads(PUBLISHED.read_text())))
        else:
            self.assertEqual(shown, "")
