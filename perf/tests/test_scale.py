"""The model of many cores, on figures made up for it."""

import unittest
from types import SimpleNamespace

from compare.scale import cost_of, fullest_over_mean, predicted


def results(**costs):
    rows = [{"workload": name, "broker": "millrace", "figures": {
        "cpu_seconds_per_gib": {"median": cost},
        "kernel_threads_seconds_per_gib": {"median": 0.1}}} for name, cost in costs.items()]
    return {"rows": rows}


def options(**given):
    machine = {"connections": 10**9, "memory": 6e6, "network": 8e6, "disks": 1e6}
    return SimpleNamespace(**machine | given)


class Scale(unittest.TestCase):
    def test_a_row_costs_what_the_kernels_threads_take_too(self):
        self.assertAlmostEqual(cost_of(results(one=0.4), "one"), 0.5)
        with self.assertRaises(SystemExit):
            cost_of(results(one=0.4), "two")

    def test_all_but_one_request_in_n_travel(self):
        for shards, cost in ((1, 0.5), (2, 0.65), (4, 0.725)):
            row = predicted(0.5, 0.3, shards, options())
            self.assertAlmostEqual(row["cpu_seconds_per_gib"], cost)
            self.assertAlmostEqual(
                row["gb_per_second"], shards / cost * 2**30 / 1e9, delta=0.01 * shards)

    def test_the_first_limit_is_the_one_that_holds(self):
        for limit, given in (("memory", {"memory": 6}), ("network", {"network": 8}),
                             ("disks", {"disks": 1}), ("the fullest shard", {})):
            row = predicted(0.5, 0.3, 64, options(**given))
            self.assertEqual(row["first_limit"], limit)
            if given:
                self.assertAlmostEqual(row["gb_per_second"], 1)

    def test_few_connections_leave_shards_idle(self):
        self.assertEqual(fullest_over_mean(1, 1), 1)
        self.assertLess(fullest_over_mean(16, 10_000), 1.1)
        self.assertGreater(fullest_over_mean(16, 16), 2)


if __name__ == "__main__":
    unittest.main()
