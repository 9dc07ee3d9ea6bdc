"""A peer connection without network: it answers in words and notes what it is asked to do.

The stand-in for ``kaamos.rtc.connection.PeerConnection`` in tests of rooms and signaling.  An offer
is a text of lines: ``send audio 0`` and ``send video 1`` publish in a section, ``take video 2`` lets
it be used as a slot, ``peer x`` names its fingerprint; an offer that says ``bad`` is refused.
"""

import asyncio
from dataclasses import dataclass, field

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.media.description import Kind, UpTrackId
from kaamos.room.participant import Participant
from kaamos.rtc.channel import DataMessage

_uptracks = iter(range(1, 1_000_000_000))


@dataclass
class FakeConnection:
    """Notes calls; ``slots`` bounds how many tracks of a kind are played."""

    events: Participant
    slots: int = 16
    up_tracks: dict[str, UpTrackId] = field(default_factory=dict)
    playing: dict[str, tuple[UpTrackId, Kind, str, str]] = field(default_factory=dict)
    data: list[tuple[bytes, DataMessage]] = field(default_factory=list)  # on data channels
    is_closed: bool = False
    has_outstanding_offer: bool = False
    is_suspended: bool = False
    last_received: float = 0.0
    codecs: frozenset[int] = frozenset({1})  # in which it sends
    decodes: frozenset[int] = frozenset({1, 2, 3})
    narrow: dict[str, frozenset[int]] = field(default_factory=dict)  # sections that take less, by mid
    is_empty: bool = False  # all sections are stopped
    calls: int = 0  # what it was asked to play, to share, to switch and to stop
    offers_needed: int = 0  # changes that the client has to be told in SDP
    peer: str = ""  # what the last description said after "peer"
    candidates: tuple[dict[str, str | int], ...] = (
        {
            "candidate": "candidate:1 1 udp 2130706431 192.0.2.1 7882 typ host",
            "sdpMid": "0",
            "sdpMLineIndex": 0,
        },
        {
            "candidate": "candidate:2 1 udp 2130706175 192.0.2.2 7882 typ host",
            "sdpMid": "0",
            "sdpMLineIndex": 0,
        },
    )

    def receive_offer(self, sdp: str) -> str:
        if self.has_outstanding_offer:
            raise RemoteProtocolError(ErrorCode.GLARE, "our offer is out")
        if "bad" in sdp:
            raise RemoteProtocolError(ErrorCode.INVALID_SDP, "that is no SDP")
        self.peer = _peer(sdp)
        if self.events.client_negotiates:
            self.events.on_answering()
        self._take(sdp)
        return f"answer to {sdp}"

    def receive_answer(self, sdp: str) -> None:
        if not self.has_outstanding_offer:
            raise RemoteProtocolError(ErrorCode.STALE_NEGOTIATION, "no offer is out")
        if "bad" in sdp:
            raise RemoteProtocolError(ErrorCode.INVALID_SDP, "that is no SDP")
        self.has_outstanding_offer = False
        self._take(sdp)

    def _take(self, sdp: str) -> None:
        sent = {}
        for line in sdp.splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "send":
                sent[words[2]] = Kind(words[1])
        for mid in [mid for mid in self.up_tracks if mid not in sent]:
            del self.up_tracks[mid]
            self.events.on_unpublished(mid)
        for mid, kind in sent.items():
            if mid not in self.up_tracks:
                self.up_tracks[mid] = UpTrackId(next(_uptracks))
                self.events.on_published(mid, kind)

    def codecs_of(self, mid: str) -> frozenset[int]:
        return self.codecs

    def is_decodable(self, kind: Kind, codecs: frozenset[int]) -> bool:
        return not codecs.isdisjoint(self.decodes)

    def accepts(self, mid: str, codecs: frozenset[int]) -> bool:
        return not codecs.isdisjoint(self.narrow.get(mid, self.decodes))

    def is_paused(self, mid: str) -> bool:
        return False

    def paused(self, kind: Kind) -> int:
        return 0

    def play(
        self,
        source: UpTrackId,
        kind: Kind,
        codecs: frozenset[int],
        msid: tuple[str, str] | None,
        *,
        may_add: bool = True,
    ) -> str | None:
        assert not self.is_closed
        self.calls += 1
        if sum(played[1] is kind for played in self.playing.values()) >= self.slots:
            return None
        free = (f"s{n}" for n in range(1000) if f"s{n}" not in self.playing)
        mid = next(mid for mid in free if self.accepts(mid, codecs))
        self.playing[mid] = (source, kind, *(msid or ("slot", mid)))
        self.offers_needed += 1
        return mid

    def share(self, mid: str) -> None:
        self.calls += 1
        source, kind, stream_id, _ = self.playing[mid]
        assert stream_id != "slot", "it is shared already"
        self.playing[mid] = (source, kind, "slot", mid)
        self.offers_needed += 1

    def switch(self, mid: str, source: UpTrackId) -> None:
        self.calls += 1
        _, kind, stream_id, track_id = self.playing[mid]
        assert stream_id == "slot", "only a shared slot changes its source"
        self.playing[mid] = (source, kind, stream_id, track_id)

    def stop(self, mid: str) -> None:
        assert not self.is_closed
        self.calls += 1
        del self.playing[mid]
        self.offers_needed += 1

    def offer(self) -> None:
        """Do what the real one does 50 ms after a change."""
        self.has_outstanding_offer = True
        self.events.on_offer(f"offer of {sorted(self.playing)}")

    def send_data(self, message: DataMessage, head: bytes) -> None:
        assert not self.is_closed
        self.data.append((head, message))

    def suspend(self) -> None:
        self.is_suspended = True
        self.has_outstanding_offer = False

    def resume(self) -> None:
        self.suspend()
        self.is_suspended = False

    def is_from_same_peer(self, sdp: str) -> bool:
        return _peer(sdp) == self.peer

    def silence(self) -> None:
        pass

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_closed = True


def _peer(sdp: str) -> str:
    return next((line[5:] for line in sdp.splitlines() if line.startswith("peer ")), "")


class FakeConnections:
    """The factory: remembers every connection it made, by user id."""

    def __init__(self, slots: int = 16) -> None:
        self.slots = slots
        self.decodes = frozenset({1, 2, 3})
        self.by_user: dict[str, FakeConnection] = {}

    def __call__(self, participant: Participant) -> FakeConnection:
        connection = self.by_user[participant.user_id] = FakeConnection(participant, self.slots)
        connection.decodes = self.decodes
        return connection
