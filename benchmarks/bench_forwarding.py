"""One publisher to 1, 10 and 50 subscribers over loopback, against plain asyncio in the same run.

The two take turns, round by round, so that the ratios hold while the machine's speed drifts.  CPU
is that of the forwarding thread alone.  ``pytest benchmarks/bench_forwarding.py`` prints the table.
"""

from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest

from benchmarks.forwarders import AsyncioForwarder, Cpu, EngineForwarder
from benchmarks.load import Load

ROUNDS = 5
COPIES_A_ROUND = 60_000
PLAIN_SHARE = 5  # asyncio is that many times slower, so it gets fewer packets for the same time


class Lane:
    """A forwarder with a load of its own, and the CPU a packet of each of its rounds."""

    def __init__(
        self, forwarder: type[EngineForwarder] | type[AsyncioForwarder], subscribers: int, packets: int
    ):
        self.load = Load(subscribers)
        self.forwarder = forwarder(self.load)
        self.packets = packets
        self.costs: list[Cpu] = []
        self.load.publish(min(packets, 200))  # key frame, caches, first-use costs

    def round(self) -> None:
        before = self.forwarder.cpu()
        copies = self.load.publish(self.packets)
        used = self.forwarder.cpu() - before
        self.costs.append(Cpu(used.user_s / copies, used.system_s / copies))

    def close(self) -> None:
        self.forwarder.close()
        self.load.close()


@pytest.fixture(params=[1, 10, 50])
def lanes(request: pytest.FixtureRequest) -> Iterator[tuple[int, Lane, Lane]]:
    subscribers: int = request.param
    packets = COPIES_A_ROUND // subscribers
    engine = Lane(EngineForwarder, subscribers, packets)
    plain = Lane(AsyncioForwarder, subscribers, packets // PLAIN_SHARE)
    yield subscribers, engine, plain
    engine.close()
    plain.close()


def ratios(engine: Lane, plain: Lane) -> dict[str, float]:
    """Return how many times less CPU a packet the engine takes: medians of the rounds' ratios."""
    pairs = list(zip(engine.costs, plain.costs, strict=True))
    return {
        "whole CPU": median(p.total_s / e.total_s for e, p in pairs),
        "user CPU": median(p.user_s / e.user_s for e, p in pairs if e.user_s > 0),
        "system CPU": median(p.system_s / e.system_s for e, p in pairs if e.system_s > 0),
    }


def test_fan_out(lanes: tuple[int, Lane, Lane], benchmark: Any, record_ratios: Any) -> None:
    subscribers, engine, plain = lanes
    benchmark.pedantic(engine.round, setup=plain.round, rounds=ROUNDS)
    found = ratios(engine, plain)
    benchmark.extra_info.update(
        subscribers=subscribers,
        copies_a_round=engine.packets * subscribers,
        cpu_a_copy_us=round(median(c.total_s for c in engine.costs) * 1e6, 3),
        **{f"asyncio_over_engine_{name.replace(' ', '_').lower()}": value for name, value in found.items()},
    )
    record_ratios(subscribers, found)
    dropped = {k: v for k, v in engine.forwarder.engine.counters().items() if k.startswith("dropped") and v}
    assert dropped == {}
