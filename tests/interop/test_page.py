"""What people do on the page besides talking: share a screen, choose devices, look at how the call goes."""

from tests.support.browsers import SHARE_THIS_TAB, Chromium, RoomPage
from tests.support.server import RunningServer, running_server
from tests.support.visitor import SMALL_CAMERA
from tests.support.waiting import until

CAMERA = SMALL_CAMERA % (320, 180)
SOURCES = "[...kaamos.tracks.values()].map((track) => track.source).sort()"
DECODED = """async () => {
  const { mid } = [...kaamos.tracks.values()].find(({ source }) => source === "screen_share");
  const stats = [...(await kaamos.connection.getStats()).values()];
  return stats.find((s) => s.type === "inbound-rtp" && s.mid === mid)?.framesDecoded ?? 0;
}"""


async def enter(chromium: Chromium, server: RunningServer, *names: str) -> list[RoomPage]:
    script = CAMERA + SHARE_THIS_TAB
    pages = [await chromium.visit(server.room("page"), name, script=script) for name in names]
    for page in pages:
        await page.plays(set(names) - {page.name})
    return pages


async def test_a_shared_screen_is_seen_beside_the_camera_and_can_be_shared_again(
    chromium: Chromium, server: RunningServer
) -> None:
    ada, grace = await enter(chromium, server, "Ada", "Grace")
    camera = ["camera", "microphone"]
    screen = grace.page.locator("#screens .tile.screen.has-picture")

    for _ in range(2):
        await ada.page.get_by_role("button", name="Share a screen", pressed=False).click()
        await screen.wait_for()
        assert "screen_share" in await grace.page.evaluate(SOURCES)
        decoded = await grace.page.evaluate(DECODED)
        await until(lambda: grace.page.evaluate(DECODED), lambda now, old=decoded: now > old + 10, 10.0)
        await ada.page.get_by_role("button", name="Share a screen", pressed=True).click()
        await screen.wait_for(state="detached")
        await until(lambda: grace.page.evaluate(SOURCES), lambda sources: sources == camera, 5.0)

    # Also when the browser's own bar ends it.
    await ada.page.get_by_role("button", name="Share a screen", pressed=False).click()
    await screen.wait_for()
    await ada.page.evaluate("kaamos.published.get('screen_share').dispatchEvent(new Event('ended'))")
    await ada.page.get_by_role("button", name="Share a screen", pressed=False).wait_for()
    await until(lambda: grace.page.evaluate(SOURCES), lambda sources: "screen_share" not in sources, 5.0)
    assert [page.errors for page in (ada, grace)] == [[], []]


async def test_another_camera_takes_the_place_of_the_first_without_a_new_offer(
    chromium: Chromium, server: RunningServer
) -> None:
    ada, grace = await enter(chromium, server, "Ada", "Grace")
    before = await grace.plays({"Ada"})
    offers = await ada.page.evaluate("kaamos.connection.localDescription.sdp")
    await ada.page.get_by_role("button", name="Devices and statistics").click()
    used = "kaamos.published.get('camera').getSettings().deviceId"
    first = await ada.page.evaluate(used)
    await ada.page.locator("#choose-camera").select_option(index=2)  # the second is a depth camera
    await until(lambda: ada.page.evaluate(used), lambda device: device != first, 5.0)
    frames = before["Ada", "camera"].frames_decoded

    await until(grace.received, lambda now: now["Ada", "camera"].frames_decoded > frames + 30, 10.0)
    assert await ada.page.evaluate("kaamos.connection.localDescription.sdp") == offers
    assert [page.errors for page in (ada, grace)] == [[], []]


async def test_the_page_tells_how_the_call_goes(chromium: Chromium, server: RunningServer) -> None:
    (ada, _grace) = await enter(chromium, server, "Ada", "Grace")
    await ada.page.get_by_role("button", name="Devices and statistics").click()
    await ada.page.get_by_text("Grace, camera: VP8").wait_for()
    await ada.page.get_by_text("You, microphone: opus").wait_for()
    stats = await ada.page.evaluate("kaamos.stats()")
    assert {(track["isOurs"], track["source"]) for track in stats["tracks"]} == {
        (is_ours, source) for is_ours in (True, False) for source in ("camera", "microphone")
    }
    await ada.page.keyboard.press("Escape")
    await ada.page.locator("#settings").wait_for(state="hidden")
    assert ada.errors == []


async def test_a_socket_that_falls_silent_is_noticed_and_made_anew(
    chromium: Chromium, server: RunningServer
) -> None:
    ada, grace = await enter(chromium, server, "Ada", "Grace")
    # The network under the socket is gone: nothing comes any more, and nothing says so.
    await ada.page.evaluate("""() => {
      const [socket] = sockets.slice(-1);
      socket.onmessage = null;
      socket.send = () => {};
      dispatchEvent(new Event("online"));
    }""")
    await until(lambda: ada.page.evaluate("sockets.length"), lambda count: count == 2, 20.0)
    await ada.plays({"Grace"})
    await grace.plays({"Ada"})


async def test_who_speaks_is_marked_and_who_is_pinned_is_shown_where_one_picture_is_all_there_is(
    chromium: Chromium,
) -> None:
    async with running_server(KAAMOS_ROOMS_VIDEO_SLOTS="1") as server:
        ada, grace, linus = [
            await chromium.visit(server.room("page"), name, script=CAMERA)
            for name in ("Ada", "Grace", "Linus")
        ]
        await until(ada.names_shown, lambda shown: shown == {"Grace", "Linus"}, 10.0)
        await ada.page.locator(".tile.is-speaking").first.wait_for()  # the fake microphone beeps
        for name, other in (("Linus", "Grace"), ("Grace", "Linus"), ("Linus", "Grace")):
            tile = ada.page.locator(".tile").filter(has_text=name)
            await tile.hover()
            await tile.get_by_role("button", name="Pin").click()
            await ada.page.locator(".tile.has-picture").filter(has_text=name).wait_for()
            await ada.page.locator(".tile:not(.has-picture)").filter(has_text=other).wait_for()
            await tile.get_by_role("button", name="Pin", pressed=True).click()
        assert [page.errors for page in (ada, grace, linus)] == [[], [], []]
