"""A call goes on when a client's network changes: ICE restarts, new ports, new addresses."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import aioice
import pytest

from kaamos.rtc.dtls import Certificate
from kaamos.rtc.transport import PeerTransport
from tests.support.impair import relayed
from tests.support.media_peer import VIDEO, slot
from tests.support.ortc import OrtcClient, assert_no_complaints, eventually, only_tasks
from tests.support.packets import VP8_DELTA, VP8_KEYFRAME, read_rtp, receiver_report, rtp_packet
from tests.support.required import address_family
from tests.support.scripted_peer import Meeting, Member, ScriptedPeer, Stream, ignore_data, meeting

SLOT_SSRC = 0x777


@pytest.fixture
async def call(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Meeting]:
    before = asyncio.all_tasks()
    async with meeting() as running:
        yield running
    await only_tasks(before)
    assert_no_complaints(caplog)


async def pair(call: Meeting, ada: ScriptedPeer | None = None) -> tuple[Member, Member]:
    """Two who see each other."""
    one = await call.join(ada or ScriptedPeer())
    other = await call.join(ScriptedPeer())
    for publisher, viewer in ((one, other), (other, one)):
        viewer.subscribe(publisher.publish(VIDEO), slot(SLOT_SSRC))
    return one, other


def streaming(member: Member) -> Stream:
    """Let a member send a picture whose first packet is a key frame."""

    def send(number: int) -> None:
        payload = VP8_KEYFRAME if number == 1 else VP8_DELTA
        member.peer.send_rtp(rtp_packet(number, timestamp=number * 900, payload=payload))

    return Stream(send)


def sequence(member: Member) -> list[int]:
    """The numbers of what a member received."""
    return [read_rtp(data).seq for _, _, data in member.peer.media]


async def both_receive(*members: Member, packets: int = 5) -> None:
    """Wait until everybody has received some more."""
    counts = [len(member.peer.media) for member in members]
    await eventually(
        lambda: all(len(m.peer.media) >= n + packets for m, n in zip(members, counts, strict=True))
    )


def is_gapless(numbers: list[int]) -> bool:
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("has_new_port", [True, False], ids=["another port", "the same port"])
async def test_an_ice_restart_loses_no_packet_in_either_direction(call: Meeting, has_new_port: bool) -> None:
    ada, grace = await pair(call)
    async with streaming(ada), streaming(grace):
        await both_receive(ada, grace)
        for _ in range(3):
            dtls, keys = ada.peer.dtls.state, ada.peer.dtls._tx_srtp
            old_port = ada.peer.port
            ada.restart()
            await both_receive(ada, grace)  # on the old path, which nothing has touched
            assert ada.peer.media[-1][1] == old_port
            if has_new_port:
                ada.peer.move(keep=True)
            await ada.peer.check(nominate=True)
            await eventually(lambda: ada.peer.media[-1][1] == ada.peer.port)
            await both_receive(ada, grace)
            assert (ada.peer.dtls.state, ada.peer.dtls._tx_srtp) == (dtls, keys)
    assert is_gapless(sequence(ada)) and is_gapless(sequence(grace))
    assert {read_rtp(data).ssrc for _, _, data in ada.peer.media} == {SLOT_SSRC}
    assert ada.reasons == [] and call.drops() == {}


async def test_until_the_new_session_has_nominated_the_old_path_keeps_the_call(call: Meeting) -> None:
    ada, grace = await pair(call)
    old_port = ada.peer.port
    async with streaming(ada), streaming(grace):
        await both_receive(ada, grace)
        ada.restart()
        ada.peer.move(keep=True)
        await ada.peer.check()
        await both_receive(ada, grace)
        assert ada.peer.media[-1][1] == old_port
        await ada.peer.check(nominate=True)
        await eventually(lambda: ada.peer.media[-1][1] == ada.peer.port)


async def test_of_many_restarts_only_the_last_counts_and_nothing_piles_up(call: Meeting) -> None:
    ada, grace = await pair(call)
    tasks = len(asyncio.all_tasks())
    async with streaming(ada), streaming(grace):
        await both_receive(ada, grace)
        for _ in range(300):
            ada.restart()
            await asyncio.sleep(0)
        await both_receive(ada, grace)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 10)
        await ada.peer.check(nominate=True)
        await both_receive(ada, grace)
        assert len(ada.transport._tasks) == 0
    assert is_gapless(sequence(ada)) and is_gapless(sequence(grace))


async def test_a_restart_that_is_not_answered_by_checks_changes_nothing(call: Meeting) -> None:
    ada, grace = await pair(call)
    ada.transport._ice_timeout_s = 0.01
    async with streaming(ada), streaming(grace):
        ada.restart()
        await asyncio.sleep(0.02)  # its time is over
        await both_receive(ada, grace)
        assert ada.reasons == []


@pytest.mark.parametrize("is_early", [False, True], ids=["answer first", "checks first"])
async def test_a_restart_goes_on_with_a_peer_that_did_not_hear_of_it(call: Meeting, is_early: bool) -> None:
    ada, grace = await pair(call)
    async with streaming(ada), streaming(grace):
        await both_receive(ada, grace)
        ada.peer.restart()
        ada.transport.restart_ice(ada.peer.remote)  # the answer is lost, and our next offer tells of this
        local = ada.transport.local
        ada.peer.restart()
        ada.peer.meet(local, ada.peer.server[0])
        if is_early:
            await ada.peer.check()
        ada.transport.resume_restart(ada.peer.remote)
        assert ada.transport.local == local
        await ada.peer.check(nominate=True)
        await eventually(lambda: ada.transport._restart is None)
        await both_receive(ada, grace)
    assert is_gapless(sequence(ada)) and is_gapless(sequence(grace))
    assert ada.reasons == []
    ada.transport.resume_restart(ada.peer.remote)  # nothing was lost, so a peer may not say so
    await eventually(lambda: ada.reasons == ["ice restart failed"])


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consent ends in a fraction of a second."""
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.02)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 3)
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", 0.02)


@pytest.mark.usefixtures("hasty")
async def test_a_restart_brings_a_call_back_whose_old_path_is_dead(call: Meeting) -> None:
    ada, grace = await pair(call)
    async with streaming(grace):
        ada.restart()
        ada.peer.answers_checks = False
        await eventually(lambda: "dropped_no_path" in call.drops())
        assert ada.reasons == []
        ada.peer.answers_checks = True
        ada.peer.move()
        await ada.peer.check(nominate=True)
        async with streaming(ada):
            await both_receive(ada, grace)
    assert ada.reasons == []


@pytest.mark.usefixtures("hasty")
async def test_when_both_sessions_are_dead_the_connection_ends(call: Meeting) -> None:
    ada, grace = await pair(call)
    ada.transport._ice_timeout_s = 0.3
    ada.restart()
    ada.peer.answers_checks = False
    await eventually(lambda: ada.reasons)
    assert ada.reasons == ["consent lost"] and grace.reasons == []


async def test_a_restart_before_the_first_session_has_connected_is_as_good(call: Meeting) -> None:
    member = Member(call.engine, call._certificate, ("127.0.0.1",), ScriptedPeer())
    call.members.append(member)
    member.transport.start(member.peer.remote)
    member.peer.meet(member.transport.local)
    member.restart()
    await member.peer.connect(member.transport.local)
    await eventually(lambda: member.is_connected)
    assert member.transport._restart is None


MOVED_WITHIN_S = 0.2


def frames_up(member: Member) -> int:
    """How many packets of a member the server has taken."""
    (uptrack,) = member.up_tracks
    return member.engine.uptrack_stats(uptrack).packets


@pytest.mark.parametrize("nominates", [True, False], ids=["nominated", "not nominated"])
@pytest.mark.parametrize("ip", ["127.0.0.1", "127.0.0.3", "::1"], ids=["port", "address", "family"])
async def test_media_flows_both_ways_soon_after_the_first_check_from_another_address(
    call: Meeting, nominates: bool, ip: str
) -> None:
    address_family(ip, has_ipv6=call.engine.has_ipv6)
    ada, grace = await pair(call)
    async with streaming(ada), streaming(grace):
        await both_receive(ada, grace)
        ada.peer.move(ip)  # without a word, as behind a NAT that has forgotten us
        ada.peer.server = "::1" if ":" in ip else "127.0.0.1", call.engine.port
        await asyncio.sleep(0)
        before = frames_up(ada)
        checked_at = time.monotonic()
        await ada.peer.check(nominate=nominates)
        await eventually(lambda: frames_up(ada) > before)
        assert time.monotonic() - checked_at < MOVED_WITHIN_S
        await eventually(lambda: ada.peer.media[-1][1] == ada.peer.port)
        arrived_at = next(at for at, port, _ in ada.peer.media if port == ada.peer.port)
        assert arrived_at - checked_at < MOVED_WITHIN_S
        await both_receive(ada, grace)
        assert read_rtp(grace.peer.media[-1][2]).seq > 0
    assert ada.reasons == []


async def test_who_only_watches_is_followed_by_its_reports(call: Meeting) -> None:
    ada, grace = await call.join(ScriptedPeer()), await call.join(ScriptedPeer())
    grace.subscribe(ada.publish(VIDEO), slot(SLOT_SSRC))
    async with streaming(ada):
        await eventually(lambda: grace.peer.media)
        grace.peer.move()
        await grace.peer.check()
        async with Stream(lambda _: grace.peer.send_rtcp(receiver_report(1))):
            await eventually(lambda: grace.peer.media[-1][1] == grace.peer.port)


async def test_a_check_without_media_from_another_address_moves_nothing(call: Meeting) -> None:
    ada, grace = await pair(call)
    async with streaming(ada), streaming(grace):
        await both_receive(ada, grace)
        old_port = ada.peer.port
        ada.peer.move(keep=True)
        for _ in range(3):
            await ada.peer.check()
        ada.peer.move_back()
        await both_receive(ada, grace, packets=20)
        assert ada.peer.media[-1][1] == old_port


async def test_media_from_an_address_that_does_not_answer_our_checks_is_not_answered_there(
    call: Meeting,
) -> None:
    # Its packets are authentic, but nobody has shown that it wants ours there.
    ada, grace = await pair(call)
    async with streaming(ada), streaming(grace):
        await both_receive(ada, grace)
        old_port = ada.peer.port
        ada.peer.answers_checks = False
        ada.peer.move(keep=True)
        await ada.peer.check()
        await both_receive(ada, grace, packets=20)
        assert ada.peer.media[-1][1] == old_port


async def test_an_address_of_another_living_client_is_not_taken_over_by_a_move(call: Meeting) -> None:
    ada, grace = await pair(call)
    async with streaming(grace):
        await both_receive(ada)
        counters = call.engine.counters()
        ada.peer.speak_from(grace.peer)
        with pytest.raises(TimeoutError):
            await ada.peer.check(nominate=True, within_s=0.3)
        assert counters["stun_raised"] < call.engine.counters()["stun_raised"]
        await both_receive(ada)


async def test_a_real_ice_client_whose_nat_gave_it_another_port_goes_on(
    call: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    # aioice nominates once and asks for consent ever after.
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.3)
    ada = await call.join(ScriptedPeer())
    client = OrtcClient()
    async with relayed(call.engine.port, seed=9) as relay:
        connected: list[bool] = []
        reasons: list[str] = []
        transport = PeerTransport(
            call.engine,
            Certificate(),
            ["127.0.0.1"],
            on_connected=lambda: connected.append(True),
            on_closed=reasons.append,
            on_data=ignore_data,
        )
        transport.start(client.remote)
        await client.connect(replace(transport.local, addresses=(("127.0.0.1", relay.port),)))
        await eventually(lambda: connected)
        downtrack = call.engine.add_downtrack(transport.id, slot(SLOT_SSRC))
        call.engine.connect(downtrack, ada.publish(VIDEO))
        uptrack = call.engine.add_uptrack(transport.id, VIDEO)

        def talk(number: int) -> None:
            packet = client.dtls._tx_srtp.protect(rtp_packet(number, payload=VP8_KEYFRAME))
            client.ice._connection._nominated[1].protocol.transport.sendto(packet, ("127.0.0.1", relay.port))

        async with streaming(ada), Stream(talk):
            for _ in range(3):
                await relay.rebind()
                await eventually(lambda: relay.rebound.checked_at)
                before = call.engine.uptrack_stats(uptrack).packets
                await eventually(lambda n=before: call.engine.uptrack_stats(uptrack).packets > n)
                assert time.monotonic() - relay.rebound.checked_at < MOVED_WITHIN_S
                await eventually(lambda: relay.rebound.media_at)
                assert relay.rebound.media_at - relay.rebound.checked_at < MOVED_WITHIN_S
        assert reasons == []
        await transport.close()
        await client.close()


async def test_an_ended_connection_does_not_restart(call: Meeting) -> None:
    ada = await call.join(ScriptedPeer())
    await ada.transport.close()
    before = ada.transport.local
    ada.transport.restart_ice(ada.peer.remote)
    assert ada.transport.local == before
