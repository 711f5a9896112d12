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
//   we send   3probe                              which an Atrium hub answers with 6, at once; to others it is one pong more

const RESERVED = /^(|connect|connect_error|disconnect|disconnecting|newListener|removeListener)$/;
const PACKET = /^(?:([0-4])|([56])(\d+)-)(\/[^,]*)?,?(\d*)(.*)$/s; // type, or binary type and attachments; namespace, id, data
const TICK = 5000; // ms between two looks at the clocks, and how late one is only if the machine has slept

const failure = (name, message, data) => Object.assign(new Error(message), { name, data });
const excess = (n, most, what) => n > most && new RangeError(`expected at most ${most} ${what}, not ${n}`);
const alien = (packet) => new Error(`expected Socket.IO, not ${packet.slice(0, 40)}`);
// By name: what another frame has made is an instance of that frame's classes.
const isBinary = (value) => ArrayBuffer.isView(value) || /^(ArrayBuffer|Blob|File)$/.test(value?.[Symbol.toStringTag]);
const later = (f, ms) => setTimeout(f, Math.min(ms, 2 ** 31 - 1)); // a longer timer would fire at once
const now = () => performance.now(); // Date's clock is set by people
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
  #failures = 0; // attempts since a connection that has lasted
  #since; // when it was opened
  #patience; // ms that the server may be silent
  #due; // when it will have been for too long
  #answers; // it has answered a probe
  #limit; // bytes that it takes in a message
  #packet; // one that still misses attachments
  #early = []; // packets from before the welcome: what we have missed
  #pid; // what the server knows us by,
  #offset; // and the last event that we have of it
  #queue = []; // what waits for a connection
  #calls = new Map(); // id → call that was sent
  #lastId = 0;

  constructor(url, { auth, namespace = '/', reconnect = {}, timeout = 20_000, ackTimeout = 10_000, offline = 1000, maxAttachments = 10, autoConnect = true }) {
    // The location of a blob, or of a frame whose text is in its srcdoc, is no base.
    const { location, document, origin } = globalThis;
    const base = [location?.href, document?.baseURI, origin].find((base) => /^http/.test(base));
    try {
      this.#url = new URL(url, base);
    } catch {} // it is told below
    if (!/^(http|ws)s?:$/.test(this.#url?.protocol)) throw new TypeError(`url: expected an absolute http or ws URL, not ${url}`);
    this.#url.protocol = this.#url.protocol.replace('http', 'ws');
    this.#url.hash = '';
    this.#url.searchParams.set('EIO', 4);
    this.#url.searchParams.set('transport', 'websocket');
    if (!/^\/[^,]*$/.test(namespace)) throw new TypeError('namespace: expected a "/", and no comma');
    this.#options = { auth, namespace, reconnect, timeout, ackTimeout, offline, maxAttachments };
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
    this.#lose('io client disconnect', null, 0);
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
    const free = () => this.#ready() && this.#ws.bufferedAmount < 65536; // bytes that are still to go out
    return { emit: (event, ...args) => free() && this.emit(event, ...args) };
  }

  call(event, data, { args = [], timeout = this.#options.ackTimeout, retries = 0 } = {}) {
    return new Promise((resolve, reject) => {
      const id = this.#lastId++;
      const frames = this.#event(event, data === undefined && args.length === 0 ? [] : [data, ...args], id);
      this.#attempt({ id, frames: retries > 0 ? copied(frames) : frames, timeout, retries, resolve, reject });
    });
  }

  // presence keeps who is in a room, by the events of a hub: all, and then changes with versions.
  presence(room) {
    const infos = new Map();
    let version; // undefined: all is to come
    let due; // the next part of it; 0: none
    let asked; // for it, on this connection; other servers do not answer
    const forget = () => { asked = version = undefined; };
    const ask = () => {
      version = undefined;
      asked ||= this.emit('presence', { room });
    };
    const enter = async () => {
      await 0; // what joins the room goes first
      if (this.state === 'open') ask();
    };
    const take = ({ room: of, version: next, state, part = 0, parts, count, joined = [], changed = [], left = [] } = {}) => {
      if (of !== room) return;
      const whole = state || count >= 0;
      if (whole && !part) {
        infos.clear();
      } else if (whole ? part !== due || next !== version : due || next !== version + 1) {
        ask();
        return;
      }
      version = next;
      for (const { key, infos: all } of [...(state ?? []), ...joined, ...changed]) infos.set(key, all);
      for (const key of left) infos.delete(key);
      due = part + 1 < parts ? part + 1 : 0;
      if (due) return;
      asked = false;
      presence.count = count ?? infos.size;
      presence.list = [...infos].map(([key, infos]) => ({ key, infos })).sort((a, b) => (a.key < b.key ? -1 : 1));
      presence.onchange?.(presence.list);
    };
    const presence = { list: [], count: 0, onchange: undefined, close: () => this.off('presence', take).off('connect', enter).off('disconnect', forget) };
    this.on('presence', take).on('connect', enter).on('disconnect', forget);
    enter();
    return presence;
  }

  // ---- The connection ----

  #try() {
    clearTimeout(this.#timer);
    this.#ws = Object.assign(new WebSocket(this.#url), {
      binaryType: 'arraybuffer',
      onclose: ({ code }) => this.#lose('transport close', failure('DisconnectedError', 'websocket error'), code === 1012 && 0.25),
      onmessage: ({ data }) => {
        try {
          this.#receive(data);
        } catch (error) {
          this.#lose('parse error', error);
        }
      },
    });
    this.#timer = later(() => this.#lose('', failure('TimeoutError', 'timeout')), this.#options.timeout);
    this.#move('connecting');
  }

  // greet says who we are. What finds that out may take its time, and the connection may be another by then.
  async #greet(ws) {
    try {
      const { auth } = this.#options;
      const who = typeof auth === 'function' ? await auth() : auth;
      if (ws === this.#ws) this.#write([`40${this.#prefix}${JSON.stringify({ pid: this.#pid, offset: this.#offset, ...who })}`]);
    } catch (error) {
      if (ws === this.#ws) this.#lose('', error);
    }
  }

  #welcome({ sid, pid }) {
    if (!sid || this.state === 'open') throw new Error('expected a sid: Socket.IO 3 or 4');
    this.id = sid;
    this.recovered = pid !== undefined && pid === this.#pid;
    if (!this.recovered) this.#offset = undefined;
    this.#pid = pid;
    this.#since = now();
    this.#move('open');
    this.#ws.send('3probe'); // to know whether it answers
    this.#look();
    for (const packet of this.#early.splice(0)) this.#dispatch(...packet);
    // What a handler sends now, to join its rooms again, overtakes what has waited.
    if (this.state === 'open') this.#fire('connect');
    for (const item of this.#queue.splice(0)) (async () => this.#send(item))(); // what it throws, the browser reports
  }

  // lose gives the connection up, for good if next is 0, or until the next try. A dead one would not end by itself for
  // minutes.
  #lose(reason, error = failure('DisconnectedError', reason), next) {
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
    const lasted = before === 'open' && now() - this.#since >= (reconnect?.min ?? 1000);
    if (lasted) this.#failures = 0;
    if (next === 0 || !reconnect || this.#failures >= (reconnect.attempts ?? Infinity)) {
      this.#listening?.abort();
      this.#move('closed');
    } else {
      this.#wait(reconnect, lasted && next);
    }
    if (before === 'open') this.#fire('disconnect', reason);
    else if (before === 'connecting' && error) this.#fire('connect_error', error);
  }

  // wait leaves the delay partly to chance, so that not all come back in the same instant: as Backoff does, in Go. next is
  // the part of min to wait if nothing has failed.
  #wait({ min = 1000, max = Math.max(5000, min), factor = 2, jitter = 0.5 }, next) {
    const middle = min * (next || factor ** this.#failures++);
    const low = Math.min(middle, max) * (1 - jitter);
    const delay = low + (Math.min(middle * (1 + jitter), max) - low) * Math.random();
    this.#timer = later(() => this.#try(), delay);
    this.#move('waiting', delay);
  }

  // listen follows what the browser says about the network and the page. It may be wrong: a laptop that is offline can
  // talk to itself.
  #listen() {
    this.#listening = new AbortController();
    for (const event of ['online', 'offline', 'visibilitychange']) {
      globalThis.addEventListener?.(event, () => this.#probe(), this.#listening);
    }
  }

  // probe finds out how things are, now that they may have changed. A server that answers probes has 10 s for it;
  // another one goes on to show by its pings that it is there.
  #probe() {
    if (this.state === 'waiting') {
      this.#try();
    } else if (this.state === 'open') {
      if (this.#answers && this.#ws.bufferedAmount === 0) {
        this.#ws.send('3probe');
        this.#due = Math.min(this.#due, now() + 2 * TICK); // a network that wakes up takes some seconds
      }
      this.#look();
    }
  }

  // look ends a connection whose server has been silent for too long, and probes one behind which the machine has
  // slept: no timer fires then, and it depends on the machine which of its clocks go on.
  #look() {
    clearTimeout(this.#timer);
    const at = now();
    const date = Date.now();
    const wait = Math.min(this.#due - at, TICK);
    if (wait > 0) this.#timer = later(() => (Math.max(now() - at, Date.now() - date) > wait + TICK ? this.#probe() : this.#look()), wait);
    else this.#lose('ping timeout');
  }

  #ready() {
    if (this.state === 'open' && this.#ws && this.#due <= now()) this.#look();
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
    const json = JSON.stringify(data, function (key, value) {
      const binary = [this[key], value].find(isBinary); // what has a toJSON is a value no more
      return binary ? { _placeholder: true, num: attachments.push(binary) - 1 } : value;
    });
    const n = attachments.length;
    const error = excess(n, this.#options.maxAttachments, 'binary values');
    if (error) throw error;
    return [`4${n > 0 ? `${type + 3}${n}-` : type}${this.#prefix}${id}${json}`, ...attachments];
  }

  // write sends messages, unless the server would hang up because of one.
  #write(frames) {
    for (const frame of frames) {
      const size = frame.size ?? frame.byteLength ?? new TextEncoder().encode(frame).length;
      const error = excess(size, this.#limit, 'bytes in a message to this server');
      if (error) throw error;
    }
    for (const frame of frames) this.#ws.send(frame);
  }

  // send sends, or keeps it until there is a connection. It returns false if too much waits for that.
  #send(item) {
    if (this.#ready()) {
      try {
        this.#write(item.frames);
        if (item.resolve) this.#calls.set(item.id, item);
      } catch (error) {
        if (!item.resolve) throw error;
        this.#settle(item, error);
      }
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
    call.timer = later(() => this.#again(call, failure('TimeoutError', 'no answer in time')), call.timeout);
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
    this.#due = now() + this.#patience;
    if (typeof data !== 'string') {
      this.#packet.attachments.push(this.#packet.error || data); // what nobody gets is not kept
      this.#complete();
    } else if (data[0] === '4') {
      this.#begin(data.slice(1));
    } else if (data[0] === '2') {
      this.#ws.send('3' + data.slice(1));
    } else if (data[0] === '0') {
      const { pingInterval, pingTimeout, maxPayload } = JSON.parse(data.slice(1));
      this.#patience = pingInterval + pingTimeout;
      if (!(this.#patience > 0)) throw alien(data);
      this.#limit = maxPayload; // of older servers undefined, than which nothing is more
      this.#answers = false;
      this.#greet(this.#ws);
    } else if (data[0] === '1') {
      this.#lose('transport close');
    } else if (data[0] === '6') {
      this.#answers = true;
    } else {
      throw alien(data);
    }
  }

  #begin(text) {
    if (this.#packet) throw alien(text);
    const [, type, binary, n = 0, namespace = '/', id, json] = PACKET.exec(text);
    // Too many are the packet's mistake, which ends no connection.
    const error = excess(n, this.#options.maxAttachments, 'binary values');
    this.#packet = { text, type: +(type ?? binary - 3), n, namespace, id, json, error, attachments: [] };
    this.#complete();
  }

  #complete() {
    const { text, type, n, namespace, id, json, error, attachments } = this.#packet;
    if (attachments.length < n) return;
    this.#packet = undefined;
    if (namespace !== this.#options.namespace) return;
    const data = json && JSON.parse(json, n > 0 && ((_, value) => {
      if (error || value?._placeholder !== true) return value;
      if (!attachments[+value.num]) throw alien(text);
      return attachments[+value.num];
    }));
    if (type === 0) {
      this.#welcome(data);
    } else if (type === 1) {
      this.#lose('io server disconnect', undefined, 0);
    } else if (type === 4) {
      this.#lose('', failure('RefusedError', data.message ?? data, data.data), 0);
    } else if (!Array.isArray(data) || (type === 2 && RESERVED.test(data[0]))) {
      throw alien(text);
    } else if (type === 2) {
      if (this.state === 'open') this.#dispatch(id, data, error);
      else this.#early.push([id, data, error]);
    } else {
      const call = this.#calls.get(+id);
      if (call) this.#answered(call, data[0], error);
    }
  }

  async #dispatch(id, [event, ...args], wrong) {
    const ws = this.#ws;
    const answers = wrong ? [Promise.reject(wrong)] : this.#fire(String(event), ...args);
    if (id === '') {
      // An event that wants an answer has no offset, whatever it ends with.
      if (this.#pid && typeof args.at(-1) === 'string') this.#offset = args.at(-1);
      return;
    }
    const answer = (...values) => ws === this.#ws && this.#write(this.#encode(3, values, id));
    try {
      if (answers.length === 0) throw new Error(`event: "${event}" is not one that this client knows`);
      const value = await answers[0];
      answer(...(value === undefined ? [] : [value]));
    } catch (error) {
      answer({ error: { message: String(error?.message ?? error), data: error?.data } });
    }
  }

  #answered(call, value, wrong) {
    const error = Object.keys(value ?? {}).join() === 'error' && value.error;
    if (typeof error?.message === 'string') this.#settle(call, failure('RefusedError', error.message, error.data));
    else this.#settle(call, wrong, value);
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
