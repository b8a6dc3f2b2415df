"""A turn: one broker from an empty directory, warmed up, its loads, and what came of them.

Only what is complete counts: the topic's end offsets are compared with what the clients were told
to send, a consumer must have had every record, and a client's error fails the load, with the
reason.
"""

from . import consuming, floor, keeping, latencies, producing, starts
from .serving import FAILURES, failed

KINDS = {
    "produce": producing.turn, "consume": consuming.fresh, "consume-cold": consuming.cold,
    "latency": latencies.turn, "latency-cold": latencies.turn, "ready-empty": starts.ready_empty,
    "ready-full": starts.ready_full, "idle": starts.idle, "kept": keeping.turn,
}


def perform(turn, options):
    """Runs a turn; gives its samples."""
    try:
        measure = floor.turn if turn.broker == "floor" else KINDS[turn.kind]
        return measure(turn, options)
    except FAILURES as why:
        return [failed(workload, turn, client, why) for workload, client in turn.loads]
