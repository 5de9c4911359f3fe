// The browser's client of Rowcast's push protocol (docs/push.md). No dependencies.
//
//   import { connect } from "/static/rowcast.js";
//   const rowcast = connect({ token });
//   const orders = rowcast.register(
//     { pattern: "db.shop.public.orders.*", filter: { status: "paid" } },
//     (event, place) => console.log(event.op, event.after ?? event.before, place.left),
//   );
//   orders.unregister();
//
// It connects again by itself, after waits that grow and differ from client to client, and
// registers everything anew from the positions it has, so that no event is missed and none comes
// twice. Where the server has to say that something is lost, `onIncomplete` is called: read again
// from the database then.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const PING_MS = 25_000;
const PONG_LIMIT_MS = 10_000;
const NOT_AUTHENTICATED = 4401;

/**
 * @param {object} options
 * @param {string | (() => string | Promise<string>)} options.token  a token, or what gets a new one
 * @param {string} [options.url]  of the server; where the page is from by default
 * @param {(state: "connecting" | "live" | "waiting" | "refused" | "closed", detail: string) => void}
 *   [options.onState]
 */
export function connect({ token, url, onState = () => {} }) {
  return new Connection(token, url ?? defaultUrl(), onState);
}

function defaultUrl() {
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url.href;
}

class Connection {
  #token;
  #url;
  #onState;
  #socket = null;
  #registrations = new Map(); // by ref, for as long as they are wanted
  #byId = new Map(); // those that this connection has
  #lastRef = 0;
  #failures = 0;
  #timers = new Map();
  #closed = false;

  constructor(token, url, onState) {
    this.#token = token;
    this.#url = url;
    this.#onState = onState;
    globalThis.addEventListener?.("online", this.#hurry);
    this.#open();
  }

  /**
   * Events of a pattern or channel, from now on or `from` positions on.
   *
   * @param {{pattern?: string, channel?: string, key?: object, filter?: object, from?: object}} wanted
   * @param {(event: object, place: {topic: string, partition: number, offset: number,
   *   left: boolean}) => void} onEvent  `left`: the row no longer fulfils key and filter
   * @param {{onIncomplete?: (what: object) => void, onLive?: () => void,
   *   onError?: (error: object) => void}} [more]
   */
  register(wanted, onEvent, more = {}) {
    const registration = new Registration(this, String(++this.#lastRef), wanted, onEvent, more);
    this.#registrations.set(registration.ref, registration);
    if (this.isOpen) this.#say(registration.request());
    return registration;
  }

  /** Whether messages reach the server now. */
  get isOpen() {
    return this.#socket?.isAuthenticated === true;
  }

  /** End it for good. */
  close() {
    this.#closed = true;
    globalThis.removeEventListener?.("online", this.#hurry);
    this.#forget();
    this.#socket?.close(1000);
    this.#onState("closed", "");
  }

  unregister(registration) {
    this.#registrations.delete(registration.ref);
    if (registration.id === null) return; // `registered` may be on its way; see #registered
    this.#byId.delete(registration.id);
    if (this.isOpen) this.#say({ op: "unregister", id: registration.id });
    registration.id = null;
  }

  async #open() {
    this.#onState("connecting", "");
    let token;
    try {
      token = await this.#freshToken();
    } catch (error) {
      this.#later(`no token: ${error}`);
      return;
    }
    if (this.#closed) return;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.isAuthenticated = false;
    socket.onopen = () => socket.send(JSON.stringify({ op: "auth", token }));
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(JSON.parse(data));
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#ended(code, reason);
  }

  async #freshToken() {
    return typeof this.#token === "function" ? await this.#token() : this.#token;
  }

  #receive(message) {
    switch (message.op) {
      case "event":
        for (const id of message.ids) this.#byId.get(id)?.take(message);
        break;
      case "authenticated":
        this.#authenticated();
        break;
      case "registered":
        this.#registered(message);
        break;
      case "live":
        this.#byId.get(message.id)?.live(message);
        break;
      case "pong":
        this.#stop("pong");
        for (const id of message.ids ?? []) this.#byId.get(id)?.advance(message.positions);
        break;
      case "lost":
        for (const id of message.ids) this.#byId.get(id)?.lost(message);
        break;
      case "unregistered":
        // One that nobody here asked to end: the service did, and says why.
        if (message.ref === null) this.#endedByService(message);
        break;
      case "expiring":
        this.#renew();
        break;
      case "error":
        this.#refused(message);
        break;
    }
  }

  #authenticated() {
    if (this.#socket.isAuthenticated) return; // a new token on an open connection
    this.#socket.isAuthenticated = true;
    this.#onState("live", "");
    for (const registration of this.#registrations.values()) this.#say(registration.request());
    this.#ping();
  }

  #registered(message) {
    this.#failures = 0;
    const registration = this.#registrations.get(message.ref);
    if (registration === undefined) {
      this.#say({ op: "unregister", id: message.id });
      return;
    }
    this.#byId.set(message.id, registration);
    registration.registered(message);
  }

  #refused(error) {
    if (error.code === "token") {
      this.#socket.refusal = error.message;
      return; // the connection is closed next
    }
    const registration = this.#registrations.get(error.ref);
    if (error.code === "unavailable" && registration !== undefined) {
      // Kafka is away for a moment; what was missed until it is back is caught up with.
      this.#after(`register ${error.ref}`, this.#wait(), () => {
        const isWanted = this.#registrations.has(registration.ref);
        if (isWanted && this.isOpen) this.#say(registration.request());
      });
      return;
    }
    if (registration !== undefined) registration.failed(error);
    else console.warn("rowcast:", error.message);
  }

  #endedByService(message) {
    const registration = this.#byId.get(message.id);
    if (registration === undefined) return;
    this.#byId.delete(message.id);
    this.#registrations.delete(registration.ref);
    registration.id = null;
    registration.failed({ code: "ended", message: message.message });
  }

  async #renew() {
    if (typeof this.#token !== "function") return;
    const socket = this.#socket;
    const token = await this.#freshToken();
    if (socket === this.#socket && this.isOpen) this.#say({ op: "auth", token });
  }

  #ping() {
    this.#after("ping", PING_MS, () => {
      // The answer brings positions forward where no event does, so that resuming stays cheap.
      this.#say({ op: "ping", positions: true });
      this.#after("pong", PONG_LIMIT_MS, () => this.#ended(1006, "no answer"));
      this.#ping();
    });
  }

  #ended(code, reason) {
    const refusal = this.#socket?.refusal;
    this.#forget();
    this.#socket?.close();
    this.#socket = null;
    if (this.#closed) return;
    if (code === NOT_AUTHENTICATED && typeof this.#token !== "function") {
      this.#onState("refused", refusal ?? reason);
      return;
    }
    this.#later(refusal ?? reason);
  }

  #later(reason) {
    const waitMs = this.#wait();
    this.#onState("waiting", reason);
    this.#after("open", waitMs, () => this.#open());
  }

  #wait() {
    const longest = Math.min(FIRST_WAIT_MS * 2 ** this.#failures++, LONGEST_WAIT_MS);
    return longest / 2 + (Math.random() * longest) / 2;
  }

  #hurry = () => {
    if (this.#timers.has("open")) this.#after("open", 0, () => this.#open());
  };

  #say(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #forget() {
    for (const name of [...this.#timers.keys()]) this.#stop(name);
    this.#byId.clear();
    for (const registration of this.#registrations.values()) registration.id = null;
  }

  #after(name, ms, call) {
    this.#stop(name);
    const timer = setTimeout(() => {
      this.#timers.delete(name);
      call();
    }, ms);
    this.#timers.set(name, timer);
  }

  #stop(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}

class Registration {
  #connection;
  #wanted;
  #onEvent;
  #more;
  id = null;
  positions; // topic -> the last offset of each partition; what `from` takes, and may be stored

  constructor(connection, ref, wanted, onEvent, more) {
    const { from, ...rest } = wanted;
    this.#connection = connection;
    this.ref = ref;
    this.#wanted = rest;
    this.positions = from === undefined ? null : structuredClone(from);
    this.#onEvent = onEvent;
    this.#more = more;
  }

  unregister() {
    this.#connection.unregister(this);
  }

  request() {
    const from = this.positions === null ? {} : { from: this.positions };
    return { op: "register", ref: this.ref, ...this.#wanted, ...from };
  }

  registered(message) {
    this.id = message.id;
    if (message.complete) this.advance(message.positions);
    else this.positions = message.positions;
    if (!message.complete) this.incomplete(message);
    if (message.live) this.#more.onLive?.();
  }

  live(message) {
    this.advance(message.positions);
    if (!message.complete) this.incomplete(message);
    this.#more.onLive?.();
  }

  take({ ids, left = [], topic, partition, offset, event }) {
    this.advance({ [topic]: [...Array(partition).fill(-1), offset] });
    this.#onEvent(event, { topic, partition, offset, left: left.includes(this.id) });
  }

  advance(positions) {
    this.positions ??= {};
    for (const [topic, offsets] of Object.entries(positions)) {
      const mine = (this.positions[topic] ??= []);
      offsets.forEach((offset, partition) => {
        mine[partition] = Math.max(mine[partition] ?? -1, offset);
      });
    }
  }

  lost(message) {
    // Set, not advanced: of a topic that was made anew it lies further back.
    const mine = (this.positions[message.topic] ??= []);
    while (mine.length <= message.partition) mine.push(-1);
    mine[message.partition] = message.before - 1;
    this.incomplete(message);
  }

  incomplete(what) {
    this.#more.onIncomplete?.(what);
  }

  failed(error) {
    if (this.#more.onError) this.#more.onError(error);
    else console.warn("rowcast:", error.message);
  }
}
