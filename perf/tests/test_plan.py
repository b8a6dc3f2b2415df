"""The order of turns, and what is chosen on the command line."""

import contextlib
import io
import unittest

from compare import options, plan
from compare.workloads import CLIENTS, NAMED, QUICK, WORKLOADS


class Plan(unittest.TestCase):
    def loads(self, turn):
        return [(workload.name, client) for workload, client in turn.loads]

    def test_brokers_take_turns_within_each_repetition_and_each_comes_first(self):
        turns = plan.turns([NAMED["consume-fresh"]], ["millrace", "kafka"], ["java"], 2)
        self.assertEqual([(turn.repetition, turn.broker) for turn in turns],
                         [(1, "millrace"), (1, "kafka"), (2, "kafka"), (2, "millrace")])

    def test_workloads_of_a_group_are_measured_on_one_process_in_a_changing_order(self):
        workloads = [each for each in WORKLOADS if each.group == "produce"]
        brokers = ["millrace", "kafka", "kafka-tuned"]
        orders = []
        for turns in zip(*[iter(plan.turns(workloads, brokers, CLIENTS, 5))] * 3):
            loads = {turn.broker: self.loads(turn) for turn in turns}
            self.assertEqual(loads["millrace"], loads["kafka"])
            # Who has fewer has them in the same order.
            fewer = [load for load in loads["kafka"] if load in loads["kafka-tuned"]]
            self.assertEqual(loads["kafka-tuned"], fewer)
            orders.append(loads["kafka"])
        self.assertEqual({len(set(order)) for order in orders}, {11})
        self.assertGreater(len({order[0] for order in orders}), 2)

    def test_what_builds_on_what_was_before_keeps_its_order(self):
        for turn in plan.turns([NAMED["kept-2"], NAMED["kept-24"]], ["millrace"], CLIENTS, 3):
            self.assertEqual(self.loads(turn), [("kept-2", "millrace"), ("kept-24", "millrace")])

    def test_a_peer_takes_part_in_all_but_starts_and_the_bare_loop_in_latencies(self):
        turns = plan.turns([NAMED["latency-1000-100b"], NAMED["idle"]], ["floor", "peer"],
                           CLIENTS, 1)
        self.assertEqual([str(turn) for turn in turns], ["latency floor", "latency peer"])

    def test_a_variant_of_kafka_takes_part_with_our_client_alone(self):
        workloads = [NAMED["produce-1k-64k"], NAMED["produce-1k-1m"]]
        (turn,) = plan.turns(workloads, ["kafka-flush"], CLIENTS, 1)
        self.assertEqual(self.loads(turn), [("produce-1k-64k", "millrace")])
        self.assertEqual(plan.turns(workloads, ["kafka-flush"], ["java"], 1), [])

    def test_a_variant_of_kafka_takes_part_where_kafka_does_if_it_is_asked_for_by_name(self):
        workloads = [NAMED["produce-1k-1m"], NAMED["shards-1"]]
        for is_named, expected in ((False, []), (True, ["produce kafka-flush"])):
            turns = plan.turns(workloads, ["kafka-flush"], ["millrace"], 1, is_named)
            self.assertEqual([str(turn) for turn in turns], expected)

    def test_names_are_told_apart_and_every_workload_is_in_a_set(self):
        self.assertEqual(len(NAMED), len(WORKLOADS))
        self.assertTrue(set(QUICK) <= set(NAMED))
        # A group is measured together, so it is published together.
        groups = {workload.group: workload.set for workload in WORKLOADS if workload.group}
        for workload in WORKLOADS:
            self.assertEqual(groups.get(workload.group, workload.set), workload.set)

    def test_the_time_left_is_told(self):
        self.assertEqual([plan.clock(seconds) for seconds in (10, 300, 7260)],
                         ["under a minute", "5 min", "2 h 01 min"])


class Options(unittest.TestCase):
    def parse(self, *arguments):
        return options.parse(["--broker-core", "0", "--client-core", "1", *arguments])

    def refused(self, *arguments):
        with self.assertRaises(SystemExit) as ended, \
                contextlib.redirect_stderr(io.StringIO()):
            self.parse(*arguments)
        self.assertEqual(ended.exception.code, 2, arguments)

    @unittest.skipUnless(len(options.os.sched_getaffinity(0)) > 1, "one core")
    def test_quick_is_less_and_may_be_made_more(self):
        quick = self.parse("--quick")
        self.assertEqual([workload.name for workload in quick.workloads], list(QUICK))
        self.assertLess(quick.gib, self.parse().gib)
        self.assertEqual(self.parse("--quick", "--repetitions", "7").repetitions, 7)

    @unittest.skipUnless(len(options.os.sched_getaffinity(0)) > 1, "one core")
    def test_only_the_whole_comparison_is_published(self):
        for arguments in ((), ("--set", "latency"), ("--seconds", "20")):
            self.assertEqual(self.parse(*arguments).results, options.PUBLISHED, arguments)
        for arguments in (("--quick",), ("--only", "idle"), ("--repetitions", "4"),
                          ("--seconds", "1"), ("--clients", "java"), ("--filesystem", "xfs"),
                          ("--kept-gib", "2,4")):
            self.assertNotEqual(self.parse(*arguments).results, options.PUBLISHED, arguments)

    def test_what_makes_no_sense_is_refused(self):
        self.refused("--only", "nothing")
        self.refused("--brokers", "peer")
        self.refused("--peer", "localhost:9092")
        self.refused("--broker-core", "1")
        self.refused("--gib", "0")
