"""Stacks that share no code with browsers nor with us call somebody in Chromium, and are called."""

import pytest

from tests.support.browsers import Chromium
from tests.support.foreign import GSTREAMER, LIBDATACHANNEL, WERIFT, Stack, foreign_peer
from tests.support.server import RunningServer
from tests.support.waiting import until

# A second of sound in packets of 20 ms, and two of a camera with 15 pictures a second.
SOUNDS, PICTURES = 50, 30


@pytest.mark.parametrize("stack", [GSTREAMER, WERIFT, LIBDATACHANNEL], ids=lambda stack: stack.name)
async def test_another_stack_and_chromium_see_and_hear_each_other(
    chromium: Chromium, server: RunningServer, stack: Stack
) -> None:
    ada = await chromium.visit(server.room("proof"), "Ada")
    async with foreign_peer(stack, server.socket("proof"), "Grace") as grace:
        before = await ada.plays({"Grace"})
        await until(
            grace.has_received,
            lambda received: received["audio"] >= SOUNDS and received["video"] >= PICTURES,
            within_s=20.0,
        )
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
