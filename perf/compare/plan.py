"""The order of the turns, and how long they will still take."""

import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """One broker from its start to its end. All of the workloads are of one group."""

    workloads: tuple
    broker: str
    clients: tuple
    repetition: int

    @property
    def name(self):
        return self.workloads[0].group or self.workloads[0].name

    @property
    def kind(self):
        return self.workloads[0].kind

    @property
    def key(self):
        return self.name, self.broker, self.clients

    def __str__(self):
        return " ".join((self.name, self.broker, ",".join(self.clients)))


def turns(workloads, brokers, clients, repetitions, are_named=False):
    """Repetition by repetition, and in each the brokers in turn, A B and then B A, so that what
    changes on the machine in the meantime meets all of them."""
    groups = {}
    for workload in workloads:
        groups.setdefault(workload.group or workload.name, []).append(workload)
    return [turn
            for repetition in range(1, repetitions + 1)
            for group in groups.values()
            for turn in of_group(tuple(group), brokers, clients, repetition, are_named)]


def of_group(group, brokers, clients, repetition, are_named):
    chosen = [client for client in group[0].clients if client in clients or client == "start"]
    # Producers fill the disk, so that each gets a directory of its own.
    parts = [(client,) for client in chosen] if group[0].kind == "produce" else [tuple(chosen)]
    # Who comes first changes from one repetition to the next.
    brokers = brokers if repetition % 2 else brokers[::-1]
    for part in parts:
        for broker in brokers:
            if part and takes_part(broker, group[0], part, are_named):
                yield Turn(group, broker, part, repetition)


def takes_part(broker, workload, clients, is_named):
    """A peer does in all that does not start it, and Kafka that syncs wherever Kafka does, if it is
    asked for by name, else with `millrace perf` alone: it takes its time."""
    if broker == "peer":
        return "start" not in workload.clients
    if broker == "kafka-flush" and is_named:
        return "kafka" in workload.brokers
    if broker == "kafka-flush" and "millrace" not in clients:
        return False
    return broker in workload.brokers


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
        return sum(workload.estimate for workload in turn.workloads)

    def begin(self, turn):
        left = sum(self.expected(planned) for planned in self.planned[self.done:])
        self.say(f"[{self.done + 1}/{len(self.planned)}, {clock(left)} left] "
                 f"repetition {turn.repetition}: {turn} ...")
        self.began = time.monotonic()

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
