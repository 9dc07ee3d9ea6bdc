"""Offers of many sections: what they have in common is worked out once, and nobody can tell."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaamos.errors import RemoteProtocolError
from kaamos.media.description import Kind
from tests.support.hostile import split
from tests.support.large_offer import large_offer, section_of
from tests.support.negotiation import negotiator

# A pattern and its replacement each: what one section may say otherwise than another one of its kind.
DIFFERENCES = (
    (r"^a=sendrecv", "a=sendonly"),
    (r"^a=sendrecv", "a=recvonly"),
    (r"^a=sendrecv", "a=inactive"),
    (r"^a=rtcp-rsize\r\n", ""),
    (r"^a=rtcp-xr:.*\r\n", ""),
    (r"^a=rtcp-mux\r\n", ""),
    (r"^a=extmap:4 .*\r\n", ""),
    (r"^a=extmap:4 ", "a=extmap:12 "),
    (r"^a=extmap:13 ", "a=extmap:4 "),
    (r"^a=rtcp-fb:\d+ transport-cc\r\n", ""),
    (r"^a=rtcp-fb:96 nack\r\n", ""),
    (r"^a=fmtp:97 .*\r\n", ""),
    (r"^a=fmtp:111 .*", "a=fmtp:111 stereo=1\r"),
    (r"^a=rtpmap:96 VP8", "a=rtpmap:96 VP9"),
    (r"^(m=\w+) 9 ", r"\1 0 "),
    (r"^(m=.*) UDP/TLS/RTP/SAVPF ", r"\1 RTP/SAVPF "),
    (r"^a=ssrc.*\r\n", ""),
    (r"^a=msid:.*\r\n", ""),
    (r"^a=setup:actpass", "a=setup:passive"),
)

Plan = list[tuple[Kind, set[int]]]
plans = st.lists(
    st.tuples(st.sampled_from(Kind), st.sets(st.integers(0, len(DIFFERENCES) - 1), max_size=2)),
    min_size=1,
    max_size=8,
)


def offer_by(plan: Plan) -> str:
    sections = []
    for number, (kind, differences) in enumerate(plan):
        text = section_of(kind, number)
        for index in sorted(differences):
            pattern, new = DIFFERENCES[index]
            text = re.sub(pattern, new, text, flags=re.MULTILINE)
        sections.append(text)
    head, _ = split(large_offer([]))
    bundle = " ".join(map(str, range(len(plan))))
    return re.sub(r"a=group:BUNDLE.*", f"a=group:BUNDLE {bundle}\r", head) + "".join(sections)


def each_for_itself(offer: str) -> str:
    """The same, with a line in each section that means nothing and that no other section has."""
    head, sections = split(offer)
    return head + "".join(f"{section}a=unlike:{number}\r\n" for number, section in enumerate(sections))


def outcome(offer: str) -> list[object]:
    """All that a server says and knows after an offer, and again after the same with more to play."""
    server = negotiator()
    try:
        server.receive_offer(offer)
    except RemoteProtocolError as error:
        return [error.code, error.message]
    for kind in Kind:
        if (mid := server.free_section(kind)) is not None:
            server.play(mid, "user", f"track {kind}")
    said: list[object] = [server.create_answer()]
    for kind in Kind:
        server.play(server.add_section(kind), "user", f"new track {kind}")
    said.append(server.create_offer())
    server.withdraw_offer()
    server.receive_offer(offer)
    return [*said, server.create_answer(), dict(server.up_sections), dict(server.down_sections)]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(plans)
def test_sections_that_say_the_same_are_answered_as_if_each_were_read_for_itself(plan: Plan) -> None:
    offer = offer_by(plan)
    assert outcome(offer) == outcome(each_for_itself(offer))


@pytest.mark.parametrize("kinds", [[Kind.VIDEO], [Kind.AUDIO, Kind.VIDEO]], ids=["video", "both"])
def test_a_hundred_full_sections_are_answered_each(kinds: list[Kind]) -> None:
    offer = large_offer(kinds * (100 // len(kinds)))
    server = negotiator()
    server.receive_offer(offer)
    answer = server.create_answer()
    assert answer.count("\r\nm=") == 100 and len(server.up_sections) == 100
    assert len({ssrc for up in server.up_sections.values() for ssrc in up.config.ssrcs}) == 100
    assert len({down.config.ssrc for down in server.down_sections.values()}) == 100
