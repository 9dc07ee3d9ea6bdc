"""PeerConnection: a browser's descriptions by SdpPeer, and whole aiortc clients for what needs a network."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import aioice
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from kaamos.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from kaamos.media.description import Kind, UpTrackId
from kaamos.rtc import connection as connection_module
from kaamos.rtc.capabilities import CODECS
from kaamos.rtc.channel import DataMessage
from kaamos.rtc.connection import DOWN_TRACKS_A_SLOT, PeerConnection
from kaamos.rtc.dtls import Certificate
from tests.support.fake_engine import FakeEngine
from tests.support.ortc import assert_no_complaints, eventually, only_tasks
from tests.support.sdp_peer import SdpPeer, repeated

CERTIFICATE = Certificate()
AUDIO, VIDEO = Kind.AUDIO, Kind.VIDEO
MAX_SLOTS = {VIDEO: 16, AUDIO: 8}
MAX_DOWN_TRACKS = DOWN_TRACKS_A_SLOT * 24
ANY = frozenset(range(len(CODECS)))


class Served:
    """A PeerConnection, what it reported, and a source of up-tracks of somebody else."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.offers: list[str] = []
        self.published: list[tuple[str, Kind]] = []
        self.unpublished: list[str] = []
        self.codecs: list[tuple[str, int]] = []
        self.is_connected = False
        self.reasons: list[str] = []
        self.data: list[DataMessage] = []
        self.tracks_at_end = -1
        self.connection = PeerConnection(
            engine,  # type: ignore[arg-type]
            CERTIFICATE,
            ["127.0.0.1", "127.0.0.2"],
            cname="kaamos",
            slots=MAX_SLOTS,
            events=self,
        )
        self.id = self.connection._transport.id
        self._somebody = engine.add_transport("somebody", "else", lambda kind, data, path: None)

    def on_offer(self, sdp: str) -> None:
        self.offers.append(sdp)

    def on_published(self, mid: str, kind: Kind) -> None:
        assert self.engine.up_tracks[self.connection.up_tracks[mid]][1].kind is kind
        self.published.append((mid, kind))

    def on_unpublished(self, mid: str) -> None:
        assert mid not in self.connection.up_tracks
        self.unpublished.append(mid)

    def on_codec(self, mid: str, codec_id: int) -> None:
        self.codecs.append((mid, codec_id))

    def on_connected(self) -> None:
        self.is_connected = True

    async def on_data(self, message: DataMessage) -> None:
        self.data.append(message)

    def on_closed(self, reason: str) -> None:
        self.reasons.append(reason)
        self.tracks_at_end = len(self.up_configs())

    def source(self, kind: Kind) -> UpTrackId:
        peer = SdpPeer()
        peer.add(kind.value, "sendonly")
        config = self.engine.up_tracks[next(iter(self.connection.up_tracks.values()))][1]
        return self.engine.add_uptrack(self._somebody, config)

    def play(self, kind: Kind, name: str = "TR_1") -> str | None:
        return self.connection.play(self.source(kind), kind, ANY, ("PA_1", name))

    def up_configs(self) -> list[object]:
        return [config for tid, config in self.engine.up_tracks.values() if tid == self.id]

    def playing(self) -> dict[str, UpTrackId]:
        """What the engine sends to this client, by mid."""
        return {
            self.engine.down_tracks[did][1].mid: uid
            for did, uid in self.engine.playing.items()
            if self.engine.down_tracks[did][0] == self.id
        }

    async def exchange(self, peer: SdpPeer) -> None:
        """Wait for the next offer and let the peer answer it."""
        before = len(self.offers)
        await eventually(lambda: len(self.offers) > before)
        self.connection.receive_answer(peer.answer(self.offers[-1]))

    def offer(self, peer: SdpPeer) -> None:
        peer.accept(self.connection.receive_offer(peer.offer()))

    async def close(self) -> None:
        await self.connection.close()
        self.engine.remove_transport(self._somebody)


@pytest.fixture
async def served(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Served]:
    """A connection; afterwards nothing may be left of it, and nothing was complained about."""
    before = asyncio.all_tasks()
    engine = FakeEngine()
    engine.open()
    served = Served(engine)
    yield served
    await served.close()
    engine.close()
    assert (engine.transports, engine.up_tracks, engine.down_tracks, engine.playing) == ({}, {}, {}, {})
    await only_tasks(before)
    assert_no_complaints(caplog)


@pytest.fixture
def peer() -> SdpPeer:
    """A client that sends microphone and camera."""
    peer = SdpPeer()
    peer.add("audio", "sendonly")
    peer.add("video", "sendonly")
    return peer


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "ANSWER_TIMEOUT_S", 0.05)


async def test_an_offer_publishes_what_the_client_sends(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    assert served.published == [("0", AUDIO), ("1", VIDEO)]
    assert served.connection.up_tracks.keys() == {"0", "1"}
    assert {config.mid for config in served.up_configs()} == {"0", "1"}


async def test_a_broken_offer_changes_nothing(served: Served, peer: SdpPeer) -> None:
    with pytest.raises(RemoteProtocolError) as failure:
        served.connection.receive_offer("this is no session description")
    assert failure.value.code is ErrorCode.INVALID_SDP
    served.offer(peer)
    assert len(served.published) == 2


async def test_an_ice_restart_gets_new_credentials_and_touches_nothing_else(
    served: Served, peer: SdpPeer
) -> None:
    served.offer(peer)
    mid = served.play(VIDEO)
    await served.exchange(peer)
    tracks, playing = dict(served.connection.up_tracks), served.playing()
    seen = set()
    for _ in range(4):
        peer.restart_ice()
        answer = served.connection.receive_offer(peer.offer())
        peer.accept(answer)
        (ufrag,) = set(re.findall("a=ice-ufrag:(.*)\r\n", answer))
        seen.add(ufrag)
        credentials = served.engine.transports[served.id].credentials
        assert len(credentials) == 2 and list(credentials)[-1] == ufrag
    assert len(seen) == 4
    assert (served.connection.up_tracks, served.playing()) == (tracks, playing) and mid in playing
    served.play(AUDIO)
    await served.exchange(peer)
    assert f"a=ice-ufrag:{ufrag}\r\n" in served.offers[-1]
    assert served.reasons == []


async def test_a_restart_goes_on_where_our_answer_to_it_was_lost(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    peer.restart_ice()
    (ufrag,) = set(re.findall("a=ice-ufrag:(.*)\r\n", served.connection.receive_offer(peer.offer())))
    served.connection.suspend()
    peer.rollback()
    served.connection.resume()
    served.play(AUDIO)
    await served.exchange(peer)
    assert f"a=ice-ufrag:{ufrag}\r\n" in served.offers[-1]
    remote = served.connection._negotiator.remote
    assert remote is not None and (remote.ufrag, remote.pwd) == (peer.ufrag, peer.pwd)
    assert list(served.engine.transports[served.id].credentials)[-1] == ufrag
    assert not peer.needs_offer and served.reasons == []


async def test_the_candidates_are_those_of_the_answer(served: Served, peer: SdpPeer) -> None:
    assert served.connection.candidates == ()
    answer = served.connection.receive_offer(peer.offer())
    for candidate in served.connection.candidates:
        assert f"a={candidate['candidate']}\r\n" in answer
        assert (candidate["sdpMid"], candidate["sdpMLineIndex"]) == ("0", 0)
    ips = [str(candidate["candidate"]).split(" ")[4] for candidate in served.connection.candidates]
    assert ips == ["127.0.0.1", "127.0.0.2"]


async def test_a_client_that_stops_to_send_is_unpublished(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    peer.transceivers[1].direction = "inactive"
    served.offer(peer)
    assert served.unpublished == ["1"] and served.connection.up_tracks.keys() == {"0"}
    assert [config.mid for config in served.up_configs()] == ["0"]
    peer.transceivers[1].direction = "sendonly"
    served.offer(peer)
    assert served.published == [("0", AUDIO), ("1", VIDEO), ("1", VIDEO)]


async def test_a_changed_section_is_the_same_publication(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    before = dict(served.connection.up_tracks)
    peer.transceivers[1].ssrc = 4711
    served.offer(peer)
    assert served.connection.up_tracks == before and len(served.published) == 2
    assert served.engine.up_tracks[before["1"]][1].ssrcs == (4711,)


async def test_a_track_plays_when_the_client_has_answered_and_not_before(
    served: Served, peer: SdpPeer
) -> None:
    served.offer(peer)
    source = served.source(VIDEO)
    mid = served.connection.play(source, VIDEO, ANY, ("PA_1", "TR_1"))
    assert mid is not None and served.playing() == {} and served.offers == []
    await eventually(lambda: served.offers)
    assert served.playing() == {} and "a=msid:PA_1 TR_1\r\n" in served.offers[0]
    served.connection.receive_answer(peer.answer(served.offers[0]))
    assert served.playing() == {mid: source}
    assert peer.line_of(mid).showing == "PA_1 TR_1"


async def test_changes_that_come_together_go_out_in_one_offer(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    mids = [served.play(VIDEO, f"TR_{n}") for n in range(3)] + [served.play(AUDIO, "TR_3")]
    await served.exchange(peer)
    assert len(served.offers) == 1 and served.playing().keys() == set(mids)


async def test_changes_while_an_offer_is_out_go_out_after_its_answer(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    first = served.play(VIDEO, "TR_1")
    await eventually(lambda: served.offers)
    second = served.play(VIDEO, "TR_2")
    await asyncio.sleep(2 * connection_module.GATHER_S)
    assert len(served.offers) == 1
    served.connection.receive_answer(peer.answer(served.offers[0]))
    assert served.playing().keys() == {first}
    await served.exchange(peer)
    assert len(served.offers) == 2 and served.playing().keys() == {first, second}


async def test_nothing_is_offered_before_the_first_answer_or_without_need(
    served: Served, peer: SdpPeer
) -> None:
    served.offer(peer)
    mid = served.play(VIDEO)
    assert mid is not None
    served.connection.stop(mid)
    await asyncio.sleep(2 * connection_module.GATHER_S)
    assert all("TR_1" not in offer for offer in served.offers)


async def test_a_stopped_slot_is_silent_at_once_and_used_again_after_the_answer(
    served: Served, peer: SdpPeer
) -> None:
    served.offer(peer)
    mid = served.play(VIDEO, "TR_1")
    await served.exchange(peer)
    (did,) = served.engine.down_tracks
    assert mid is not None
    served.connection.stop(mid)
    assert served.playing() == {}
    served.connection.stop(mid)
    await served.exchange(peer)
    source = served.source(VIDEO)
    assert served.connection.play(source, VIDEO, ANY, ("PA_2", "TR_2")) == mid
    assert served.playing() == {}
    await served.exchange(peer)
    assert served.playing() == {mid: source} and served.engine.down_tracks.keys() == {did}


async def test_sections_that_the_client_offered_are_taken_first(served: Served, peer: SdpPeer) -> None:
    peer.add("video", "recvonly")
    served.offer(peer)
    assert served.play(VIDEO, "TR_1") == "2"
    assert served.play(VIDEO, "TR_2") not in ("0", "1", "2")
    await served.exchange(peer)
    assert len(served.playing()) == 2


async def test_no_down_track_is_made_before_it_plays(served: Served, peer: SdpPeer) -> None:
    for _ in range(10):
        peer.add("video", "recvonly")
    served.offer(peer)
    assert served.engine.down_tracks == {}


@pytest.mark.parametrize("kind", [VIDEO, AUDIO])
async def test_tracks_past_the_limit_of_slots_are_not_played(
    served: Served, peer: SdpPeer, kind: Kind
) -> None:
    served.offer(peer)
    mids = [served.play(kind, f"TR_{n}") for n in range(MAX_SLOTS[kind] + 1)]
    assert mids[-1] is None and None not in mids[:-1]
    other = VIDEO if kind is AUDIO else AUDIO
    assert served.play(other, "TR_other") is not None
    await served.exchange(peer)
    assert mids[0] is not None
    served.connection.stop(mids[0])
    assert served.play(kind, "TR_late") is None
    await served.exchange(peer)
    assert served.play(kind, "TR_late") == mids[0]


async def test_a_client_with_many_receiving_sections_gets_no_more_than_the_limit(
    served: Served, peer: SdpPeer
) -> None:
    for _ in range(40):
        peer.add("video", "recvonly")
    served.offer(peer)
    mids = [served.play(VIDEO, f"TR_{n}") for n in range(40)]
    assert len([mid for mid in mids if mid is not None]) == MAX_SLOTS[VIDEO]


async def test_a_client_that_goes_through_ever_new_sections_gets_a_bounded_number_of_down_tracks(
    served: Served, peer: SdpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "GATHER_S", 0.0)
    served.offer(peer)
    played = 0
    for number in range(MAX_DOWN_TRACKS + 5):
        line = peer.add("video", "recvonly")
        served.offer(peer)
        mid = served.play(VIDEO, f"TR_{number}")
        if mid is None:
            break
        played += 1
        await served.exchange(peer)
        served.connection.stop(mid)
        await served.exchange(peer)
        line.is_stopped = True
        served.offer(peer)
    assert played == MAX_DOWN_TRACKS == len(served.engine.down_tracks)


async def test_a_slot_that_the_client_pauses_plays_again_when_it_receives_again(
    served: Served, peer: SdpPeer
) -> None:
    served.offer(peer)
    source = served.source(VIDEO)
    mid = served.connection.play(source, VIDEO, ANY, ("PA_1", "TR_1"))
    assert mid is not None
    await served.exchange(peer)
    peer.line_of(mid).direction = "inactive"
    served.offer(peer)
    assert served.playing() == {}
    peer.line_of(mid).direction = "recvonly"
    served.offer(peer)
    if served.connection._negotiator.needs_offer:
        await served.exchange(peer)
    assert served.playing() == {mid: source}


async def test_a_source_that_changes_codecs_for_the_client_updates_the_down_track(
    served: Served, peer: SdpPeer
) -> None:
    line = peer.add("video", "recvonly")
    served.offer(peer)
    mid = served.play(VIDEO)
    await served.exchange(peer)
    assert mid == line.mid and line.codecs is not None
    (did,) = served.engine.down_tracks
    before = served.engine.down_tracks[did][1].payload_types
    (vp8,) = (pt for pt, codec in line.codecs.items() if codec[0] == "VP8/90000")
    line.codecs = {pt: codec for pt, codec in line.codecs.items() if vp8 in (pt, repeated(codec))}
    served.offer(peer)
    after = served.engine.down_tracks[did][1].payload_types
    assert len(after) == 1 and after.items() < before.items()


async def test_an_offer_that_crosses_ours_is_glare(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    mid = served.play(VIDEO)
    await eventually(lambda: served.offers)
    with pytest.raises(RemoteProtocolError) as failure:
        served.connection.receive_offer(peer.offer())
    assert failure.value.code is ErrorCode.GLARE
    served.connection.receive_answer(peer.answer(served.offers[0]))
    assert served.playing().keys() == {mid}


async def test_an_answer_without_an_offer_is_stale(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    with pytest.raises(RemoteProtocolError) as failure:
        served.connection.receive_answer("v=0\r\n")
    assert failure.value.code is ErrorCode.STALE_NEGOTIATION


async def test_after_a_broken_answer_a_right_one_still_counts(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    mid = served.play(VIDEO)
    await eventually(lambda: served.offers)
    with pytest.raises(RemoteProtocolError) as failure:
        served.connection.receive_answer("nonsense")
    assert failure.value.code is ErrorCode.INVALID_SDP
    served.connection.receive_answer(peer.answer(served.offers[0]))
    assert served.playing().keys() == {mid}


async def test_an_offer_without_answer_is_sent_once_more_and_then_ends_the_connection(
    served: Served, peer: SdpPeer, fast: None
) -> None:
    served.offer(peer)
    served.play(VIDEO)
    await eventually(lambda: served.reasons)
    assert served.reasons == ["negotiation timeout"]
    assert len(served.offers) == 2 and served.offers[0] == served.offers[1]
    assert served.tracks_at_end == 2 and served.up_configs() == []


async def test_nothing_is_offered_to_a_client_that_is_away_and_all_of_it_when_it_is_back(
    served: Served, peer: SdpPeer, fast: None
) -> None:
    served.offer(peer)
    mid = served.play(AUDIO)
    await eventually(lambda: len(served.offers) == 1)
    served.connection.suspend()
    other = served.play(AUDIO, "TR_2")
    await asyncio.sleep(0.2)  # longer than an offer is gathered and waits for its answer, twice
    assert len(served.offers) == 1
    assert served.reasons == []
    with pytest.raises(RemoteProtocolError) as caught:
        served.connection.receive_answer("v=0")
    assert caught.value.code is ErrorCode.STALE_NEGOTIATION
    served.connection.resume()
    await served.exchange(peer)
    assert served.playing().keys() == {mid, other}


async def test_a_client_that_is_back_offers_first_and_ours_follows(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    mid = served.play(AUDIO)
    await eventually(lambda: len(served.offers) == 1)
    served.connection.suspend()
    served.connection.resume()
    before = len(served.published)
    peer.add("video", "sendonly")
    served.offer(peer)
    assert [kind for _, kind in served.published[before:]] == [VIDEO]
    await served.exchange(peer)
    assert served.playing().keys() == {mid}


async def test_a_peer_is_known_by_its_fingerprint(served: Served, peer: SdpPeer) -> None:
    offer = peer.offer()
    assert served.connection.is_from_same_peer(offer), "nobody is known yet"
    peer.accept(served.connection.receive_offer(offer))
    assert served.connection.is_from_same_peer(offer)
    start = offer.index("a=fingerprint:sha-256 ") + len("a=fingerprint:sha-256 ")
    other = offer.replace(offer[start : start + 95], ":".join(["AB"] * 32))
    assert not served.connection.is_from_same_peer(other)
    with pytest.raises(RemoteProtocolError) as caught:
        served.connection.receive_offer(other)
    assert caught.value.code is ErrorCode.INVALID_SDP
    with pytest.raises(RemoteProtocolError) as caught:
        served.connection.is_from_same_peer("nonsense")
    assert caught.value.code is ErrorCode.INVALID_SDP


async def test_a_late_answer_counts(served: Served, peer: SdpPeer, fast: None) -> None:
    served.offer(peer)
    mid = served.play(VIDEO)
    await eventually(lambda: len(served.offers) == 2)
    served.connection.receive_answer(peer.answer(served.offers[1]))
    await asyncio.sleep(2 * connection_module.ANSWER_TIMEOUT_S)
    assert served.playing().keys() == {mid} and served.reasons == [] and len(served.offers) == 2


async def test_nothing_can_be_asked_of_a_closed_connection(served: Served, peer: SdpPeer) -> None:
    served.offer(peer)
    mid = served.play(VIDEO)
    assert mid is not None
    source = served.source(VIDEO)
    await served.connection.close()
    with pytest.raises(LocalProtocolError):
        served.connection.receive_offer(peer.offer())
    with pytest.raises(LocalProtocolError):
        served.connection.receive_answer("v=0\r\n")
    assert served.connection.play(source, VIDEO, ANY, ("PA_1", "TR_2")) is None
    served.connection.stop(mid)
    await served.connection.close()
    assert served.reasons == [] and served.offers == []
    assert served.connection._timer is None


# With a network


class Client:
    """A whole aiortc client."""

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.tracks: list[str] = []
        self.pc.on("track", lambda track: self.tracks.append(track.kind))

    def send(self) -> None:
        self.pc.addTrack(AudioStreamTrack())
        self.pc.addTrack(VideoStreamTrack())

    async def offer_to(self, served: Served) -> None:
        await self.pc.setLocalDescription()
        answer = served.connection.receive_offer(self.pc.localDescription.sdp)
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def answer(self, served: Served) -> None:
        await self.pc.setRemoteDescription(RTCSessionDescription(served.offers[-1], "offer"))
        await self.pc.setLocalDescription()
        served.connection.receive_answer(self.pc.localDescription.sdp)


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch, served: Served) -> AsyncIterator[Client]:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    client = Client()
    yield client
    await client.pc.close()


async def test_an_aiortc_client_connects_publishes_and_receives(served: Served, client: Client) -> None:
    client.send()
    await client.offer_to(served)
    await eventually(lambda: served.is_connected and client.pc.connectionState == "connected")
    record = served.engine.transports[served.id]
    assert record.keys is not None and record.selected is not None
    assert sorted(kind for _, kind in served.published) == [AUDIO, VIDEO]
    await served.engine.until(lambda: len(record.media) > 5)

    mids = {served.play(VIDEO, "TR_1"), served.play(AUDIO, "TR_2")}
    await eventually(lambda: served.offers)
    await client.answer(served)
    assert served.playing().keys() == mids
    assert sorted(client.tracks) == ["audio", "audio", "video", "video"] or len(client.tracks) >= 2


async def test_a_client_that_hangs_up_ends_the_connection(served: Served, client: Client) -> None:
    client.send()
    await client.offer_to(served)
    await eventually(lambda: client.pc.connectionState == "connected" and served.is_connected)
    await client.pc.close()
    await eventually(lambda: served.reasons)
    assert served.reasons == ["closed by peer"] and served.tracks_at_end == 2


async def test_closing_tells_an_aiortc_client(served: Served, client: Client) -> None:
    client.send()
    await client.offer_to(served)
    await eventually(lambda: client.pc.connectionState == "connected" and served.is_connected)
    await served.connection.close()
    await eventually(lambda: client.pc.connectionState in ("closed", "failed"))


@pytest.mark.parametrize("moment", range(4))
async def test_closing_while_a_client_connects_leaves_nothing(
    served: Served, client: Client, moment: int
) -> None:
    client.send()
    moments: list[Callable[[], object]] = [
        lambda: True,
        lambda: served.engine.sent,
        lambda: served.engine.transports[served.id].selected,
        lambda: served.engine.transports[served.id].keys,
    ]
    await client.offer_to(served)
    await eventually(moments[moment])
    await served.connection.close()
    assert served.reasons == []
