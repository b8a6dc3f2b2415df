"""Answers are taken apart as the protocol has them."""

import socket
import struct
import threading
import unittest

from compare import wire


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def metadata(errors):
    """Metadata 1: a broker, and a topic with a partition for each error."""
    broker = struct.pack(">i", 1) + text("here") + struct.pack(">ih", 9092, -1)
    partitions = b"".join(struct.pack(">hiiiiii", error, index, 1, 1, 1, 1, 1)
                          for index, error in enumerate(errors))
    return (struct.pack(">i", 1) + broker + struct.pack(">ii", 1, 1) + struct.pack(">h", 0)
            + text("t") + struct.pack(">bi", 0, len(errors)) + partitions)


def offsets(errors):
    """ListOffsets 1."""
    partitions = b"".join(struct.pack(">ihqq", index, error, -1, 7)
                          for index, error in enumerate(errors))
    return struct.pack(">i", 1) + text("t") + struct.pack(">i", len(errors)) + partitions


class Server:
    """Gives these answers to one connection, one after the other."""

    def __init__(self, *answers):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, args=(answers,))
        self.thread.start()

    def serve(self, answers):
        connection, _ = self.socket.accept()
        with connection:
            for answer in answers:
                (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
                connection.recv(size, socket.MSG_WAITALL)
                connection.sendall(struct.pack(">ii", len(answer) + 4, 1) + answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.thread.join()
        self.socket.close()


class Ready(unittest.TestCase):
    def ready(self, *answers, **asked):
        with Server(*answers) as server:
            return wire.is_ready(server.address, **asked)

    def test_a_broker_that_knows_itself_is_ready(self):
        self.assertTrue(self.ready(metadata([])))
        self.assertFalse(self.ready(struct.pack(">iii", 0, 1, 0)))

    def test_with_a_topic_each_partition_must_lead_and_tell_its_end(self):
        asked = {"topic": "t", "partitions": 2}
        self.assertTrue(self.ready(metadata([0, 0]), offsets([0, 0]), **asked))
        self.assertFalse(self.ready(metadata([0, 0]), offsets([0, 6]), **asked))
        self.assertFalse(self.ready(metadata([0, 5]), **asked))
        self.assertFalse(self.ready(metadata([0]), **asked))

    def test_nobody_there_or_half_an_answer_is_not_ready(self):
        self.assertFalse(self.ready(metadata([0, 0])[:20], topic="t", partitions=2))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = "127.0.0.1:%d" % free.getsockname()[1]
        self.assertFalse(wire.is_ready(address))
