"""Headless Chromium with a fake camera and microphone, driven by Playwright.

Where no Chromium is installed a test that asks for one is skipped; ``KAAMOS_REQUIRE_BROWSERS=1`` makes that a
failure, so that a machine meant to run these tests cannot pass by not running them.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.support.waiting import until

# The last --disable-features on the command line counts; Playwright passes one too, ours comes later.
DISABLED_FEATURES = "WebRtcHideLocalIpsWithMdns,Translate,OptimizationHints,MediaRouter"

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *(
        "--disable-component-update",
        "--disable-sync",
        "--disable-default-apps",
        "--disable-breakpad",
        "--no-pings",
    ),
    *("--use-fake-device-for-media-stream=fps=30,device-count=3", "--use-fake-ui-for-media-stream"),
    *("--autoplay-policy=no-user-gesture-required", "--mute-audio", "--allow-loopback-in-peer-connection"),
    *("--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"),
    *("--disable-background-timer-throttling", "--auto-accept-this-tab-capture"),
    # Every name but loopback fails inside the browser: nothing leaves the machine.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
    f"--disable-features={DISABLED_FEATURES}",
]

# Gives the fake camera a size of the test's choosing, whatever the page asks for.
SMALL_CAMERA = """(() => {
  const original = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = function (wanted) {
    const { deviceId } = wanted.video ?? {};
    const video = { deviceId, width: { exact: %d }, height: { exact: %d }, frameRate: { ideal: 15 } };
    return original.call(this, wanted.video ? { ...wanted, video } : wanted);
  };
})()"""

# Lets a test end the page's sockets behind its back.
KEEP_SOCKETS = """(() => {
  const original = WebSocket;
  window.sockets = [];
  window.WebSocket = class extends original {
    constructor(...args) {
      super(...args);
      window.sockets.push(this);
    }
  };
})()"""

# Lets getDisplayMedia show the page's own tab, which the flag above accepts for the user.
SHARE_THIS_TAB = """(() => {
  const original = MediaDevices.prototype.getDisplayMedia;
  MediaDevices.prototype.getDisplayMedia = function (wanted) {
    return original.call(this, { ...wanted, preferCurrentTab: true });
  };
})();"""

NO_DEVICES = """
  MediaDevices.prototype.getUserMedia = async () => { throw new DOMException("none here", "NotFoundError"); };
"""

RECEIVED = """async () => {
  const stats = [...((await kaamos.connection?.getStats()) ?? []).values()];
  return stats.filter((s) => s.type === "inbound-rtp" && kaamos.tracks.has(s.mid)).map((s) => ({
    mid: s.mid,
    name: kaamos.participants.get(kaamos.tracks.get(s.mid).user_id)?.name ?? "",
    kind: s.kind,
    packets: s.packetsReceived,
    lost: s.packetsLost,
    key_frame_requests: s.pliCount ?? 0,
    frames_decoded: s.framesDecoded ?? 0,
    freezes: s.freezeCount ?? 0,
    frozen_s: s.totalFreezesDuration ?? 0,
    audio_energy: s.totalAudioEnergy ?? 0,
    aspect: s.frameHeight ? s.frameWidth / s.frameHeight : 0,
  }));
}"""


def chromium_binary() -> str:
    """Return the path of Chromium; skip the test without one, or fail where browsers are required."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("KAAMOS_REQUIRE_BROWSERS") == "1":
            pytest.fail("KAAMOS_REQUIRE_BROWSERS=1, but no chromium is on PATH")
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium fonts-dejavu-core)")
    return found


@dataclass(frozen=True)
class Received:
    """What a page has received so far of one track of somebody."""

    mid: str
    name: str  # of who sent it, as the page knows it
    kind: str
    packets: int
    lost: int
    key_frame_requests: int
    frames_decoded: int
    freezes: int
    frozen_s: float
    audio_energy: float
    aspect: float  # width by height of the last decoded frame; 0 before the first


class RoomPage:
    """The room page in one tab."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.errors: list[str] = []  # what the page threw or logged as an error
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    async def received(self) -> dict[tuple[str, str], Received]:
        """Return what it receives, by (sender's name, kind)."""
        rows = await self.page.evaluate(RECEIVED)
        return {(row["name"], row["kind"]): Received(**row) for row in rows}

    async def names_shown(self) -> set[str]:
        """Return whose tiles are in the grid."""
        return set(await self.page.locator(".tile .name").all_inner_texts())

    async def plays(self, names: set[str], within_s: float = 20.0) -> Mapping[tuple[str, str], Received]:
        """Wait until exactly these people are shown, and picture and sound of each arrive; return those."""

        def is_whole(seen: tuple[set[str], dict[tuple[str, str], Received]]) -> bool:
            shown, tracks = seen
            wanted = {(name, kind) for name in names for kind in ("audio", "video")}
            return (
                shown == names
                and set(tracks) == wanted
                and all(t.frames_decoded > 0 for t in tracks.values() if t.kind == "video")
                and all(t.audio_energy > 0 for t in tracks.values() if t.kind == "audio")
            )

        async def look() -> tuple[set[str], dict[tuple[str, str], Received]]:
            return await self.names_shown(), await self.received()

        return (await until(look, is_whole, within_s))[1]

    async def lose_socket(self) -> None:
        """End the page's socket in a way that it did not choose."""
        await self.page.evaluate("sockets.at(-1).close(4999)")

    async def close(self) -> None:
        """Close the tab, as its user would."""
        await self.page.close()

    async def crash(self) -> None:
        """End the process behind the tab: nothing of its page runs any more."""
        session = await self.page.context.new_cdp_session(self.page)
        async with self.page.expect_event("crash"):
            crashing = asyncio.ensure_future(session.send("Page.crash"))
        crashing.cancel()  # a crashed page never answers


class Chromium:
    """A running browser; each tab is a visitor with a camera of its own size."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    async def visit(
        self,
        url: str,
        name: str,
        *,
        camera: tuple[int, int] = (320, 180),
        script: str | None = None,
    ) -> RoomPage:
        """Open a room's page as somebody; a ``script`` run before it takes the place of ``camera``."""
        context = await self._browser.new_context(
            # Without this permission Chromium gathers no candidates on loopback, whatever its flags say.
            permissions=["camera", "microphone"],
            viewport={"width": 1280, "height": 720},
        )
        await context.add_init_script(script or SMALL_CAMERA % camera)
        await context.add_init_script(KEEP_SOCKETS)
        room_page = RoomPage(await context.new_page(), name)
        await room_page.page.goto(f"{url}?name={name}")
        return room_page


@contextlib.asynccontextmanager
async def running_chromium() -> AsyncIterator[Chromium]:
    binary = chromium_binary()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=binary, args=FLAGS, chromium_sandbox=False)
        try:
            yield Chromium(browser)
        finally:
            await browser.close()


@pytest.fixture
async def chromium() -> AsyncIterator[Chromium]:
    async with running_chromium() as browser:
        yield browser
