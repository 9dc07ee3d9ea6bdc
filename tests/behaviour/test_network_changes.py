"""A call goes on when a client's network changes: ICE restarts, new ports, new addresses."""

import asyncio
from collections.abc import AsyncIterator

import aioice
import pytest

from tests.support.media_peer import VIDEO, slot
from tests.support.ortc import assert_no_complaints, eventually, only_tasks
from tests.support.packets import VP8_DELTA, VP8_KEYFRAME, read_rtp, rtp_packet
from tests.support.scripted_peer import Meeting, Member, ScriptedPeer, Stream, meeting

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


async def test_an_ended_connection_does_not_restart(call: Meeting) -> None:
    ada = await call.join(ScriptedPeer())
    await ada.transport.close()
    before = ada.transport.local
    ada.transport.restart_ice(ada.peer.remote)
    assert ada.transport.local == before
