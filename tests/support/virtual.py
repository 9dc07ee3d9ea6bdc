"""Rooms with real connections of peers that are models, in a time that passes only when a test lets it.

Descriptions are real on both sides; media and its transport are not there.
"""

import asyncio
import itertools
import selectors
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import OfferMade, OfferWanted, ParticipantList, RoomEvent, SectionInfo, Source
from kaamos.media.description import Kind, UpTrackId
from kaamos.room.participant import Participant
from kaamos.room.room import Rooms
from kaamos.rtc import connection as connection_module
from kaamos.rtc.bundle import RemoteTransport
from kaamos.rtc.connection import PeerConnection
from kaamos.rtc.dtls import Certificate
from tests.support.fake_engine import FakeEngine
from tests.support.negotiation import LOCAL
from tests.support.sdp_peer import SdpPeer

CERTIFICATE = Certificate()
RESTARTS = itertools.count(100)
USUAL = {Kind.AUDIO: Source.MICROPHONE, Kind.VIDEO: Source.CAMERA}
FITTING = {
    Kind.AUDIO: (Source.MICROPHONE, Source.SCREEN_SHARE_AUDIO),
    Kind.VIDEO: (Source.CAMERA, Source.SCREEN_SHARE),
}


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that jumps to its next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Impatient(self))

    def time(self) -> float:
        return self.now


class _Impatient(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self._loop.now += timeout
        return ready


class StillTransport:
    """What a PeerConnection needs of a transport, without a network."""

    def __init__(
        self, engine: FakeEngine, certificate: Certificate, addresses: Sequence[str], **on: Any
    ) -> None:
        self.id = engine.add_transport("ufrag", "pwd", lambda kind, data, path: None)
        self.local = LOCAL
        self.data = self
        self.remote: RemoteTransport | None = None
        self._engine = engine
        self._on_closed = on["on_closed"]

    def start(self, remote: RemoteTransport) -> None:
        self.remote = remote

    def restart_ice(self, remote: RemoteTransport) -> None:
        self.remote = remote
        number = next(RESTARTS)
        self.local = replace(self.local, ufrag=f"server{number}", pwd=f"{number:024}")

    def resume_restart(self, remote: RemoteTransport) -> None:
        self.remote = remote

    def follow(self, sctp: object) -> None:
        """No data channel is opened."""

    def end(self, reason: str) -> None:
        self._on_closed(reason)

    async def close(self) -> None:
        if self.id in self._engine.transports:
            self._engine.remove_transport(self.id)


@dataclass(eq=False)
class Member:
    """Somebody in the room: the model of a peer, and what is under way between it and the server."""

    participant: Participant = field(init=False)
    peer: SdpPeer = field(default_factory=SdpPeer)
    # "offer", "answer" or "negotiate", the id of the offer, and the text, with the sources, or the numbers.
    up: deque[tuple[str, str, str, dict[str, Source]]] = field(default_factory=deque)
    down: deque[tuple[str, str, Any]] = field(default_factory=deque)
    removed: list[str] = field(default_factory=list)
    asked: list[OfferWanted] = field(default_factory=list)
    errors: list[ErrorCode] = field(default_factory=list)
    offers: int = 0
    named: dict[str, Source] = field(default_factory=dict)  # what it said of its tracks, by their id
    told: dict[str, Source] = field(default_factory=dict)  # what it was told last of any track

    def hear(self, event: RoomEvent) -> None:
        if isinstance(event, ParticipantList):
            self.told |= {track.track: track.source for p in event.participants for track in p.tracks}
        elif isinstance(event, OfferMade):
            self._read(event.sections)
            self.down.append(("offer", event.offer_id, event.sdp))
        elif isinstance(event, OfferWanted):
            self.asked.append(event)
            self.down.append(("negotiate", "", event))

    def offer(self) -> None:
        self.offers += 1
        sdp = self.peer.offer()
        self.up.append(("offer", f"mine-{self.offers}", sdp, self._sources()))

    def _sources(self) -> dict[str, Source]:
        lines = self.peer.transceivers
        return {line.mid: Source(line.source) for line in lines if line.mid and line.source}

    def _read(self, sections: Mapping[str, SectionInfo]) -> None:
        for section in sections.values():
            for track in (section.receives, section.sends):
                if track is not None:
                    self.told[track.track] = track.source

    def server_receives(self) -> None:
        what, id, sdp, sources = self.up.popleft()
        try:
            if what == "offer":
                answer = self.participant.receive_offer(sdp, sources)
                self._read(answer.sections)
                self.down.append(("answer", id, answer.sdp))
            else:
                self.participant.receive_answer(sdp, sources, id)
        except RemoteProtocolError as error:
            self.errors.append(error.code)
            assert error.code in (ErrorCode.GLARE, ErrorCode.STALE_NEGOTIATION)
            return
        for mid, publication in self.participant.publications.items():
            kind = publication.kind
            if mid in sources:
                self.named[publication.track_id] = (
                    sources[mid] if sources[mid] in FITTING[kind] else USUAL[kind]
                )
            else:
                self.named.setdefault(publication.track_id, USUAL[kind])

    def peer_receives(self) -> None:
        what, id, content = self.down.popleft()
        if what == "offer":
            sdp = self.peer.answer(content)
            self.up.append(("answer", id, sdp, self._sources()))
        elif what == "negotiate":
            if self.peer.pending is None:
                for kind in Kind:
                    for _ in range(getattr(content, kind.value)):
                        self.peer.add(kind.value, "recvonly")
                self.offer()
        elif self.peer.pending is not None and id == f"mine-{self.offers}":
            self.peer.accept(content)

    def deliver(self) -> None:
        """Let everything under way arrive."""
        while self.up or self.down:
            if self.up:
                self.server_receives()
            else:
                self.peer_receives()

    def come_back(self) -> None:
        """Break the socket: what is under way is lost, and the peer rolls back; then go on."""
        self.participant.suspend()
        self.up.clear()
        self.down.clear()
        if self.peer.pending is not None:
            self.peer.rollback()
        self.participant.resume()

    @property
    def wants_to_offer(self) -> bool:
        is_new = not self.peer.lines and any(not line.is_stopped for line in self.peer.transceivers)
        return self.peer.pending is None and (is_new or self.peer.needs_offer)

    @property
    def shown(self) -> dict[str, str]:
        """What the peer was told that plays, by mid."""
        return {line.mid or "": line.showing for line in self.peer.lines if line.is_alive and line.showing}


class Hall:
    """One room of real connections; to be used inside ``with``, with a loop of its own."""

    def __init__(self, *, slots: tuple[int, int] = (16, 8)) -> None:
        self.loop = VirtualLoop()
        self.engine = FakeEngine()
        self.members: list[Member] = []
        self.rooms = self._run(lambda: self._make_rooms(slots))
        self._names = itertools.count()

    def _make_rooms(self, slots: tuple[int, int]) -> Rooms:
        return Rooms(
            self._connect,
            ttl_s=0,
            max_rooms=0,
            max_participants=0,
            slots={Kind.VIDEO: slots[0], Kind.AUDIO: slots[1]},
            clock=self.loop.time,
        )

    def _connect(self, participant: Participant) -> PeerConnection:
        transport, connection_module.PeerTransport = connection_module.PeerTransport, StillTransport  # type: ignore
        try:
            return PeerConnection(
                self.engine,  # type: ignore[arg-type]
                CERTIFICATE,
                ["127.0.0.1"],
                cname="kaamos",
                slots=participant.reception.limits,
                events=participant,
                client_negotiates=participant.client_negotiates,
            )
        finally:
            connection_module.PeerTransport = transport  # type: ignore[misc]

    def _run(self, act: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return act()

        return self.loop.run_until_complete(run())

    def do(self, act: Callable[[], Any]) -> Any:
        """Do something inside the loop, and let what it started begin."""
        result = self._run(act)
        self.wait(0.0)
        return result

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def join(self, *, client_negotiates: bool = False) -> Member:
        member = Member()

        def join() -> None:
            member.participant = self.rooms.enter("hall").join(
                f"user-{next(self._names)}",
                None,
                outbox=member.hear,
                on_removed=member.removed.append,
                client_negotiates=client_negotiates,
            )

        self.do(join)
        self.members.append(member)
        return member

    def settle(self) -> None:
        """Let everything arrive and the server say all it has to say, until nothing more happens."""
        for _ in range(40):
            for member in self.members:
                self.do(member.deliver)
                if member.wants_to_offer:
                    self.do(member.offer)
            self.wait(0.3)
            if not any(member.up or member.down or member.wants_to_offer for member in self.members):
                return
        raise AssertionError("the negotiation does not end")

    def playing(self, member: Member) -> dict[str, UpTrackId]:
        """What the engine sends to somebody, by mid."""
        connection = member.participant.connection
        if connection is None:
            return {}
        return {
            self.engine.down_tracks[did][1].mid: uid
            for did, uid in self.engine.playing.items()
            if self.engine.down_tracks[did][0] == connection._transport.id
        }

    def close(self) -> None:
        self.loop.run_until_complete(self.rooms.close())
        self.loop.close()
