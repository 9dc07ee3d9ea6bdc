"""Stacks that share no code with browsers nor with us call somebody in Chromium, and are called."""

import pytest

from tests.support.browsers import Chromium
from tests.support.foreign import GSTREAMER, LIBDATACHANNEL, WERIFT, ForeignPeer, Stack, foreign_peer
from tests.support.server import RunningServer
from tests.support.waiting import until

# A second of sound in packets of 20 ms, and two of a camera with 15 pictures a second.
SOUNDS, PICTURES = 50, 30


async def receives_more(peer: ForeignPeer) -> None:
    """Wait until another second of sound and two of a picture have come."""
    before = await peer.has_received()

    def is_more(received: dict[str, int]) -> bool:
        return (
            received["audio"] >= before["audio"] + SOUNDS and received["video"] >= before["video"] + PICTURES
        )

    await until(peer.has_received, is_more, 20.0)


@pytest.mark.parametrize("stack", [GSTREAMER, WERIFT, LIBDATACHANNEL], ids=lambda stack: stack.name)
async def test_another_stack_and_chromium_see_and_hear_each_other(
    chromium: Chromium, server: RunningServer, stack: Stack
) -> None:
    ada = await chromium.visit(server.room("proof"), "Ada")
    async with foreign_peer(stack, server.socket("proof"), "Grace") as grace:
        before = await ada.plays({"Grace"})
        await receives_more(grace)
        after = await until(
            ada.received,
            lambda tracks: (
                tracks["Grace", "camera"].frames_decoded
                >= before["Grace", "camera"].frames_decoded + PICTURES
            ),
            within_s=20.0,
        )
        assert after["Grace", "microphone"].audio_energy > before["Grace", "microphone"].audio_energy
        assert after["Grace", "camera"].aspect == pytest.approx(320 / 240, rel=0.03)
        assert grace.errors == []
    await ada.plays(set())
    assert ada.errors == []


# webrtcbin 1.22 cannot take a section up again that was inactive ("direction changes are not implemented").
@pytest.mark.parametrize("stack", [WERIFT, LIBDATACHANNEL], ids=lambda stack: stack.name)
async def test_another_stack_receives_who_comes_after_somebody_left_and_who_comes_then(
    chromium: Chromium, server: RunningServer, stack: Stack
) -> None:
    ada = await chromium.visit(server.room("proof"), "Ada")
    async with foreign_peer(stack, server.socket("proof"), "Grace") as grace:
        await ada.plays({"Grace"})
        await receives_more(grace)
        await ada.page.click("#leave")
        linus = await chromium.visit(server.room("proof"), "Linus")
        await linus.plays({"Grace"})
        await receives_more(grace)
        barbara = await chromium.visit(server.room("proof"), "Barbara")
        await barbara.plays({"Grace", "Linus"})
        await linus.plays({"Grace", "Barbara"})
        await receives_more(grace)
        assert grace.errors == []
    assert [page.errors for page in (ada, linus, barbara)] == [[], [], []]
