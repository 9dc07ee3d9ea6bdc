// The signaling protocol from a browser's side, without any page: join a room, publish what we see, hear and show,
// receive the others, and stay in the call whatever happens to the network.
//
//   const client = new RoomClient("wss://example.org/ws/tea-time", "Ada");
//   client.on("track", ({ user_id, kind, media }) => …);
//   const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
//   for (const track of stream.getTracks()) await client.publish(track);
//   await client.join();
//   client.connect();

import { MediaConnection } from "./media.js";

/** @typedef {import("./media.js").Source} Source */
/** @typedef {import("./media.js").TrackInfo} TrackInfo */
/** @typedef {import("./media.js").RemoteTrack} RemoteTrack */
/** @typedef {import("./media.js").CallStats} CallStats */

/**
 * @typedef {object} Participant
 * @property {string} user_id
 * @property {string} [name]
 * @property {string} [role]
 * @property {{track: string, kind: "audio" | "video", source: Source, muted: boolean}[]} [tracks]
 *
 * @typedef {object} Message
 * @property {string} from       who says it
 * @property {string} [to]       our id if it is for us alone
 * @property {any} payload
 * @property {string} timestamp  RFC 3339, by the server's clock
 *
 * @typedef {object} Ticket           what brings us back as ourselves, also after a reload
 * @property {string} user_id
 * @property {string} session
 * @property {string} token
 * @property {number} last_seq        of the last message that we handled
 *
 * @typedef {object} Refusal          what the server did not do, or this side could not (code CLIENT)
 * @property {string} code
 * @property {string} message
 * @property {string} [track]         with UNSUPPORTED_MEDIA: what this browser cannot decode
 * @property {string} [user_id]       likewise: who publishes it
 *
 * @typedef {object} Events
 * @property {{user_id: string, resumed: boolean}} joined  the server took us in, or back in
 * @property {{attempt: number}} reconnecting               the socket broke; we try to come back
 * @property {Participant[]} participants                   who is in the room now, without ourselves
 * @property {RemoteTrack} track                            a track of somebody can be played
 * @property {RemoteTrack} trackended                       it is gone; a later one may reuse its mid
 * @property {{user_id: string, track: string, muted: boolean}} mute  a track, ours too, was muted or is no longer
 * @property {{source: Source}} unpublished                 something of ours ended by itself: a shared screen, a camera
 * @property {{user_id: string, level: number}[]} speakers  who speaks now, the loudest first
 * @property {Message} message                              somebody says something to us
 * @property {RTCPeerConnectionState} connection            state of the media connection
 * @property {Refusal} error                                the server refused something
 * @property {{code: number, reason: string}} closed        the call is over, whoever ended it
 *
 * @typedef {{type: string, seq: number, id?: string, from?: string, timestamp?: string, data?: any}} Frame
 */

/** Close codes after which there is nothing to come back to, or nobody wants us back. */
const FINAL_CODES = new Set([1009, 4001, 4003, 4004, 4008, 4009, 4029]);

/** A server that stops ends all calls in one moment; its clients shall not all come back in one. */
const CLOSE_RESTART = 1012;
const RESTART_SPREAD_MS = 3000;
const FIRST_DELAY_MS = 300;
const LONGEST_DELAY_MS = 10_000;

/** A socket whose network is gone says nothing for minutes; so it is asked. */
const PING_INTERVAL_MS = 15_000;
const PONG_WITHIN_MS = 5000;
const CLOSE_SILENT = 4900; // ours, and never seen by the server

/** What is said while the socket is away is said when it is back, as far as it still makes sense. */
const KEPT_TYPES = new Set(["message", "mute", "subscribe", "unsubscribe"]);
const MOST_KEPT = 100;

/** @type {("audio" | "video")[]} */
const KINDS = ["audio", "video"];

export class RoomClient {
  /** @type {string} our id in the room, once joined */
  userId = "";
  /** @type {Map<string, Participant>} the others, by id */
  participants = new Map();
  /** @type {Set<string>} tracks that are muted now, by the server's ids */
  mutedTracks = new Set();
  /** @type {Map<Source, MediaStreamTrack>} what we publish */
  published = new Map();
  /** The call is over, and this object with it. */
  isClosed = false;

  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Map<string, Set<(value: any) => void>>} */
  #handlers = new Map();
  /** Messages are handled one after another: applying a description takes several turns of the event loop. */
  #handled = Promise.resolve();
  /** @type {RTCIceServer[]} */
  #iceServers = [];
  /** @type {MediaConnection | null} */
  #media = null;
  #connections = 0;
  #isConnecting = false; // connect() was called: from then on there is a media connection
  #attempts = 0;
  #retry = 0;
  #ping = 0;
  #silence = 0;
  /** @type {{type: string, data: unknown}[]} */
  #unsaid = [];
  #isJoined = false; // on the socket there is now
  /** @type {Map<string, Source>} what we publish, by the server's ids */
  #ownTracks = new Map();

  /**
   * @param {string} url   of the room's WebSocket
   * @param {string} name  what the others see
   * @param {Ticket | null} [ticket]  from the `ticket` of an earlier client, to come back as the same participant
   */
  constructor(url, name, ticket = null) {
    this.url = url;
    this.name = name;
    /** @type {Ticket | null} */
    this.ticket = ticket;
  }

  /** The browser's connection under the call, null before `connect`. */
  get connection() {
    return this.#media?.pc ?? null;
  }

  /** What can be played now, by mid. @returns {Map<string, RemoteTrack>} */
  get tracks() {
    return this.#media?.tracks ?? new Map();
  }

  /**
   * Call `handler` whenever `event` happens.
   * @template {keyof Events} K
   * @param {K} event
   * @param {(value: Events[K]) => void} handler
   */
  on(event, handler) {
    const handlers = this.#handlers.get(event) ?? new Set();
    this.#handlers.set(event, handlers.add(handler));
  }

  /**
   * @template {keyof Events} K
   * @param {K} event
   * @param {Events[K]} value
   */
  #emit(event, value) {
    for (const handler of this.#handlers.get(event) ?? []) handler(value);
  }

  // --- joining and coming back -------------------------------------------------------

  /**
   * Open the socket and join; whenever the socket breaks, come back by ourselves. Resolves when the server has taken
   * us in; rejects when it did not.
   * @returns {Promise<void>}
   */
  join() {
    this.#open();
    globalThis.addEventListener?.("online", this.#networkChanged);
    // Not every browser tells of a change; those that do not notice by the silence.
    connectionInfo()?.addEventListener("change", this.#networkChanged);
    return new Promise((resolve, reject) => {
      this.on("joined", () => resolve());
      this.on("error", ({ code, message }) => {
        if (code !== "SERVER_DRAINING") reject(new Error(message)); // after that one we come back
      });
      this.on("closed", ({ reason }) => reject(new Error(reason || "the server cannot be reached")));
    });
  }

  #open() {
    const socket = (this.#socket = new WebSocket(this.url));
    socket.onopen = () => {
      this.#ask(this.ticket !== null && this.ticket.session !== "");
      this.#watch();
    };
    socket.onmessage = (event) => {
      clearTimeout(this.#silence);
      this.#handled = this.#handled
        .then(() => (socket === this.#socket ? this.#handle(event.data) : undefined))
        .catch((error) => this.#fail(error));
    };
    socket.onclose = ({ code, reason }) => this.#lost(socket, code, reason);
  }

  /**
   * @param {WebSocket} socket
   * @param {number} code
   * @param {string} reason
   */
  #lost(socket, code, reason) {
    if (this.isClosed || socket !== this.#socket) return;
    this.#isJoined = false;
    clearInterval(this.#ping);
    clearTimeout(this.#silence);
    // What has come is handled first: it may say why.
    this.#handled = this.#handled.then(() => {
      if (this.isClosed || socket !== this.#socket) return;
      this.#socket = null;
      if (FINAL_CODES.has(code)) this.#close(code, reason);
      else this.#comeBack(code);
    });
  }

  /** Ask now and then whether the server is still there. */
  #watch() {
    clearInterval(this.#ping);
    this.#ping = setInterval(() => this.#probe(), PING_INTERVAL_MS);
  }

  #probe() {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return;
    this.#send("ping", {});
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#lost(socket, CLOSE_SILENT, "the server is silent");
      socket.close();
    }, PONG_WITHIN_MS);
  }

  #networkChanged = () => {
    this.#probe();
    this.restartIce();
  };

  /**
   * Ask to be let in, as whom we were if the server still knows us.
   * @param {boolean} isResuming
   */
  #ask(isResuming) {
    const { user_id, session, token, last_seq } = this.ticket ?? {};
    const resume = isResuming ? { session, token, last_seq } : undefined;
    this.#send("join", { name: this.name, user_id, resume });
  }

  /** @param {number} code  with which the socket was closed */
  #comeBack(code) {
    this.#attempts += 1;
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempts);
    const delay = Math.random() * (code === CLOSE_RESTART ? RESTART_SPREAD_MS : longest);
    this.#emit("reconnecting", { attempt: this.#attempts });
    this.#retry = setTimeout(() => this.#open(), delay);
  }

  /** Leave the room; the server is told. */
  leave() {
    this.#send("leave", {});
    this.#close(1000, "left");
  }

  // --- media -------------------------------------------------------------------------

  /** Start the media connection, with what is published by now; from then on it is kept up. */
  connect() {
    if (this.isClosed) return;
    this.#isConnecting = true;
    this.#media?.close();
    this.#ownTracks.clear();
    this.#connections += 1;
    const media = (this.#media = new MediaConnection(this.#iceServers, this.#listener(), this.#connections));
    for (const [source, track] of this.published) media.publish(source, track).catch((error) => this.#fail(error));
    const kinds = new Set([...this.published.values()].map(({ kind }) => kind));
    media.receive(KINDS.filter((kind) => !kinds.has(kind)));
  }

  /** @returns {import("./media.js").Listener} */
  #listener() {
    return {
      send: (type, data, id) => this.#send(type, data, id),
      started: (track) => this.#emit("track", track),
      ended: (track) => this.#emit("trackended", track),
      changed: (state) => this.#emit("connection", state),
      owned: (own) => this.#learnOwn(own),
      failed: (error) => this.#fail(error),
    };
  }

  /**
   * Send a track to the others as one of our sources; what was sent as that before is replaced, which costs nothing.
   * @param {MediaStreamTrack} track
   * @param {Source} [source]  camera or microphone where nobody says
   */
  async publish(track, source = track.kind === "audio" ? "microphone" : "camera") {
    const isSound = source === "microphone" || source === "screen_share_audio";
    if (isSound !== (track.kind === "audio")) throw new TypeError(`${track.kind} cannot be sent as ${source}`);
    this.published.set(source, track);
    track.addEventListener("ended", () => {
      if (this.published.get(source) !== track) return;
      this.unpublish(source).catch((error) => this.#fail(error));
      this.#emit("unpublished", { source });
    });
    await this.#media?.publish(source, track);
  }

  /**
   * Send nothing as this source any more. The track is the caller's, and goes on.
   * @param {Source} source
   */
  async unpublish(source) {
    if (this.published.delete(source)) await this.#media?.unpublish(source);
  }

  /**
   * Ask the user for a screen, a window or a tab and show it to the others, with its sound if it has any. Rejects
   * when the user would rather not. It ends by `stopSharing` or in the browser's own way; then `unpublished` tells.
   */
  async shareScreen() {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: true });
    await this.stopSharing(); // one screen at a time
    for (const track of stream.getTracks()) {
      if (track.kind === "video") track.contentHint = "detail"; // letters shall stay sharp
      await this.publish(track, track.kind === "video" ? "screen_share" : "screen_share_audio");
    }
  }

  async stopSharing() {
    for (const source of /** @type {Source[]} */ (["screen_share", "screen_share_audio"])) {
      this.published.get(source)?.stop();
      await this.unpublish(source);
    }
  }

  /**
   * Mute or unmute what we publish as a source, and tell the others: the track goes on as silence or as black.
   * @param {Source} source
   * @param {boolean} isEnabled
   */
  setEnabled(source, isEnabled) {
    const media = this.published.get(source);
    if (media) media.enabled = isEnabled;
    for (const [track, ownSource] of this.#ownTracks) {
      if (ownSource === source) this.mute(track, !isEnabled);
    }
  }

  /**
   * Say that a track is muted or is no longer: one of ours or, for a host, anybody's.
   * @param {string} track  the server's id
   * @param {boolean} isMuted
   */
  mute(track, isMuted) {
    this.#send("mute", { track, muted: isMuted });
  }

  /**
   * Whether what we receive of a source of somebody is muted by them or by a host.
   * @param {string} userId
   * @param {Source} source
   */
  isMuted(userId, source) {
    const tracks = [...this.tracks.values()].filter((track) => track.user_id === userId && track.source === source);
    return tracks.length > 0 && tracks.every(({ track }) => this.mutedTracks.has(track));
  }

  /**
   * Ask for people or tracks before all others: where not everybody can be shown, these are. With `pin` false they
   * are like all others again.
   * @param {{participants?: string[], tracks?: string[], pin?: boolean}} wanted  ids
   */
  subscribe(wanted) {
    this.#send("subscribe", wanted);
  }

  /**
   * Receive people or tracks no more, until they are subscribed to again.
   * @param {{participants?: string[], tracks?: string[]}} unwanted  ids
   */
  unsubscribe(unwanted) {
    this.#send("unsubscribe", unwanted);
  }

  /**
   * Say something to one participant, or to all others.
   * @param {unknown} payload  anything that is JSON
   * @param {string} [to]      a participant's id
   */
  say(payload, to) {
    this.#send("message", { payload, to });
  }

  /** Look for a new path to the server; done by itself when the network changes or falls silent. */
  restartIce() {
    this.#media?.restartIce();
  }

  /** How the call goes: what flows, how fast, and what is lost. @returns {Promise<CallStats>} */
  async stats() {
    return (await this.#media?.stats()) ?? { rtt_ms: 0, isRelayed: false, tracks: [] };
  }

  // --- messages ----------------------------------------------------------------------

  /**
   * @param {string} type
   * @param {unknown} data
   * @param {string} [id]  of an exchange: an answer repeats its offer's
   */
  #send(type, data, id) {
    const isOpen = this.#socket?.readyState === WebSocket.OPEN;
    if (KEPT_TYPES.has(type) && !(isOpen && this.#isJoined)) {
      this.#unsaid.push({ type, data });
      this.#unsaid.splice(0, this.#unsaid.length - MOST_KEPT);
    } else if (isOpen) this.#socket?.send(JSON.stringify(id === undefined ? { type, data } : { type, id, data }));
  }

  /** @param {string} text */
  async #handle(text) {
    if (this.isClosed) return;
    /** @type {Frame} */
    const { type, seq, id, from = "", timestamp = "", data } = JSON.parse(text);
    if (this.ticket) this.ticket.last_seq = seq;
    switch (type) {
      case "join":
        await this.#joined(data, seq);
        break;
      case "participants":
        this.participants.clear();
        this.mutedTracks.clear();
        for (const person of data.participants) this.#admit(person);
        this.#announce();
        break;
      case "participant-joined":
        this.#admit(data);
        this.#announce();
        break;
      case "participant-left":
        if (this.participants.delete(data.user_id)) this.#announce();
        break;
      case "mute":
        this.#mute(data);
        break;
      case "speakers":
        this.#emit("speakers", data.speakers);
        break;
      case "message":
        this.#emit("message", { from, timestamp, ...data });
        break;
      case "offer":
      case "answer":
        await this.#media?.describe(type, data, id);
        break;
      case "slots":
        this.#media?.fill(data.slots);
        break;
      case "ice-candidate":
        await this.#media?.addCandidate(data);
        break;
      case "error":
        await this.#refused(data, id ?? "");
        break;
    }
  }

  /**
   * @param {Refusal} refusal
   * @param {string} id  of what was refused
   */
  async #refused(refusal, id) {
    switch (refusal.code) {
      case "RESUME_FAILED":
        if (this.ticket) this.ticket.session = "";
        return this.#ask(false);
      case "DUPLICATE_IDENTITY":
        if (!this.ticket) break;
        this.ticket = null; // our old self is still there; it will be gone soon
        return this.#ask(false);
      case "GLARE": // parts of the exchange: the browser has rolled back or will offer again
      case "STALE_NEGOTIATION":
        return;
    }
    await this.#media?.refused(id);
    this.#emit("error", refusal);
  }

  /**
   * @param {any} data    of the acknowledgement
   * @param {number} seq
   */
  async #joined(data, seq) {
    this.userId = data.user_id;
    this.ticket = { user_id: data.user_id, session: data.session, token: data.resume_token, last_seq: seq };
    this.#iceServers = data.ice_servers ?? [];
    this.#attempts = 0;
    this.#isJoined = true;
    // As somebody new our tracks have new ids; what is muted is told when they are known.
    const unsaid = this.#unsaid.filter(({ type }) => data.resumed || type !== "mute");
    this.#unsaid = [];
    for (const { type, data } of unsaid) this.#send(type, data);
    this.#emit("joined", data);
    if (!this.#isConnecting) return;
    // Somebody new to the server has nothing of the old media connection there. Else an offer may be lost.
    if (!data.resumed) this.connect();
    else await this.#media?.offerAgain();
  }

  /** @param {{user_id: string, track: string, muted: boolean}} data */
  #mute(data) {
    if (data.muted) this.mutedTracks.add(data.track);
    else this.mutedTracks.delete(data.track);
    const source = this.#ownTracks.get(data.track);
    const media = source && this.published.get(source);
    if (media) media.enabled = !data.muted; // perhaps a host did it
    this.#emit("mute", data);
  }

  /**
   * Learn the server's ids of what we publish; what was switched off before it had one is told now.
   * @param {Map<string, Source>} own
   */
  #learnOwn(own) {
    const known = this.#ownTracks;
    this.#ownTracks = own;
    for (const [track, source] of own) {
      if (!known.has(track) && this.published.get(source)?.enabled === false) this.mute(track, true);
    }
  }

  /** @param {Participant} person */
  #admit(person) {
    for (const { track, muted } of person.tracks ?? []) {
      if (muted) this.mutedTracks.add(track);
    }
    if (person.user_id !== this.userId) this.participants.set(person.user_id, person);
  }

  #announce() {
    this.#emit("participants", [...this.participants.values()]);
  }

  /** @param {unknown} error  something that this side could not do */
  #fail(error) {
    if (this.isClosed) return;
    console.error(error);
    this.#emit("error", { code: "CLIENT", message: error instanceof Error ? error.message : String(error) });
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #close(code, reason) {
    if (this.isClosed) return;
    this.isClosed = true;
    this.ticket = null;
    clearTimeout(this.#retry);
    clearTimeout(this.#silence);
    clearInterval(this.#ping);
    globalThis.removeEventListener?.("online", this.#networkChanged);
    connectionInfo()?.removeEventListener("change", this.#networkChanged);
    this.#socket?.close(1000);
    this.#media?.close();
    this.#emit("closed", { code, reason });
  }
}

/** What some browsers tell of the network under them. @returns {EventTarget | undefined} */
function connectionInfo() {
  return /** @type {any} */ (globalThis.navigator)?.connection;
}
