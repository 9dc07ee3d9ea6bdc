// The page of a room: the others on a stage, the own picture in a corner, some buttons and a line that says how it goes.

import { RoomClient } from "./client.js";
import { openMedia, Settings } from "./devices.js";
import { Stage } from "./stage.js";

/** @typedef {import("./client.js").Source} Source */

const STATUS_FADES_AFTER_MS = 3000;
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
  screens: element("screens", HTMLElement),
  alone: element("alone", HTMLElement),
  address: element("address", HTMLInputElement),
  copy: element("copy", HTMLButtonElement),
  self: element("self", HTMLElement),
  preview: element("preview", HTMLVideoElement),
  listen: element("listen", HTMLButtonElement),
  microphone: element("microphone", HTMLButtonElement),
  camera: element("camera", HTMLButtonElement),
  share: element("share", HTMLButtonElement),
  chatButton: element("chat-button", HTMLButtonElement),
  settingsButton: element("settings-button", HTMLButtonElement),
  leave: element("leave", HTMLButtonElement),
  chat: element("chat", HTMLElement),
  chatLog: element("chat-log", HTMLElement),
  chatForm: element("chat-form", HTMLFormElement),
  chatInput: element("chat-input", HTMLInputElement),
  settings: element("settings", HTMLElement),
  chooseMicrophone: element("choose-microphone", HTMLSelectElement),
  chooseCamera: element("choose-camera", HTMLSelectElement),
  chooseSpeaker: element("choose-speaker", HTMLSelectElement),
  speakerRow: element("speaker-row", HTMLElement),
  stats: element("stats", HTMLElement),
  ended: element("ended", HTMLElement),
  endedTitle: element("ended-title", HTMLElement),
  endedReason: element("ended-reason", HTMLElement),
  again: element("again", HTMLButtonElement),
};

// --- who we are --------------------------------------------------------------------

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

/** The tab keeps it: who closes it and comes back is somebody new, and who duplicates it takes the place of the first. */
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

const room = decodeURIComponent(location.pathname.split("/").filter(Boolean).pop() ?? "");
const socketScheme = location.protocol === "https:" ? "wss" : "ws";
const client = new RoomClient(
  `${socketScheme}://${location.host}/ws/${encodeURIComponent(room)}`,
  chooseName(),
  keptTicket(),
);
Object.assign(window, { kaamos: client });

const muteIcon = page.microphone.querySelector("svg");
if (!muteIcon) throw new Error("the page has no microphone icon");
const places = { people: page.stage, screens: page.screens, call: page.call };
const stage = new Stage(client, places, muteIcon, () => (page.listen.hidden = false));

// --- words -------------------------------------------------------------------------

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
  stage.play();
};

/** @param {RTCPeerConnectionState} state */
function showConnection(state) {
  if (state === "connected") say("You are in the call", true);
  else if (state === "disconnected") say("The connection is shaky …");
  else if (state === "failed") say("No media gets through. Looking for another way …");
}

/**
 * @param {string} title
 * @param {string} reason
 */
function end(title, reason) {
  stage.clear();
  page.call.hidden = true;
  page.ended.hidden = false;
  page.endedTitle.textContent = title;
  page.endedReason.textContent = reason;
  page.again.focus();
}

// --- what we send --------------------------------------------------------------------

/** Show what each button switches as it is now; pressed means on. */
function showOwn() {
  showSwitch(page.microphone, "microphone", "Microphone");
  showSwitch(page.camera, "camera", "Camera");
  const camera = client.published.get("camera");
  page.self.hidden = !camera;
  page.self.classList.toggle("is-dark", camera?.enabled === false);
  const shown = page.preview.srcObject instanceof MediaStream ? page.preview.srcObject.getTracks()[0] : undefined;
  if (shown !== camera) page.preview.srcObject = camera ? new MediaStream([camera]) : null;
  page.share.ariaPressed = String(client.published.has("screen_share"));
  page.share.title = client.published.has("screen_share") ? "Stop sharing the screen" : "Share a screen";
}

/**
 * @param {HTMLButtonElement} button
 * @param {Source} source
 * @param {string} thing
 */
function showSwitch(button, source, thing) {
  const track = client.published.get(source);
  button.ariaLabel = track ? thing : `${thing}: none found`;
  button.title = track ? `${thing} is ${track.enabled ? "on" : "off"}` : button.ariaLabel;
  button.disabled = !track;
  button.ariaPressed = track ? String(track.enabled) : null;
}

/**
 * @param {HTMLButtonElement} button
 * @param {Source} source
 */
function bindSwitch(button, source) {
  button.onclick = () => {
    client.setEnabled(source, client.published.get(source)?.enabled === false);
    showOwn();
  };
}

bindSwitch(page.microphone, "microphone");
bindSwitch(page.camera, "camera");

// A phone's browser has no screen to share, nor has a page that came over plain HTTP.
page.share.hidden = !navigator.mediaDevices?.getDisplayMedia;
page.share.onclick = async () => {
  page.share.disabled = true; // while the browser asks which screen
  try {
    if (client.published.has("screen_share")) await client.stopSharing();
    else await client.shareScreen();
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotAllowedError") throw error; // no: thought better of it
  } finally {
    page.share.disabled = false;
  }
  showOwn();
};

const settings = new Settings(
  client,
  {
    panel: page.settings,
    microphone: page.chooseMicrophone,
    camera: page.chooseCamera,
    speaker: page.chooseSpeaker,
    speakerRow: page.speakerRow,
    stats: page.stats,
  },
  showOwn,
  (why) => say(why, true),
);

// --- chat and settings, one of them at a time --------------------------------------

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

/** @param {"chat" | "settings" | ""} shown  "": neither */
function showSide(shown) {
  page.chat.hidden = shown !== "chat";
  page.chatButton.ariaExpanded = String(shown === "chat");
  page.settingsButton.ariaExpanded = String(shown === "settings");
  page.call.classList.toggle("has-side", shown !== "");
  stage.arrange();
  settings.show(shown === "settings").catch((error) => say(error.message));
  if (shown !== "chat") return;
  page.chatButton.classList.remove("has-news");
  page.chatInput.focus();
}

page.chatButton.onclick = () => showSide(page.chat.hidden ? "chat" : "");
page.settingsButton.onclick = () => showSide(page.settings.hidden ? "settings" : "");
page.chat.onkeydown = page.settings.onkeydown = ({ key, currentTarget }) => {
  if (key !== "Escape") return;
  showSide("");
  (currentTarget === page.chat ? page.chatButton : page.settingsButton).focus();
};
page.chatForm.onsubmit = (event) => {
  event.preventDefault();
  const text = page.chatInput.value.trim();
  if (!text) return;
  client.say({ text });
  showMessage("You", text, new Date());
  page.chatInput.value = "";
};

// --- the call ----------------------------------------------------------------------

client.on("participants", (people) => (page.alone.hidden = people.length > 0));
client.on("joined", keepTicket);
client.on("closed", keepTicket);
client.on("reconnecting", () => say("The connection to the server broke. Reconnecting …"));
window.addEventListener("pagehide", keepTicket);
client.on("mute", showOwn);
client.on("unpublished", showOwn);
client.on("message", ({ from, payload, timestamp }) => {
  if (typeof payload?.text !== "string") return; // other clients may have more to say than chat
  showMessage(client.participants.get(from)?.name || "Guest", payload.text, new Date(timestamp));
});
client.on("connection", showConnection);
client.on("error", ({ code, message }) => {
  if (code === "UNSUPPORTED_MEDIA") return; // its tile says so
  say(code === "CLIENT" ? "This browser could not follow the call" : message, true);
});

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

async function start() {
  client.on("closed", ({ code, reason }) => {
    stop([...client.published.values()]);
    if (code === 1000) end("Call ended", "");
    else end("Call interrupted", reason || "The connection to the server is gone.");
  });
  say("Asking for camera and microphone …");
  const tracks = await openMedia();
  if (client.isClosed) return stop(tracks); // left while the browser was still asking
  for (const track of tracks) await client.publish(track);
  showOwn();
  say("Joining …");
  await client.join();
  say("Connecting …");
  client.connect();
  client.on("joined", ({ resumed }) => say(resumed ? "You are back in the call" : "Connecting …", resumed));
}

/** @param {MediaStreamTrack[]} tracks */
function stop(tracks) {
  for (const track of tracks) track.stop();
}

start().catch((error) => {
  client.leave();
  end("You are not in the call", error.message);
});
