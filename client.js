// Atrium's client for browsers: Socket.IO protocol v5 over Engine.IO v4, by WebSocket only, to an Atrium hub or any other
// server of Socket.IO 3 or 4. What the methods and options mean stands in client.d.ts.
//
//   we get    0{"pingInterval":25000,…}           the connection is open
//   we send   40{"token":"x"}                     who we are; with pid and offset, if we were here before
//   we get    40{"sid":"…","pid":"…"}             welcome; or 44{"message":"…"}
//   an event  42["say","hi"]                      either way; as 427["say","hi"] it wants an answer
//   answers   437["delivered"]                    or a refusal: 437[{"error":{"message":"…"}}]
//   binary    451-["photo",{"_placeholder":true,"num":0}]   and the bytes, in a message of their own
//   we get    2                                   a ping; we send 3

const RESERVED = /^(|connect|connect_error|disconnect|disconnecting|newListener|removeListener)$/;
const PACKET = /^(?:([0-4])|([56])(\d+)-)(\/[^,]*)?,?(\d*)(.*)$/s; // type, or binary type and attachments; namespace, id, data
const MAX_ATTACHMENTS = 10; // as in Socket.IO's own parsers
const MAX_DELAY = 2 ** 31 - 1; // ms; a longer timer would fire at once
const CONGESTED = 65536; // bytes in the WebSocket's queue from which on volatile events are dropped

const failure = (name, message, data) => Object.assign(new Error(message), { name, data });
const isBinary = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value) || value instanceof Blob;
const copied = (frames) => frames.map((frame) => (isBinary(frame) ? new Blob([frame]) : frame));

class Socket {
  state = 'closed';
  id;
  recovered = false;
  onstate;

  #url;
  #options;
  #handlers = new Map(); // event → [{ handler, once }]
  #ws;
  #timer; // connecting: our patience with this try; open: the next look at the heartbeat; waiting: the next try
  #listening; // to what the browser says about the network and the page; abort ends it
  #offline = false; // it has said so
  #failures = 0; // since the last welcome
  #patience; // ms that the server may be silent
  #heard; // when it was not
  #packet; // one that still misses attachments
  #early = []; // packets from before the welcome: what we have missed
  #pid; // what the server knows us by,
  #offset; // and the last event that we have of it
  #queue = []; // what waits for a connection
  #calls = new Map(); // id → call that was sent
  #lastId = 0;

  constructor(url, { auth, namespace = '/', reconnect = {}, timeout = 20_000, ackTimeout = 10_000, offline = 1000, autoConnect = true }) {
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace('http', 'ws');
    if (!/^wss?:$/.test(this.#url.protocol)) throw new TypeError(`url: expected http, https, ws or wss, not ${url}`);
    this.#url.hash = '';
    this.#url.searchParams.set('EIO', 4);
    this.#url.searchParams.set('transport', 'websocket');
    if (!/^\/[^,]*$/.test(namespace)) throw new TypeError('namespace: expected a "/", and no comma');
    this.#options = { auth, namespace, reconnect, timeout, ackTimeout, offline };
    if (autoConnect) this.connect();
  }

  connect() {
    if (this.state === 'closed') this.#listen();
    if (this.state === 'closed' || this.state === 'waiting') {
      this.#failures = 0;
      this.#try();
    }
    return this;
  }

  close() {
    if (this.state === 'open') this.#ws.send('41' + this.#prefix);
    this.#pid = undefined; // whoever connects next need not be the same person
    this.#lose('io client disconnect', null, true);
    for (const item of [...this.#queue]) this.#settle(item, failure('DisconnectedError', 'the socket was closed'));
    return this;
  }

  on(event, handler, once = false) {
    this.#handlers.set(event, [...(this.#handlers.get(event) ?? []), { handler, once }]);
    return this;
  }

  once(event, handler) {
    return this.on(event, handler, true);
  }

  off(event, handler) {
    if (event === undefined) this.#handlers.clear();
    else this.#handlers.set(event, (this.#handlers.get(event) ?? []).filter((entry) => handler && entry.handler !== handler));
    return this;
  }

  emit(event, ...args) {
    return this.#send({ frames: this.#event(event, args) });
  }

  get volatile() {
    const free = () => this.#ready() && this.#ws.bufferedAmount < CONGESTED;
    return { emit: (event, ...args) => free() && this.emit(event, ...args) };
  }

  call(event, data, { args = [], timeout = this.#options.ackTimeout, retries = 0 } = {}) {
    return new Promise((resolve, reject) => {
      const id = this.#lastId++;
      const frames = this.#event(event, data === undefined && args.length === 0 ? [] : [data, ...args], id);
      this.#attempt({ id, frames: retries > 0 ? copied(frames) : frames, timeout, retries, resolve, reject });
    });
  }

  // ---- The connection ----

  #try() {
    clearTimeout(this.#timer);
    const ws = new WebSocket(this.#url);
    ws.binaryType = 'arraybuffer';
    ws.onclose = () => this.#lose('transport close', failure('DisconnectedError', 'websocket error'));
    ws.onmessage = ({ data }) => {
      try {
        this.#receive(data);
      } catch (error) {
        this.#lose('parse error', error);
      }
    };
    this.#ws = ws;
    this.#timer = setTimeout(() => this.#lose('', failure('TimeoutError', 'timeout')), Math.min(this.#options.timeout, MAX_DELAY));
    this.#move('connecting');
  }

  // greet says who we are. What finds that out may take its time, and the connection may be another by then.
  async #greet(ws) {
    try {
      const { auth } = this.#options;
      const who = typeof auth === 'function' ? await auth() : auth;
      if (ws === this.#ws) ws.send(`40${this.#prefix}${JSON.stringify({ pid: this.#pid, offset: this.#offset, ...who })}`);
    } catch (error) {
      if (ws === this.#ws) this.#lose('', error);
    }
  }

  #welcome({ sid, pid }) {
    if (!sid || this.state === 'open') throw new Error('expected a sid, once: Socket.IO 3 or 4');
    this.id = sid;
    this.recovered = pid !== undefined && pid === this.#pid;
    if (!this.recovered) this.#offset = undefined;
    this.#pid = pid;
    this.#failures = 0;
    this.#move('open');
    this.#look();
    for (const [id, data] of this.#early.splice(0)) this.#dispatch(id, data);
    // What a handler sends now, to join its rooms again, overtakes what has waited.
    if (this.state === 'open') this.#fire('connect');
    for (const item of this.#queue.splice(0)) this.#send(item);
  }

  // lose gives the connection up, for good or until the next try. A dead one would not end by itself for minutes.
  #lose(reason, error = failure('DisconnectedError', reason), forGood = false) {
    const before = this.state;
    const ws = this.#ws;
    clearTimeout(this.#timer);
    this.#ws = this.#packet = this.id = undefined;
    this.#early = [];
    if (ws) {
      ws.onmessage = ws.onclose = null;
      ws.close();
    }
    const waiting = this.#queue;
    const sent = [...this.#calls.values()];
    this.#queue = [];
    this.#calls.clear();
    for (const call of sent) this.#again(call, failure('DisconnectedError', 'disconnected before the answer came'));
    this.#queue = [...new Set([...this.#queue, ...waiting])]; // one that was to be sent again may be in both

    const { reconnect } = this.#options;
    if (forGood || !reconnect || this.#failures >= (reconnect.attempts ?? Infinity)) {
      this.#listening?.abort();
      this.#move('closed');
    } else {
      this.#wait(reconnect);
    }
    if (before === 'open') this.#fire('disconnect', reason);
    else if (before === 'connecting' && error) this.#fire('connect_error', error);
  }

  // wait leaves the delay partly to chance, so that not all come back in the same instant: as Backoff does, in Go.
  #wait({ min = 1000, max = Math.max(5000, min), factor = 2, jitter = 0.5 }) {
    const middle = min * factor ** this.#failures++;
    const low = Math.min(middle, max) * (1 - jitter);
    const high = Math.min(middle * (1 + jitter), max);
    const delay = low + (high - low) * Math.random();
    this.#timer = setTimeout(() => this.#offline || this.#try(), delay);
    this.#move('waiting', this.#offline ? Infinity : delay);
  }

  // listen follows the browser's events and not navigator.onLine, which is false on a laptop that talks to itself.
  #listen() {
    this.#listening = new AbortController();
    this.#offline = false;
    const { signal } = this.#listening;
    const wake = () => {
      if (this.state === 'open') this.#look();
      else if (this.state === 'waiting' && !this.#offline) this.#try();
    };
    const on = (target, event, handler) => target?.addEventListener?.(event, handler, { signal });
    on(globalThis, 'online', () => {
      this.#offline = false;
      wake();
    });
    on(globalThis, 'offline', () => {
      this.#offline = true;
      if (this.state === 'waiting') this.#move('waiting', Infinity);
      else this.#lose('transport close');
    });
    on(globalThis.document, 'visibilitychange', () => document.hidden || wake());
  }

  // look ends a connection whose server has been silent for too long. Timers sleep when the machine does: the clock
  // tells.
  #look() {
    clearTimeout(this.#timer);
    const left = this.#heard + this.#patience - Date.now();
    if (left <= 0) this.#lose('ping timeout');
    else this.#timer = setTimeout(() => this.#look(), Math.min(left, MAX_DELAY));
  }

  #ready() {
    if (this.state === 'open' && this.#ws && this.#heard + this.#patience <= Date.now()) this.#look();
    return this.state === 'open' && this.#ws?.readyState === 1;
  }

  #move(state, delay) {
    const same = state === this.state && delay === undefined;
    this.state = state;
    if (!same) (async () => this.onstate?.(state, delay))(); // its errors are its own
  }

  // ---- What we send ----

  get #prefix() {
    const { namespace } = this.#options;
    return namespace === '/' ? '' : `${namespace},`;
  }

  #event(event, args, id) {
    if (typeof event !== 'string' || RESERVED.test(event)) throw new TypeError(`event: expected a name that is not reserved, not "${event}"`);
    return this.#encode(2, [event, ...args], id);
  }

  // encode makes the messages of a packet: one of text, then one for each attachment.
  #encode(type, data, id = '') {
    const attachments = [];
    const json = JSON.stringify(data, (_, value) => (isBinary(value) ? { _placeholder: true, num: attachments.push(value) - 1 } : value));
    const n = attachments.length;
    if (n > MAX_ATTACHMENTS) throw new RangeError(`expected at most ${MAX_ATTACHMENTS} binary values, not ${n}`);
    return [`4${n > 0 ? `${type + 3}${n}-` : type}${this.#prefix}${id}${json}`, ...attachments];
  }

  // send sends, or keeps it until there is a connection. It returns false if too much waits for that.
  #send(item) {
    if (this.#ready()) {
      if (item.resolve) this.#calls.set(item.id, item);
      for (const frame of item.frames) this.#ws.send(frame);
    } else if (this.#queue.length < this.#options.offline) {
      item.frames = copied(item.frames);
      this.#queue.push(item);
    } else {
      return false;
    }
    return true;
  }

  #attempt(call) {
    clearTimeout(call.timer);
    call.timer = setTimeout(() => this.#again(call, failure('TimeoutError', 'no answer in time')), Math.min(call.timeout, MAX_DELAY));
    if (this.#queue.includes(call) || this.#send(call)) return;
    this.#settle(call, failure('DisconnectedError', 'not connected, and too much waits for that'));
  }

  #again(call, error) {
    if (call.retries-- > 0) this.#attempt(call);
    else this.#settle(call, error);
  }

  #settle(call, error, value) {
    clearTimeout(call.timer);
    this.#calls.delete(call.id);
    this.#queue = this.#queue.filter((item) => item !== call);
    if (error) call.reject?.(error);
    else call.resolve(value);
  }

  // ---- What we get ----

  #receive(data) {
    this.#heard = Date.now();
    if (typeof data !== 'string') {
      this.#packet.attachments.push(data);
      this.#complete();
    } else if (data[0] === '4') {
      this.#begin(data.slice(1));
    } else if (data[0] === '2') {
      this.#ws.send('3' + data.slice(1));
    } else if (data[0] === '0') {
      const { pingInterval, pingTimeout } = JSON.parse(data.slice(1));
      this.#patience = pingInterval + pingTimeout;
      if (!(this.#patience > 0)) throw new Error('expected pingInterval and pingTimeout');
      this.#greet(this.#ws);
    } else if (data[0] === '1') {
      this.#lose('transport close');
    } else if (data[0] !== '6') {
      throw new Error(`expected Socket.IO, not ${data.slice(0, 40)}`);
    }
  }

  #begin(text) {
    if (this.#packet) throw new Error('expected the bytes of an attachment');
    const [, type, binary, n = 0, namespace = '/', id, json] = PACKET.exec(text);
    if (n > MAX_ATTACHMENTS) throw new RangeError(`expected at most ${MAX_ATTACHMENTS} attachments`);
    this.#packet = { type: +(type ?? binary - 3), n, namespace, id, json, attachments: [] };
    this.#complete();
  }

  #complete() {
    const { type, n, namespace, id, json, attachments } = this.#packet;
    if (attachments.length < n) return;
    this.#packet = undefined;
    if (namespace !== this.#options.namespace) return;
    const data = json && JSON.parse(json, n > 0 && ((_, value) => {
      if (value?._placeholder !== true) return value;
      if (!attachments[+value.num]) throw new Error('expected the number of an attachment');
      return attachments[+value.num];
    }));
    if (type === 0) {
      this.#welcome(data);
    } else if (type === 1) {
      this.#lose('io server disconnect', undefined, true);
    } else if (type === 4) {
      this.#lose('', failure('RefusedError', data.message ?? data, data.data), true);
    } else if (!Array.isArray(data)) {
      throw new TypeError('expected an array');
    } else if (type === 2) {
      if (RESERVED.test(data[0])) throw new Error(`expected no event "${data[0]}"`);
      if (this.state === 'open') this.#dispatch(id, data);
      else this.#early.push([id, data]);
    } else {
      const call = this.#calls.get(+id);
      if (call) this.#answered(call, data[0]);
    }
  }

  async #dispatch(id, [event, ...args]) {
    const ws = this.#ws;
    const answers = this.#fire(String(event), ...args);
    if (id === '') {
      // An event that wants an answer has no offset, whatever it ends with.
      if (this.#pid && typeof args.at(-1) === 'string') this.#offset = args.at(-1);
      return;
    }
    let frames;
    try {
      if (answers.length === 0) throw new Error(`event: "${event}" is not one that this client knows`);
      const value = await answers[0];
      frames = this.#encode(3, value === undefined ? [] : [value], id);
    } catch (error) {
      frames = this.#encode(3, [{ error: { message: String(error?.message ?? error), data: error?.data } }], id);
    }
    if (ws === this.#ws) for (const frame of frames) ws.send(frame);
  }

  #answered(call, value) {
    const error = Object.keys(value ?? {}).join() === 'error' && value.error;
    if (typeof error?.message === 'string') this.#settle(call, failure('RefusedError', error.message, error.data));
    else this.#settle(call, null, value);
  }

  // fire calls the handlers of an event. What one throws becomes a rejected promise, which stops nothing here and which
  // the browser reports.
  #fire(event, ...args) {
    return (this.#handlers.get(event) ?? []).map(async (entry) => {
      if (entry.once) this.#handlers.set(event, this.#handlers.get(event).filter((other) => other !== entry));
      return entry.handler(...args);
    });
  }
}

const connect = (url = '/socket.io/', options = {}) => new Socket(url, options);

export { connect };
