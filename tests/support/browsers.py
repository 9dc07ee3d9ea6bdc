"""Headless Chromium with a fake camera and microphone, driven by Playwright."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.support.required import program
from tests.support.visitor import KEEP_SOCKETS, SMALL_CAMERA, Visitor

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


# Lets getDisplayMedia show the page's own tab, which the flag above accepts for the user.
SHARE_THIS_TAB = """(() => {
  const original = MediaDevices.prototype.getDisplayMedia;
  MediaDevices.prototype.getDisplayMedia = function (wanted) {
    return original.call(this, { ...wanted, preferCurrentTab: true });
  };
})();
"""


class RoomPage(Visitor):
    """The room page in one tab."""

    def __init__(self, page: Page, name: str) -> None:
        super().__init__(name)
        self.page = page
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    async def evaluate(self, script: str) -> Any:
        return await self.page.evaluate(script)

    async def reload(self) -> None:
        await self.page.reload()

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
        context = await self._context()
        await context.add_init_script(script or SMALL_CAMERA % camera)
        await context.add_init_script(KEEP_SOCKETS)
        room_page = RoomPage(await context.new_page(), name)
        await room_page.page.goto(f"{url}?name={name}")
        return room_page

    async def open(self, url: str) -> Page:
        """Open any page, to run scripts in."""
        page = await (await self._context()).new_page()
        await page.goto(url)
        return page

    async def _context(self) -> BrowserContext:
        return await self._browser.new_context(
            # Without this permission Chromium gathers no candidates on loopback, whatever its flags say.
            permissions=["camera", "microphone"],
            viewport={"width": 1280, "height": 720},
        )


@contextlib.asynccontextmanager
async def running_chromium() -> AsyncIterator[Chromium]:
    binary = program(("chromium", "chromium-browser", "google-chrome"), "chromium fonts-dejavu-core")
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
