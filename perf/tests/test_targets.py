"""Each verdict, on both sides of its bound."""

import unittest

from compare.figures import Summary
from compare.targets import verdicts
from compare.workloads import NAMED

COST, SPEED = "cpu_seconds_per_gib", "mb_per_second"


def summary(figures, smaller=(), failed=0):
    """From (workload, broker, client, figure): value."""
    rows = {}
    for (workload, broker, client, figure), value in figures.items():
        assert workload in NAMED, workload
        row = rows.setdefault((workload, broker, client), {
            "workload": workload, "broker": broker, "client": client, "turns": 1,
            "failed_turns": failed, "figures": {}})
        row["figures"][figure] = {"median": value, "min": value, "max": value}
    return Summary(rows.values(), smaller)


def verdict(asked, figures, smaller=()):
    """Whether the one target that asks for this is met."""
    found = [line for line in verdicts(summary(figures, smaller)) if asked in line["asked"]]
    assert len(found) == 1, found
    return found[0]["met"]


class Targets(unittest.TestCase):
    def holds_up_to(self, asked, key, bound, beyond, others=()):
        figures = dict(others)
        self.assertIs(verdict(asked, figures | {key: bound}), True, asked)
        self.assertIs(verdict(asked, figures | {key: beyond}), False, asked)

    def test_bounds_of_our_own(self):
        for asked, key, bound, beyond in (
            ("64 KiB batches, millrace perf: at most 0.75",
             ("produce-1k-64k", "millrace", "millrace", COST), 0.75, 0.7501),
            ("1 MB batches, millrace perf: at most 0.55",
             ("produce-1k-1m", "millrace", "millrace", COST), 0.55, 0.5501),
            ("at least 850 MB/s", ("produce-1k-64k", "millrace", "millrace", SPEED), 850, 849.9),
            ("100 B, millrace perf: at most 1.0", ("produce-100b", "millrace", "millrace", COST),
             1.0, 1.001),
            ("just written, millrace perf: at most 0.30",
             ("consume-fresh", "millrace", "millrace", COST), 0.30, 0.301),
            ("cold, millrace perf: at most 0.35", ("consume-cold", "millrace", "millrace", COST),
             0.35, 0.351),
            ("ready in 50 ms", ("ready-empty", "millrace", "start", "ready_ms"), 50, 50.1),
            ("ready in 2 s", ("ready-clean", "millrace", "start", "ready_ms"), 2000, 2001),
            ("ready in 5 s", ("ready-killed", "millrace", "start", "ready_ms"), 5000, 5001),
            ("under 2% of a core", ("idle", "millrace", "start", "cpu_percent_of_a_core"),
             1.99, 2.0),
            ("under 32 MB", ("idle", "millrace", "start", "resident_mib"), 30.5, 30.6),
        ):
            self.holds_up_to(asked, key, bound, beyond)

    def test_shares_of_kafka(self):
        for asked, workload, bound, beyond in (
            ("millrace perf: at most 1/5 of Kafka's CPU", "produce-1k-64k", 2, 2.01),
            ("millrace perf: at most 1/6 of Kafka's CPU", "produce-100b", 1.66, 1.67),
            ("at least 4 times Kafka's throughput per CPU s", "produce-50-keyed", 2.5, 2.51),
            ("just written, millrace perf: below Kafka's", "consume-fresh", 9.99, 10),
        ):
            self.holds_up_to(asked, (workload, "millrace", "millrace", COST), bound, beyond,
                             {(workload, "kafka", "millrace", COST): 10})
        self.holds_up_to(
            "flush.messages=1, 8 producers", ("produce-1k-64k", "millrace", "millrace", SPEED), 80, 79.9,
            {("produce-1k-64k", "kafka-flush", "millrace", SPEED): 10})

    def test_the_tail_may_be_a_tenth_of_kafkas_or_one_and_a_half_times_the_bare_loops(self):
        asked = "10,000/s of 100 B: p99.9"
        name = "latency-10000-100b"
        ours = (name, "millrace", "millrace", "p99_9_ms")
        for kafka, floor, bound in ((20, 1, 2), (20, 4, 6)):
            self.holds_up_to(asked, ours, bound, bound + 0.001, {
                (name, "kafka", "millrace", "p99_9_ms"): kafka,
                (name, "floor", "millrace", "p99_9_ms"): floor})
        self.assertIsNone(verdict(asked, {ours: 1, (name, "kafka", "millrace", "p99_9_ms"): 20}))

    def test_beside_a_cold_consumer_twice_the_quiet_figure(self):
        self.holds_up_to(
            "1,000/s of 1024 B beside a cold consumer: p99 ",
            ("latency-cold-1000-1024b", "millrace", "millrace", "p99_ms"), 6, 6.01,
            {("latency-1000-1024b", "millrace", "millrace", "p99_ms"): 3})

    def test_what_is_compared_with_ourselves(self):
        for asked, key, bound, beyond, other in (
            ("1,000 partitions: 80%", ("many-1000", "millrace", "millrace", SPEED), 80, 79,
             ("many-6", "millrace", "millrace", SPEED)),
            ("10,000 partitions: 60%", ("many-10000", "millrace", "millrace", SPEED), 60, 59,
             ("many-6", "millrace", "millrace", SPEED)),
            ("two shards on two cores:", ("shards-2", "millrace", "millrace", COST), 125, 126,
             ("shards-1", "millrace", "millrace", COST)),
            ("two shards on two cores, each advertised",
             ("shards-2-advertised", "millrace", "millrace", COST), 125, 126,
             ("shards-1", "millrace", "millrace", COST)),
            ("100 consumers: CPU", ("consume-100", "millrace", "millrace", COST), 120, 121,
             ("consume-cold", "millrace", "millrace", COST)),
            ("100 consumers: MB/s together at least 0.8 times that",
             ("consume-100", "millrace", "millrace", SPEED), 80, 79,
             ("consume-cold", "millrace", "millrace", SPEED)),
            ("100 consumers: MB/s together at least 0.8 times what",
             ("consume-100", "millrace", "millrace", SPEED), 80, 79,
             ("consume-100", "millrace", "millrace", "disk_mb_per_second")),
        ):
            self.holds_up_to(asked, key, bound, beyond, {other: 100})

    def test_what_is_kept_is_compared_within_a_turn(self):
        figures = {("kept-2", "millrace", "millrace", SPEED): 100,
                   ("kept-24", "millrace", "millrace", SPEED): 80}
        self.holds_up_to("produce MB/s: with 24",
                         ("kept-24", "millrace", "millrace", f"{SPEED}_off"), 0.049, 0.05, figures)

    def test_a_client_that_misses_it_has_a_line_of_its_own(self):
        figures = {("produce-1k-1m", "millrace", client, COST): cost
                   for client, cost in (("millrace", 0.5), ("java", 0.6))}
        self.assertTrue(verdict("1 MB batches, millrace perf: at most 0.55", figures))
        self.assertIs(verdict("1 MB batches, Kafka's own: at most 0.55", figures), False)

    def test_a_turn_that_does_not_count_leaves_no_verdict(self):
        figures = {("produce-1k-64k", "millrace", "millrace", COST): 0.1}
        for failed, met in ((0, True), (1, None)):
            lines = verdicts(summary(figures, failed=failed))
            told = [line for line in lines if "64 KiB batches, millrace perf: at most 0.75"
                    in line["asked"]]
            self.assertEqual([line["met"] for line in told], [met])

    def test_what_the_kernels_threads_cost_is_told_beside(self):
        key = ("produce-1k-64k", "millrace", "millrace")
        figures = {(*key, COST): 0.5, (*key, "kernel_threads_seconds_per_gib"): 0.3}
        told = [line["figure"] for line in verdicts(summary(figures))
                if "64 KiB batches, millrace perf: at most 0.75" in line["asked"]]
        self.assertEqual(told, ["0.50 CPU s/GiB (0.800 with the kernel's threads)"])

    def test_less_data_than_is_asked_for_meets_nothing(self):
        figures = {("ready-clean", "millrace", "start", "ready_ms"): 1}
        self.assertIs(verdict("ready in 2 s", figures), True)
        self.assertIsNone(verdict("ready in 2 s", figures, {"ready-clean": "1 GiB"}))

    def test_every_target_of_the_nine_has_lines_even_if_nothing_was_measured(self):
        lines = verdicts(summary({}))
        self.assertEqual({line["target"] for line in lines}, set(range(1, 10)))
        self.assertEqual({line["met"] for line in lines}, {None})
