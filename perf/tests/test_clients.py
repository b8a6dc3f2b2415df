"""What the clients' words come to."""

import json
import unittest

from brokers import Failed
from compare.clients import read

SENT = ("50000 records sent, 12500.0 records/sec (12.21 MB/sec), 3.1 ms avg latency, 210.00 ms max "
        "latency, 2 ms 50th, 9 ms 95th, 12 ms 99th, 20 ms 99.9th.\n")
READ = ("2026-01-01 00:00:00:000, 2026-01-01 00:00:09:000, 488.2812, 54.2535, 500000, 55555.5556, "
        "3500, 2000, 244.1406, 250000.0000\n")
DELIVERED = ("% 1000 messages produced (1024000 bytes), 1000 delivered (offset 0, {} failed) in "
             "90ms: 11111 msgs/s and 11.38 MB/s, 0 produce failures, 0 in queue, no compression\n")
CONSUMED = ("% 400 messages (409600 bytes) consumed in 10ms: 40000 msgs/s (40.96 MB/s)\n"
            "% 1000 messages (1024000 bytes) consumed in 500ms: 2000 msgs/s (2.05 MB/s)\n"
            "% Average application fetch latency: 8us\n")


class Clients(unittest.TestCase):
    def test_kafkas_producer_counts_from_its_first_record(self):
        outcome = read("java", "1 records sent, 1 records/sec\n" + SENT, "", 9, [])
        self.assertEqual((outcome.records, outcome.seconds), (50000, 4.0))
        self.assertEqual(outcome.mb_per_second(1000), 12.5)

    def test_kafkas_consumer_counts_without_the_time_to_form_a_group(self):
        outcome = read("java", READ, "", 9, [])
        self.assertEqual((outcome.records, outcome.seconds), (500000, 2.0))

    def test_librdkafka_counts_what_was_delivered_until_its_process_ends(self):
        outcome = read("librdkafka", DELIVERED.format(0), "", 2.0, [])
        self.assertEqual((outcome.records, outcome.seconds), (1000, 2.0))

    def test_librdkafka_counts_what_was_consumed_by_its_own_clock(self):
        outcome = read("librdkafka", CONSUMED, "", 2.0, [])
        self.assertEqual((outcome.records, outcome.seconds), (1000, 0.5))

    def test_ours_counts_all_loads(self):
        said = {"seconds": 2.0, "overdue": 0, "loads": [{"records": 3}, {"records": 4}]}
        outcome = read("millrace", json.dumps(said), "", 9, [])
        self.assertEqual((outcome.records, outcome.seconds), (7, 2.0))

    def test_whoever_complains_has_failed(self):
        said = {"seconds": 2.0, "overdue": 5, "loads": []}
        for client, out, err in (
            ("java", SENT, "[2026-01-01] ERROR Uncaught exception in thread\n"),
            ("java", "org.apache.kafka.common.errors.TimeoutException: 9 ms\n" + SENT, ""),
            ("java", "", ""),
            ("java", "something, else\n", ""),
            ("librdkafka", DELIVERED.format(3), ""),
            ("librdkafka", DELIVERED.format(0), "%3|1.0|FAIL|rdkafka#producer-1| refused\n"),
            ("millrace", json.dumps(said), ""),
        ):
            with self.subTest(client=client, out=out, err=err), self.assertRaises(Failed):
                read(client, out, err, 2.0, [])
