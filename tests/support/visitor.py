"""Somebody in a room by means of a browser, whichever browser it is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.waiting import until

# Gives the fake camera a size of the test's choosing, whatever the page asks for.
SMALL_CAMERA = """(() => {
  const original = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = function (wanted) {
    const { deviceId } = wanted.video ?? {};
    const video = { deviceId, width: { exact: %d }, height: { exact: %d }, frameRate: { ideal: 15 } };
    return original.call(this, wanted.video ? { ...wanted, video } : wanted);
  };
})();
"""

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
})();
"""

NO_DEVICES = """
  MediaDevices.prototype.getUserMedia = async () => { throw new DOMException("none here", "NotFoundError"); };
"""

NAMES_SHOWN = """() => [...document.querySelectorAll(".tile .name")].map((label) => label.innerText)"""

RECEIVED = """async () => {
  const stats = [...((await kaamos.connection?.getStats()) ?? []).values()];
  const types = new Map(stats.map(({ id, mimeType }) => [id, mimeType ?? ""]));
  return stats.filter((s) => s.type === "inbound-rtp" && kaamos.tracks.has(s.mid)).map((s) => ({
    mid: s.mid,
    name: kaamos.participants.get(kaamos.tracks.get(s.mid).user_id)?.name ?? "",
    source: kaamos.tracks.get(s.mid).source,
    kind: s.kind,
    codec: (types.get(s.codecId) ?? "").split("/").at(-1).toUpperCase(),
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


@dataclass(frozen=True)
class Received:
    """What a page has received so far of one track of somebody."""

    mid: str
    name: str  # of who sent it, as the page knows it
    source: str
    kind: str
    codec: str  # of the last packets: "VP8"; empty before the first
    packets: int
    lost: int
    key_frame_requests: int
    frames_decoded: int
    freezes: int
    frozen_s: float
    audio_energy: float
    aspect: float  # width by height of the last decoded frame; 0 before the first

    @property
    def arrives(self) -> bool:
        """Whether anything of it could be seen or heard."""
        return self.frames_decoded > 0 if self.kind == "video" else self.audio_energy > 0


class Visitor(ABC):
    """The room page in one tab."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.errors: list[str] = []  # what the page threw or logged as an error

    @abstractmethod
    async def evaluate(self, script: str) -> Any:
        """Call a JavaScript function, given as text, and return what it returns or resolves to."""

    @abstractmethod
    async def reload(self) -> None:
        """Load the page anew, as its user would."""

    async def received(self) -> dict[tuple[str, str], Received]:
        """Return what it receives, by (sender's name, source)."""
        rows = await self.evaluate(RECEIVED)
        return {(row["name"], row["source"]): Received(**row) for row in rows}

    async def names_shown(self) -> set[str]:
        """Return whose tiles are in the grid."""
        return set(await self.evaluate(NAMES_SHOWN))

    async def plays(self, names: set[str], within_s: float = 20.0) -> Mapping[tuple[str, str], Received]:
        """Wait until exactly these people are shown, and picture and sound of each arrive; return those."""

        def is_whole(seen: tuple[set[str], dict[tuple[str, str], Received]]) -> bool:
            shown, tracks = seen
            wanted = {(name, source) for name in names for source in ("microphone", "camera")}
            return shown == names and set(tracks) == wanted and all(t.arrives for t in tracks.values())

        async def look() -> tuple[set[str], dict[tuple[str, str], Received]]:
            return await self.names_shown(), await self.received()

        return (await until(look, is_whole, within_s))[1]

    async def lose_socket(self) -> None:
        """End the page's socket in a way that it did not choose."""
        await self.evaluate("() => sockets.at(-1).close(4999)")
