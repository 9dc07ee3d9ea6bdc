"""PeerConnection: slots that are shared, that switch without an offer, and that take some codecs only."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kaamos.media.description import Kind, PayloadFormat
from kaamos.rtc.capabilities import CODECS, decodable_as
from tests.support.fake_engine import FakeEngine
from tests.support.ortc import assert_no_complaints, only_tasks
from tests.support.sdp_peer import SdpPeer
from tests.unit.test_connection import ANY, MAX_SLOTS, Served

AUDIO, VIDEO = Kind.AUDIO, Kind.VIDEO
(VP8,) = (frozenset({i}) for i, codec in enumerate(CODECS) if codec.format is PayloadFormat.VP8)
(UNKNOWN,) = (
    frozenset({i})
    for i, codec in enumerate(CODECS)
    if codec.rtpmap.encoding == "vp9" and codec.profile == "2"
)
(H264,) = (
    frozenset({i})
    for i, codec in enumerate(CODECS)
    if codec.profile == "42e01f" and codec.packetization_mode == 1
)


class Publisher(Served):
    """A connection whose client sends microphone and camera."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(engine)
        self.peer = SdpPeer()


@pytest.fixture
async def served(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Publisher]:
    before = asyncio.all_tasks()
    engine = FakeEngine()
    engine.open()
    served = Publisher(engine)
    served.peer.add("audio", "sendonly")
    served.peer.add("video", "sendonly")
    served.offer(served.peer)
    yield served
    await served.close()
    engine.close()
    await only_tasks(before)
    assert_no_complaints(caplog)


async def test_a_shared_slot_is_named_after_itself_and_switches_without_an_offer(served: Publisher) -> None:
    first, second = served.source(VIDEO), served.source(VIDEO)
    mid = served.connection.play(first, VIDEO, ANY, None)
    assert mid is not None
    await served.exchange(served.peer)
    assert served.peer.line_of(mid).showing == f"slot {mid}"
    served.connection.switch(mid, second)
    assert served.playing() == {mid: second}
    assert len(served.offers) == 1 and not served.connection._negotiator.needs_offer


async def test_what_plays_in_a_slot_goes_on_while_it_becomes_shared(served: Publisher) -> None:
    source = served.source(VIDEO)
    mid = served.connection.play(source, VIDEO, ANY, ("PA_1", "TR_1"))
    assert mid is not None
    await served.exchange(served.peer)
    served.connection.share(mid)
    served.offer(served.peer)
    assert served.playing() == {mid: source}
    if served.connection._negotiator.needs_offer:
        await served.exchange(served.peer)
    assert served.playing() == {mid: source}
    assert served.peer.line_of(mid).showing == f"slot {mid}"


async def test_nobody_else_plays_in_a_slot_before_it_is_known_to_be_shared(
    served: Publisher,
) -> None:
    first, second = served.source(VIDEO), served.source(VIDEO)
    mid = served.connection.play(first, VIDEO, ANY, ("PA_1", "TR_1"))
    assert mid is not None
    await served.exchange(served.peer)
    served.connection.share(mid)
    served.connection.switch(mid, second)
    assert served.playing() == {}
    await served.exchange(served.peer)
    assert served.playing() == {mid: second}


async def test_a_slot_that_becomes_shared_before_its_first_answer_plays_under_either_name(
    served: Publisher,
) -> None:
    source = served.source(VIDEO)
    mid = served.connection.play(source, VIDEO, ANY, ("PA_1", "TR_1"))
    assert mid is not None
    offered = len(served.offers)
    while len(served.offers) == offered:
        await asyncio.sleep(0.01)
    served.connection.share(mid)
    served.connection.receive_answer(served.peer.answer(served.offers[-1]))
    assert served.playing() == {mid: source}, "its name is still that of the one who plays"
    await served.exchange(served.peer)
    assert served.playing() == {mid: source}
    assert served.peer.line_of(mid).showing == f"slot {mid}"


async def test_a_shared_slot_that_is_paused_plays_what_is_new_when_it_is_back(
    served: Publisher,
) -> None:
    first, second = served.source(VIDEO), served.source(VIDEO)
    mid = served.connection.play(first, VIDEO, ANY, None)
    assert mid is not None
    await served.exchange(served.peer)
    served.peer.line_of(mid).direction = "inactive"
    served.offer(served.peer)
    served.connection.share(mid)
    served.connection.switch(mid, second)
    assert served.playing() == {}
    served.peer.line_of(mid).direction = "recvonly"
    served.offer(served.peer)
    if served.connection._negotiator.needs_offer:
        await served.exchange(served.peer)
    assert served.playing() == {mid: second}


async def test_a_slot_that_is_gone_is_neither_shared_nor_switched(served: Publisher) -> None:
    served.connection.share("s0")
    served.connection.switch("s0", served.source(VIDEO))
    mid = served.connection.play(served.source(VIDEO), VIDEO, ANY, None)
    assert mid is not None
    source = served.source(VIDEO)
    await served.connection.close()
    served.connection.share(mid)
    served.connection.switch(mid, source)
    assert served.playing() == {}


async def test_a_free_section_that_lacks_the_codec_is_passed_over(
    served: Publisher,
) -> None:
    narrow = served.peer.add("video", "recvonly")
    served.offer(served.peer)
    assert narrow.codecs is not None
    narrow.codecs = {pt: codec for pt, codec in narrow.codecs.items() if codec[0] == "VP8/90000"}
    served.offer(served.peer)
    other = served.connection.play(served.source(VIDEO), VIDEO, H264, ("PA_1", "TR_1"))
    assert other is not None and other != narrow.mid
    assert served.connection.play(served.source(VIDEO), VIDEO, VP8, ("PA_1", "TR_2")) == narrow.mid
    await served.exchange(served.peer)
    assert served.playing().keys() == {other, narrow.mid}
    assert served.connection.accepts(other, H264)


async def test_a_client_that_took_a_codec_in_no_section_of_ours_cannot_decode_it(served: Publisher) -> None:
    connection = served.connection
    assert connection.is_decodable(VIDEO, UNKNOWN), "it has not said otherwise"
    mid = connection.play(served.source(VIDEO), VIDEO, UNKNOWN, ("PA_1", "TR_1"))
    assert mid is not None and connection.accepts(mid, UNKNOWN)
    await served.exchange(served.peer)
    assert not connection.accepts(mid, UNKNOWN) and not connection.is_decodable(VIDEO, UNKNOWN)
    assert connection.accepts(mid, VP8) and connection.is_decodable(VIDEO, VP8 | UNKNOWN)
    assert connection.is_decodable(AUDIO, ANY)


async def test_no_more_sections_are_made_than_slots_may_be_filled(served: Publisher) -> None:
    mids = [served.connection.play(served.source(VIDEO), VIDEO, VP8, None) for _ in range(20)]
    assert len([mid for mid in mids if mid is not None]) == MAX_SLOTS[VIDEO]


async def test_the_codecs_of_a_publication_are_those_negotiated_and_then_the_one_that_came(
    served: Publisher,
) -> None:
    (mid,) = (mid for mid, kind in served.published if kind is VIDEO)
    assert VP8 < served.connection.codecs_of(mid)
    tell = served.engine.codec_receivers[served.connection.up_tracks[mid]]
    (codec,) = VP8
    tell(codec)
    assert served.codecs == [(mid, codec)]
    await served.connection.close()
    tell(codec)
    assert served.codecs == [(mid, codec)]


def test_whoever_knows_opus_can_be_given_red_and_nothing_else_stands_for_another_codec() -> None:
    opus = next(codec_id for codec_id, codec in enumerate(CODECS) if codec.name == "opus")
    for codec_id, codec in enumerate(CODECS):
        assert decodable_as(codec_id) == (opus if codec.format is PayloadFormat.RED else codec_id)
