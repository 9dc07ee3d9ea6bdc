// werift, a WebRTC stack in TypeScript: sends the RTP it is given, counts what comes in.
"use strict";

const { counter, hear, listen, load, say } = require("./talk.cjs");
const { MediaStreamTrack, RTCPeerConnection, RtpPacket, useOPUS, useSdesMid, useVP8 } = load("werift");

const feedback = [{ type: "nack" }, { type: "nack", parameter: "pli" }];
const connection = new RTCPeerConnection({
  iceServers: [],
  iceAdditionalHostAddresses: ["127.0.0.1"],
  iceUseIpv6: false,
  codecs: { audio: [useOPUS()], video: [useVP8({ rtcpFeedback: feedback })] },
  headerExtensions: { audio: [useSdesMid()], video: [useSdesMid()] },
});

const count = counter();
const tracks = {};
for (const kind of ["audio", "video"]) {
  tracks[kind] = new MediaStreamTrack({ kind });
  connection.addTransceiver(tracks[kind], { direction: "sendrecv" });
}
connection.onTrack.subscribe((track) => track.onReceiveRtp.subscribe(() => count(track.kind)));

const channel = connection.createDataChannel("chat");
channel.stateChanged.subscribe((state) => state === "open" && say({ type: "open" }));
channel.onMessage.subscribe(hear);

listen({
  send: ({ text, data }) => channel.send(text ?? Buffer.from(data, "base64")),
  answer: ({ sdp }) => connection.setRemoteDescription({ type: "answer", sdp }),
  offer: async ({ sdp }) => {
    await connection.setRemoteDescription({ type: "offer", sdp });
    await connection.setLocalDescription(await connection.createAnswer());
    say({ type: "answer", sdp: connection.localDescription.sdp });
  },
  rtp: ({ kind, data }) => {
    if (connection.connectionState !== "connected") return;
    tracks[kind].writeRtp(RtpPacket.deSerialize(Buffer.from(data, "base64")));
  },
});

connection
  .createOffer()
  .then((offer) => connection.setLocalDescription(offer))
  .then(() => say({ type: "offer", sdp: connection.localDescription.sdp }));
