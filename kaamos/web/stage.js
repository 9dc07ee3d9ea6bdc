// Who is seen: a tile for each person, a larger one for each shared screen, as large as the window allows.

/** @typedef {import("./client.js").Participant} Participant */
/** @typedef {import("./client.js").RemoteTrack} RemoteTrack */
/** @typedef {import("./client.js").RoomClient} RoomClient */

const WIDEST = 16 / 9;

/** One person, or one person's screen. */
class Tile {
  /** What they send; the video element plays whatever is in it. */
  stream = new MediaStream();

  /**
   * @param {string} className
   * @param {() => void} blocked  called when the browser plays no sound before a click
   */
  constructor(className, blocked) {
    this.blocked = blocked;
    this.root = document.createElement("article");
    this.root.className = className;
    this.initial = document.createElement("span");
    this.initial.className = "initial";
    this.initial.ariaHidden = "true";
    this.video = document.createElement("video");
    this.video.autoplay = true;
    this.video.playsInline = true;
    this.video.srcObject = this.stream;
    this.label = document.createElement("span");
    this.label.className = "name";
    this.notice = document.createElement("p");
    this.notice.className = "notice";
    this.root.append(this.initial, this.video, this.notice, this.label);
  }

  /**
   * @param {Participant} person
   * @param {string} label  under the picture
   */
  show(person, label) {
    this.root.dataset.user = person.user_id;
    this.label.textContent = label;
    this.video.setAttribute("aria-label", `Picture of ${label}`);
    this.initial.textContent = [...label][0].toUpperCase();
    const hue = [...person.user_id].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);
    this.root.style.setProperty("--hue", String(hue));
  }

  /** @param {RemoteTrack} track */
  add({ media }) {
    this.notice.textContent = "";
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
      if (error.name === "NotAllowedError") this.blocked();
    });
  }

  /** A track is muted until its first packet came, and when none come any more. */
  #repaint() {
    this.root.classList.toggle("has-picture", this.stream.getVideoTracks().some((media) => !media.muted));
  }
}

export class Stage {
  /** @type {Map<string, Tile>} people, by id */
  #people = new Map();
  /** @type {Map<string, Tile>} their screens, by id */
  #screens = new Map();

  /**
   * @param {RoomClient} client
   * @param {{people: HTMLElement, screens: HTMLElement, call: HTMLElement}} places
   * @param {SVGElement} muteIcon      of somebody whose microphone is off; copied
   * @param {() => void} blocked       called when the browser plays no sound before a click
   */
  constructor(client, places, muteIcon, blocked) {
    this.client = client;
    this.places = places;
    this.muteIcon = muteIcon;
    this.blocked = blocked;
    client.on("participants", (people) => this.#showPeople(people));
    client.on("track", (track) => this.#add(track));
    client.on("trackended", (track) => this.#remove(track));
    client.on("mute", ({ user_id }) => this.#showMutes(user_id));
    client.on("speakers", (speakers) => this.#showSpeakers(speakers));
    client.on("error", (refusal) => this.#showRefusal(refusal));
    new ResizeObserver(() => this.arrange()).observe(places.people);
  }

  /** Play what the browser held back; to be called in a click. */
  play() {
    for (const tile of [...this.#people.values(), ...this.#screens.values()]) tile.play();
  }

  /** Show nothing any more. */
  clear() {
    for (const tile of [...this.#people.values(), ...this.#screens.values()]) tile.video.srcObject = null;
  }

  /** @param {string} userId */
  #personTile(userId) {
    const known = this.#people.get(userId);
    if (known) return known;
    const tile = new Tile("tile", this.blocked);
    const mark = document.createElement("span");
    mark.className = "muted-mark";
    mark.title = "Microphone is off";
    mark.setAttribute("role", "img");
    mark.ariaLabel = mark.title;
    mark.append(this.muteIcon.cloneNode(true));
    tile.root.append(mark, this.#pin(userId));
    this.#people.set(userId, tile);
    return tile;
  }

  /**
   * The button that asks for somebody before all others, for rooms in which not everybody can be shown.
   * @param {string} userId
   */
  #pin(userId) {
    const button = document.createElement("button");
    button.className = "pin";
    button.type = "button";
    button.textContent = "Pin";
    button.ariaPressed = "false";
    button.onclick = () => {
      const isPinned = button.ariaPressed === "false";
      button.ariaPressed = String(isPinned);
      this.client.subscribe({ participants: [userId], pin: isPinned });
    };
    return button;
  }

  /** @param {string} userId */
  #screenTile(userId) {
    const known = this.#screens.get(userId);
    if (known) return known;
    const tile = new Tile("tile screen", this.blocked);
    this.#screens.set(userId, tile);
    const person = this.client.participants.get(userId) ?? { user_id: userId };
    tile.show(person, `${nameOf(person)}: screen`);
    this.places.screens.append(tile.root);
    this.arrange();
    return tile;
  }

  /** @param {Participant[]} people */
  #showPeople(people) {
    const present = new Set(people.map((person) => person.user_id));
    for (const tiles of [this.#people, this.#screens]) {
      for (const [userId, tile] of tiles) {
        if (present.has(userId)) continue;
        tile.root.remove();
        tiles.delete(userId);
      }
    }
    for (const person of people) {
      const tile = this.#personTile(person.user_id);
      tile.show(person, nameOf(person));
      this.#screens.get(person.user_id)?.show(person, `${nameOf(person)}: screen`);
      this.#showMutes(person.user_id);
      if (!tile.root.isConnected) this.places.people.append(tile.root);
    }
    this.arrange();
  }

  /** @param {RemoteTrack} track */
  #add(track) {
    const isScreen = track.source === "screen_share" || track.source === "screen_share_audio";
    (isScreen ? this.#screenTile(track.user_id) : this.#personTile(track.user_id)).add(track);
    this.#showMutes(track.user_id);
  }

  /** @param {RemoteTrack} track */
  #remove(track) {
    this.#people.get(track.user_id)?.remove(track);
    const screen = this.#screens.get(track.user_id);
    screen?.remove(track);
    if (screen?.stream.getTracks().length === 0) {
      screen.root.remove();
      this.#screens.delete(track.user_id);
      this.arrange();
    }
  }

  /** @param {string} userId */
  #showMutes(userId) {
    const tile = this.#people.get(userId);
    tile?.root.classList.toggle("is-silent", this.client.isMuted(userId, "microphone"));
    tile?.root.classList.toggle("is-dark", this.client.isMuted(userId, "camera"));
  }

  /** @param {{user_id: string}[]} speakers */
  #showSpeakers(speakers) {
    const speaking = new Set(speakers.map(({ user_id }) => user_id));
    for (const [userId, tile] of this.#people) tile.root.classList.toggle("is-speaking", speaking.has(userId));
  }

  /**
   * Say in their tile that this browser cannot show somebody's picture.
   * @param {import("./client.js").Refusal} refusal
   */
  #showRefusal({ code, user_id = "" }) {
    const tile = this.#people.get(user_id);
    if (tile && code === "UNSUPPORTED_MEDIA") tile.notice.textContent = "This browser cannot show their picture";
  }

  /** Make the tiles as large as their places allow. */
  arrange() {
    this.places.call.classList.toggle("has-screen", this.#screens.size > 0);
    for (const place of [this.places.people, this.places.screens]) fit(place);
  }
}

/** @param {Participant} person */
function nameOf(person) {
  return person.name?.trim() || "Guest";
}

/**
 * Try every number of columns, and keep the one that makes the tiles of a place largest.
 * @param {HTMLElement} place
 */
function fit(place) {
  const count = place.childElementCount;
  const style = getComputedStyle(place);
  const gap = parseFloat(style.columnGap);
  const width = place.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const height = place.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
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
  place.style.setProperty("--tile-width", `${best.width}px`);
  place.style.setProperty("--tile-height", `${best.height}px`);
}
