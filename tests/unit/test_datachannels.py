"""Data channels of one peer: aiortc's SCTP against ours, honest, clumsy and hostile."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aioice
import pytest
from aiortc import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import (
    AbortChunk,
    Chunk,
    CookieEchoChunk,
    DataChunk,
    ForwardTsnChunk,
    HeartbeatChunk,
    InitChunk,
    ReconfigChunk,
    RTCSctpTransport,
    SackChunk,
    ShutdownChunk,
    serialize_packet,
)

from kaamos.rtc import datachannels, sctp
from kaamos.rtc.application import SctpParameters
from kaamos.rtc.channel import MAX_CHANNELS, MAX_MESSAGE_BYTES, ChannelKind, DataDrop, DataMessage
from kaamos.rtc.datachannels import MAX_QUEUED_BYTES, SENDER_PROTOCOL
from kaamos.rtc.dtls import Certificate
from kaamos.rtc.transport import PeerTransport
from tests.support.fake_engine import FakeEngine
from tests.support.ortc import OrtcClient, assert_no_complaints, eventually, only_tasks

CERTIFICATE = Certificate()
WANTED = SctpParameters(port=5000, max_message_bytes=262144)
CHAT = ChannelKind("chat")


class Pair:
    """A served transport and an aiortc client that have SCTP between them."""

    def __init__(self, engine: FakeEngine, dtls_role: str = "client") -> None:
        self.taken: list[DataMessage] = []
        self.is_connected = False
        self.reasons: list[str] = []
        self.transport = PeerTransport(
            engine,  # type: ignore[arg-type]
            CERTIFICATE,
            ["127.0.0.1"],
            on_connected=self._note_connected,
            on_closed=self.reasons.append,
            on_data=self.take,
        )
        self.us = self.transport.data
        self.client = OrtcClient(dtls_role=dtls_role)
        self.sctp = RTCSctpTransport(self.client.dtls)
        self.sctp.on("datachannel", self._note_channel)
        self.given: list[tuple[str, str | bytes]] = []  # to the client, by label
        self.channels: list[RTCDataChannel] = []

    async def take(self, message: DataMessage) -> None:
        self.taken.append(message)

    def _note_connected(self) -> None:
        self.is_connected = True

    def _note_channel(self, channel: RTCDataChannel) -> None:
        self.channels.append(channel)
        channel.on("message", lambda message: self.given.append((channel.label, message)))

    async def meet(self) -> None:
        self.us.follow(WANTED)
        self.transport.start(self.client.remote)
        await self.client.connect(self.transport.local)
        await self.sctp.start(None, 5000)
        await eventually(lambda: self.is_connected and self.sctp.state == "connected")
        await eventually(lambda: self.association.is_established)

    def create(self, label: str, **options: Any) -> RTCDataChannel:
        channel = RTCDataChannel(self.sctp, RTCDataChannelParameters(label=label, **options))
        self._note_channel(channel)
        return channel

    async def open(self, label: str, **options: Any) -> RTCDataChannel:
        channel = self.create(label, **options)
        await eventually(lambda: channel.readyState == "open")
        return channel

    async def send_chunks(self, *chunks: Chunk | bytes, tag: int | None = None) -> None:
        """Send a packet of these chunks with a right checksum, under the client's hand."""
        tag = self.sctp._remote_verification_tag if tag is None else tag
        packet = serialize_packet(5000, 5000, tag, _Chunks(chunks))
        await self.client.dtls._send_data(packet)

    def data(
        self, *, ahead: int = 0, stream: int = 0, flags: int = 3, text: bytes = b"hi", **fields: Any
    ) -> DataChunk:
        """A chunk of data with the client's next number, or one so far ahead of it."""
        chunk = DataChunk(flags)
        chunk.tsn = (self.sctp._local_tsn + ahead) % 2**32
        chunk.stream_id, chunk.protocol, chunk.user_data = stream, 51, text
        for name, value in fields.items():
            setattr(chunk, name, value)
        return chunk

    async def is_alive(self) -> bool:
        """Whether a record still gets through to OpenSSL on our side and nothing has ended."""
        return self.client.dtls.state == "connected" and self.reasons == []

    @property
    def association(self) -> sctp.SctpAssociation:
        assert self.us._association is not None
        return self.us._association

    async def close(self) -> None:
        await self.sctp.stop()
        await self.transport.close()
        await self.client.close()


class _Chunks(Chunk):
    def __init__(self, chunks: tuple[Chunk | bytes, ...]) -> None:
        self.chunks = chunks

    def __bytes__(self) -> bytes:
        return b"".join(map(bytes, self.chunks))


Meet = Callable[..., Coroutine[Any, Any, Pair]]


@pytest.fixture
async def meet(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Meet]:
    """Makes connected pairs; afterwards nothing may be left of them, and nothing was complained about."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    before = asyncio.all_tasks()
    engine = FakeEngine()
    engine.open()
    pairs: list[Pair] = []

    async def make(dtls_role: str = "client") -> Pair:
        pairs.append(Pair(engine, dtls_role))
        await pairs[-1].meet()
        return pairs[-1]

    yield make
    for pair in pairs:
        await pair.close()
        assert not pair.us._channels and not pair.us._waiting and pair.us._waiting_bytes == 0
    engine.close()
    await only_tasks(before)
    assert_no_complaints(caplog)


def message(payload: str | bytes, kind: ChannelKind = CHAT) -> DataMessage:
    if isinstance(payload, str):
        return DataMessage(kind, True, payload.encode())
    return DataMessage(kind, False, payload)


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
    await pair.send_chunks(dcep(ChannelKind("more").write(), 255)(pair))
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


def go_deaf(pair: Pair) -> None:
    """Let the client read nothing of SCTP any more."""

    async def ignore(data: bytes) -> None:
        pass

    pair.sctp._handle_data = ignore  # type: ignore[method-assign]


async def test_a_reader_that_does_not_read_loses_the_newest_of_an_unreliable_channel(meet: Meet) -> None:
    pair = await meet()
    await pair.open("fast", maxRetransmits=0)
    go_deaf(pair)
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
    go_deaf(pair)
    for _ in range(3000):
        pair.us.send(message(bytes(1000)), b"")
    assert pair.us.drops[DataDrop.SLOW_READER] == 1 and not pair.us._waiting and not pair.us._channels
    # It is not replaced behind the peer's back.
    assert set(pair.us.drops) == {DataDrop.SLOW_READER, DataDrop.NO_CHANNEL}


async def test_messages_of_one_byte_count_for_more(meet: Meet) -> None:
    pair = await meet()
    await pair.open("fast", maxRetransmits=0)
    go_deaf(pair)
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


# What a hostile peer sends, and whether SCTP goes on after it.


def gaps(*found: tuple[int, int], cumulative: int = 0) -> Callable[[Pair], Chunk]:
    def make(pair: Pair) -> Chunk:
        chunk = SackChunk()
        chunk.cumulative_tsn = (pair.sctp._last_received_tsn + cumulative) % 2**32
        chunk.gaps = list(found)
        return chunk

    return make


def reset(*streams: int, last_ahead: int = -1) -> Callable[[Pair], Chunk]:
    def make(pair: Pair) -> Chunk:
        chunk = ReconfigChunk()
        body = struct.pack("!LLL", 77, 0, (pair.sctp._local_tsn + last_ahead) % 2**32)
        chunk.params.append((13, body + b"".join(struct.pack("!H", stream) for stream in streams)))
        return chunk

    return make


def forward(ahead: int, *streams: tuple[int, int]) -> Callable[[Pair], Chunk]:
    def make(pair: Pair) -> Chunk:
        chunk = ForwardTsnChunk()
        chunk.cumulative_tsn = (pair.sctp._local_tsn + ahead) % 2**32
        chunk.streams = list(streams)
        return chunk

    return make


def filled(chunk: Chunk, **fields: object) -> Callable[[Pair], Chunk]:
    def make(pair: Pair) -> Chunk:
        for name, value in fields.items():
            setattr(chunk, name, value)
        return chunk

    return make


def dcep(text: bytes, stream: int) -> Callable[[Pair], Chunk]:
    return lambda pair: pair.data(stream=stream, text=text, protocol=50)


OPEN = ChannelKind("more").write()
GOES_ON: dict[str, Callable[[Pair], Chunk | bytes]] = {
    "lengths that lie": lambda pair: b"\x00\x03\x00\x00",
    "a parameter without length": lambda pair: b"\x82\x00\x00\x08\x00\x0d\x00\x00",
    "a gap of everything": gaps((1, 65535)),
    "gaps backwards": gaps((5, 6), (2, 3)),
    "a gap that ends before it begins": gaps((3, 1)),
    "an acknowledgement of what was not sent": gaps(cumulative=1000),
    "an old acknowledgement": gaps(cumulative=-5),
    "an INIT in the middle": filled(InitChunk(), initial_tsn=5, initiate_tag=1),
    "a forged cookie": filled(CookieEchoChunk(), body=bytes(24)),
    "a heartbeat": filled(HeartbeatChunk(), params=[(1, bytes(1000))]),
    "data far ahead": lambda pair: pair.data(ahead=600),
    "data on no channel": lambda pair: pair.data(stream=500),
    "data of no kind": lambda pair: pair.data(protocol=99),
    "text that is none": lambda pair: pair.data(text=b"\xff\xfe"),
    "an opening cut short": dcep(OPEN[:-2], 4),
    "an opening far away": dcep(OPEN, 40_000),
    "nonsense of the channel protocol": dcep(b"\x09", 6),
    "an acknowledgement of no opening": dcep(b"\x02", 8),
    "a reset of what was never open": reset(9, 10, 65535),
    "a reset later than anything": reset(9, last_ahead=10_000),
    "a forward for streams that are not there": forward(0, (7, 7), (65535, 1)),
    "unknown chunks": lambda pair: b"\x40\x00\x00\x08abcd" * 20,
}
ENDS: dict[str, Callable[[Pair], Chunk | bytes]] = {
    "an abort": filled(AbortChunk()),
    "a shutdown": filled(ShutdownChunk()),
}


@pytest.mark.parametrize("name", GOES_ON)
async def test_after_a_bad_packet_the_channels_go_on(meet: Meet, name: str) -> None:
    pair = await meet()
    channel = await pair.open("chat")
    channel.send("before")
    await eventually(lambda: len(pair.taken) == 1)
    made = GOES_ON[name](pair)
    await pair.send_chunks(made, tag=0 if isinstance(made, InitChunk) else None)
    if isinstance(made, DataChunk | ForwardTsnChunk):
        pair.sctp._local_tsn = (pair.sctp._local_tsn + 1) % 2**32  # it used its next number up
    channel.send("after")
    await eventually(lambda: len(pair.taken) == 2)
    assert await pair.is_alive() and channel.readyState == "open"


@pytest.mark.parametrize("name", ENDS)
async def test_sctp_can_end_and_the_call_goes_on(meet: Meet, name: str) -> None:
    pair = await meet()
    await pair.open("chat")
    await pair.send_chunks(ENDS[name](pair))
    await eventually(lambda: not pair.association.is_established)
    pair.us.send(message("nobody hears"), b"")
    assert await pair.is_alive()


async def test_streams_that_are_never_let_go_end_sctp(meet: Meet) -> None:
    pair = await meet()
    go_deaf(pair)
    for number in range(100):
        await pair.send_chunks(pair.data(ahead=number, stream=2 * number, text=OPEN, protocol=50))
        await asyncio.sleep(0)
    await eventually(lambda: not pair.association.is_established)
    assert len(pair.association._sctp._data_channels) == 0 and await pair.is_alive()


async def test_numbers_out_of_order_are_kept_within_the_window(meet: Meet) -> None:
    pair = await meet()
    await pair.open("chat")
    inner = pair.association._sctp
    for number in range(1, 300):
        await pair.send_chunks(pair.data(ahead=2 * number, text=b"x"), pair.data(ahead=2 * number, text=b"x"))
        await asyncio.sleep(0)
    await eventually(lambda: pair.us.drops[DataDrop.AHEAD] + pair.us.drops[DataDrop.RATE_LIMITED] > 40)
    assert len(inner._sack_misordered) <= sctp.TSN_WINDOW // 2 and len(inner._sack_duplicates) <= 16
    assert await pair.is_alive()
