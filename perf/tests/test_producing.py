"""When a broker is warm, and how much is sent."""

import unittest
from types import SimpleNamespace

from compare.figures import GIB
from compare.producing import are_alike, lasting


class Warm(unittest.TestCase):
    def test_loads_are_alike_by_the_medians_of_three_and_three(self):
        for costs, expected in (
            ([], False), ([1, 1], False), ([1, 1, 1], True), ([1, 1.02, 1.04], True),
            ([1, 1.06, 1], False), ([1.2, 1.06, 1, 1], False),
            ([2, 2, 2, 1, 1, 1], False), ([1.05, 1, 1, 1, 1, 9], True),
            ([9, 9, 1.2, 9, 1.2, 1, 1, 1], False), ([9, 9, 1.04, 1.04, 1, 1, 1, 2], True),
            # What falls slowly is not alike.
            ([1.12, 1.1, 1.1, 1.06, 1.04, 1.04, 1.02, 1, 1], False),
            ([9, 1.03, 1.02, 1.04, 1.02, 1.01, 9, 1, 1, 1], True),
        ):
            self.assertIs(are_alike(costs), expected, costs)

    def test_what_is_sent_takes_its_time_is_no_less_than_asked_and_fills_no_disk(self):
        for speed, seconds, least, expected in (
            (100, 8, GIB // 2, 800_000_000), (100, 8, GIB, GIB), (2_000, 8, GIB, 8 * GIB)):
            loaded = SimpleNamespace(figures={"mb_per_second": speed})
            self.assertEqual(lasting(seconds, loaded, least), expected)


if __name__ == "__main__":
    unittest.main()
