"""Data channels between pages of a browser, and an aiortc client beside them."""

from tests.support.browsers import SMALL_CAMERA, Chromium, RoomPage
from tests.support.data_client import DataClient
from tests.support.ortc import eventually
from tests.support.server import RunningServer
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


async def heard(page: RoomPage) -> Heard:
    found: Heard = await page.page.evaluate("heard")
    return found


async def hears(page: RoomPage, *wanted: tuple[str, str | list[int]]) -> None:
    """Wait until this is what the page has heard, in this order."""
    await until(lambda: heard(page), lambda found: found == [list(item) for item in wanted], 10.0)


async def send(page: RoomPage, label: str, message: str | list[int]) -> None:
    await page.page.evaluate(SEND, [label, message])


async def test_two_pages_talk_on_channels_made_before_media_and_after(
    chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("data"), "Ada", script=EARLY + CAMERA)
    grace = await chromium.visit(server.room("data"), "Grace", script=EARLY + CAMERA)
    await ada.plays({"Grace"})
    await grace.plays({"Ada"})
    await until(lambda: ada.page.evaluate("channels.early.readyState"), lambda state: state == "open", 5.0)
    await until(lambda: grace.page.evaluate("channels.early.readyState"), lambda state: state == "open", 5.0)
    ids = [await page.page.evaluate("kaamos.userId") for page in (ada, grace)]

    for message in ("hello", "\u00fcber", ""):
        await send(ada, "early", message)
    await send(grace, "early", [0, 255])
    await hears(grace, *[("early", f"{ids[0]}\n{message}") for message in ("hello", "\u00fcber", "")])
    await hears(ada, ("early", [*f"{ids[1]}\n".encode(), 0, 255]))

    for page in (ada, grace):
        await page.page.evaluate("heard.length = 0")
        await page.page.evaluate(CREATE, ["late", {}])
        await page.page.evaluate(CREATE, ["fast", {"ordered": False, "maxRetransmits": 2}])
    large = "x" * 65536
    for number in range(20):
        await send(ada, "late", f"{number}")
    await send(ada, "late", [])
    await send(ada, "late", large)
    await hears(grace, *[("late", f"{number}") for number in range(20)], ("late", []), ("late", large))
    await send(grace, "fast", "there")
    await send(grace, "fast", [1, 2, 3])
    await until(
        lambda: heard(ada),
        lambda found: sorted(found, key=str) == [["fast", "there"], ["fast", [1, 2, 3]]],
        10.0,
    )
    assert [page.errors for page in (ada, grace)] == [[], []]


async def test_a_page_refuses_what_is_too_long_and_a_channel_too_many_is_closed(
    chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("limits"), "Ada", script=EARLY + CAMERA)
    await until(lambda: ada.page.evaluate("channels.early?.readyState"), lambda state: state == "open", 10.0)
    assert await ada.page.evaluate("kaamos.connection.sctp.maxMessageSize") == 65536
    states = """() => Object.values(channels).map((channel) => channel.readyState)"""
    await ada.page.evaluate(
        "() => { for (let n = 0; n < 16; n++) watch(kaamos.connection.createDataChannel(`${n}`)); }"
    )
    await until(
        lambda: ada.page.evaluate(states), lambda found: found.count("open") == 16 and "closed" in found, 10.0
    )


async def test_a_page_and_an_aiortc_client_talk_and_whoever_has_no_channel_gets_one(
    chromium: Chromium, server: RunningServer
) -> None:
    ada = await chromium.visit(server.room("mixed"), "Ada", script=EARLY + CAMERA)
    await until(lambda: ada.page.evaluate("channels.early?.readyState"), lambda state: state == "open", 10.0)
    async with DataClient(server.socket("mixed"), "grace", {"news": {"ordered": False}}) as grace:
        grace.channels["news"].send("one")
        grace.channels["news"].send(b"\x00\x01")
        await until(
            lambda: heard(ada),
            lambda found: sorted(found, key=str) == [["news", "one"], ["news", [0, 1]]],
            10.0,
        )
        assert await ada.page.evaluate("channels.news.ordered") is False
        await send(ada, "news", "two")
        await eventually(lambda: grace.heard == [("news", "two")])
