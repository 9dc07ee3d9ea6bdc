"""Whatever a client and a room do in whatever order, with real timers: it receives just what there is.

The connections are real, with rooms above them; peers are models (tests/support/sdp_peer.py), and so is time.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from kaamos.events import Source
from kaamos.media.description import Kind
from kaamos.room.tracks import Publication
from kaamos.rtc.connection import ANSWER_TIMEOUT_S
from tests.support.sdp_peer import DIRECTIONS, receives, sends
from tests.support.virtual import Hall, Member

MAX_OTHERS, MAX_TRANSCEIVERS = 4, 8

kinds = st.sampled_from(list(Kind))
directions = st.sampled_from(DIRECTIONS)
sources = st.sampled_from((None, *Source))
picks = st.integers(min_value=0, max_value=MAX_TRANSCEIVERS - 1)


class Call(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.hall = Hall()

    @initialize(client_negotiates=st.booleans(), kind=kinds, direction=directions)
    def join(self, client_negotiates: bool, kind: Kind, direction: str) -> None:
        self.me = self.hall.join(client_negotiates=client_negotiates)
        self.peer = self.me.peer
        self.peer.add(kind.value, direction)

    # What the others do

    @precondition(lambda self: len(self.hall.members) <= MAX_OTHERS)
    @rule(kind=kinds, source=sources, client_negotiates=st.booleans())
    def somebody_comes(self, kind: Kind, source: Source | None, client_negotiates: bool) -> None:
        other = self.hall.join(client_negotiates=client_negotiates)
        other.peer.add(kind.value, "sendonly").source = source
        self.hall.do(other.offer)
        self.hall.do(other.deliver)

    @precondition(lambda self: len(self.hall.members) > 1)
    @rule(pick=picks, direction=directions, source=sources)
    def somebody_changes(self, pick: int, direction: str, source: Source | None) -> None:
        other = self.hall.members[1 + pick % (len(self.hall.members) - 1)]
        if other.peer.pending is None:
            other.peer.transceivers[0].direction = direction
            other.peer.transceivers[0].source = source
            self.hall.do(other.deliver)
            self.hall.do(other.offer)
            self.hall.do(other.deliver)

    # What the client does

    @precondition(lambda self: len(self.peer.transceivers) < MAX_TRANSCEIVERS)
    @rule(kind=kinds, direction=directions, source=sources)
    def adds(self, kind: Kind, direction: str, source: Source | None) -> None:
        self.peer.add(kind.value, direction).source = source

    @rule(pick=picks, source=sources)
    def names_another_source(self, pick: int, source: Source | None) -> None:
        self.peer.transceivers[pick % len(self.peer.transceivers)].source = source

    @rule()
    def restarts_ice(self) -> None:
        self.peer.restart_ice()

    @rule(pick=picks, direction=directions)
    def changes(self, pick: int, direction: str) -> None:
        self.peer.transceivers[pick % len(self.peer.transceivers)].direction = direction

    @precondition(lambda self: self.peer.pending is None)
    @rule(pick=picks)
    def stops(self, pick: int) -> None:
        self.peer.transceivers[pick % len(self.peer.transceivers)].is_stopped = True

    @precondition(lambda self: self.peer.pending is None)
    @rule()
    def offers(self) -> None:
        self.hall.do(self.me.offer)

    @precondition(lambda self: self.me.down and self.me.down[0][0] == "offer")
    @rule()
    def never_answers(self) -> None:
        self.me.down.popleft()

    @rule()
    def comes_back(self) -> None:
        self.hall.do(self.me.come_back)

    # What the network and the clock do

    @precondition(lambda self: self.me.up)
    @rule()
    def server_receives(self) -> None:
        self.hall.do(self.me.server_receives)

    @precondition(lambda self: self.me.down)
    @rule()
    def client_receives(self) -> None:
        self.hall.do(self.me.peer_receives)

    @rule(seconds=st.sampled_from((0.02, 0.06, 0.25)))
    def time_passes(self, seconds: float) -> None:
        self.hall.wait(seconds)

    @precondition(lambda self: not self.me.down and not self.me.up)
    @rule()
    def an_offer_is_repeated_if_one_is_out(self) -> None:
        connection = self.me.participant.connection
        if connection is not None and connection._negotiator.has_outstanding_offer:
            while not self.me.down:
                self.hall.wait(1.0)

    @rule()
    def all_settles(self) -> None:
        for _ in range(3):
            self.hall.settle()
            self.hall.wait(ANSWER_TIMEOUT_S + 0.1)  # an offer that was not answered comes once more
        self.hall.settle()
        if not self.peer.lines:
            return  # it never offered anything
        playing = self.me.participant.reception.playing
        others = [member for member in self.hall.members if member is not self.me]
        published = [p for other in others for p in other.participant.publications.values()]
        self._check_that_only_pauses_keep_out(published)
        assert len(published) == sum(sends(other.peer.transceivers[0].direction) for other in others)
        lines = {line.mid: line for line in self.peer.lines if line.is_alive}
        assert all(receives(lines[mid].direction) for mid in playing)
        assert self.me.shown == {mid: f"{p.publisher.user_id} {p.track_id}" for mid, p in playing.items()}
        assert self.hall.playing(self.me) == {mid: p.uptrack for mid, p in playing.items()}
        mine = {mid for mid, line in lines.items() if sends(line.direction)}
        assert self.me.participant.publications.keys() == mine
        self._check_sources()
        self._check_restart()
        assert not self.me.removed
        assert not (self.me.participant.client_negotiates and self.me.participant._offers)

    def _check_that_only_pauses_keep_out(self, published: list[Publication]) -> None:
        """All that there is plays, but for one track for each section that the client has paused."""
        connection = self.me.participant.connection
        assert connection is not None
        playing = self.me.participant.reception.playing
        assert set(playing.values()) <= set(published)
        for kind in Kind:
            lines = [line for line in self.peer.lines if line.is_alive and line.kind == kind.value]
            receiving = {line.mid for line in lines if receives(line.direction)}
            waiting = [p for p in published if p.kind is kind and p not in playing.values()]
            assert not waiting or receiving <= playing.keys()
            assert len(waiting) <= connection.paused(kind) <= len(lines) - len(receiving)

    def _check_sources(self) -> None:
        """Everybody knows of every track what its publisher said last that makes sense."""
        named = {track: source for member in self.hall.members for track, source in member.named.items()}
        for member in self.hall.members:
            sections = member.participant.sections().values()
            for track in [info for s in sections for info in (s.receives, s.sends) if info is not None]:
                assert named[track.track] == track.source == member.told[track.track]
            for publication in member.participant.publications.values():
                assert publication.source is named[publication.track_id]

    def _check_restart(self) -> None:
        """ICE restarts, and nothing else changes."""
        connection = self.me.participant.connection
        assert connection is not None
        before = self._state()
        old = self.peer.server_ice
        self.peer.restart_ice()
        self.hall.settle()
        assert self._state() == before
        if any(line.is_alive for line in self.peer.lines):
            local, remote = connection._transport.local, connection._transport.remote  # type: ignore[attr-defined]
            assert self.peer.server_ice == (local.ufrag, local.pwd) != old
            assert (remote.ufrag, remote.pwd) == (self.peer.ufrag, self.peer.pwd)

    def _state(self) -> object:
        """What an ICE restart leaves alone."""
        engine, participant = self.hall.engine, self.me.participant
        tracks = dict(engine.up_tracks), dict(engine.down_tracks), dict(engine.playing)
        return tracks, participant.sections(), self.me.shown, set(participant.publications.values())

    def teardown(self) -> None:
        self.all_settles()
        self.hall.close()


def test_what_played_in_a_section_that_another_one_replaced_moves_there() -> None:
    hall = Hall()
    me, other = hall.join(), hall.join()
    other.peer.add("video", "sendonly")
    hall.do(other.offer)
    hall.do(other.deliver)
    me.peer.add("video", "recvonly")
    hall.do(me.offer)
    hall.do(me.server_receives)
    hall.do(me.come_back)  # the answer is lost
    me.peer.transceivers[0].is_stopped = True
    me.peer.add("video", "recvonly")
    hall.do(me.offer)
    hall.settle()
    assert me.shown.keys() == hall.playing(me).keys() == {"1"}
    hall.close()


def test_what_played_in_a_section_that_is_paused_moves_to_one_that_receives() -> None:
    for client_negotiates in (False, True):
        for direction in ("inactive", "sendonly"):
            hall, me = paused(direction, client_negotiates=client_negotiates)
            assert me.participant.sections().keys() <= {"0"}
            me.peer.add("video", "recvonly")
            hall.settle()
            assert me.shown.keys() == hall.playing(me).keys() == {"1"}
            assert me.participant.reception.playing.keys() == {"1"}
            hall.close()


def test_a_paused_section_plays_again_and_is_not_replaced_by_the_server() -> None:
    for client_negotiates in (False, True):
        hall, me = paused("inactive", client_negotiates=client_negotiates)
        for _ in range(3):
            assert me.participant.sections() == {} and len(me.peer.lines) == 1 and not me.asked
            me.peer.transceivers[0].direction = "recvonly"
            hall.settle()
            assert me.shown.keys() == hall.playing(me).keys() == {"0"}
            me.asked.clear()
            me.peer.transceivers[0].direction = "inactive"
            hall.settle()
        hall.close()


def test_somebody_new_gets_a_section_beside_one_that_is_paused() -> None:
    hall, me = paused("inactive", client_negotiates=False)
    third = hall.join()
    third.peer.add("video", "sendonly")
    hall.settle()
    assert me.shown.keys() == hall.playing(me).keys() == {"s0"}
    hall.close()


def paused(direction: str, *, client_negotiates: bool) -> tuple[Hall, Member]:
    """Return somebody who received another's video in section 0 and has set it to ``direction``."""
    hall = Hall()
    other = hall.join()
    other.peer.add("video", "sendonly")
    hall.settle()
    me = hall.join(client_negotiates=client_negotiates)
    me.peer.add("video", "recvonly")
    hall.settle()
    assert me.shown.keys() == {"0"}
    me.peer.transceivers[0].direction = direction
    hall.settle()
    return hall, me


Call.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestCall = Call.TestCase
