// How a driver of another stack talks with the test: one JSON object a line, in on stdin, out on stdout.
//
// Out: {type: "missing", what}, {type: "offer" or "answer", sdp}, {type: "received", audio, video} (counts),
// {type: "open"} when its data channel "chat" is, {type: "heard", text} or {type: "heard", data} (base64) on that.
// In: {type: "answer" or "offer", sdp}, {type: "rtp", kind, data} (base64; SSRC and payload type are ours to change),
// {type: "send", text} or {type: "send", data} (base64).
"use strict";

const { createInterface } = require("node:readline");

exports.say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

exports.load = (name) => {
  try {
    return require(name);
  } catch (error) {
    exports.say({ type: "missing", what: `npm module ${name} (${error.message.split("\n")[0]})` });
    process.exit(0);
  }
};

/** Call the handler named by each message's type; end with the test. */
exports.listen = (handlers) => {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const message = JSON.parse(line);
    handlers[message.type](message);
  });
  lines.on("close", () => process.exit(0));
};

exports.isRtcp = (packet) => packet[1] >= 192 && packet[1] <= 223;

/** Tell what was heard on a data channel: text, or a Buffer. */
exports.hear = (message) =>
  exports.say(
    typeof message === "string"
      ? { type: "heard", text: message }
      : { type: "heard", data: Buffer.from(message).toString("base64") },
  );

/** Count what comes in, and tell it a few times a second. */
exports.counter = () => {
  const received = { audio: 0, video: 0 };
  setInterval(() => exports.say({ type: "received", ...received }), 200);
  return (kind) => (received[kind] += 1);
};
