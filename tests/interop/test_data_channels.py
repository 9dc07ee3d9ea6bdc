"""Data channels between pages of a browser, and an aiortc client beside them."""

import json

import pytest

from tests.support.browsers import Chromium
from tests.support.data_client import DataClient
from tests.support.firefox import Firefox
from tests.support.foreign import LIBDATACHANNEL, WERIFT, Stack, foreign_peer
from tests.support.ortc import eventually
from tests.support.server import RunningServer
from tests.support.visitor import SMALL_CAMERA, Visitor
from tests.support.waiting import until

# A page that creates a channel with its connection, before any media, and keeps what it hears.
EARLY = """(() => {
  const original = RTCPeerConnection;
  window.heard = [];
  window.channels = {};
  window.watch = (channel) => {
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) =>
      heard.push([channel.label, typeof data === "string" ? data : [...new Uint8Array(data)]]);
    channels[channel.label] = channel;
  };
  window.RTCPeerConnection = class extends original {
    constructor(...args) {
      super(...args);
      watch(this.createDataChannel("early", { protocol: "kaamos.from" }));
      this.addEventListener("datachannel", ({ channel }) => watch(channel));
    }
  };
})();
"""
CAMERA = SMALL_CAMERA % (320, 180)
CREATE = """([label, options]) => new Promise((resolve, reject) => {
  const channel = kaamos.connection.createDataChannel(label, options);
  channel.onopen = resolve;
  channel.onerror = reject;
  watch(channel);
})"""
SEND = """([label, message]) =>
  channels[label].send(typeof message === "string" ? message : new Uint8Array(message))"""

Heard = list[list[str | list[int]]]


async def call(page: Visitor, function: str, *arguments: object) -> None:
    await page.evaluate(f"() => ({function})({json.dumps(arguments)})")


async def heard(page: Visitor) -> Heard:
    found: Heard = await page.evaluate("() => heard")
    return found


async def hears(page: Visitor, *wanted: tuple[str, str | list[int]]) -> None:
    """Wait until this is what the page has heard, in this order."""
    await until(lambda: heard(page), lambda found: found == [list(item) for item in wanted], 10.0)


async def send(page: Visitor, label: str, message: str | list[int]) -> None:
    await call(page, SEND, label, message)


async def is_open(page: Visitor) -> None:
    """Wait until the channel that was there before the media is open."""
    state = "() => channels.early?.readyState ?? null"
    await until(lambda: page.evaluate(state), lambda state: state == "open", 10.0)


async def talk(ada: Visitor, grace: Visitor) -> None:
    """Let two pages that see each other talk, on channels made before media and after."""
    await ada.plays({"Grace"})
    await grace.plays({"Ada"})
    await is_open(ada)
    await is_open(grace)
    ids = [await page.evaluate("() => kaamos.userId") for page in (ada, grace)]

    for message in ("hello", "\u00fcber", ""):
        await send(ada, "early", message)
    await send(grace, "early", [0, 255])
    await hears(grace, *[("early", f"{ids[0]}\n{message}") for message in ("hello", "\u00fcber", "")])
    await hears(ada, ("early", [*f"{ids[1]}\n".encode(), 0, 255]))

    for page in (ada, grace):
        await page.evaluate("() => { heard.length = 0; }")
        await call(page, CREATE, "late", {})
        await call(page, CREATE, "fast", {"ordered": False, "maxRetransmits": 2})
    large = "x" * 65536
    for number in range(20):
        await send(ada, "late", f"{number}")
    await send(ada, "late", [])
    await send(ada, "late", large)
    await hears(grace, *[("late", f"{number}") for number in range(20)], ("late", []), ("late", large))
    await send(grace, "fast", "there")
    await send(grace, "fast", [1, 2, 3])
    unordered = [["fast", "there"], ["fast", [1, 2, 3]]]
    await until(lambda: heard(ada), lambda found: sorted(found, key=str) == unordered, 10.0)
    assert [page.errors for page in (ada, grace)] == [[], []]


async def test_two_pages_of_chromium_talk(chromium: Chromium, server: RunningServer) -> None:
    ada = await chromium.visit(server.room("data"), "Ada", script=EARLY + CAMERA)
    grace = await chromium.visit(server.room("data"), "Grace", script=EARLY + CAMERA)
    await talk(ada, grace)


@pytest.mark.usefixtures("network")
async def test_firefox_and_chromium_talk(firefox: Firefox, chromium: Chromium, server: RunningServer) -> None:
    ada = await chromium.visit(server.room("data"), "Ada", script=EARLY + CAMERA)
    grace = await firefox.visit(server.room("data"), "Grace", script=EARLY + CAMERA)
    await talk(ada, grace)


async def test_a_page_refuses_what_is_too_long_and_a_channel_too_many_is_closed(
    chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("limits"), "Ada", script=EARLY + CAMERA)
    await is_open(ada)
    assert await ada.evaluate("() => kaamos.connection.sctp.maxMessageSize") == 65536
    states = """() => Object.values(channels).map((channel) => channel.readyState)"""
    await ada.evaluate(
        "() => { for (let n = 0; n < 16; n++) watch(kaamos.connection.createDataChannel(`${n}`)); }"
    )
    await until(
        lambda: ada.evaluate(states), lambda found: found.count("open") == 16 and "closed" in found, 10.0
    )


async def test_a_page_and_an_aiortc_client_talk_and_whoever_has_no_channel_gets_one(
    chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("mixed"), "Ada", script=EARLY + CAMERA)
    await is_open(ada)
    async with DataClient(server.socket("mixed"), "grace", {"news": {"ordered": False}}) as grace:
        grace.channels["news"].send("one")
        grace.channels["news"].send(b"\x00\x01")
        await until(
            lambda: heard(ada),
            lambda found: sorted(found, key=str) == [["news", "one"], ["news", [0, 1]]],
            10.0,
        )
        assert await ada.evaluate("() => channels.news.ordered") is False
        await send(ada, "news", "two")
        await eventually(lambda: grace.heard == [("news", "two")])


@pytest.mark.parametrize("stack", [WERIFT, LIBDATACHANNEL], ids=lambda stack: stack.name)
async def test_another_stack_talks(server: RunningServer, stack: Stack) -> None:
    messages: list[str | bytes] = ["hello", b"\x00\xff", "\u00fc" * 10_000]
    async with (
        DataClient(server.socket("stacks"), "ada", {"chat": {"protocol": "kaamos.from"}}) as ada,
        foreign_peer(stack, server.socket("stacks"), "Grace") as grace,
    ):
        await eventually(lambda: grace.can_talk)
        for message in messages:
            grace.say(message)
            ada.channels["chat"].send(message)
        await eventually(lambda: grace.heard == messages and len(ada.heard) == len(messages))
        told = [text.partition("\n" if isinstance(text, str) else b"\n")[2] for _, text in ada.heard]
        assert told == messages and grace.errors == []
