"""A served transport and an aiortc client with SCTP between them, for tests of either side's manners."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aioice
import pytest
from aiortc import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import (
    Chunk,
    DataChunk,
    RTCSctpTransport,
    serialize_packet,
)

from kaamos.rtc import sctp
from kaamos.rtc.application import SctpParameters
from kaamos.rtc.channel import ChannelKind, DataMessage
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

    def go_deaf(self) -> None:
        """Let the client read nothing of SCTP any more."""

        async def ignore(data: bytes) -> None:
            pass

        self.sctp._handle_data = ignore  # type: ignore[method-assign]

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
