// The page of a room: own picture in a corner, the others in a grid, three buttons and a line that says how it goes.

import { RoomClient } from "./client.js";

/** @typedef {import("./client.js").Participant} Participant */
/** @typedef {import("./client.js").RemoteTrack} RemoteTrack */

const STATUS_FADES_AFTER_MS = 3000;
const WIDEST = 16 / 9;
const MOST_CHAT_LINES = 500;

/**
 * The element with an id, of the class that the page gives it.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${id}`);
  return found;
}

const page = {
  call: element("call", HTMLElement),
  room: element("room", HTMLElement),
  status: element("status", HTMLElement),
  stage: element("stage", HTMLElement),
  alone: element("alone", HTMLElement),
  address: element("address", HTMLInputElement),
  copy: element("copy", HTMLButtonElement),
  self: element("self", HTMLElement),
  preview: element("preview", HTMLVideoElement),
  listen: element("listen", HTMLButtonElement),
  microphone: element("microphone", HTMLButtonElement),
  camera: element("camera", HTMLButtonElement),
  chatButton: element("chat-button", HTMLButtonElement),
  leave: element("leave", HTMLButtonElement),
  chat: element("chat", HTMLElement),
  chatLog: element("chat-log", HTMLElement),
  chatForm: element("chat-form", HTMLFormElement),
  chatInput: element("chat-input", HTMLInputElement),
  ended: element("ended", HTMLElement),
  endedTitle: element("ended-title", HTMLElement),
  endedReason: element("ended-reason", HTMLElement),
  again: element("again", HTMLButtonElement),
};

// --- one person in the grid --------------------------------------------------

class Tile {
  /** What they send; the video element plays whatever is in it. */
  stream = new MediaStream();

  constructor() {
    this.root = document.createElement("article");
    this.root.className = "tile";
    this.initial = document.createElement("span");
    this.initial.className = "initial";
    this.initial.ariaHidden = "true";
    this.video = document.createElement("video");
    this.video.autoplay = true;
    this.video.playsInline = true;
    this.video.srcObject = this.stream;
    this.label = document.createElement("span");
    this.label.className = "name";
    this.mark = document.createElement("span");
    this.mark.className = "muted-mark";
    this.mark.title = "Microphone is off";
    this.mark.setAttribute("role", "img");
    this.mark.ariaLabel = this.mark.title;
    this.mark.append(...[...page.microphone.children].map((icon) => icon.cloneNode(true)));
    this.root.append(this.initial, this.video, this.label, this.mark);
  }

  /** Show whether microphone and camera are off. */
  showMutes() {
    const userId = this.root.dataset.user ?? "";
    this.root.classList.toggle("is-silent", client.isMuted(userId, "audio"));
    this.root.classList.toggle("is-dark", client.isMuted(userId, "video"));
  }

  /** @param {Participant} person */
  show(person) {
    const name = person.name || "Guest";
    this.root.dataset.user = person.user_id;
    this.label.textContent = name;
    this.video.setAttribute("aria-label", `Picture of ${name}`);
    this.initial.textContent = [...name][0].toUpperCase();
    const hue = [...person.user_id].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);
    this.root.style.setProperty("--hue", String(hue));
  }

  /** @param {RemoteTrack} track */
  add({ media }) {
    media.onmute = media.onunmute = () => this.#repaint();
    this.stream.addTrack(media);
    this.play();
    this.#repaint();
  }

  /** @param {RemoteTrack} track */
  remove({ media }) {
    media.onmute = media.onunmute = null;
    this.stream.removeTrack(media);
    this.#repaint();
  }

  /** A browser that plays no sound before the first click refuses; the page then asks for that click. */
  play() {
    this.video.play().catch((error) => {
      if (error.name === "NotAllowedError") page.listen.hidden = false;
    });
  }

  /** A track is muted until its first packet came, and when none come any more. */
  #repaint() {
    this.root.classList.toggle("has-picture", this.stream.getVideoTracks().some((media) => !media.muted));
  }
}

/** @type {Map<string, Tile>} the others, by id */
const tiles = new Map();

/** @param {string} userId */
function tileOf(userId) {
  const tile = tiles.get(userId) ?? new Tile();
  tiles.set(userId, tile);
  return tile;
}

/** @param {Participant[]} people */
function showPeople(people) {
  const present = new Set(people.map((person) => person.user_id));
  for (const [userId, tile] of tiles) {
    if (present.has(userId)) continue;
    tile.root.remove();
    tiles.delete(userId);
  }
  for (const person of people) {
    const tile = tileOf(person.user_id);
    tile.show(person);
    tile.showMutes();
    if (!tile.root.isConnected) page.stage.append(tile.root);
  }
  page.alone.hidden = people.length > 0;
  arrange();
}

/** Make the tiles as large as the stage allows: try every number of columns. */
function arrange() {
  const count = page.stage.childElementCount;
  const style = getComputedStyle(page.stage);
  const gap = parseFloat(style.columnGap);
  const width = page.stage.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const height = page.stage.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
  const narrowest = width > height ? 4 / 3 : 3 / 4;
  let best = { width: 0, height: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const cell = { width: (width - gap * (columns - 1)) / columns, height: (height - gap * (rows - 1)) / rows };
    const tile = {
      width: Math.floor(Math.min(cell.width, cell.height * WIDEST)),
      height: Math.floor(Math.min(cell.height, cell.width / narrowest)),
    };
    if (tile.width * tile.height > best.width * best.height) best = tile;
  }
  page.stage.style.setProperty("--tile-width", `${best.width}px`);
  page.stage.style.setProperty("--tile-height", `${best.height}px`);
}

// --- words and buttons ---------------------------------------------------------

let fading = 0;

/**
 * @param {string} text
 * @param {boolean} [fades]  whether it may go after a while
 */
function say(text, fades = false) {
  clearTimeout(fading);
  page.status.textContent = text;
  page.status.classList.remove("is-faded");
  if (fades) fading = window.setTimeout(() => page.status.classList.add("is-faded"), STATUS_FADES_AFTER_MS);
}

page.listen.onclick = () => {
  page.listen.hidden = true;
  for (const tile of tiles.values()) tile.play();
};

/** @param {RTCPeerConnectionState} state */
function showConnection(state) {
  if (state === "connected") say("You are in the call", true);
  else if (state === "disconnected") say("The connection is shaky …");
  else if (state === "failed") say("No media gets through. Check the network.");
}

/**
 * @param {string} title
 * @param {string} reason
 */
function end(title, reason) {
  for (const tile of tiles.values()) tile.video.srcObject = null;
  page.call.hidden = true;
  page.ended.hidden = false;
  page.endedTitle.textContent = title;
  page.endedReason.textContent = reason;
  page.again.focus();
}

/** What shows the state of a button, by the kind that it switches. */
const switches = { audio: () => {}, video: () => {} };

/**
 * Let a button switch what we send of one kind; pressed means on.
 * @param {HTMLButtonElement} button
 * @param {MediaStreamTrack | undefined} track
 * @param {"audio" | "video"} kind
 */
function bindSwitch(button, track, kind) {
  const thing = kind === "audio" ? "Microphone" : "Camera";
  button.ariaLabel = track ? thing : `${thing}: none found`;
  button.title = button.ariaLabel;
  button.disabled = !track;
  if (!track) return;
  const show = (switches[kind] = () => {
    button.ariaPressed = String(track.enabled);
    button.title = `${thing} is ${track.enabled ? "on" : "off"}`;
    if (kind === "video") page.self.classList.toggle("is-dark", !track.enabled);
  });
  button.onclick = () => {
    client.setEnabled(kind, !track.enabled);
    show();
  };
  show();
}

// --- chat ------------------------------------------------------------------------

/**
 * @param {string} who
 * @param {string} text
 * @param {Date} when
 */
function showMessage(who, text, when) {
  const line = document.createElement("p");
  const name = document.createElement("b");
  const time = document.createElement("time");
  name.textContent = who;
  time.dateTime = when.toISOString();
  time.textContent = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  line.append(name, " ", time, document.createElement("br"), text);
  page.chatLog.append(line);
  while (page.chatLog.childElementCount > MOST_CHAT_LINES) page.chatLog.firstElementChild?.remove();
  page.chatLog.scrollTop = page.chatLog.scrollHeight;
  page.chatButton.classList.toggle("has-news", Boolean(page.chat.hidden));
}

/** @param {boolean} isShown */
function showChat(isShown) {
  page.chat.hidden = !isShown;
  page.chatButton.ariaExpanded = String(isShown);
  page.call.classList.toggle("has-chat", isShown);
  arrange();
  page.chatButton.classList.remove("has-news");
  if (isShown) page.chatInput.focus();
}

page.chatButton.onclick = () => showChat(Boolean(page.chat.hidden));
page.chat.onkeydown = ({ key }) => {
  if (key !== "Escape") return;
  showChat(false);
  page.chatButton.focus();
};
page.chatForm.onsubmit = (event) => {
  event.preventDefault();
  const text = page.chatInput.value.trim();
  if (!text) return;
  client.say({ text });
  showMessage("You", text, new Date());
  page.chatInput.value = "";
};

// --- camera, microphone, name ----------------------------------------------------

/**
 * Ask for both; where one is missing, for the other alone. Null: we only watch and listen.
 * @returns {Promise<MediaStream | null>}
 */
async function openMedia() {
  const video = { width: { ideal: 1280 }, height: { ideal: 720 } };
  for (const wanted of [{ audio: true, video }, { audio: true }, { video }]) {
    try {
      return await navigator.mediaDevices.getUserMedia(wanted);
    } catch (error) {
      // Denied, or no secure context: asking again would only annoy or fail the same way.
      if (!(error instanceof DOMException) || error.name === "NotAllowedError") return null;
    }
  }
  return null;
}

/** The name from the address, else the one of last time, else a new one that stays. */
function chooseName() {
  const asked = new URLSearchParams(location.search).get("name");
  if (asked) return [...asked].slice(0, 100).join(""); // the server takes 128 characters
  const fresh = `Guest ${Math.random().toString(36).slice(2, 6).padEnd(4, "0")}`;
  try {
    const kept = localStorage.getItem("kaamos.name") ?? fresh;
    localStorage.setItem("kaamos.name", kept);
    return kept;
  } catch {
    return fresh; // storage is switched off
  }
}

/** Who we were in this room before the page was loaded anew. @returns {import("./client.js").Ticket | null} */
function keptTicket() {
  try {
    return JSON.parse(sessionStorage.getItem(ticketKey()) ?? "null");
  } catch {
    return null;
  }
}

/** The tab keeps it, and no other: who closes the tab and comes back is somebody new. */
function keepTicket() {
  try {
    if (client.ticket) sessionStorage.setItem(ticketKey(), JSON.stringify(client.ticket));
    else sessionStorage.removeItem(ticketKey());
  } catch {
    // storage is switched off: a reload comes back as somebody new
  }
}

function ticketKey() {
  return `kaamos.ticket.${room}`;
}

// --- the call ----------------------------------------------------------------------

const room = decodeURIComponent(location.pathname.split("/").filter(Boolean).pop() ?? "");
const socketScheme = location.protocol === "https:" ? "wss" : "ws";
const client = new RoomClient(
  `${socketScheme}://${location.host}/ws/${encodeURIComponent(room)}`,
  chooseName(),
  keptTicket(),
);
Object.assign(window, { kaamos: client });

client.on("participants", showPeople);
client.on("joined", keepTicket);
client.on("closed", keepTicket);
client.on("reconnecting", () => say("The connection to the server broke. Reconnecting …"));
window.addEventListener("pagehide", keepTicket);
client.on("track", (track) => {
  tileOf(track.user_id).add(track);
  tileOf(track.user_id).showMutes();
});
client.on("trackended", (track) => tiles.get(track.user_id)?.remove(track));
client.on("mute", ({ user_id }) => {
  if (user_id !== client.userId) return tiles.get(user_id)?.showMutes();
  switches.audio();
  switches.video();
});
client.on("message", ({ from, payload, timestamp }) => {
  if (typeof payload?.text !== "string") return; // other clients may have more to say than chat
  showMessage(client.participants.get(from)?.name || "Guest", payload.text, new Date(timestamp));
});
client.on("connection", showConnection);
client.on("error", ({ code, message }) => say(code === "CLIENT" ? "This browser could not follow the call" : message));

page.room.textContent = room;
page.address.value = location.origin + location.pathname;
document.title = `${room} · Kaamos`;
page.leave.onclick = () => client.leave();
page.again.onclick = () => location.reload();
page.address.onfocus = () => page.address.select();
page.copy.onclick = async () => {
  await navigator.clipboard.writeText(page.address.value);
  page.copy.textContent = "Copied";
};
new ResizeObserver(arrange).observe(page.stage);

async function start() {
  /** @type {MediaStream | null} */
  let media = null;
  client.on("closed", ({ code, reason }) => {
    stop(media);
    if (code === 1000) end("Call ended", "");
    else end("Call interrupted", reason || "The connection to the server is gone.");
  });
  say("Asking for camera and microphone …");
  media = await openMedia();
  if (client.isClosed) return stop(media); // left while the browser was still asking
  const [camera] = media?.getVideoTracks() ?? [];
  page.preview.srcObject = media;
  page.self.hidden = !camera;
  bindSwitch(page.camera, camera, "video");
  bindSwitch(page.microphone, media?.getAudioTracks()[0], "audio");
  say("Joining …");
  await client.join();
  say("Connecting …");
  client.publish(media);
  client.on("joined", ({ resumed }) => say(resumed ? "You are back in the call" : "Connecting …", resumed));
}

/** @param {MediaStream | null} media */
function stop(media) {
  for (const track of media?.getTracks() ?? []) track.stop();
}

start().catch((error) => say(error.message));
