"""The few requests that tell whether a broker serves: Metadata 1 and ListOffsets 1, and a
connection that waits for it to listen."""

import socket
import struct
import time

METADATA, LIST_OFFSETS = 3, 2
LATEST = -1


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def ask(connection, key, version, body):
    header = struct.pack(">hhi", key, version, 1) + text("perf-run")
    connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
    (length,) = struct.unpack(">i", receive(connection, 4))
    return receive(connection, length)[4:]


def receive(connection, count):
    parts, left = [], count
    while left:
        part = connection.recv(min(left, 1 << 20))
        if not part:
            raise ConnectionError("the broker closed the connection")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


class Reader:
    """Takes an answer apart."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, form):
        values = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return values[0]

    def text(self):
        length = self.take("h")
        self.at += max(length, 0)
        return self.data[self.at - max(length, 0): self.at].decode()

    def array(self, element):
        return [element() for _ in range(max(self.take("i"), 0))]


def brokers_and_partitions(connection, topic):
    """How many brokers the cluster has, and how many of the topic's partitions have a leader."""
    topics = struct.pack(">i", 1) + text(topic) if topic else struct.pack(">i", 0)
    reader = Reader(ask(connection, METADATA, 1, topics))
    brokers = reader.array(lambda: (reader.take("i"), reader.text(), reader.take("i"),
                                    reader.text()))
    reader.take("i")
    leading = 0

    def partition():
        nonlocal leading
        error, _index, leader = reader.take("h"), reader.take("i"), reader.take("i")
        leading += error == 0 and leader >= 0
        reader.array(lambda: reader.take("i"))
        reader.array(lambda: reader.take("i"))

    reader.array(lambda: (reader.take("h"), reader.text(), reader.take("b"),
                          reader.array(partition)))
    return len(brokers), leading


def serves_offsets(connection, topic, partitions):
    """Whether each partition tells its end, which only who leads it and has loaded it does."""
    body = struct.pack(">ii", -1, 1) + text(topic) + struct.pack(">i", partitions)
    body += b"".join(struct.pack(">iq", index, LATEST) for index in range(partitions))
    reader = Reader(ask(connection, LIST_OFFSETS, 1, body))

    def partition():
        _index, error = reader.take("i"), reader.take("h")
        reader.take("q")
        reader.take("q")
        return error == 0

    served = reader.array(lambda: (reader.text(), reader.array(partition)))
    return len(served) == 1 and len(served[0][1]) == partitions and all(served[0][1])


def is_ready(address, topic=None, partitions=0):
    """Whether the broker is a member of its own cluster and, if a topic is named, serves all of its
    partitions."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), 30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            brokers, leading = brokers_and_partitions(connection, topic)
            if not topic:
                return brokers > 0
            return leading == partitions and serves_offsets(connection, topic, partitions)
    except (OSError, struct.error):
        return False


def wait_until_ready(process, address, began, topic=None, partitions=0, within=600):
    """Milliseconds from `began` (time.monotonic) until the broker is ready, or nothing."""
    while time.monotonic() - began < within and process.poll() is None:
        if is_ready(address, topic, partitions):
            return 1000 * (time.monotonic() - began)
        time.sleep(0.001)
    return None
