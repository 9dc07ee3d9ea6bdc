"""A client that knows only the documents of the original server, with a picture and a tone of its own.

It does what their sample page does: join without waiting, one offer at once with audio and video,
``sdp`` and ``candidate`` at top level, answers to the server's offers, every other message ignored. Media is
made and judged with numpy: a receiver proves that it decoded *that* picture and *that* tone.
"""

import asyncio
import contextlib
import fractions
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from unittest import mock

import aiohttp
import aioice.ice
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError
from aiortc.sdp import candidate_from_sdp
from av import AudioFrame, VideoFrame

WIDTH, HEIGHT, BAR = 320, 240, 24
SAMPLE_RATE = 48000
CHUNK = SAMPLE_RATE // 50
# Tones are told apart within half a second of sound: 2 Hz steps, far finer than any two tones of a test.
TONE_WINDOW = SAMPLE_RATE // 2

Colour = tuple[int, int, int]


@contextlib.contextmanager
def loopback_candidates() -> Iterator[None]:
    """Let aioice gather on 127.0.0.1, which it leaves out: the only address a test wants."""

    def addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return ["127.0.0.1"]

    with mock.patch.object(aioice.ice, "get_host_addresses", addresses):
        yield


class MovingBar(VideoStreamTrack):
    """A field of one colour with a grey bar that wanders across it."""

    def __init__(self, colour: Colour) -> None:
        super().__init__()
        self._field = np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8)
        self._count = 0

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        picture = self._field.copy()
        left = self._count * 4 % (WIDTH - BAR)
        picture[:, left : left + BAR] = 128
        self._count += 1
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Tone(AudioStreamTrack):
    """A sine of one frequency."""

    def __init__(self, tone_hz: float) -> None:
        super().__init__()
        self._tone_hz = tone_hz
        self._start = 0.0
        self._samples = 0

    async def recv(self) -> AudioFrame:
        loop = asyncio.get_running_loop()
        self._start = self._start or loop.time()
        await asyncio.sleep(max(0.0, self._start + self._samples / SAMPLE_RATE - loop.time()))
        times = (np.arange(CHUNK) + self._samples) / SAMPLE_RATE
        wave = np.sin(2 * np.pi * self._tone_hz * times) * 12000
        frame = AudioFrame.from_ndarray(wave.astype(np.int16).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = self._samples, fractions.Fraction(1, SAMPLE_RATE)
        self._samples += CHUNK
        return frame


@dataclass
class Seen:
    """What was decoded of one remote picture."""

    frames: int = 0
    colour: Colour = (0, 0, 0)  # median of the last frame, which the bar does not touch
    bar_places: set[int] = field(default_factory=set)  # left edges the bar was seen at, in steps of 16 pixels

    def take(self, frame: VideoFrame) -> None:
        picture = frame.to_ndarray(format="rgb24")
        self.frames += 1
        red, green, blue = (int(value) for value in np.median(picture, axis=(0, 1)))
        self.colour = (red, green, blue)
        distance = np.abs(picture.astype(int) - 128).max(axis=2).mean(axis=0)
        self.bar_places.add(int(distance.argmin()) // 16)


@dataclass
class Heard:
    """What was decoded of one remote sound: the newest half second."""

    samples: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int16))

    def take(self, frame: AudioFrame) -> None:
        channels = len(frame.layout.channels)
        left = frame.to_ndarray().reshape(-1, channels)[:, 0]
        self.samples = np.concatenate((self.samples, left))[-TONE_WINDOW:]

    @property
    def tone_hz(self) -> float | None:
        """The strongest frequency; None before half a second was heard, or in silence."""
        if len(self.samples) < TONE_WINDOW or np.abs(self.samples).max() < 1000:
            return None
        spectrum = np.abs(np.fft.rfft(self.samples * np.hanning(TONE_WINDOW)))
        return float(np.fft.rfftfreq(TONE_WINDOW, 1 / SAMPLE_RATE)[spectrum.argmax()])


class OriginalClient:
    """One person in a room; enter and leave it with ``async with``."""

    def __init__(
        self, socket_url: str, *, colour: Colour, tone_hz: float, codec: str = "VP8", **join: str
    ) -> None:
        self.url = socket_url
        self.colour = colour
        self.tone_hz = tone_hz
        self._join = {"type": "join", "room_id": self.url.rpartition("/")[2], **join}
        self.codec = codec
        self.offers_answered = 0
        self.errors: list[tuple[object, str]] = []  # the id that each answers to, and its code
        self.told: list[dict[str, Any]] = []  # every message of the server
        self.pictures: list[Seen] = []
        self.sounds: list[Heard] = []
        self._connection = RTCPeerConnection(
            RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        self._connection.on("track", self._take_track)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._socket = await session.ws_connect(self.url)
        self._stack.push_async_callback(self._socket.close)
        self._stack.push_async_callback(self._connection.close)
        await self._socket.send_json(self._join)
        await self._offer()
        self._start(self._answer_messages())
        return self

    async def __aexit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        if error is None:
            failures = [result for result in results if isinstance(result, Exception)]
            assert failures == []

    @property
    def sdp(self) -> str:
        """The client's own description that stands."""
        return str(self._connection.localDescription.sdp)

    async def send(self, message: dict[str, object]) -> None:
        """Say something that no client of the original says."""
        await self._socket.send_json(message)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _offer(self) -> None:
        self._add_tracks()
        await self._send_offer()

    def _add_tracks(self) -> None:
        self._connection.addTrack(Tone(self.tone_hz))
        self._connection.addTrack(MovingBar(self.colour))
        wanted = (f"video/{self.codec}".lower(), "video/rtx")
        for transceiver in self._connection.getTransceivers():
            if transceiver.kind == "video":
                codecs = RTCRtpSender.getCapabilities("video").codecs
                transceiver.setCodecPreferences([c for c in codecs if c.mimeType.lower() in wanted])

    async def _send_offer(self) -> None:
        with loopback_candidates():
            await self._connection.setLocalDescription(await self._connection.createOffer())
        await self._socket.send_json({"type": "offer", "sdp": self._connection.localDescription.sdp})

    async def _answer_messages(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            await self._note(message)
            self.told.append(message)
            if message["type"] in ("offer", "answer"):
                description = RTCSessionDescription(message["sdp"], message["type"])
                await self._connection.setRemoteDescription(description)
            if message["type"] == "offer":
                await self._connection.setLocalDescription(await self._connection.createAnswer())
                self.offers_answered += 1
                await self._socket.send_json({"type": "answer", "sdp": self._connection.localDescription.sdp})
            elif message["type"] == "error":
                self.errors.append((message.get("id"), message["data"]["code"]))
            elif message["type"] == "ice-candidate":
                await self._connection.addIceCandidate(_as_ice_candidate(message["candidate"]))

    async def _note(self, message: dict[str, Any]) -> None:
        """What clients of today do with messages that those of the original ignore."""

    def _take_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "video":
            self.pictures.append(Seen())
            self._start(self._take_frames(track, self.pictures[-1].take))
        else:
            self.sounds.append(Heard())
            self._start(self._take_frames(track, self.sounds[-1].take))

    async def _take_frames(self, track: MediaStreamTrack, take: Callable[[Any], None]) -> None:
        with contextlib.suppress(MediaStreamError):  # the track has ended
            while True:
                take(await track.recv())


def _as_ice_candidate(candidate: dict[str, str | int]) -> RTCIceCandidate:
    """Do what ``new RTCIceCandidate(…)`` does in the sample page."""
    parsed = candidate_from_sdp(str(candidate["candidate"]).removeprefix("candidate:"))
    parsed.sdpMid, parsed.sdpMLineIndex = str(candidate["sdpMid"]), int(candidate["sdpMLineIndex"])
    return parsed


def is_near(seen: Colour, meant: Colour, by: int = 40) -> bool:
    """Whether a decoded colour is the one that was encoded, as far as a lossy codec keeps it."""
    return all(abs(a - b) <= by for a, b in zip(seen, meant, strict=True))
