"""Descriptions that no honest peer sends: a clear error, nothing changed, in a bounded number of steps."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.media.description import Kind
from kaamos.rtc.negotiation import Negotiator
from tests.support.hostile import DESCRIPTIONS, MIB, Damage, split, with_sections
from tests.support.negotiation import negotiator
from tests.support.sdp_peer import SdpPeer

# What reading a description may cost, however it is made: so many calls a line, and so many besides.
STEPS_A_LINE, STEPS = 20, 5000


def steps(act: Callable[[], object]) -> int:
    """Return how many functions were called, ours and those of the interpreter: time without a clock."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


class Living:
    """A negotiated call: the peer sends both kinds, and receives one track in a section of the server."""

    def __init__(self) -> None:
        self.server, self.peer = negotiator(), SdpPeer()
        for kind in Kind:
            self.peer.add(kind.value, "sendonly")
        self.exchange()
        self.play("first")
        self.server.receive_answer(self.peer.answer(self.server.create_offer()))

    def exchange(self) -> None:
        self.server.receive_offer(self.peer.offer())
        self.peer.accept(self.server.create_answer())

    def play(self, track_id: str) -> None:
        self.server.play(self.server.add_section(Kind.VIDEO), "user", track_id)

    def refuses(self, take: Callable[[str], None], sdp: str) -> None:
        """See it refused, with nothing changed."""
        before = state(self.server)
        with pytest.raises(RemoteProtocolError) as caught:
            take(sdp)
        assert caught.value.code is ErrorCode.INVALID_SDP
        assert len(caught.value.message) < 200 and caught.value.message.isprintable()
        assert state(self.server) == before


def state(server: Negotiator) -> tuple[object, ...]:
    sendable = {mid: server.is_sendable(mid) for mid in server.down_sections}
    return (
        dict(server.up_sections),
        dict(server.down_sections),
        sendable,
        server.remote,
        server.has_outstanding_offer,
        server.needs_offer,
    )


@pytest.mark.parametrize("damage", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_hostile_offer_changes_nothing_of_the_connection(damage: Damage) -> None:
    living = Living()
    sound = living.peer.offer()
    living.refuses(living.server.receive_offer, damage(sound))
    living.server.receive_offer(sound)
    living.peer.accept(living.server.create_answer())
    assert all(living.server.is_sendable(mid) for mid in living.server.down_sections)


@pytest.mark.parametrize("damage", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_hostile_answer_leaves_the_offer_out(damage: Damage) -> None:
    living = Living()
    living.play("second")
    sound = living.peer.answer(living.server.create_offer())
    living.refuses(living.server.receive_answer, damage(sound))
    living.server.receive_answer(sound)
    assert not living.server.needs_offer


@pytest.mark.parametrize("damage", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_hostile_description_is_read_in_a_number_of_steps_that_its_lines_bound(damage: Damage) -> None:
    living = Living()
    sdp = damage(living.peer.offer())

    def read() -> None:
        with pytest.raises(RemoteProtocolError):
            living.server.receive_offer(sdp)

    assert steps(read) <= STEPS_A_LINE * sdp.count("\n") + STEPS


def test_the_largest_sound_offer_is_answered_in_a_number_of_steps_that_its_lines_bound() -> None:
    living = Living()
    head, sections = split(with_sections(100)(living.peer.offer()))
    # Each section says something of its own, so nothing is read for two at once.
    room = (MIB - len(head) - sum(map(len, sections))) // 100 // 14
    filled = [
        section + "".join(f"a=x:{number:02}-{line:04}\r\n" for line in range(min(room, 900)))
        for number, section in enumerate(sections)
    ]
    sdp = head + "".join(filled)
    assert sdp.count("\n") > 60_000

    def answer() -> None:
        living.server.receive_offer(sdp)
        living.server.create_answer()

    assert steps(answer) <= STEPS_A_LINE * sdp.count("\n") + STEPS
