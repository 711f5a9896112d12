// A whole client for Atrium's plain protocol: one JSON object a message, over the WebSocket every browser has.
//
//   we send     {"event":"connect","data":{…}}            first of all: who we are
//   we get      {"event":"connect","data":{"sid":"…"}}    welcome, or {"event":"connect_error","data":{"message":"…"}}
//   an event    {"event":"typing","data":{…}}             either way
//   a call      {"event":"say","data":{…},"id":7}         with an id it wants an answer:
//   its answer  {"id":7,"data":…}                         or {"id":7,"error":{"message":"…","data":…}}

const FIRST_DELAY = 500; // milliseconds before the first new try; each further one doubles it
const LONGEST_DELAY = 30_000;
const PATIENCE = 10_000; // milliseconds to wait for a welcome or an answer before the connection counts as dead
const STABLE = 10_000; // a connection that lived this long makes the next delay short again

// Refused is the server saying no. data may say more: in this chat, which input is meant.
export class Refused extends Error {
  constructor({ message, data }) {
    super(message);
    this.data = data;
  }
}

// Lost means that the connection ended before the answer came. The server may have heard us or not.
export class Lost extends Error {}

// A Connection is always in one of four states, and tells onState when it moves:
//
//   connecting → online        with {sid}
//   connecting → waiting       with {delay}: lost, will try again after so many milliseconds
//   online     → waiting
//   any        → closed        with {error}: the server does not want us (a Refused), or null when close was called
export class Connection {
  state = 'closed';
  #url;
  #onState;
  #onEvent;
  #auth;
  #socket = null;
  #calls = new Map(); // id → what waits for the answer
  #lastId = 0;
  #failures = 0;
  #onlineSince = 0;
  #timer = 0; // of the next try, or of the welcome that does not come

  constructor(url, { onState, onEvent }) {
    this.#url = url;
    this.#onState = onState;
    this.#onEvent = onEvent;
  }

  open(auth) {
    this.#abandon();
    this.#auth = auth;
    this.#failures = 0;
    this.#connect();
  }

  close() {
    this.#abandon();
    this.#move('closed', { error: null });
  }

  // retry does not wait for the end of the delay.
  retry() {
    if (this.state === 'waiting') this.#connect();
  }

  // send is for what needs no answer. Without a connection it does nothing.
  send(event, data) {
    if (this.state === 'online') this.#write({ event, data });
  }

  // call resolves to the answer, or rejects with Refused or Lost.
  call(event, data) {
    if (this.state !== 'online') return Promise.reject(new Lost('not connected'));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#lose(), PATIENCE);
      this.#calls.set(id, { resolve, reject, timer });
      this.#write({ event, data, id });
    });
  }

  #write(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose(), PATIENCE);
    this.#socket = new WebSocket(this.#url, 'atrium');
    this.#socket.onopen = () => this.#write({ event: 'connect', data: this.#auth });
    this.#socket.onmessage = (message) => this.#receive(JSON.parse(message.data));
    this.#socket.onclose = (event) => this.#closed(event);
    this.#move('connecting');
  }

  #receive({ event, data, id, error }) {
    if (event === undefined) {
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      clearTimeout(call?.timer);
      if (error) call?.reject(new Refused(error));
      else call?.resolve(data);
    } else if (this.state === 'online') {
      const answer = this.#onEvent(event, data);
      if (id !== undefined) this.#write({ id, data: answer ?? null });
    } else if (event === 'connect') {
      clearTimeout(this.#timer);
      this.#onlineSince = Date.now();
      this.#move('online', data);
    } else if (event === 'connect_error') {
      this.#abandon();
      this.#move('closed', { error: new Refused(data) });
    }
  }

  // Code 1000 is the server telling us to go, so we stay away. Anything else was an accident, or a restart.
  #closed({ code }) {
    if (code === 1000) {
      this.#abandon();
      this.#move('closed', { error: new Refused({ message: 'The server has ended this session.' }) });
    } else {
      this.#lose();
    }
  }

  // lose gives this connection up and tries again later. The delay grows, and is partly left to chance, so that a
  // thousand pages do not all come back in the same instant.
  #lose() {
    if (this.state === 'online' && Date.now() - this.#onlineSince > STABLE) this.#failures = 0;
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    this.#abandon();
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#move('waiting', { delay });
  }

  // abandon forgets the socket at once. On a dead network its own close event would be minutes away.
  #abandon() {
    clearTimeout(this.#timer);
    if (this.#socket) {
      this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
      this.#socket = null;
    }
    for (const { reject, timer } of this.#calls.values()) {
      clearTimeout(timer);
      reject(new Lost('the connection was lost'));
    }
    this.#calls.clear();
  }

  #move(state, detail = {}) {
    this.state = state;
    this.#onState(state, detail);
  }
}
