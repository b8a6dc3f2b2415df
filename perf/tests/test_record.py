"""Going on with a run that was stopped."""

import tempfile
import unittest
from pathlib import Path

from compare import plan
from compare.record import OfAnother, Record
from compare.workloads import NAMED

TURNS = plan.turns([NAMED["many-6"]], ["millrace", "kafka"], ["millrace"], 2)
RUN = {"versions": "1", "settings": {"gib": 2}}


class Stopped(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "samples.jsonl"

    def test_turns_that_came_to_their_end_are_not_measured_again(self):
        record = Record(self.path, RUN)
        for turn in TURNS[:2]:
            record.add(turn, [{"of": str(turn), "counts": True}], 10.5, 1, 100)
        with self.path.open("a") as file:
            file.write('{"turn": ["cut o')
        again = Record(self.path, RUN)
        self.assertEqual([again.has(turn) for turn in TURNS], [True, True, False, False])
        again.add(TURNS[2], [{"of": "third", "counts": True}], 1, 0, 10)
        last = Record(self.path, RUN)
        self.assertEqual([sample["of"] for sample in last.samples()],
                         [str(TURNS[0]), str(TURNS[1]), "third"])
        self.assertEqual((last.sum("seconds"), last.sum("stolen"), last.sum("ticks")),
                         (22, 2, 210))
        self.assertEqual(len(last.dates()), 3)

    def test_a_turn_of_which_something_does_not_count_is_measured_again(self):
        record = Record(self.path, RUN)
        record.add(TURNS[0], [{"counts": True}, {"counts": False}], 1, 0, 1)
        self.assertFalse(Record(self.path, RUN).has(TURNS[0]))
        record.add(TURNS[0], [{"counts": True}, {"counts": True}], 1, 0, 1)
        self.assertTrue(Record(self.path, RUN).has(TURNS[0]))

    def test_another_run_is_not_gone_on_with(self):
        Record(self.path, RUN)
        with self.assertRaisesRegex(OfAnother, "differs in settings, versions"):
            Record(self.path, {"versions": "2", "settings": {}})

    def test_what_was_cut_off_in_its_first_line_begins_anew(self):
        self.path.write_text('{"run": {"vers')
        self.assertEqual(Record(self.path, RUN).turns, {})
        self.assertEqual(Record(self.path, RUN).turns, {})


if __name__ == "__main__":
    unittest.main()
