"""PeerConnection: negotiation, transport and engine tracks of one participant, and when to offer.

The Negotiator knows what the two sides agreed on, the engine moves the media; this module keeps the
second in step with the first, after every description, and holds the timers that a sans-IO
Negotiator cannot have.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from kaamos.errors import LocalProtocolError, RemoteProtocolError
from kaamos.media.description import DownTrackConfig, DownTrackId, Kind, UpTrackConfig, UpTrackId
from kaamos.media.engine import Engine
from kaamos.rtc.capabilities import decodable_as
from kaamos.rtc.channel import DataMessage
from kaamos.rtc.dtls import Certificate
from kaamos.rtc.negotiation import Mid, Negotiator
from kaamos.rtc.sdp import Description
from kaamos.rtc.transport import PeerTransport

# docs/protocol.md, Negotiation.
GATHER_S = 0.05  # changes that come within this time go out in one offer
ANSWER_TIMEOUT_S = 10.0  # then the offer is sent once more, and after as long again we give up

# A client that came back offers first if it has anything to change, and it gets this long to do so.
RESUME_S = 0.2

# Down-tracks live as long as the connection, because their SSRCs do.  A peer that refuses sections
# and gets new ones instead may not make more of them than this times the slots it may fill.
DOWN_TRACKS_A_SLOT = 4

# The stream of a slot that plays one person now and another one later: nothing is in sync with it.
SHARED_STREAM = "slot"


class ConnectionEvents(Protocol):
    """Who a connection reports to.  No method is called after :meth:`PeerConnection.close`."""

    def on_offer(self, sdp: str) -> None:
        """Send this offer to the client; the same text again where the answer did not come."""

    def on_answering(self) -> None:
        """The client, which makes all offers, gets its answer next; what plays by then is in it."""

    def missing(self, kind: Kind) -> int:
        """Return how many more slots there would be something for."""

    def on_offer_wanted(self, missing: Mapping[Kind, int]) -> None:
        """Ask the client for an offer, with so many more sections to receive in."""

    def on_published(self, mid: str, kind: Kind) -> None:
        """The client may send in this section now; ``up_tracks`` has it."""

    def on_unpublished(self, mid: str) -> None:
        """The client sends in this section no more."""

    def on_codec(self, mid: str, codec_id: int) -> None:
        """The client sends this codec in a section from now on."""

    def on_connected(self) -> None:
        """Media can flow."""

    async def on_data(self, message: DataMessage) -> None:
        """The client sent this on a data channel; nothing more is read from it until this returns."""

    def on_closed(self, reason: str) -> None:
        """The connection has ended by itself; nothing follows."""


@dataclass(slots=True)
class _DownTrack:
    """The engine's track behind a slot."""

    id: DownTrackId
    config: DownTrackConfig
    source: UpTrackId | None = None  # what the engine plays there


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a slot is to play."""

    source: UpTrackId
    kind: Kind
    stream_id: str
    track_id: str
    is_renamed: bool = False  # to a shared slot; until that is agreed, what plays goes on


class PeerConnection:
    """The connection of one participant; made inside the running loop.

    With ``client_negotiates`` it makes no offers: where it would, it asks the client for one.
    ``slots``: so many tracks of each kind are played at most.  Codecs are named by capabilities.decodable_as.

    Attributes:
        up_tracks: what the client publishes now, by mid.
        candidates: ours, as ``RTCIceCandidateInit`` objects; empty before the first answer.
    """

    def __init__(
        self,
        engine: Engine,
        certificate: Certificate,
        addresses: Sequence[str],
        *,
        cname: str,
        slots: Mapping[Kind, int],
        events: ConnectionEvents,
        client_negotiates: bool = False,
    ) -> None:
        self.up_tracks: dict[str, UpTrackId] = {}
        self.candidates: tuple[dict[str, str | int], ...] = ()
        self._engine = engine
        self._slots = slots
        self._max_down_tracks = DOWN_TRACKS_A_SLOT * sum(slots.values())
        self._events = events
        self._client_negotiates = client_negotiates
        self._transport = PeerTransport(
            engine,
            certificate,
            addresses,
            on_connected=events.on_connected,
            on_closed=self._ended,
            on_data=self._take_data,
        )
        self._negotiator = Negotiator(
            self._transport.local,
            session_id=secrets.randbits(62),  # RFC 9429 section 5.2.1: it has to fit into 63 bits
            cname=cname,
            new_ssrc=lambda: secrets.randbits(32),
        )
        self._up_configs: dict[str, UpTrackConfig] = {}
        self._down_tracks: dict[Mid, _DownTrack] = {}
        self._wishes: dict[Mid, _Wish] = {}
        self._made: list[Mid] = []  # sections that we added
        self._timer: asyncio.TimerHandle | None = None  # for gathering, or for the answer
        self._is_started = False
        self._is_closed = False
        self._is_suspended = False
        self._is_resuming = False  # the timer is that of resume()

    def receive_offer(self, sdp: str) -> str:
        """Take an offer of the client and return the answer; ``events`` hears what it published.

        Raises:
            RemoteProtocolError: INVALID_SDP, or GLARE while our own offer is out; nothing changes.
            LocalProtocolError: the connection is closed.
        """
        self._check_open()
        before = self._negotiator.remote
        self._negotiator.receive_offer(sdp)
        remote = self._negotiator.remote
        if remote is not None and remote.restarts_ice_of(before):
            self._transport.restart_ice(remote)
            self._negotiator.local = self._transport.local
        if self._is_resuming:
            self._is_resuming = False
            self._stop_timer()
        self._renew_wishes()
        if self._client_negotiates:
            self._events.on_answering()
        answer = self._negotiator.create_answer()
        if not self.candidates:
            self.candidates = self._read_candidates(answer)
        self._follow()
        return answer

    def receive_answer(self, sdp: str) -> None:
        """Take the client's answer to our offer.

        Raises:
            RemoteProtocolError: STALE_NEGOTIATION where no offer is out, or INVALID_SDP; the offer
                stays out then, and its time runs on.
            LocalProtocolError: the connection is closed.
        """
        self._check_open()
        before = self._negotiator.remote
        try:
            self._negotiator.receive_answer(sdp)
        except RemoteProtocolError:
            self._plan_offer()  # the second answer to a repeated offer makes a further one needed
            raise
        remote = self._negotiator.remote
        if remote is not None and remote.restarts_ice_of(before):
            self._transport.resume_restart(remote)
        self._stop_timer()
        self._renew_wishes()
        self._follow()

    def codecs_of(self, mid: str) -> frozenset[int]:
        """Return the codecs in which the client may send in one of ``up_tracks``."""
        return frozenset(decodable_as(codec.codec_id) for codec in self._up_configs[mid].codecs)

    def is_decodable(self, kind: Kind, codecs: frozenset[int]) -> bool:
        """Return whether the client can receive one of these codecs, as far as it has told.

        Its own sections may be narrower than it is; a section that we have made, with all codecs, tells.
        """
        if self._is_closed:
            return False
        if any(self.accepts(mid, codecs) for mid in self._negotiator.receiving_sections(kind)):
            return True
        if self._client_negotiates and self._negotiator.receiving_sections(kind):
            return False
        has_told = any(map(self._negotiator.is_answered, self._made_of(kind)))
        return not has_told and self._negotiator.can_add_section

    def accepts(self, mid: str, codecs: frozenset[int]) -> bool:
        """Return whether a slot takes one of these codecs, and anything now."""
        if self.is_paused(mid):
            return False
        return not codecs.isdisjoint(self._negotiator.codecs_of(Mid(mid)))

    def is_paused(self, mid: str) -> bool:
        """Return whether the client does not receive in a slot now, and has not given it up."""
        return self._negotiator.is_paused(Mid(mid))

    def paused(self, kind: Kind) -> int:
        """Return how many slots of a kind are paused."""
        return len(self._negotiator.paused_sections(kind))

    def play(
        self,
        source: UpTrackId,
        kind: Kind,
        codecs: frozenset[int],
        msid: tuple[str, str] | None,
        *,
        may_add: bool = True,
    ) -> Mid | None:
        """Play an up-track of the engine and return the slot's mid, or None: there is no slot to be had.

        ``msid``: its stream and track, None for a shared slot.  The slot plays when the client has agreed;
        an offer goes out within 50 ms.  ``may_add``: a section may be made for it.
        """
        mid = None if self._is_closed else self._find_slot(kind, codecs, may_add=may_add)
        if mid is not None:
            stream_id, track_id = msid or (SHARED_STREAM, mid)
            self._wishes[mid] = _Wish(source, kind, stream_id, track_id)
            self._negotiator.play(mid, stream_id, track_id)
        self._plan_offer()
        return mid

    def share(self, mid: str) -> None:
        """Make a slot that plays a shared one; what plays there goes on while that is offered."""
        slot = Mid(mid)
        wish = self._wishes.get(slot)
        if self._is_closed or wish is None:
            return
        self._wishes[slot] = replace(wish, stream_id=SHARED_STREAM, track_id=mid, is_renamed=True)
        if slot in self._negotiator.receiving_sections(wish.kind):
            self._negotiator.play(slot, SHARED_STREAM, mid)
        self._plan_offer()

    def switch(self, mid: str, source: UpTrackId) -> None:
        """Play another up-track in a shared slot: at once, or when the client knows that it is shared."""
        slot = Mid(mid)
        wish = self._wishes.get(slot)
        if self._is_closed or wish is None:
            return
        self._wishes[slot] = replace(wish, source=source, is_renamed=False)
        self._play_down(slot, source if self._negotiator.is_sendable(slot) else None)

    def stop(self, mid: str) -> None:
        """Let a slot play nothing any more; one that plays nothing is left as it is."""
        slot = Mid(mid)
        if self._is_closed or self._wishes.pop(slot, None) is None:
            return
        self._negotiator.stop(slot)
        self._play_down(slot, None)
        self._plan_offer()

    def send_data(self, message: DataMessage, head: bytes) -> None:
        """Send somebody else's message on the client's channel of the same label; never waits.

        ``head`` goes before the payload where the channel asks for it (:mod:`kaamos.rtc.datachannels`).
        """
        if not self._is_closed:
            self._transport.data.send(message, head)

    def suspend(self) -> None:
        """Make no offers, because nobody would hear them; one that is out no longer stands."""
        self._is_suspended = True
        self._stop_timer()
        self._negotiator.withdraw_offer()

    def resume(self) -> None:
        """Offer afresh, after the client's next offer where that leaves a need, or soon without it."""
        self.suspend()
        self._is_suspended = False
        if not self._is_closed:
            self._is_resuming = True
            self._start_timer(RESUME_S, self._send_offer)

    @property
    def is_empty(self) -> bool:
        """Return whether the last description left no section that both sides accept."""
        return self._negotiator.is_empty

    @property
    def last_received(self) -> float:
        """Return when the peer last proved itself, in monotonic seconds; 0.0 when it never did."""
        return 0.0 if self._is_closed else self._engine.last_received(self._transport.id)

    def is_from_same_peer(self, sdp: str) -> bool:
        """Return whether a description has the peer's fingerprint as we know it.

        Raises:
            RemoteProtocolError: INVALID_SDP.
        """
        remote = self._negotiator.remote
        description = Description.parse(sdp)
        told = {
            (fingerprint.algorithm, fingerprint.value)
            for block in (description.session, *description.media)
            for fingerprint in block.fingerprints
        }
        return remote is None or not told or not told.isdisjoint(remote.fingerprints)

    def silence(self) -> None:
        """Report nothing more; to be closed soon."""
        self._is_closed = True
        self._stop_timer()

    async def close(self) -> None:
        """Say goodbye and release everything.  May be called again, and after ``on_closed``."""
        self._is_closed = True
        self._stop_timer()
        await self._transport.close()

    # After a description

    def _follow(self) -> None:
        """Bring transport and engine into step with what is negotiated now."""
        remote = self._negotiator.remote
        if remote is not None and not self._is_started:
            self._is_started = True
            self._transport.start(remote)
        self._follow_down()
        self._follow_up()
        self._transport.data.follow(self._negotiator.sctp)
        self._plan_offer()

    def _follow_down(self) -> None:
        sections = self._negotiator.down_sections
        for mid, track in self._down_tracks.items():
            if mid in sections and sections[mid].config != track.config:
                track.config = sections[mid].config
                self._engine.update_downtrack(track.id, track.config)
        for mid, wish in self._wishes.items():
            is_live = self._negotiator.is_sendable(mid) or (
                wish.is_renamed and self._negotiator.is_showing(mid)
            )
            if is_live and mid not in self._down_tracks:
                config = sections[mid].config
                track_id = self._engine.add_downtrack(self._transport.id, config)
                self._down_tracks[mid] = _DownTrack(track_id, config)
            self._play_down(mid, wish.source if is_live else None)

    def _play_down(self, mid: Mid, source: UpTrackId | None) -> None:
        track = self._down_tracks.get(mid)
        if track is None or track.source == source:
            return
        if source is None:
            self._engine.disconnect(track.id)
        else:
            self._engine.connect(track.id, source)
        track.source = source

    def _follow_up(self) -> None:
        """Start, change and end publications; the room hears of it and may act on other connections."""
        sections = self._negotiator.up_sections
        for mid in [mid for mid in self.up_tracks if mid not in sections]:
            uptrack = self.up_tracks.pop(mid)
            del self._up_configs[mid]
            self._events.on_unpublished(mid)
            self._engine.remove_uptrack(uptrack)
        for mid, section in sections.items():
            if mid not in self.up_tracks:
                self._up_configs[mid] = section.config
                self.up_tracks[mid] = self._engine.add_uptrack(
                    self._transport.id, section.config, on_codec=partial(self._tell_codec, mid)
                )
                self._events.on_published(mid, section.kind)
            elif section.config != self._up_configs[mid]:
                self._up_configs[mid] = section.config
                self._engine.update_uptrack(self.up_tracks[mid], section.config)

    def _tell_codec(self, mid: str, codec_id: int) -> None:
        if not self._is_closed and mid in self.up_tracks:
            self._events.on_codec(mid, decodable_as(codec_id))

    def _renew_wishes(self) -> None:
        """Play again where the client had stopped to receive and receives again now."""
        sections = self._negotiator.down_sections
        for mid, wish in self._wishes.items():
            if mid in sections and sections[mid].track_id is None:
                self._negotiator.play(mid, wish.stream_id, wish.track_id)

    def _read_candidates(self, answer: str) -> tuple[dict[str, str | int], ...]:
        """Return our candidates, named after the section that carries the transport."""
        description = Description.parse(answer)
        if not any(description.bundles):
            return ()
        mid = description.bundles[0][0]
        index = next(index for index, media in enumerate(description.media) if media.mid == mid)
        return tuple(
            {"candidate": f"candidate:{candidate}", "sdpMid": mid, "sdpMLineIndex": index}
            for candidate in self._transport.local.candidates
        )

    # Slots

    def _find_slot(self, kind: Kind, codecs: frozenset[int], *, may_add: bool) -> Mid | None:
        """Return a section that takes one of these codecs, made if need be, or None at a limit."""
        if sum(wish.kind is kind for wish in self._wishes.values()) >= self._slots[kind]:
            return None
        mid = self._negotiator.free_section(kind, codecs)
        used = self._down_tracks.keys() | self._wishes.keys()
        if mid not in used and len(used) >= self._max_down_tracks:
            return None
        if mid is not None or self._client_negotiates or not may_add:
            return mid
        fitting = [m for m in self._negotiator.receiving_sections(kind) if self.accepts(m, codecs)]
        if len(fitting) >= self._slots[kind] or not self._negotiator.can_add_section:
            return None
        mid = self._negotiator.add_section(kind)
        self._made.append(mid)
        return mid

    def _made_of(self, kind: Kind) -> list[Mid]:
        """Return the sections of a kind that we added and the client can receive in."""
        return [mid for mid in self._negotiator.receiving_sections(kind) if mid in self._made]

    # When to offer

    def _plan_offer(self) -> None:
        """Let an offer go out soon, if one is needed and none is out or planned."""
        if self._timer is None and not self._is_suspended and self._needs_offer:
            self._start_timer(GATHER_S, self._send_offer)

    @property
    def _needs_offer(self) -> bool:
        return self._negotiator.needs_offer or any(self._missing_sections().values())

    def _missing_sections(self) -> dict[Kind, int]:
        """Return how many more sections a client that makes all offers should receive in."""
        if not (self._client_negotiates and self._negotiator.is_established) or self._is_closed:
            return dict.fromkeys(Kind, 0)
        return {
            kind: min(
                self._events.missing(kind),
                max(0, self._slots[kind] - len(self._negotiator.receiving_sections(kind))),
            )
            for kind in Kind
        }

    def _send_offer(self) -> None:
        self._timer = None
        self._is_resuming = False
        if self._client_negotiates:
            if self._needs_offer:
                self._events.on_offer_wanted(self._missing_sections())
        elif self._negotiator.needs_offer:
            offer = self._negotiator.create_offer()
            self._start_timer(ANSWER_TIMEOUT_S, self._repeat_offer)
            self._events.on_offer(offer)

    def _repeat_offer(self) -> None:
        self._start_timer(ANSWER_TIMEOUT_S, lambda: self._transport.end("negotiation timeout"))
        self._events.on_offer(self._negotiator.repeat_offer())

    def _start_timer(self, delay_s: float, act: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _take_data(self, message: DataMessage) -> None:
        if not self._is_closed:
            await self._events.on_data(message)

    # The end

    def _ended(self, reason: str) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._stop_timer()
        self._events.on_closed(reason)

    def _check_open(self) -> None:
        if self._is_closed:
            raise LocalProtocolError("the connection is closed")
