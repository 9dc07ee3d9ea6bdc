"""Whatever both sides do in whatever legal order, a negotiation converges and keeps its numbers.

The peer checks every description of the server (tests/support/sdp_peer.py); here the two run over queues,
so that descriptions cross.
"""

import copy
import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.media.description import Kind
from kaamos.rtc.negotiation import Mid, Negotiator
from tests.support.negotiation import negotiator
from tests.support.sdp_peer import DIRECTIONS, RIDS, SdpPeer, Transceiver, receives, sends

MAX_TRANSCEIVERS = 12

kinds = st.sampled_from(list(Kind))
directions = st.sampled_from(DIRECTIONS)
picks = st.integers(min_value=0, max_value=MAX_TRANSCEIVERS - 1)


class Negotiation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.server = negotiator()
        self.peer = SdpPeer()
        # What is under way: "offer" or "answer", the number of the offer, and the text.
        self.up: deque[tuple[str, int, str]] = deque()
        self.down: deque[tuple[str, int, str]] = deque()
        self.numbers = itertools.count(1)
        self.peer_offer = self.server_offer = 0  # the number of the last one
        self.generations = itertools.count(100)
        self.tracks = itertools.count()
        self.meanings: dict[tuple[str, int], object] = {}
        self.ssrcs: dict[tuple[str, str], int] = {}

    # What the peer does

    @precondition(lambda self: len(self.peer.transceivers) < MAX_TRANSCEIVERS)
    @rule(kind=kinds, direction=directions, is_simulcast=st.booleans())
    def peer_adds(self, kind: Kind, direction: str, is_simulcast: bool) -> None:
        self.peer.add(kind.value, direction, rids=RIDS if is_simulcast and kind is Kind.VIDEO else ())

    @precondition(lambda self: self.peer.transceivers)
    @rule(pick=picks, direction=directions)
    def peer_changes(self, pick: int, direction: str) -> None:
        self._picked(pick).direction = direction

    @precondition(lambda self: self.peer.transceivers and self.peer.pending is None)
    @rule(pick=picks)
    def peer_stops(self, pick: int) -> None:
        self._picked(pick).is_stopped = True

    @rule()
    def peer_restarts_ice(self) -> None:
        self.peer.restart_ice()

    @precondition(lambda self: self.peer.pending is None)
    @rule()
    def peer_offers(self) -> None:
        self.peer_offer = next(self.numbers)
        self.up.append(("offer", self.peer_offer, self.peer.offer()))

    # What the server does

    @rule(kind=kinds)
    def server_plays(self, kind: Kind) -> None:
        self._play(kind)

    @rule(pick=picks)
    def server_stops(self, pick: int) -> None:
        playing = [mid for mid, down in self.server.down_sections.items() if down.track_id]
        if playing:
            self.server.stop(playing[pick % len(playing)])

    @precondition(lambda self: self.server.is_established and not self.server.has_outstanding_offer)
    @rule()
    def server_offers(self) -> None:
        self.server_offer = next(self.numbers)
        self.down.append(("offer", self.server_offer, self.server.create_offer()))

    @precondition(lambda self: self.server.has_outstanding_offer)
    @rule()
    def server_repeats_its_offer(self) -> None:
        self.down.append(("offer", self.server_offer, self.server.repeat_offer()))

    # What the network does

    @precondition(lambda self: self.up)
    @rule()
    def server_receives(self) -> None:
        what, number, sdp = self.up.popleft()
        was_outstanding = self.server.has_outstanding_offer
        if what == "answer":
            if was_outstanding and number != self.server_offer:
                return  # the room drops it, by its id
            try:
                self.server.receive_answer(sdp)
            except RemoteProtocolError as error:
                assert error.code is ErrorCode.STALE_NEGOTIATION and not was_outstanding
            return
        twin = copy.deepcopy(self.server)
        before = self.server.remote
        try:
            self.server.receive_offer(sdp)
        except RemoteProtocolError as error:
            assert error.code is ErrorCode.GLARE and was_outstanding
        else:
            now = self.server.remote
            is_restart = before is not None and now is not None and now.restarts_ice_of(before)
            if is_restart:
                generation = next(self.generations)
                self.server.local = replace(
                    self.server.local, ufrag=f"server{generation}", pwd=f"{generation:024}"
                )
            answer = self.server.create_answer()
            self.down.append(("answer", number, answer))
            if is_restart:
                self._check_that_only_ice_restarts(twin, sdp, answer)

    @precondition(lambda self: self.down)
    @rule()
    def peer_receives(self) -> None:
        what, number, sdp = self.down.popleft()
        if what == "offer":
            self.up.append(("answer", number, self.peer.answer(sdp)))
        elif self.peer.pending is not None and number == self.peer_offer:
            self.peer.accept(sdp)

    @precondition(lambda self: self.down and self.down[0][0] == "offer")
    @rule()
    def peer_never_answers(self) -> None:
        self.down.popleft()

    @rule()
    def peer_comes_back(self) -> None:
        """Its socket broke, and what was under way is lost; it goes on with another one."""
        self.up.clear()
        self.down.clear()
        self.server.withdraw_offer()
        if self.peer.pending is not None:
            self.peer.rollback()

    # What always holds

    @invariant()
    def numbers_keep_their_meaning(self) -> None:
        for mid, down in self.server.down_sections.items():
            config = down.config
            assert self.ssrcs.setdefault((mid, "media"), config.ssrc) == config.ssrc
            if config.rtx_ssrc:
                assert self.ssrcs.setdefault((mid, "rtx"), config.rtx_ssrc) == config.rtx_ssrc
            assert (config.rtx_ssrc != 0) == bool(config.rtx_payload_types)
            if self.server.is_sendable(mid):
                self._check_numbers(config.payload_types.items(), config.extensions.items())
                repeats = [
                    (config.payload_types[codec_id], rtx)
                    for codec_id, rtx in config.rtx_payload_types.items()
                ]
                self._check_repeats(repeats)
        for up in self.server.up_sections.values():
            codecs = ((codec.codec_id, codec.payload_type) for codec in up.config.codecs)
            self._check_numbers(codecs, up.config.extensions.items())
            self._check_repeats((media, rtx) for rtx, media in up.config.rtx_payload_types.items())

    @invariant()
    def a_free_section_shows_nothing(self) -> None:
        for kind in Kind:
            mid = self.server.free_section(kind)
            if mid is not None:
                down = self.server.down_sections[mid]
                assert (down.kind, down.track_id) == (kind, None) and not self.server.is_sendable(mid)

    @precondition(lambda self: self.server.is_established and not self.server.has_outstanding_offer)
    @rule(kind=kinds)
    def server_changes_its_mind(self, kind: Kind) -> None:
        mid = self._play(kind)
        self.server_offers()
        self.server.stop(mid)

    @rule()
    def all_settles(self) -> None:
        self.teardown()

    def teardown(self) -> None:
        """Let everything in flight arrive and both sides say what is left: they agree, and soon."""
        for _ in range(12):
            while self.up or self.down:
                if self.down:
                    self.peer_receives()
                else:
                    self.server_receives()
            if self.server.has_outstanding_offer:
                self.server_repeats_its_offer()
            elif self.peer.needs_offer or not self.server.is_established:
                self.peer_offers()
            elif self.server.needs_offer:
                self.server_offers()
        assert not self.server.needs_offer and not self.server.has_outstanding_offer
        lines = {line.mid: line for line in self.peer.lines if line.is_alive}
        shown = {mid: line.showing for mid, line in lines.items() if line.showing is not None}
        playing = {mid: down for mid, down in self.server.down_sections.items() if down.track_id is not None}
        assert shown == {mid: f"{down.stream_id} {down.track_id}" for mid, down in playing.items()}
        assert all(self.server.is_sendable(mid) for mid in playing)
        assert set(self.server.up_sections) == {mid for mid, line in lines.items() if line.sends_now}
        assert set(self.server.up_sections) == {mid for mid, line in lines.items() if sends(line.direction)}
        assert all(up.config.rids == lines[mid].agreed_rids for mid, up in self.server.up_sections.items())
        assert all(
            down.config.allows_two_byte for mid, down in self.server.down_sections.items() if mid in lines
        )
        # Said, not wanted: an offer of ours that sends nothing leaves no word for it in the answer.
        assert {mid for mid, line in lines.items() if receives(line.said)} <= set(self.server.down_sections)

        if lines:
            remote, local = self.server.remote, self.server.local
            assert remote is not None and (remote.ufrag, remote.pwd) == (self.peer.ufrag, self.peer.pwd)
            assert self.peer.server_ice == (local.ufrag, local.pwd) and not self.peer.wants_restart

    def _check_that_only_ice_restarts(self, twin: Negotiator, offer: str, answer: str) -> None:
        """Let a copy of the server as it was take the same offer without new credentials, and compare."""
        assert twin.remote is not None and self.server.remote is not None
        for name in ("ufrag", "pwd"):
            old, new = getattr(twin.remote, name), getattr(self.server.remote, name)
            offer = offer.replace(f"a=ice-{name}:{new}\r\n", f"a=ice-{name}:{old}\r\n")
        twin.receive_offer(offer)
        expected = twin.create_answer()
        for name in ("ufrag", "pwd"):
            old, new = getattr(twin.local, name), getattr(self.server.local, name)
            expected = expected.replace(f"a=ice-{name}:{old}\r\n", f"a=ice-{name}:{new}\r\n")
        assert answer == expected
        assert twin.up_sections == self.server.up_sections
        assert twin.down_sections == self.server.down_sections
        assert all(twin.is_sendable(mid) == self.server.is_sendable(mid) for mid in twin.down_sections)

    def _play(self, kind: Kind) -> Mid:
        mid = self.server.free_section(kind) or self.server.add_section(kind)
        self.server.play(mid, "user", f"T{next(self.tracks)}")
        return mid

    def _picked(self, pick: int) -> Transceiver:
        return self.peer.transceivers[pick % len(self.peer.transceivers)]

    def _check_repeats(self, repeats: Iterable[tuple[int, int]]) -> None:
        for media, rtx in repeats:
            assert self.meanings.setdefault(("codec", rtx), ("rtx", media)) == ("rtx", media)

    def _check_numbers(
        self, codecs: Iterable[tuple[int, int]], extensions: Iterable[tuple[int, int]]
    ) -> None:
        for space, items in (("codec", codecs), ("extension", extensions)):
            for meaning, number in items:
                assert self.meanings.setdefault((space, number), meaning) == meaning


Negotiation.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestNegotiation = Negotiation.TestCase
