// One peer connection with the server, by the rules of perfect negotiation: the server is impolite, this side yields.
//
// What we publish has a section of its own for each source (sendonly); what comes in is named by the `tracks` map of
// the server's descriptions and, where sections are shared, by its `slots` messages.

/**
 * @typedef {"camera" | "microphone" | "screen_share" | "screen_share_audio"} Source
 *
 * @typedef {object} TrackInfo        one entry of a `tracks` map
 * @property {string} user_id         who it comes from
 * @property {string} track           the server's id of the track
 * @property {"audio" | "video"} kind
 * @property {Source} source
 *
 * @typedef {TrackInfo & {mid: string, media: MediaStreamTrack}} RemoteTrack
 *
 * @typedef {object} TrackStats       of one track of the call, ours or somebody's
 * @property {boolean} isOurs
 * @property {string} user_id         "" for ours
 * @property {string} source
 * @property {"audio" | "video"} kind
 * @property {string} codec           "" before it is known
 * @property {number} kbps            since the last look; 0 at the first
 * @property {number} packets
 * @property {number} lost            packets that never came, as the receiving side counts
 * @property {number} width           of the picture; 0 for sound
 * @property {number} height
 * @property {number} fps             pictures of the last second
 *
 * @typedef {object} CallStats
 * @property {number} rtt_ms          to the server and back; 0 before it is known
 * @property {boolean} isRelayed      whether a TURN server is in between
 * @property {TrackStats[]} tracks
 *
 * @typedef {object} Listener         who hears of a connection
 * @property {(type: string, data: unknown, id?: string) => void} send  takes what is for the server
 * @property {(track: RemoteTrack) => void} started
 * @property {(track: RemoteTrack) => void} ended
 * @property {(state: RTCPeerConnectionState) => void} changed
 * @property {(own: Map<string, Source>) => void} owned   the server's ids of what we publish
 * @property {(error: unknown) => void} failed            something that this side could not do
 */

/** A connection that lost its path mostly finds it again by itself; when not, a new one is looked for. */
const RESTART_AFTER_MS = 2500;
const RESTART_SPACING_MS = 6000;

/** An offer that the server never saw, because it came too fast or got lost, is made once more. */
const ANSWER_WITHIN_MS = 10_000;

/**
 * What a stats report tells of a stream, whichever side it is of.
 * @typedef {RTCStats & {kind: "audio" | "video", mid?: string, codecId?: string, bytesReceived?: number,
 *   bytesSent?: number, packetsReceived?: number, packetsSent?: number, packetsLost?: number, frameWidth?: number,
 *   frameHeight?: number, framesPerSecond?: number, remoteId?: string, mimeType?: string,
 *   currentRoundTripTime?: number, nominated?: boolean, state?: string, localCandidateId?: string,
 *   candidateType?: string}} Report
 */

export class MediaConnection {
  /** @type {Map<string, RemoteTrack>} what can be played now, by mid */
  tracks = new Map();

  /** @type {Listener} */
  #listener;
  /** @type {Map<Source, RTCRtpTransceiver>} */
  #senders = new Map();
  #prefix;
  #offers = 0;
  #answer = 0;
  /** Changes of what we send are made one after another: each takes several turns of the event loop. */
  #changes = Promise.resolve();
  #restart = 0;
  #lastRestart = -Infinity;
  /** @type {Map<string, {bytes: number, at: number}>} of the last look, by the id of the report */
  #lastLook = new Map();

  /**
   * @param {RTCIceServer[]} iceServers
   * @param {Listener} listener
   * @param {number} number  of this connection in its client: answers to an earlier one are not for this one
   */
  constructor(iceServers, listener, number) {
    this.#listener = listener;
    this.#prefix = `c${number}-`;
    const pc = (this.pc = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" }));
    pc.onconnectionstatechange = () => this.#stateChanged();
    pc.onnegotiationneeded = () => this.#offer().catch(listener.failed);
    pc.onicecandidate = ({ candidate }) => listener.send("ice-candidate", candidate?.toJSON() ?? { candidate: "" });
  }

  /**
   * Send a track as one of our sources, in place of what was sent as that before.
   * @param {Source} source
   * @param {MediaStreamTrack} track
   */
  publish(source, track) {
    return this.#change(async () => {
      const old = this.#senders.get(source);
      if (!old) {
        const stream = new MediaStream([track]);
        this.#senders.set(source, this.pc.addTransceiver(track, { direction: "sendonly", streams: [stream] }));
        return;
      }
      await old.sender.replaceTrack(track);
      if (old.direction !== "sendonly") old.direction = "sendonly"; // and the browser asks for a new description
    });
  }

  /**
   * Send nothing as this source any more; its section stays for the next time.
   * @param {Source} source
   */
  unpublish(source) {
    return this.#change(async () => {
      const old = this.#senders.get(source);
      if (!old) return;
      old.direction = "inactive";
      await old.sender.replaceTrack(null);
    });
  }

  /** @param {() => Promise<void>} change */
  #change(change) {
    const done = this.#changes.then(change);
    this.#changes = done.catch(() => {}); // whoever asked for it hears of it
    return done;
  }

  /**
   * Have a section to receive in for each of these kinds, so that there is something to offer.
   * @param {("audio" | "video")[]} kinds
   */
  receive(kinds) {
    for (const kind of kinds) this.pc.addTransceiver(kind, { direction: "recvonly" });
  }

  close() {
    clearTimeout(this.#restart);
    clearTimeout(this.#answer);
    this.pc.onconnectionstatechange = this.pc.onnegotiationneeded = this.pc.onicecandidate = null;
    this.pc.close();
    for (const track of this.tracks.values()) this.#listener.ended(track);
    this.tracks.clear();
  }

  // --- negotiation -----------------------------------------------------------------

  async #offer() {
    const { pc } = this;
    await pc.setLocalDescription();
    // The server's offer may have come in between and rolled ours back; the browser asks again later then.
    if (pc.localDescription?.type !== "offer") return;
    this.#offers += 1;
    this.#send(pc.localDescription, `${this.#prefix}${this.#offers}`);
    clearTimeout(this.#answer);
    this.#answer = setTimeout(() => this.offerAgain().catch(this.#listener.failed), ANSWER_WITHIN_MS);
  }

  /** Offer once more what may be lost: the browser would ask again by itself, but not every one at once. */
  async offerAgain() {
    if (this.pc.signalingState !== "have-local-offer") return;
    await this.pc.setLocalDescription({ type: "rollback" });
    await this.#offer();
  }

  /**
   * @param {RTCSessionDescription} description
   * @param {string | undefined} id
   */
  #send({ type, sdp }, id) {
    /** @type {Record<string, {source: Source}>} */
    const tracks = {};
    for (const [source, { mid, direction }] of this.#senders) {
      if (mid !== null && direction === "sendonly") tracks[mid] = { source };
    }
    this.#listener.send(type, { type, sdp, tracks }, id);
  }

  /**
   * Take a description of the server in, answer an offer, and tell which tracks came and went.
   * @param {"offer" | "answer"} type
   * @param {{sdp: string, tracks?: Record<string, TrackInfo>}} data
   * @param {string | undefined} id
   */
  async describe(type, data, id) {
    const { pc } = this;
    if (type === "answer" && (pc.signalingState !== "have-local-offer" || !this.#isLastOffer(id))) return;
    await pc.setRemoteDescription({ type, sdp: data.sdp });
    if (type === "offer") {
      await pc.setLocalDescription();
      if (pc.localDescription) this.#send(pc.localDescription, id);
    }
    this.#place(data.tracks ?? {});
    // Where the server's offer had no place for what we have begun to send meanwhile, no browser asks for another.
    const isUnsaid = [...this.#senders.values()].some(
      ({ direction, currentDirection }) => direction === "sendonly" && currentDirection === "inactive",
    );
    if (isUnsaid && pc.signalingState === "stable") await this.#offer();
  }

  /**
   * Take back an offer that the server refused; where it has one of its own under way, that one does it.
   * @param {string} id
   */
  async refused(id) {
    if (!this.#isLastOffer(id) || this.pc.signalingState !== "have-local-offer") return;
    await this.pc.setLocalDescription({ type: "rollback" });
  }

  /** @param {string | undefined} id */
  #isLastOffer(id) {
    return id === `${this.#prefix}${this.#offers}`;
  }

  /** @param {RTCIceCandidateInit} candidate  of the server */
  async addCandidate(candidate) {
    // A browser without that candidate's family refuses it; the others in the description still stand.
    await this.pc.addIceCandidate(candidate).catch(() => {});
  }

  // --- what plays where --------------------------------------------------------------

  /** @param {Record<string, TrackInfo>} named */
  #place(named) {
    /** @type {Map<string, Source>} */
    const own = new Map();
    const sending = new Set([...this.#senders.values()].map(({ mid }) => mid));
    /** @type {Map<string, TrackInfo>} */
    const playing = new Map();
    for (const [mid, info] of Object.entries(named)) {
      if (sending.has(mid)) own.set(info.track, info.source);
      else playing.set(mid, info);
    }
    this.#listener.owned(own);
    for (const mid of [...this.tracks.keys()]) this.#play(mid, playing.get(mid));
    for (const [mid, info] of playing) this.#play(mid, info);
  }

  /**
   * Take in what plays in shared sections from now on.
   * @param {Record<string, TrackInfo | null>} slots
   */
  fill(slots) {
    for (const [mid, info] of Object.entries(slots)) this.#play(mid, info ?? undefined);
  }

  /**
   * @param {string} mid
   * @param {TrackInfo | undefined} info  undefined: nothing
   */
  #play(mid, info) {
    const old = this.tracks.get(mid);
    if (old && old.track === info?.track) return;
    if (old) {
      this.tracks.delete(mid);
      this.#listener.ended(old);
    }
    const transceiver = info && this.pc.getTransceivers().find((one) => one.mid === mid);
    if (!info || !transceiver || !/recv/.test(transceiver.currentDirection ?? "")) return;
    const track = { ...info, mid, media: transceiver.receiver.track };
    this.tracks.set(mid, track);
    this.#listener.started(track);
  }

  // --- the network -------------------------------------------------------------------

  /** Look for a new path to the server; media goes on by the old one until there is one. */
  restartIce() {
    clearTimeout(this.#restart);
    const now = performance.now();
    const wait = this.#lastRestart + RESTART_SPACING_MS - now;
    if (wait > 0) {
      this.#restart = setTimeout(() => this.#restartIfLost(), wait);
      return;
    }
    this.#lastRestart = now;
    this.pc.restartIce();
  }

  #restartIfLost() {
    if (this.pc.connectionState !== "connected" && this.pc.connectionState !== "closed") this.restartIce();
  }

  #stateChanged() {
    const state = this.pc.connectionState;
    clearTimeout(this.#restart);
    if (state === "failed") this.restartIce();
    if (state === "disconnected") this.#restart = setTimeout(() => this.#restartIfLost(), RESTART_AFTER_MS);
    this.#listener.changed(state);
  }

  // --- statistics --------------------------------------------------------------------

  /** @returns {Promise<CallStats>} */
  async stats() {
    const reports = await this.pc.getStats();
    /** @type {Map<string, Report>} */
    const byId = new Map();
    reports.forEach((report) => byId.set(report.id, report));
    const pair = [...byId.values()].find((r) => r.type === "candidate-pair" && r.nominated && r.state === "succeeded");
    const looks = new Map();
    const tracks = [];
    for (const report of byId.values()) {
      if (report.type !== "inbound-rtp" && report.type !== "outbound-rtp") continue;
      const bytes = report.bytesReceived ?? report.bytesSent ?? 0;
      const last = this.#lastLook.get(report.id);
      looks.set(report.id, { bytes, at: report.timestamp });
      const seconds = last ? (report.timestamp - last.at) / 1000 : 0;
      tracks.push({
        ...this.#named(report),
        kind: report.kind,
        codec: byId.get(report.codecId ?? "")?.mimeType?.split("/")[1] ?? "",
        kbps: last && seconds > 0 ? Math.round(((bytes - last.bytes) * 8) / 1000 / seconds) : 0,
        packets: report.packetsReceived ?? report.packetsSent ?? 0,
        lost: report.packetsLost ?? byId.get(report.remoteId ?? "")?.packetsLost ?? 0,
        width: report.frameWidth ?? 0,
        height: report.frameHeight ?? 0,
        fps: report.framesPerSecond ?? 0,
      });
    }
    this.#lastLook = looks;
    return {
      rtt_ms: Math.round((pair?.currentRoundTripTime ?? 0) * 1000),
      isRelayed: byId.get(pair?.localCandidateId ?? "")?.candidateType === "relay",
      tracks: tracks.filter(({ isOurs, user_id }) => isOurs || user_id !== ""),
    };
  }

  /**
   * Whose stream a report is about.
   * @param {Report} report
   */
  #named({ type, mid }) {
    if (type === "outbound-rtp") {
      const ours = [...this.#senders].find(([, transceiver]) => transceiver.mid === mid);
      return { isOurs: true, user_id: "", source: ours?.[0] ?? "" };
    }
    const track = this.tracks.get(mid ?? "");
    return { isOurs: false, user_id: track?.user_id ?? "", source: track?.source ?? "" };
  }
}
