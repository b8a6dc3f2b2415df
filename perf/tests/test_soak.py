"""What counts as flat."""

import unittest

from soaking.judging import OF_PIECES, OF_SAMPLES, Flat, verdict, verdicts

MEMORY = Flat("mib", "MiB", 0.03, 8)


def rows(values):
    return [{"mib": value} for value in values]


class Flatness(unittest.TestCase):
    def judged(self, values, flat=MEMORY):
        return verdict(flat, rows(values))["is_flat"]

    def test_a_line_that_stays_is_flat_whatever_it_did_before(self):
        self.assertTrue(self.judged([0] * 10 + [300] * 110))
        self.assertTrue(self.judged([300, 310] * 60))

    def test_a_line_that_falls_is_flat(self):
        self.assertTrue(self.judged([300 - minute for minute in range(120)]))

    def test_a_line_that_climbs_slowly_is_not(self):
        # A fifth of a MiB a minute: 18 MiB from the early part to the end.
        self.assertFalse(self.judged([300 + minute / 5 for minute in range(120)]))

    def test_one_spike_is_not_growth(self):
        self.assertTrue(self.judged([300] * 110 + [900] + [300] * 9))

    def test_a_small_figure_may_move_by_what_its_unit_is(self):
        self.assertTrue(self.judged([1] * 60 + [9] * 60))
        self.assertFalse(self.judged([1] * 60 + [9.5] * 60))

    def test_growth_in_any_figure_is_told(self):
        figures = [flat.figure for flat in (*OF_SAMPLES, *OF_PIECES)]
        for growing in figures:
            both = [{figure: 100 + (at if figure == growing else 0) for figure in figures}
                    for at in range(120)]
            found = [it["figure"] for it in verdicts(both, both) if not it["is_flat"]]
            self.assertEqual(found, [growing])

    def test_without_samples_nothing_is_said(self):
        with self.assertRaises(ValueError):
            verdict(MEMORY, [])


if __name__ == "__main__":
    unittest.main()
