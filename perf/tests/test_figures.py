"""Medians and spread, and who is counted."""

import unittest

from compare.figures import Missing, Summary, summarize


def sample(figures, counts=True, broker="millrace", client="millrace"):
    return {"workload": "produce-1k-64k", "broker": broker, "client": client, "counts": counts,
            "figures": figures}


class Figures(unittest.TestCase):
    def test_the_median_stands_between_the_smallest_and_the_largest(self):
        (row,) = summarize([sample({"mb_per_second": value}) for value in (5, 100, 7, 6, 1)])
        self.assertEqual(row["figures"]["mb_per_second"], {"median": 6, "min": 1, "max": 100})
        self.assertEqual((row["turns"], row["failed_turns"]), (5, 0))

    def test_a_turn_that_does_not_count_is_in_no_figure_and_is_told(self):
        (row,) = summarize([sample({"mb_per_second": 5}), sample({"mb_per_second": 9}, False)])
        self.assertEqual(row["figures"]["mb_per_second"]["max"], 5)
        self.assertEqual((row["turns"], row["failed_turns"]), (1, 1))

    def test_brokers_and_clients_are_kept_apart_in_the_order_of_the_run(self):
        rows = summarize([sample({"a": 1}, broker="kafka"), sample({"a": 2}),
                          sample({"a": 3}, client="java"), sample({"a": 4}, broker="kafka")])
        self.assertEqual([(row["broker"], row["client"], row["turns"]) for row in rows],
                         [("kafka", "millrace", 2), ("millrace", "millrace", 1),
                          ("millrace", "java", 1)])

    def test_what_was_not_measured_has_no_median(self):
        summary = Summary(summarize([sample({"a": 1}), sample({}, False, broker="kafka")]),
                          {"kept-24": "4 GiB"})
        self.assertEqual(summary.median("produce-1k-64k", "millrace", "a"), 1)
        for asked in (("produce-1k-64k", "millrace", "b"), ("produce-1k-64k", "kafka", "a"),
                      ("kept-24", "millrace", "a")):
            with self.assertRaises(Missing):
                summary.median(*asked)
        self.assertEqual(summary.clients("produce-1k-64k", "millrace"), ["millrace"])
        # One whose turns do not count is one that should have been measured.
        self.assertEqual(summary.clients("produce-1k-64k", "millrace", "kafka"), ["millrace"])
        self.assertEqual(summary.clients("produce-1k-64k", "peer"), [])
