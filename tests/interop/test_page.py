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


# Stands for a slow network: an offer of the page and all that follows wait until the test lets them go.
HOLD_OFFERS = """(() => {
  const original = WebSocket.prototype.send;
  window.held = null;
  WebSocket.prototype.send = function (text) {
    if (window.held && (window.held.length || JSON.parse(text).type === "offer")) window.held.push(text);
    else original.call(this, text);
  };
  window.letGo = () => {
    for (const text of window.held.splice(0)) original.call(sockets.at(-1), text);
    window.held = null;
  };
})();"""
CANVAS = """() => {
  const canvas = document.createElement("canvas");
  canvas.width = 320; canvas.height = 200;
  let shade = 0;
  setInterval(() => {
    const context = canvas.getContext("2d");
    context.fillStyle = `hsl(${(shade += 7) % 360} 80% 50%)`;
    context.fillRect(0, 0, 320, 200);
  }, 50);
  [window.painted] = canvas.captureStream(20).getTracks();
}"""
SHARE = "async () => { await kaamos.publish(painted, 'screen_share'); }"
STOP = "async () => { await kaamos.unpublish('screen_share'); }"


async def test_a_source_sent_again_while_the_server_offers_is_seen(
    chromium: Chromium, server: RunningServer
) -> None:
    ada, grace = [
        await chromium.visit(server.room("page"), name, script=CAMERA + HOLD_OFFERS)
        for name in ("Ada", "Grace")
    ]
    await ada.plays({"Grace"})
    await grace.plays({"Ada"})
    for page in (ada, grace):
        await page.page.evaluate(CANVAS)
    await ada.page.evaluate(SHARE)
    screen = grace.page.locator("#screens .tile.has-picture")
    await screen.wait_for()
    await ada.page.evaluate(STOP)
    await screen.wait_for(state="detached")

    await ada.page.evaluate("() => { window.held = []; }")
    await ada.page.evaluate(SHARE)
    held = "held.map((text) => JSON.parse(text).type)"
    await until(lambda: ada.page.evaluate(held), lambda types: "offer" in types, 5.0)
    await grace.page.evaluate(SHARE)  # the server offers it to Ada, whose own offer has not come yet
    await until(lambda: ada.page.evaluate(held), lambda types: "answer" in types, 10.0)
    await ada.page.evaluate("letGo()")
    await ada.page.locator("#screens .tile.has-picture").wait_for()
    await screen.wait_for()
    assert [page.errors for page in (ada, grace)] == [[], []]


async def test_what_is_published_and_taken_back_at_once_leaves_nothing(
    chromium: Chromium, server: RunningServer
) -> None:
    ada, grace = await enter(chromium, server, "Ada", "Grace")
    await ada.page.evaluate(CANVAS)
    await ada.page.evaluate(
        """async () => {
          const changes = [];
          for (let i = 0; i < 5; i++) {
            changes.push(kaamos.publish(painted, "screen_share"), kaamos.unpublish("screen_share"));
          }
          await Promise.all(changes);
        }"""
    )
    sends = """() => kaamos.connection.getTransceivers().filter((t) => t.direction === "sendonly").length"""
    assert await ada.page.evaluate(sends) == 2
    await until(
        lambda: grace.page.evaluate(SOURCES), lambda sources: sources == ["camera", "microphone"], 5.0
    )
    await ada.page.evaluate(SHARE)
    await grace.page.locator("#screens .tile.has-picture").wait_for()


async def test_what_is_said_while_the_socket_is_away_is_said_when_it_is_back(
    chromium: Chromium, server: RunningServer
) -> None:
    ada, grace = await enter(chromium, server, "Ada", "Grace")
    await ada.page.evaluate(
        """() => {
          sockets.at(-1).close(4999);
          kaamos.say({ text: "still here" });
          kaamos.setEnabled("microphone", false);
        }"""
    )
    await grace.page.get_by_role("img", name="Microphone is off").wait_for()
    await grace.page.get_by_role("button", name="Chat").click()
    await grace.page.get_by_role("log").get_by_text("still here").wait_for()


async def test_who_cannot_join_is_told_why(chromium: Chromium) -> None:
    async with running_server(KAAMOS_ROOMS_MAX_PARTICIPANTS="1") as server:
        ada = await chromium.visit(server.room("page"), "Ada", script=CAMERA)
        await ada.page.get_by_text("You are the first one here").wait_for()
        grace = await chromium.visit(server.room("page"), "Grace", script=CAMERA)
        await grace.page.get_by_text("You are not in the call").wait_for()
        reason = grace.page.locator("#ended-reason")
        assert "1" in await reason.inner_text()
