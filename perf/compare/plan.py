"""The order of the turns, and how long they will still take."""

import random
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """One broker from its start to its end: `loads` are workloads of one group, each with a client,
    in the order in which they are measured."""

    loads: tuple
    broker: str
    repetition: int

    @property
    def name(self):
        return self.loads[0][0].group or self.loads[0][0].name

    @property
    def kind(self):
        return self.loads[0][0].kind

    @property
    def key(self):
        return self.name, self.broker

    def __str__(self):
        return " ".join(self.key)


def turns(workloads, brokers, clients, repetitions, are_named=False):
    """Repetition by repetition, and in each the brokers in turn, A B and then B A, so that what
    changes on the machine in the meantime meets all of them."""
    groups = {}
    for workload in workloads:
        groups.setdefault(workload.group or workload.name, []).append(workload)
    return [Turn(shuffled(loads, repetition), broker, repetition)
            for repetition in range(1, repetitions + 1)
            for group in groups.values()
            for broker in (brokers if repetition % 2 else brokers[::-1])
            if (loads := loads_of(group, broker, clients, are_named))]


# Kinds whose loads build on each other.
IN_ORDER = ("ready-full", "kept")


def shuffled(loads, repetition):
    """In another order in each repetition, and in the same for all brokers."""
    if loads[0][0].kind in IN_ORDER:
        return tuple(loads)

    def place(load):
        return random.Random(f"{repetition} {load[0].name} {load[1]}").random()

    return tuple(sorted(loads, key=place))


def loads_of(group, broker, clients, are_named):
    return [(workload, client) for workload in group
            for client in clients_of(workload, broker, are_named)
            if client in clients or client == "start"]


def clients_of(workload, broker, are_named):
    """A peer does in all that does not start it; a variant of Kafka in all that Kafka does in, if
    it is asked for by name."""
    if broker in workload.brokers:
        return workload.clients
    if broker in workload.beside:
        return ("millrace",)
    if broker == "peer":
        return () if "start" in workload.clients else workload.clients
    if broker.startswith("kafka-") and are_named and "kafka" in workload.brokers:
        return workload.clients
    return ()


class Progress:
    """A line for each turn on standard error: how far the run is, and when it will be over."""

    def __init__(self, planned):
        self.planned = planned
        self.done = 0
        self.took = {}
        self.began = time.monotonic()

    def expected(self, turn):
        took = self.took.get(turn.key)
        if took:
            return sum(took) / len(took)
        return sum(workload.estimate for workload, _ in turn.loads)

    def begin(self, turn):
        left = sum(self.expected(planned) for planned in self.planned[self.done:])
        self.say(f"[{self.done + 1}/{len(self.planned)}, {clock(left)} left] "
                 f"repetition {turn.repetition}: {turn} ...")
        self.began = time.monotonic()

    def skip(self):
        """One that was measured before."""
        self.done += 1

    def end(self, turn, said):
        self.took.setdefault(turn.key, []).append(time.monotonic() - self.began)
        self.done += 1
        for line in said:
            self.say(f"    {line}")

    @staticmethod
    def say(line):
        print(line, file=sys.stderr, flush=True)


def clock(seconds):
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
