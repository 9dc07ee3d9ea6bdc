// libdatachannel, a WebRTC stack in C++ (by node-datachannel): sends the RTP it is given, counts what comes in.
"use strict";

const { counter, hear, isRtcp, listen, load, say } = require("./talk.cjs");
const { Audio, PeerConnection, Video } = load("node-datachannel");

const connection = new PeerConnection("peer", {
  iceServers: [],
  bindAddress: "127.0.0.1",
  disableAutoNegotiation: true,
});

const count = counter();
const OPUS = 111;
const VP8 = 96;
const streams = { audio: { ssrc: 4242, payloadType: OPUS }, video: { ssrc: 4343, payloadType: VP8 } };
for (const [kind, stream] of Object.entries(streams)) {
  const media = kind === "audio" ? new Audio("0", "SendRecv") : new Video("1", "SendRecv");
  if (kind === "audio") media.addOpusCodec(OPUS);
  else media.addVP8Codec(VP8);
  media.addSSRC(stream.ssrc, "peer", "media", kind);
  stream.track = connection.addTrack(media);
  stream.track.onMessage((packet) => isRtcp(packet) || count(kind));
}

const channel = connection.createDataChannel("chat");
channel.onOpen(() => say({ type: "open" }));
channel.onMessage(hear);

listen({
  send: ({ text, data }) =>
    text === undefined ? channel.sendMessageBinary(Buffer.from(data, "base64")) : channel.sendMessage(text),
  answer: ({ sdp }) => connection.setRemoteDescription(sdp, "answer"),
  offer: ({ sdp }) => {
    connection.setRemoteDescription(sdp, "offer");
    connection.setLocalDescription("answer");
    say({ type: "answer", sdp: connection.localDescription().sdp });
  },
  rtp: ({ kind, data }) => {
    const { ssrc, payloadType, track } = streams[kind];
    if (!track.isOpen()) return;
    const packet = Buffer.from(data, "base64");
    packet[1] = (packet[1] & 0x80) | payloadType;
    packet.writeUInt32BE(ssrc, 8);
    track.sendMessageBinary(packet);
  },
});

connection.onGatheringStateChange((state) => {
  const description = connection.localDescription();
  if (state === "complete" && description.type === "offer") say({ type: "offer", sdp: description.sdp });
});
connection.setLocalDescription("offer");
