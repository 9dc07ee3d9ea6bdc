// Which camera, microphone and loudspeaker: asking for them, and the panel in which to choose others.

/** @typedef {import("./client.js").RoomClient} RoomClient */
/** @typedef {import("./client.js").Source} Source */
/** @typedef {import("./client.js").CallStats} CallStats */

const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 } };
const STATS_EVERY_MS = 1000;

/**
 * Ask for both; where one is missing or denied, for the other alone. None: we only watch and listen.
 * @returns {Promise<MediaStreamTrack[]>}
 */
export async function openMedia() {
  const [isSoundDenied, isPictureDenied] = await Promise.all([isDenied("microphone"), isDenied("camera")]);
  const wishes = [];
  if (!isSoundDenied && !isPictureDenied) wishes.push({ audio: true, video: PICTURE });
  if (!isSoundDenied) wishes.push({ audio: true });
  if (!isPictureDenied) wishes.push({ video: PICTURE });
  for (const wanted of wishes) {
    try {
      return (await navigator.mediaDevices.getUserMedia(wanted)).getTracks();
    } catch (error) {
      // Not now, or no secure context: asking again would only annoy or fail the same way.
      if (!(error instanceof DOMException) || error.name === "NotAllowedError") return [];
    }
  }
  return [];
}

/**
 * Whether the user has said no for good; not every browser tells.
 * @param {string} name
 */
async function isDenied(name) {
  try {
    const asked = /** @type {PermissionName} */ (name);
    return (await navigator.permissions.query({ name: asked })).state === "denied";
  } catch {
    return false;
  }
}

export class Settings {
  #timer = 0;

  /**
   * @param {RoomClient} client
   * @param {{panel: HTMLElement, microphone: HTMLSelectElement, camera: HTMLSelectElement, speaker: HTMLSelectElement,
   *   speakerRow: HTMLElement, stats: HTMLElement}} page
   * @param {() => void} changed          called when another device is in use
   * @param {(why: string) => void} tell  called when a device cannot be used
   */
  constructor(client, page, changed, tell) {
    this.client = client;
    this.page = page;
    this.changed = changed;
    // One change at a time: two devices that open together would leave one of them on.
    /** @param {Source} source @param {HTMLSelectElement} select */
    const use = (source, select) => {
      select.disabled = true;
      this.#use(source, select.value)
        .catch(refuse)
        .finally(() => (select.disabled = false));
    };
    page.microphone.onchange = () => use("microphone", page.microphone);
    page.camera.onchange = () => use("camera", page.camera);
    page.speaker.onchange = () => this.#speak(page.speaker.value).catch(refuse);
    const refuse = () => {
      tell("That device cannot be used");
      this.#list().catch(() => {});
    };
    navigator.mediaDevices?.addEventListener("devicechange", () => {
      if (!page.panel.hidden) this.#list().catch(() => {});
    });
  }

  /** @param {boolean} isShown */
  async show(isShown) {
    this.page.panel.hidden = !isShown;
    clearInterval(this.#timer);
    if (!isShown) return;
    this.#timer = window.setInterval(() => this.#showStats(), STATS_EVERY_MS);
    await Promise.all([this.#list(), this.#showStats()]);
    this.page.microphone.focus();
  }

  async #list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    fill(this.page.microphone, devices, "audioinput", "Microphone", this.#used("microphone"));
    fill(this.page.camera, devices, "videoinput", "Camera", this.#used("camera"));
    this.page.speakerRow.hidden = !("setSinkId" in HTMLMediaElement.prototype);
    fill(this.page.speaker, devices, "audiooutput", "Loudspeaker", this.page.speaker.value);
  }

  /** @param {Source} source */
  #used(source) {
    return this.client.published.get(source)?.getSettings().deviceId ?? "";
  }

  /**
   * @param {Source} source
   * @param {string} deviceId
   */
  async #use(source, deviceId) {
    if (!deviceId) return;
    const exactly = { deviceId: { exact: deviceId } };
    const wanted = source === "camera" ? { video: { ...PICTURE, ...exactly } } : { audio: exactly };
    const old = this.client.published.get(source);
    const [track] = (await navigator.mediaDevices.getUserMedia(wanted)).getTracks();
    if (old) track.enabled = old.enabled;
    await this.client.publish(track, source);
    old?.stop();
    this.changed();
  }

  /** @param {string} deviceId */
  async #speak(deviceId) {
    for (const media of document.querySelectorAll("video")) await media.setSinkId(deviceId);
  }

  async #showStats() {
    const stats = await this.client.stats();
    const lines = stats.tracks.map((track) => {
      const who = track.isOurs ? "You" : this.client.participants.get(track.user_id)?.name || "Guest";
      const picture = track.kind === "video" ? ` · ${track.width}×${track.height} · ${Math.round(track.fps)} fps` : "";
      const lost = track.lost > 0 ? ` · ${track.lost} lost` : "";
      return `${who}, ${track.source.replaceAll("_", " ")}: ${track.codec} · ${track.kbps} kb/s${picture}${lost}`;
    });
    const way = `Round trip ${stats.rtt_ms} ms${stats.isRelayed ? ", through a relay" : ""}`;
    this.page.stats.replaceChildren(
      ...[way, ...lines].map((text) => {
        const line = document.createElement("li");
        line.textContent = text;
        return line;
      }),
    );
  }
}

/**
 * @param {HTMLSelectElement} select
 * @param {MediaDeviceInfo[]} devices
 * @param {MediaDeviceKind} kind
 * @param {string} thing     what a device without a name is called
 * @param {string} selected  its id
 */
function fill(select, devices, kind, thing, selected) {
  const found = devices.filter((device) => device.kind === kind);
  const options = found.map(({ deviceId, label }, index) => new Option(label || `${thing} ${index + 1}`, deviceId));
  // Where none is in use, the first is a choice like any other and must not look chosen.
  const isInUse = found.some(({ deviceId }) => deviceId === selected);
  select.replaceChildren(...(isInUse || kind === "audiooutput" ? [] : [new Option("None", "")]), ...options);
  select.disabled = found.length === 0;
  if (isInUse) select.value = selected;
}
