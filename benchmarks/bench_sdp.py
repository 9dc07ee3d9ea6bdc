"""A session of 100 sections with full codec lists: read and answered, against aiortc's parser alone.

The two take turns, so that the ratio holds while the machine's speed drifts.
"""

import itertools
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
from aiortc.sdp import SessionDescription

from kaamos.media.description import Kind
from kaamos.rtc.negotiation import LocalTransport, Negotiator
from tests.support.large_offer import large_offer

ROUNDS = 30
LOCAL = LocalTransport("server12", "p" * 24, "sha-256 " + ":".join(["AB"] * 32), (("192.0.2.1", 7882),))
OFFERS = {
    "1 audio, 99 video": large_offer([Kind.AUDIO, *[Kind.VIDEO] * 99]),
    "50 audio, 50 video": large_offer([Kind.AUDIO, Kind.VIDEO] * 50),
}


def answer(offer: str) -> str:
    ssrcs = itertools.count(1)
    negotiator = Negotiator(LOCAL, session_id=1, cname="kaamos", new_ssrc=lambda: next(ssrcs))
    negotiator.receive_offer(offer)
    return negotiator.create_answer()


def cpu_s(act: Callable[[], object]) -> float:
    start = time.process_time()
    act()
    return time.process_time() - start


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_parse_and_answer(benchmark: Any, record_note: Callable[[str], None], offer: str) -> None:
    assert answer(offer).count("\r\nm=") == len(SessionDescription.parse(offer).media) == 100
    pairs = [
        (cpu_s(lambda: answer(offer)), cpu_s(lambda: SessionDescription.parse(offer))) for _ in range(ROUNDS)
    ]
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    found = {"median": median(ratios), "lowest": ratios[0], "highest": ratios[-1]}
    benchmark.extra_info.update(ratio_to_aiortc_parse=found, offer_bytes=len(offer))
    record_note(
        f"{len(offer) // 1000} KB offer read and answered, over aiortc.sdp's parse of it:"
        f" {found['median']:.2f} ({found['lowest']:.2f}-{found['highest']:.2f}, {ROUNDS} pairs)"
    )
    benchmark.pedantic(answer, args=(offer,), rounds=ROUNDS)
