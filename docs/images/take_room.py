"""Take the README's picture: a real server, three pages of real Chromium, painted cameras.

Run from the checkout: ``python -m docs.images.take_room docs/images/room.png``
"""

import asyncio
import sys

from tests.support.browsers import running_chromium
from tests.support.server import running_server

# A person before an evening sky; the fake camera of a browser is a green square.
PAINTED_CAMERA = """(() => {
  const [sky, ground, coat, hair, skin] = %s;
  const canvas = document.createElement("canvas");
  canvas.width = 960; canvas.height = 540;
  const c = canvas.getContext("2d");
  const shape = (colour, draw) => { c.fillStyle = colour; c.beginPath(); draw(); c.fill(); };
  const paint = (time) => {
    const sway = Math.sin(time / 900) * 8, lift = Math.cos(time / 700) * 4;
    const light = c.createLinearGradient(0, 0, 0, 540);
    light.addColorStop(0, sky); light.addColorStop(1, ground);
    c.fillStyle = light; c.fillRect(0, 0, 960, 540);
    for (let band = 0; band < 3; band++) {
      const glow = c.createLinearGradient(0, 40, 0, 330);
      glow.addColorStop(0, "rgb(120 255 210 / 0%%)"); glow.addColorStop(0.6, "rgb(120 255 210 / 16%%)");
      glow.addColorStop(1, "rgb(120 255 210 / 0%%)");
      shape(glow, () => {
        c.moveTo(0, 330);
        const height = (x) => 90 + band * 50 + 34 * Math.sin(x / 130 + band * 2 + time / 1500);
        for (let x = 0; x <= 960; x += 24) c.lineTo(x, height(x));
        c.lineTo(960, 330);
      });
    }
    shape(coat, () => c.ellipse(480 + sway / 2, 590, 250, 205, 0, 0, 7));
    shape(skin, () => c.roundRect(446 + sway, 340 + lift, 68, 90, 30));
    shape(hair, () => c.ellipse(480 + sway, 235 + lift, 118, 128, 0, 0, 7));
    shape(skin, () => c.ellipse(480 + sway, 268 + lift, 92, 112, 0, 0, 7));
    for (const side of [-36, 36]) shape(hair, () => c.ellipse(480 + sway + side, 256 + lift, 9, 11, 0, 0, 7));
    c.strokeStyle = hair; c.lineWidth = 7; c.lineCap = "round";
    c.beginPath(); c.arc(480 + sway, 292 + lift, 36, 0.35, Math.PI - 0.35); c.stroke();
  };
  setInterval(() => paint(performance.now()), 50);
  const original = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function () {
    const sound = await original.call(this, { audio: true });
    return new MediaStream([...sound.getTracks(), ...canvas.captureStream(20).getTracks()]);
  };
})()"""

PEOPLE = {
    "Ada": ["#1b2350", "#0c1224", "#8a3b55", "#2a1d1c", "#e5b99a"],
    "Grace": ["#123c4a", "#0a1a26", "#39568f", "#4a3020", "#f0cdb0"],
    "Linus": ["#33205a", "#130f28", "#3f6b58", "#6b4a2b", "#dcae8b"],
}


async def take(path: str) -> None:
    async with running_server() as server, running_chromium() as chromium:
        pages = [
            await chromium.visit(server.room("aurora"), name, script=PAINTED_CAMERA % colours)
            for name, colours in PEOPLE.items()
        ]
        await pages[0].plays({"Grace", "Linus"})
        await pages[0].page.bring_to_front()
        await pages[0].page.locator(".tile.has-picture").nth(1).wait_for()
        await pages[0].page.locator("#status.is-faded").wait_for(state="attached")
        await asyncio.sleep(3)  # for the encoders to reach their bit rate
        await pages[0].page.screenshot(path=path)


if __name__ == "__main__":
    asyncio.run(take(sys.argv[1]))
