"""GStreamer's webrtcbin (C, libnice): sends a picture and a tone of its own, counts what it decodes.

Runs by the system's Python, which has the bindings. It talks with the test as ``talk.cjs`` says, but makes
its media itself. webrtcbin brings an RSA certificate.
"""

import json
import sys
import threading
from typing import Any


def say(type: str, **more: Any) -> None:
    print(json.dumps({"type": type, **more}), flush=True)


try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstSdp", "1.0")
    gi.require_version("GstWebRTC", "1.0")
    gi.require_version("Nice", "0.1")
    from gi.repository import GLib, Gst, GstSdp, GstWebRTC, Nice
except (ImportError, ValueError) as error:
    say("missing", what=f"GStreamer for Python ({error})")
    sys.exit()

ELEMENTS = ("webrtcbin", "nicesrc", "dtlsenc", "srtpenc", "vp8enc", "opusenc", "rtpvp8pay", "rtpopuspay")

FEEDBACK = "rtcp-fb-nack=true,rtcp-fb-nack-pli=true"

PIPELINE = f"""
webrtcbin name=peer bundle-policy=max-bundle latency=100
audiotestsrc is-live=true wave=sine ! audioconvert ! audioresample ! queue ! opusenc ! rtpopuspay
  ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! peer.
videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 ! videoconvert
  ! queue
  ! vp8enc deadline=1 cpu-used=8 target-bitrate=300000 keyframe-max-dist=15 error-resilient=partitions
  ! rtpvp8pay picture-id-mode=15-bit mtu=1200
  ! application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000,{FEEDBACK} ! peer.
"""


class Peer:
    def __init__(self) -> None:
        self.pipeline = Gst.parse_launch(PIPELINE)
        self.element = self.pipeline.get_by_name("peer")
        # webrtcbin's own reference to its agent is floating: Python would free it under its hands.
        self.ice = self.element.get_property("ice-agent")
        loopback = Nice.Address.new()
        loopback.set_from_string("127.0.0.1")
        self.ice.get_property("agent").add_local_address(loopback)
        self.received = {"audio": 0, "video": 0}
        self.has_offered = False
        self.element.connect("on-negotiation-needed", self._negotiate)
        self.element.connect("notify::ice-gathering-state", self._gathered)
        self.element.connect("pad-added", self._receive)

    def _negotiate(self, element: Any) -> None:
        if self.has_offered:
            return
        # It cannot change the direction of a section later; what it receives comes in the server's.
        for index in range(2):
            transceiver = element.emit("get-transceiver", index)
            transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
        element.emit("create-offer", None, Gst.Promise.new_with_change_func(self._describe, None))

    def _describe(self, promise: Any, *_: Any) -> None:
        promise.wait()
        self.reply = promise.get_reply()  # the description lives inside the reply: keep both
        self.description = self.reply.get_value("offer")
        self.element.emit("set-local-description", self.description, Gst.Promise.new())

    def _gathered(self, *_: Any) -> None:
        state = self.element.get_property("ice-gathering-state")
        if state == GstWebRTC.WebRTCICEGatheringState.COMPLETE and not self.has_offered:
            self.has_offered = True
            say("offer", sdp=self.element.get_property("local-description").sdp.as_text())

    def hear(self, type: str, sdp: str) -> bool:
        kind = GstWebRTC.WebRTCSDPType.ANSWER if type == "answer" else GstWebRTC.WebRTCSDPType.OFFER
        parsed = GstSdp.SDPMessage.new_from_text(sdp)[1]
        self.heard = GstWebRTC.WebRTCSessionDescription.new(kind, parsed)
        self.element.emit("set-remote-description", self.heard, Gst.Promise.new())
        if type == "offer":
            promise = Gst.Promise.new_with_change_func(self._answer, None)
            self.element.emit("create-answer", None, promise)
        return False

    def _answer(self, promise: Any, *_: Any) -> None:
        promise.wait()
        self.reply = promise.get_reply()
        self.description = self.reply.get_value("answer")
        self.element.emit("set-local-description", self.description, Gst.Promise.new())
        say("answer", sdp=self.description.sdp.as_text())

    def _receive(self, _: Any, pad: Any) -> None:
        if pad.direction == Gst.PadDirection.SRC:
            decoder = Gst.ElementFactory.make("decodebin")
            decoder.connect("pad-added", self._decoded)
            self.pipeline.add(decoder)
            decoder.sync_state_with_parent()
            pad.link(decoder.get_static_pad("sink"))

    def _decoded(self, _: Any, pad: Any) -> None:
        kind = pad.get_current_caps().get_structure(0).get_name().partition("/")[0]
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("signal-handoffs", True)
        sink.set_property("sync", False)
        sink.connect("handoff", lambda *_: self._count(kind))
        self.pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def _count(self, kind: str) -> None:
        self.received[kind] += 1

    def tell(self) -> bool:
        say("received", **self.received)
        return True


def main() -> None:
    Gst.init(None)
    if lacking := [name for name in ELEMENTS if Gst.ElementFactory.find(name) is None]:
        say("missing", what=f"GStreamer's {', '.join(lacking)}")
        return
    peer = Peer()
    loop = GLib.MainLoop()

    def listen() -> None:
        for line in sys.stdin:
            message = json.loads(line)
            GLib.idle_add(peer.hear, message["type"], message["sdp"])
        GLib.idle_add(loop.quit)

    threading.Thread(target=listen, daemon=True).start()
    GLib.timeout_add(200, peer.tell)
    peer.pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    peer.pipeline.set_state(Gst.State.NULL)


main()
