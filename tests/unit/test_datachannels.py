"""Data channels of one peer: aiortc's SCTP against ours, honest, slow and clumsy."""

import asyncio
from typing import Any

import pytest
from aiortc.rtcsctptransport import (
    RTCSctpTransport,
)

from kaamos.rtc import datachannels, sctp
from kaamos.rtc.application import SctpParameters
from kaamos.rtc.channel import MAX_CHANNELS, MAX_MESSAGE_BYTES, ChannelKind, DataDrop, DataMessage
from kaamos.rtc.datachannels import MAX_QUEUED_BYTES, SENDER_PROTOCOL
from tests.support.data_pair import CHAT, WANTED, Meet, message
from tests.support.ortc import eventually

MESSAGES: list[str | bytes] = [
    "hello",
    b"\x00\xff",
    "",
    b"",
    "\u00fc" * 30_000,
    bytes(MAX_MESSAGE_BYTES),
    "last",
]


@pytest.mark.parametrize("dtls_role", ["client", "server"])
async def test_messages_of_every_kind_go_both_ways_in_order(meet: Meet, dtls_role: str) -> None:
    pair = await meet(dtls_role)
    channel = await pair.open("chat")
    pair.sctp._remote_max_message_size = MAX_MESSAGE_BYTES
    for payload in MESSAGES:
        channel.send(payload)
        pair.us.send(message(payload), b"ada\n")
    await eventually(lambda: len(pair.taken) == len(pair.given) == len(MESSAGES))
    assert pair.taken == [message(payload) for payload in MESSAGES]
    assert pair.given == [("chat", payload) for payload in MESSAGES]
    assert not pair.us.drops


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"ordered": False}, ChannelKind("x", is_ordered=False)),
        ({"maxRetransmits": 0}, ChannelKind("x", max_retransmits=0)),
        ({"maxPacketLifeTime": 500, "protocol": "p"}, ChannelKind("x", "p", max_lifetime_ms=500)),
        ({"ordered": False, "maxRetransmits": 3}, ChannelKind("x", is_ordered=False, max_retransmits=3)),
    ],
)
async def test_a_channel_is_what_it_was_opened_as(
    meet: Meet, options: dict[str, Any], kind: ChannelKind
) -> None:
    pair = await meet()
    channel = await pair.open("x", **options)
    channel.send("there")
    pair.us.send(message("back", ChannelKind("x")), b"")
    await eventually(lambda: pair.given == [("x", "back")] and pair.taken == [message("there", kind)])


async def test_a_channel_that_asks_for_it_is_told_who_sent_what(meet: Meet) -> None:
    pair = await meet()
    await pair.open("chat", protocol=SENDER_PROTOCOL)
    for payload in ("hello", "", b"\x01", b""):
        pair.us.send(message(payload), b"Ad\xc3\xa1\n")
    told = ["Ad\u00e1\nhello", "Ad\u00e1\n", b"Ad\xc3\xa1\n\x01", b"Ad\xc3\xa1\n"]
    await eventually(lambda: [text for _, text in pair.given] == told)


async def test_a_peer_without_the_channel_gets_one_made(meet: Meet) -> None:
    pair = await meet()
    kind = ChannelKind("fast", "p", is_ordered=False, max_retransmits=2)
    for number in range(3):
        pair.us.send(message(f"{number}", kind), b"")
    await eventually(lambda: len(pair.given) == 3)
    (channel,) = pair.channels
    assert (channel.label, channel.protocol, channel.ordered, channel.maxRetransmits) == (
        "fast",
        "p",
        False,
        2,
    )
    channel.send("back")
    await eventually(lambda: pair.taken == [message("back", kind)])
    channel.close()
    await eventually(lambda: channel.readyState == "closed" and not pair.us._channels)
    pair.us.send(message("more", kind), b"")
    assert pair.us.drops == {DataDrop.NO_CHANNEL: 1}  # who closes it does not want it


async def test_the_channel_we_made_gives_way_to_the_peers_own(meet: Meet) -> None:
    pair = await meet()
    pair.us.send(message("one"), b"")
    await eventually(lambda: len(pair.given) == 1)
    (ours,) = pair.channels
    theirs = await pair.open("chat")
    await eventually(lambda: ours.readyState == "closed")
    pair.us.send(message("two"), b"")
    await eventually(lambda: len(pair.given) == 2)
    assert theirs.readyState == "open" and len(pair.channels) == 2


async def test_a_peer_may_open_with_numbers_of_our_side_as_werift_does(meet: Meet) -> None:
    pair = await meet()
    channel = await pair.open("odd", id=5)
    channel.send("here")
    await eventually(lambda: pair.taken == [message("here", ChannelKind("odd"))])


async def test_an_opening_on_a_channel_of_ours_closes_that(meet: Meet) -> None:
    pair = await meet()
    pair.us.send(message("one"), b"")
    await eventually(lambda: len(pair.given) == 1)
    (ours,) = pair.channels
    assert ours.id == 255
    await pair.send_chunks(pair.data(stream=255, text=ChannelKind("more").write(), protocol=50))
    await eventually(lambda: ours.readyState == "closed")
    assert pair.us.drops == {DataDrop.BAD_OPEN: 1} and await pair.is_alive()


async def test_a_peer_with_few_streams_gets_low_numbers_and_then_none(meet: Meet) -> None:
    pair = await meet()
    pair.association._sctp._outbound_streams_count = 5
    for number in range(4):
        pair.us.send(message(f"{number}", ChannelKind(f"{number}")), b"")
    await eventually(lambda: len(pair.given) == 2)
    assert [channel.id for channel in pair.channels] == [3, 1]
    assert pair.us.drops == {DataDrop.NO_CHANNEL: 2}


async def test_we_open_a_bounded_number_of_channels(meet: Meet) -> None:
    pair = await meet()
    for number in range(MAX_CHANNELS + 3):
        pair.us.send(message("x", ChannelKind(f"{number}")), b"")
    await eventually(lambda: len(pair.given) == MAX_CHANNELS)
    assert pair.us.drops == {DataDrop.NO_CHANNEL: 3}


async def test_the_seventeenth_channel_is_closed_and_the_others_work(meet: Meet) -> None:
    pair = await meet()
    channels = [await pair.open(f"{number}") for number in range(MAX_CHANNELS)]
    more = pair.create("one too many")
    await eventually(lambda: more.readyState == "closed")
    assert pair.us.drops == {DataDrop.TOO_MANY_CHANNELS: 1}
    for channel in channels:
        channel.send("here")
    await eventually(lambda: len(pair.taken) == MAX_CHANNELS)
    channels[0].close()
    await eventually(lambda: channels[0].readyState == "closed")
    again = await pair.open("in its place")
    again.send("here")
    await eventually(lambda: len(pair.taken) == MAX_CHANNELS + 1)


async def test_channels_that_come_and_go_leave_nothing(meet: Meet) -> None:
    pair = await meet()
    for number in range(100):
        channel = await pair.open(f"{number}")
        channel.send("here")
        channel.close()
        await eventually(lambda channel=channel: channel.readyState == "closed")  # type: ignore[misc]
    # The bucket of chunks that may be taken is not empty yet: 200 of 400.
    assert len(pair.taken) == 100 and not pair.us._channels and not pair.us.drops
    assert (
        len(pair.association._sctp._data_channels) <= 1 and len(pair.association._sctp._inbound_streams) <= 1
    )


async def test_a_message_that_is_too_long_closes_its_channel_only(meet: Meet) -> None:
    pair = await meet()
    pair.sctp._remote_max_message_size = 0
    channel, other = await pair.open("long"), await pair.open("other")
    channel.send(bytes(MAX_MESSAGE_BYTES + 1))
    await eventually(lambda: channel.readyState == "closed")
    other.send("here")
    await eventually(lambda: pair.taken == [message("here", ChannelKind("other"))])
    assert pair.us.drops == {DataDrop.TOO_LARGE: 1}


async def test_a_message_without_end_ends_sctp_and_nothing_else(meet: Meet) -> None:
    pair = await meet()
    channel = await pair.open("endless")
    for number in range(400):
        if channel.readyState != "open":
            break
        await pair.send_chunks(pair.data(ahead=number, flags=2 if number == 0 else 0, text=bytes(1000)))
        await asyncio.sleep(0)
    await eventually(lambda: channel.readyState == "closed")
    assert pair.us.drops == {DataDrop.ASSOCIATION: 1} and await pair.is_alive()


async def test_what_is_larger_than_the_peer_takes_is_not_sent(meet: Meet) -> None:
    pair = await meet()
    pair.us.follow(None)
    pair.us.follow(SctpParameters(5000, 1000))
    pair.us._channels[0] = datachannels._Channel(0, CHAT, is_ours=False, is_acknowledged=True)
    pair.association._sctp._association_state = RTCSctpTransport.State.ESTABLISHED
    pair.us.send(message(bytes(1001)), b"")
    assert pair.us.drops == {DataDrop.TOO_LARGE_FOR_PEER: 1} and not pair.us._waiting


async def test_a_reader_that_does_not_read_loses_the_newest_of_an_unreliable_channel(meet: Meet) -> None:
    pair = await meet()
    await pair.open("fast", maxRetransmits=0)
    pair.go_deaf()
    for _ in range(3000):
        pair.us.send(message(bytes(1000), ChannelKind("fast")), b"")
        assert pair.us._waiting_bytes <= MAX_QUEUED_BYTES
    inner = pair.association._sctp
    assert len(inner._sent_queue) + len(inner._outbound_queue) <= sctp.MAX_UNACKED_CHUNKS + 64
    held = sum(len(c.user_data) for c in (*inner._sent_queue, *inner._outbound_queue))
    assert held + pair.us._waiting_bytes < 1 << 20
    assert pair.us.drops[DataDrop.QUEUE_FULL] > 2000 and await pair.is_alive()


async def test_a_reader_that_does_not_read_loses_a_reliable_channel(meet: Meet) -> None:
    pair = await meet()
    await pair.open("chat")
    pair.go_deaf()
    for _ in range(3000):
        pair.us.send(message(bytes(1000)), b"")
    assert pair.us.drops[DataDrop.SLOW_READER] == 1 and not pair.us._waiting and not pair.us._channels
    # It is not replaced behind the peer's back.
    assert set(pair.us.drops) == {DataDrop.SLOW_READER, DataDrop.NO_CHANNEL}


async def test_messages_of_one_byte_count_for_more(meet: Meet) -> None:
    pair = await meet()
    await pair.open("fast", maxRetransmits=0)
    pair.go_deaf()
    for _ in range(10_000):
        pair.us.send(message(b"x", ChannelKind("fast")), b"")
    assert len(pair.us._waiting) < 6000 and pair.us.drops[DataDrop.QUEUE_FULL] > 4000


async def test_what_waits_longer_than_it_lives_is_not_sent(
    meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await meet()
    await pair.open("fast", maxPacketLifeTime=1000)
    monkeypatch.setattr(sctp, "MAX_UNACKED_CHUNKS", 0)
    pair.us.send(message("old", ChannelKind("fast")), b"")
    (waiting,) = pair.us._waiting
    object.__setattr__(waiting, "expires", 0.0)
    pair.us.send(message("new", ChannelKind("fast")), b"")
    monkeypatch.setattr(sctp, "MAX_UNACKED_CHUNKS", 100)
    pair.us._pump()
    await eventually(lambda: pair.given == [("fast", "new")])
    assert pair.us.drops == {DataDrop.EXPIRED: 1}


async def test_chunks_over_the_rate_come_again(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = await meet()
    channel = await pair.open("chat")
    monkeypatch.setattr(sctp, "CHUNK_BURST", 5)
    monkeypatch.setattr(sctp, "CHUNKS_PER_SECOND", 50)
    for number in range(20):
        channel.send(f"{number}")
    await eventually(lambda: len(pair.taken) == 20)
    assert [taken.payload for taken in pair.taken] == [b"%d" % number for number in range(20)]
    assert pair.us.drops[DataDrop.RATE_LIMITED] > 0


async def test_while_a_message_is_passed_on_no_other_is_read(
    meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await meet()
    channel = await pair.open("chat")
    gate = asyncio.Event()

    async def take(message: DataMessage) -> None:
        pair.taken.append(message)
        await gate.wait()

    monkeypatch.setattr(pair.us, "_on_message", take)
    channel.send("one")
    await eventually(lambda: pair.taken)
    channel.send("two")
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(pair.taken) == 1
    gate.set()
    await eventually(lambda: len(pair.taken) == 2)


async def test_what_comes_with_a_message_is_not_read_when_sctp_ends_meanwhile(
    meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await meet()
    await pair.open("chat")
    gate = asyncio.Event()

    async def take(message: DataMessage) -> None:
        pair.taken.append(message)
        await gate.wait()

    monkeypatch.setattr(pair.us, "_on_message", take)
    opening = pair.data(ahead=1, stream=2, text=ChannelKind("more").write(), protocol=50)
    await pair.send_chunks(pair.data(), opening, pair.data(ahead=2, stream_seq=1))
    await eventually(lambda: pair.taken)
    pair.us.follow(None)
    pair.us.follow(WANTED)
    gate.set()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(pair.taken) == 1 and not pair.us._channels and await pair.is_alive()


async def test_a_peer_that_is_gone_in_the_middle_of_a_message_leaves_nothing(meet: Meet) -> None:
    pair = await meet()
    await pair.open("chat")
    await pair.send_chunks(pair.data(flags=2, text=bytes(1000)))
    await eventually(lambda: any(s.reassembly for s in pair.association._sctp._inbound_streams.values()))
    await pair.client.close()
    await eventually(lambda: pair.reasons == ["closed by peer"])
    assert pair.taken == []


async def test_a_new_description_with_another_size_changes_nothing_else(meet: Meet) -> None:
    pair = await meet()
    channel = await pair.open("chat")
    association = pair.association
    pair.us.follow(SctpParameters(5000, 3))
    pair.us.send(message("long"), b"")
    pair.us.send(message("two"), b"")
    await eventually(lambda: pair.given == [("chat", "two")])
    assert pair.association is association and channel.readyState == "open"


async def test_sctp_ends_and_begins_again_with_the_descriptions(meet: Meet) -> None:
    pair = await meet()
    first = await pair.open("chat")
    pair.us.follow(None)
    await eventually(lambda: first.readyState == "closed")
    await pair.sctp.stop()
    pair.sctp = RTCSctpTransport(pair.client.dtls)
    pair.us.follow(WANTED)
    await pair.sctp.start(None, 5000)
    second = await pair.open("chat")
    second.send("again")
    await eventually(lambda: pair.taken == [message("again")])
    assert await pair.is_alive()
