"""One person's presence in a room, and the peer connection that carries their media."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import (
    AnswerMade,
    Joined,
    LeaveReason,
    OfferMade,
    OfferWanted,
    ParticipantInfo,
    Role,
    RoomEvent,
    SectionInfo,
    Source,
)
from kaamos.media.description import Kind
from kaamos.room.reception import Reception
from kaamos.room.slots import Wish
from kaamos.room.tracks import Publication, new_track_id, source_of

if TYPE_CHECKING:
    from kaamos.room.room import Room
    from kaamos.rtc.channel import DataMessage
    from kaamos.rtc.connection import PeerConnection

logger = logging.getLogger(__name__)

# Makes the connection of a participant, whose on_* methods are its callbacks.
Connect = Callable[["Participant"], "PeerConnection"]

# What rtc.transport says of a peer that ended the association itself.
CLOSED_BY_PEER = "closed by peer"

# What rtc.connection says of one that does not answer.
UNANSWERED = "negotiation timeout"

# The goodbye of a page's media may come before the end of its socket, which says that it may be back.
RELOAD_S = 1.0


class Participant:
    """A member of a room, from its join until it is removed.

    ``outbox`` takes what the room tells it and must not block; ``on_removed`` is called when the
    room removes it for a reason of its own (its connection failed), not when its client left.
    """

    def __init__(
        self,
        room: Room,
        user_id: str,
        name: str,
        role: Role,
        *,
        outbox: Callable[[RoomEvent], None],
        on_removed: Callable[[str], None],
        connect: Connect,
        slots: Mapping[Kind, int],
        client_negotiates: bool = False,
    ) -> None:
        self.room = room
        self.user_id = user_id
        self.name = name
        self.role = role
        self.joined_at = datetime.now(UTC)
        self.outbox = outbox
        self.on_removed = on_removed
        self.connection: PeerConnection | None = None
        self.publications: dict[str, Publication] = {}  # by the mid its client sends in
        self.client_negotiates = client_negotiates  # it makes all offers, and is told when
        self.reception = Reception(self, slots)
        self.wishers: dict[Reception, None] = {}  # those who named this participant
        self._connect = connect
        self._is_negotiated = False  # the first offer was answered: slots can be made
        self._are_candidates_told = False
        self._sources: Mapping[str, Source] = {}  # what the last description said, by mid
        self._are_tracks_changed = False
        self._is_in_description = False
        self._offers = 0
        self._last_offer: OfferMade | None = None  # until it is answered
        self._had_connection = False
        self._is_suspended = False  # its client cannot be reached
        self._may_be_new_peer = False  # its client came back, and has not offered since

    @property
    def joined(self) -> Joined:
        """Return what its client is told of it."""
        slots = {kind.value: most for kind, most in self.reception.limits.items()}
        return Joined(self.room.room_id, self.info, slots)

    @property
    def info(self) -> ParticipantInfo:
        """Return what the others see of it now."""
        tracks = tuple(publication.info for publication in self.publications.values())
        return ParticipantInfo(self.user_id, self.name, self.role, self.joined_at, tracks)

    # What its client does.

    def receive_offer(self, sdp: str, sources: Mapping[str, Source]) -> AnswerMade:
        """Take an offer and return the answer; the first one makes the connection.

        Raises:
            RemoteProtocolError: INVALID_SDP, or GLARE while our own offer is out.
        """
        if self._may_be_new_peer and self.connection and not self.connection.is_from_same_peer(sdp):
            self.room.release(self)
            self._are_tracks_changed = True
        if self.connection is None:
            self.connection = self._connect(self)
            self._had_connection = True
        with self._description(sources):
            answer = self.connection.receive_offer(sdp)
        self._may_be_new_peer = False
        mids = self.sections().keys()
        self._renew_reception()
        # What is to play besides is for the next offer to say, but what has left a slot is not said again.
        sections = {mid: section for mid, section in self.sections().items() if mid in mids}
        candidates = () if self._are_candidates_told else self.connection.candidates
        self._are_candidates_told |= bool(candidates)
        return AnswerMade(answer, sections, candidates)

    def receive_answer(self, sdp: str, sources: Mapping[str, Source], offer_id: str | None) -> None:
        """Take the answer to our offer; ``offer_id`` is the one it names, if it names any.

        Raises:
            RemoteProtocolError: INVALID_SDP, or STALE_NEGOTIATION where that offer no longer stands.
        """
        if self.connection is None:
            raise RemoteProtocolError(ErrorCode.STALE_NEGOTIATION, "there was no offer to answer")
        last_id = None if self._last_offer is None else self._last_offer.offer_id
        if None not in (offer_id, last_id) and offer_id != last_id:
            raise RemoteProtocolError(ErrorCode.STALE_NEGOTIATION, "the offer that this answers is over")
        with self._description(sources):
            self.connection.receive_answer(sdp)
        self._last_offer = None
        self.reception.renew()

    def send(self, payload: object, to: str | None) -> None:
        """Say something to the participant ``to``, or to all others.

        Raises:
            RemoteProtocolError: PARTICIPANT_NOT_FOUND.
        """
        self.room.relay(self, payload, to)

    def mute(self, track_id: str, is_muted: bool) -> None:
        """Mute or unmute a track, its own or, as host, anybody's; all are told if that is news.

        Raises:
            RemoteProtocolError: TRACK_NOT_FOUND or FORBIDDEN.
        """
        publication = self.room.publications.get(track_id)
        if publication is None:
            raise RemoteProtocolError(ErrorCode.TRACK_NOT_FOUND, "nobody here publishes this track")
        if publication.publisher is not self and self.role is not Role.HOST:
            raise RemoteProtocolError(ErrorCode.FORBIDDEN, "only a host mutes the tracks of others")
        if publication.is_muted is not is_muted:
            publication.is_muted = is_muted
            self.room.announce_mute(publication)

    def wish(self, user_ids: Iterable[str], track_ids: Iterable[str], word: Wish | None) -> None:
        """Say what of the others' tracks is to be received; None: the same as all that was not spoken of.

        Raises:
            RemoteProtocolError: PARTICIPANT_NOT_FOUND, TRACK_NOT_FOUND or BAD_MESSAGE; nothing changes.
        """
        targets: list[Participant | Publication] = []
        for user_id in user_ids:
            member = self.room.participants.get(user_id)
            if member is None:
                raise RemoteProtocolError(ErrorCode.PARTICIPANT_NOT_FOUND, f"{user_id!r} is not here")
            targets.append(member)
        for track_id in track_ids:
            publication = self.room.publications.get(track_id)
            if publication is None:
                raise RemoteProtocolError(ErrorCode.TRACK_NOT_FOUND, f"nobody here publishes {track_id!r}")
            targets.append(publication)
        self.reception.wish(targets, word)

    def suspend(self) -> None:
        """Go on without a client that hears us: media stays as it is, nothing is negotiated."""
        self._is_suspended = True
        self._last_offer = None
        if self.connection is not None:
            self.connection.suspend()

    def resume(self) -> None:
        """Go on with a client that came back, perhaps as a new peer: the page may have been loaded anew."""
        self._is_suspended = False
        self._may_be_new_peer = True
        if self.connection is not None:
            self.connection.resume()

    @property
    def last_received(self) -> float | None:
        """Return when its media connection last heard of its peer, in monotonic seconds.

        0.0 if never, or if the connection is gone; None if there never was one.
        """
        if self.connection is not None:
            return self.connection.last_received
        return 0.0 if self._had_connection else None

    def leave(self, reason: LeaveReason) -> None:
        """Leave the room; its client knows already."""
        self.room.remove(self, reason)

    # What the room and the server read.

    def forget(self) -> PeerConnection | None:
        """Give up everything received and return the connection, for the caller to close."""
        self.reception.stop()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.silence()
        self._is_negotiated = False
        self._are_candidates_told = False
        self._last_offer = None
        return connection

    def sections(self) -> dict[str, SectionInfo]:
        """Return what each section of the connection carries now, by mid."""
        playing = self.reception.playing
        return {
            mid: SectionInfo(
                receives=playing[mid].info if mid in playing else None,
                sends=self.publications[mid].info if mid in self.publications else None,
            )
            for mid in {**self.publications, **playing}
        }

    # What the connection says (the callbacks of rtc.connection.PeerConnection).

    def on_answering(self) -> None:
        """Fill the sections in which the client can receive, because it makes all offers."""
        self._renew_reception()

    def missing(self, kind: Kind) -> int:
        """Return how many more slots there would be something for."""
        return self.reception.missing(kind)

    def on_offer_wanted(self, missing: Mapping[Kind, int]) -> None:
        """Ask the client for an offer, with so many more sections to receive in."""
        self.outbox(OfferWanted(missing[Kind.AUDIO], missing[Kind.VIDEO]))

    def on_offer(self, sdp: str) -> None:
        """Pass our offer on; the same text again is the same offer, sent once more."""
        if self._last_offer is None or self._last_offer.sdp != sdp:
            self._offers += 1
        # Shared slots may play something else by now.
        self._last_offer = OfferMade(f"offer-{self._offers}", sdp, self.sections())
        self.outbox(self._last_offer)

    def on_published(self, mid: str, kind: Kind) -> None:
        """Offer to the others what the client sends in section ``mid`` from now on."""
        assert self.connection is not None, "a connection that was given up reports nothing"
        source = source_of(kind, self._sources.get(mid))
        self.publications[mid] = publication = Publication(
            new_track_id(),
            self,
            mid,
            kind,
            source,
            self.connection.up_tracks[mid],
            self.connection.codecs_of(mid),
            self.room.next_serial(),
        )
        self.room.publish(publication)
        self._tracks_changed()

    def on_unpublished(self, mid: str) -> None:
        """Take back what the client sent in section ``mid``."""
        publication = self.publications.pop(mid, None)
        if publication is not None:
            self.room.unpublish(publication)
            self._tracks_changed()

    async def on_data(self, message: DataMessage) -> None:
        """Pass a message of a data channel on to the others."""
        await self.room.relay_data(self, message)

    def on_codec(self, mid: str, codec_id: int) -> None:
        """Note in what the client sends; who cannot decode it gets it no more, and who can gets it again."""
        publication = self.publications.get(mid)
        if publication is not None:
            publication.codecs = frozenset({codec_id})
            for reception in [*publication.subscriptions, *publication.unable]:
                reception.change_codec(publication)

    def on_connected(self) -> None:
        """Note that media can flow."""
        logger.info("media connected", extra=self.log_ids)

    def on_closed(self, reason: str) -> None:
        """Remove the participant whose connection could not be made or was lost.

        A page that is loaded anew closes its connection, and may be back in a moment.  One that has stopped
        all its sections needs none: it is like somebody who has not offered yet.
        """
        logger.info("media connection lost: %s", reason, extra=self.log_ids)
        if self.connection is not None and self.connection.is_empty and reason != UNANSWERED:
            self.room.release(self)
            self._had_connection = False
            return
        if reason != CLOSED_BY_PEER:
            self._remove(reason)
            return
        self.room.release(self)
        self.room.announce_tracks()
        if not self._is_suspended:
            asyncio.get_running_loop().call_later(RELOAD_S, self._remove_unless_back, reason)

    def _remove_unless_back(self, reason: str) -> None:
        if self.connection is None and not self._is_suspended:
            self._remove(reason)

    def _remove(self, reason: str) -> None:
        if self.room.remove(self, LeaveReason.CONNECTION_LOST):
            self.on_removed(reason)

    @property
    def log_ids(self) -> dict[str, str]:
        """Return what a log record says about where it belongs."""
        return {"room": self.room.room_id, "participant": self.user_id}

    # Inside.

    def _renew_reception(self) -> None:
        assert self.connection is not None
        if self._is_negotiated:
            self.reception.renew()
        else:
            self._is_negotiated = True
            self.reception.start(self.connection)

    @contextmanager
    def _description(self, sources: Mapping[str, Source]) -> Iterator[None]:
        """While a description is taken in, gather what changes in the client's tracks; then say it once."""
        self._sources = sources
        self._is_in_description = True
        try:
            yield
        finally:
            self._is_in_description = False
        for mid, publication in self.publications.items():
            source = source_of(publication.kind, sources.get(mid, publication.source))
            self._are_tracks_changed |= source is not publication.source
            publication.source = source
        if self._are_tracks_changed:
            self._tracks_changed()

    def _tracks_changed(self) -> None:
        self._are_tracks_changed = self._is_in_description
        if not self._is_in_description:
            self.room.announce_tracks()
