// The signaling protocol from a browser's side, without any page: join a room, publish a stream, receive tracks.
//
// The server is the impolite side of perfect negotiation, this is the polite one. Own media goes out in sections
// of its own (sendonly); whatever comes in is named by the `tracks` map of the server's descriptions.

/**
 * @typedef {object} TrackInfo        one entry of a `tracks` map
 * @property {string} user_id         who it comes from
 * @property {string} track           the server's id of the track
 * @property {"audio" | "video"} kind
 * @property {string} source          camera, microphone, screen_share or screen_share_audio
 * @property {{track: string, kind: "audio" | "video"}} [own]  our own track, where the section goes both ways
 *
 * @typedef {object} Participant
 * @property {string} user_id
 * @property {string} [name]
 * @property {string} [role]
 * @property {{track: string, muted: boolean}[]} [tracks]
 *
 * @typedef {object} Message
 * @property {string} from       who says it
 * @property {string} [to]       our id if it is for us alone
 * @property {any} payload
 * @property {string} timestamp  RFC 3339, by the server's clock
 *
 * @typedef {TrackInfo & {mid: string, media: MediaStreamTrack}} RemoteTrack
 *
 * @typedef {object} Ticket           what brings us back as ourselves, also after a reload
 * @property {string} user_id
 * @property {string} session
 * @property {string} token
 * @property {number} last_seq        of the last message that we handled
 *
 * @typedef {object} Events
 * @property {{user_id: string, resumed: boolean}} joined  the server took us in, or back in
 * @property {{attempt: number}} reconnecting               the socket broke; we try to come back
 * @property {Participant[]} participants                   who is in the room now, without ourselves
 * @property {RemoteTrack} track                            a track of somebody can be played
 * @property {RemoteTrack} trackended                       it is gone; a later one may reuse its mid
 * @property {{user_id: string, track: string, muted: boolean}} mute  a track, ours too, was muted or is no longer
 * @property {Message} message                              somebody says something to us
 * @property {RTCPeerConnectionState} connection            state of the media connection
 * @property {{code: string, message: string}} error        the server refused something
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

export class RoomClient {
  /** @type {string} our id in the room, once joined */
  userId = "";
  /** @type {Map<string, Participant>} the others, by id */
  participants = new Map();
  /** @type {Map<string, RemoteTrack>} what can be played now, by mid */
  tracks = new Map();
  /** @type {Set<string>} tracks that are muted now, by the server's ids */
  mutedTracks = new Set();
  /** @type {RTCPeerConnection | null} */
  connection = null;
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
  #offers = 0;
  /** @type {MediaStream | null} */
  #published = null;
  #isPublishing = false;
  #attempts = 0;
  #retry = 0;
  /** @type {Map<string, "audio" | "video">} what we publish, by the server's ids */
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

  /**
   * Open the socket and join; whenever the socket breaks, come back by ourselves. Resolves when the server has taken
   * us in; rejects when it did not.
   * @returns {Promise<void>}
   */
  join() {
    this.#open();
    return new Promise((resolve, reject) => {
      this.on("joined", () => resolve());
      this.on("error", ({ message }) => reject(new Error(message)));
      this.on("closed", ({ reason }) => reject(new Error(reason || "the server cannot be reached")));
    });
  }

  #open() {
    const socket = (this.#socket = new WebSocket(this.url));
    socket.onopen = () => this.#ask(this.ticket !== null && this.ticket.session !== "");
    socket.onmessage = (event) => {
      this.#handled = this.#handled
        .then(() => (socket === this.#socket ? this.#handle(event.data) : undefined))
        .catch((error) => this.#fail(error));
    };
    socket.onclose = ({ code, reason }) => {
      if (this.isClosed || socket !== this.#socket) return;
      // What has come is handled first: it may say why.
      this.#handled = this.#handled.then(() => {
        if (FINAL_CODES.has(code)) this.#close(code, reason);
        else this.#comeBack(code);
      });
    };
  }

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

  /**
   * Start the media connection. `stream` is what the others shall see and hear; without it, or for a kind that
   * it lacks, we only receive.
   * @param {MediaStream | null} stream
   */
  publish(stream) {
    if (this.isClosed) return;
    this.#published = stream;
    this.#isPublishing = true;
    this.#offers += 1; // an answer to an earlier connection is not for this one
    const pc = (this.connection = new RTCPeerConnection({ iceServers: this.#iceServers, bundlePolicy: "max-bundle" }));
    pc.onconnectionstatechange = () => this.#emit("connection", pc.connectionState);
    pc.onnegotiationneeded = () => this.#offer(pc).catch((error) => this.#fail(error));
    pc.onicecandidate = ({ candidate }) => this.#send("ice-candidate", candidate?.toJSON() ?? { candidate: "" });
    for (const kind of ["audio", "video"]) {
      const track = stream?.getTracks().find((track) => track.kind === kind);
      if (stream && track) pc.addTransceiver(track, { direction: "sendonly", streams: [stream] });
      else pc.addTransceiver(kind, { direction: "recvonly" });
    }
  }

  /**
   * Say something to one participant, or to all others.
   * @param {unknown} payload  anything that is JSON
   * @param {string} [to]      a participant's id
   */
  say(payload, to) {
    this.#send("message", { payload, to });
  }

  /**
   * Mute or unmute what we publish of one kind, and tell the others: the track goes on as silence or as black.
   * @param {"audio" | "video"} kind
   * @param {boolean} isEnabled
   */
  setEnabled(kind, isEnabled) {
    this.#enable(kind, isEnabled);
    for (const [track, ownKind] of this.#ownTracks) {
      if (ownKind === kind) this.mute(track, !isEnabled);
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
   * Whether what we receive of one kind of somebody is muted by them or by a host.
   * @param {string} userId
   * @param {"audio" | "video"} kind
   */
  isMuted(userId, kind) {
    const tracks = [...this.tracks.values()].filter((track) => track.user_id === userId && track.kind === kind);
    return tracks.length > 0 && tracks.every(({ track }) => this.mutedTracks.has(track));
  }

  /**
   * @param {"audio" | "video"} kind
   * @param {boolean} isEnabled
   */
  #enable(kind, isEnabled) {
    for (const track of this.#published?.getTracks() ?? []) {
      if (track.kind === kind) track.enabled = isEnabled;
    }
  }

  /** Leave the room; the server is told. */
  leave() {
    this.#send("leave", {});
    this.#close(1000, "left");
  }

  /**
   * @param {string} type
   * @param {unknown} data
   * @param {string} [id]  of an exchange: an answer repeats its offer's
   */
  #send(type, data, id) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(JSON.stringify(id === undefined ? { type, data } : { type, id, data }));
  }

  /** @param {RTCPeerConnection} pc */
  async #offer(pc) {
    await pc.setLocalDescription();
    // The server's offer may have come in between and rolled ours back; the browser asks again later then.
    if (pc.localDescription?.type !== "offer") return;
    this.#offers += 1;
    this.#send("offer", { type: "offer", sdp: pc.localDescription.sdp }, `c${this.#offers}`);
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
      case "message":
        this.#emit("message", { from, timestamp, ...data });
        break;
      case "offer":
      case "answer":
        await this.#describe(type, data, id);
        break;
      case "ice-candidate":
        // A browser without that candidate's family refuses it; the others in the description still stand.
        await this.connection?.addIceCandidate(data).catch(() => {});
        break;
      case "error":
        // GLARE and STALE_NEGOTIATION are part of the exchange: the browser has rolled back or will offer again.
        if (data.code === "RESUME_FAILED") {
          if (this.ticket) this.ticket.session = "";
          this.#ask(false);
        } else if (data.code === "DUPLICATE_IDENTITY" && this.ticket) {
          this.ticket = null; // our old self is still there; it will be gone soon
          this.#ask(false);
        } else if (data.code !== "GLARE" && data.code !== "STALE_NEGOTIATION") this.#emit("error", data);
        break;
    }
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
    const pc = this.connection;
    if (this.#isPublishing && !data.resumed) {
      // We are somebody new to the server: nothing of the old media connection is left there.
      this.#forgetTracks();
      pc?.close();
      this.#emit("joined", data);
      this.publish(this.#published);
      return;
    }
    this.#emit("joined", data);
    if (pc?.signalingState === "have-local-offer") {
      // Its answer is lost. The browser would also ask again by itself, but not every one at once.
      await pc.setLocalDescription({ type: "rollback" });
      await this.#offer(pc);
    }
  }

  #forgetTracks() {
    for (const track of this.tracks.values()) this.#emit("trackended", track);
    this.tracks.clear();
    this.#ownTracks.clear();
  }

  /** @param {{user_id: string, track: string, muted: boolean}} data */
  #mute(data) {
    if (data.muted) this.mutedTracks.add(data.track);
    else this.mutedTracks.delete(data.track);
    const kind = this.#ownTracks.get(data.track);
    if (kind) this.#enable(kind, !data.muted); // perhaps a host did it
    this.#emit("mute", data);
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

  /**
   * Take a description of the server in, answer an offer, and tell which tracks came and went.
   * @param {"offer" | "answer"} type
   * @param {{sdp: string, tracks?: Record<string, TrackInfo>}} data
   * @param {string | undefined} id
   */
  async #describe(type, data, id) {
    const pc = this.connection;
    if (!pc) return;
    if (type === "answer" && (pc.signalingState !== "have-local-offer" || id !== `c${this.#offers}`)) return;
    await pc.setRemoteDescription({ type, sdp: data.sdp });
    if (type === "offer") {
      await pc.setLocalDescription();
      this.#send("answer", { type: "answer", sdp: pc.localDescription?.sdp }, id);
    }
    this.#place(pc, data.tracks ?? {});
  }

  /**
   * @param {RTCPeerConnection} pc
   * @param {Record<string, TrackInfo>} named
   */
  #place(pc, named) {
    this.#placeOwn(named);
    for (const [mid, old] of this.tracks) {
      if (named[mid]?.track === old.track) continue;
      this.tracks.delete(mid);
      this.#emit("trackended", old);
    }
    for (const { mid, receiver, currentDirection } of pc.getTransceivers()) {
      // The map names our own sections too; those only send.
      const info = mid !== null && currentDirection === "recvonly" ? named[mid] : undefined;
      if (mid === null || !info || this.tracks.has(mid)) continue;
      const track = { ...info, mid, media: receiver.track };
      this.tracks.set(mid, track);
      this.#emit("track", track);
    }
  }

  /**
   * Learn the server's ids of what we publish; what was switched off before it had one is told now.
   * @param {Record<string, TrackInfo>} named
   */
  #placeOwn(named) {
    const known = this.#ownTracks;
    this.#ownTracks = new Map();
    for (const info of Object.values(named)) {
      const own = info.user_id === this.userId ? info : info.own;
      if (!own) continue;
      this.#ownTracks.set(own.track, own.kind);
      const media = this.#published?.getTracks().find(({ kind }) => kind === own.kind);
      if (!known.has(own.track) && media?.enabled === false) this.mute(own.track, true);
    }
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
    this.#socket?.close(1000);
    this.connection?.close();
    this.#emit("closed", { code, reason });
  }
}
