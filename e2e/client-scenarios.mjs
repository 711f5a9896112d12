// What pages do with client.js, and what they must see, from an Atrium hub and from Node's own server alike. client_test.go
// is the other side, and gives each scenario a tab of its own: some of them tamper with the clock.

const { setTimeout, clearTimeout } = globalThis; // those of the scenarios, whatever a scenario does to the client's

const patience = 10_000; // ms; what goes well takes a few

export const names = () => Object.keys(scenarios);

// run runs one scenario. lab is the address of the other side, server says which one it shall start: "hub" or "node".
export async function run(name, { connect, lab, server }) {
  const ask = async (path, params = {}) => {
    const response = await fetch(`${lab}/lab/${path}?${new URLSearchParams(params)}`, { method: 'POST' });
    if (!response.ok) throw new Error(`lab: ${path}: ${await response.text()}`);
    return response.json();
  };
  const ends = [];
  const kit = {
    connect,
    server, // which kind it is

    // start starts a server. Its proxied address is one that the lab can cut.
    async start(options) {
      const started = await ask('start', { server, ...options });
      const tell = (verb) => (params) => ask(`${started.id}/${verb}`, params);
      ends.push(tell('stop'));
      const verbs = ['cut', 'reset', 'stall', 'sever', 'down', 'up', 'mend'];
      return { ...Object.fromEntries(verbs.map((verb) => [verb, tell(verb)])), url: `${started.url}/socket.io/`, proxied: `${started.proxied}/socket.io/` };
    },

    // client makes a socket, and keeps what happens to it.
    client(url, options) {
      const socket = connect(url, { auth: { token: 'ok' }, reconnect: { min: 20, max: 200 }, ...options });
      const story = [];
      socket.on('connect', () => story.push('connect'));
      socket.on('disconnect', (reason) => story.push(reason));
      socket.on('connect_error', (error) => story.push(`connect_error: ${error.message}`));
      ends.push(async () => { socket.close(); });
      return { socket, story };
    },

    async connected(url, options) {
      const { socket } = kit.client(url, options);
      await next(socket, 'connect');
      return socket;
    },
  };
  const wrong = [];
  const note = (error) => wrong.push(error.stack);
  await within(scenarios[name](kit), 1.5 * patience, name).catch(note);
  for (const end of ends.reverse()) await end().catch(note);
  if (wrong.length > 0) throw new Error(wrong.join('\n'));
}

function equal(got, want, what) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`${what}: got ${a}, want ${b}`);
}

function within(promise, ms, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came of it in ${ms} ms: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// next waits for one event, and resolves to its arguments.
function next(socket, event) {
  const { stack } = new Error(); // of who waits
  const came = within(new Promise((resolve) => { socket.once(event, (...args) => resolve(args)); }), patience, `${event}\n${stack}`);
  came.catch(() => {}); // who waits for it may not have come to that yet
  return came;
}

// failed waits until the promise is rejected, and resolves to the error.
const failed = (promise) => promise.then((value) => { throw new Error(`no error, but ${JSON.stringify(value)}`); }, (error) => error);

const look = () => document.dispatchEvent(new Event('visibilitychange', { bubbles: true }));

// clock takes over the one that nobody sets, and returns what puts it forward by some milliseconds.
function clock() {
  const now = performance.now.bind(performance);
  let by = 0;
  performance.now = () => now() + by;
  return (ms) => { by += ms; };
}

// quicken lets the client look at the clocks as often as it can, and returns what waits until it has done so.
function quicken() {
  const waiting = new Set();
  globalThis.setTimeout = (f, ms) => {
    const looks = 300 < ms && ms <= 5000; // delays before a try are shorter, patience is longer
    return setTimeout(() => {
      f();
      if (looks) for (const done of waiting) done();
    }, looks ? 1 : ms);
  };
  const tick = () => new Promise((resolve) => {
    const done = () => { waiting.delete(done); resolve(); };
    waiting.add(done);
  });
  return async () => {
    await tick();
    await tick();
  };
}

// reported collects what the browser reports of promises that nobody waits for.
function reported() {
  const errors = [];
  addEventListener('unhandledrejection', (event) => {
    event.preventDefault();
    errors.push(`${event.reason.name}: ${event.reason.message}`);
  });
  return errors;
}

const thrown = (f) => {
  try {
    f();
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
  return 'nothing';
};

const bytes = (n) => Uint8Array.from({ length: n }, (_, i) => (i * 7 + (i >> 8)) & 0xff);

function plain(binary) {
  if (!(binary instanceof ArrayBuffer)) throw new Error(`no ArrayBuffer: ${JSON.stringify(binary)}`);
  return [...new Uint8Array(binary)];
}

const count = (n) => Array.from({ length: n }, (_, i) => i);

const scenarios = {
  async 'events and acknowledgements'({ start, connected }) {
    const { url } = await start();
    const socket = await connected(url);
    equal([socket.state, socket.id.length, socket.recovered], ['open', 20, false], 'the socket');
    const args = [1, 'zwei', { three: [3, null, '\u2028 🌿'] }, [], false, null];
    const back = next(socket, 'back');
    equal(socket.emit('back', ...args), true, 'emit');
    equal(await back, args, 'what came back');
    const none = next(socket, 'back');
    socket.emit('back');
    equal(await none, [], 'an event without arguments');

    equal(await socket.call('echo', 'one'), 'one', 'an answer');
    equal(await socket.call('echo', 'one', { args: ['two'] }), 'one', 'the first of two');
    equal(await socket.call('echo'), undefined, 'an empty answer');
    equal(await Promise.all(count(100).map((n) => socket.call('echo', n))), count(100), 'many answers');

    for (const [what, handler, want] of [
      ['a value', (n) => n + 1, 8],
      ['a promise', async (n) => ({ n }), { n: 7 }],
    ]) {
      socket.on('sure?', handler);
      equal(await socket.call('ask', 7), want, what);
      socket.off('sure?', handler);
    }
  },

  async 'a refused call'({ start, connected }) {
    const { url } = await start();
    const socket = await connected(url);
    await socket.call('join-room', 'r');
    const error = await failed(socket.call('send-msg', { room: 'r', text: '' }));
    equal([error instanceof Error, error.name, error.message, error.data], [true, 'RefusedError', 'Invalid', { field: 'text' }], 'the error');
    equal((await socket.call('send-msg', { room: 'r', text: 'hi' })).success, true, 'one that is not');
    const late = await failed(socket.call('ask-nobody', undefined, { timeout: 50 }));
    equal([late.name, late.message], ['TimeoutError', 'no answer in time'], 'without an answer');
  },

  async 'a handler that fails'({ start, connected }) {
    const { url } = await start();
    const socket = await connected(url);
    // The server acknowledges what we do, so here it comes back.
    const no = Object.assign(new Error('No.'), { data: 1 });
    for (const handler of [() => { throw no; }, async () => { throw no; }]) {
      socket.on('sure?', handler);
      const { name, message, data } = await failed(socket.call('ask', 7));
      equal([name, message, data], ['RefusedError', 'No.', 1], 'what was acknowledged');
      socket.off('sure?');
    }
    socket.on('sure?', () => 1n);
    equal((await failed(socket.call('ask', 7))).message.includes('BigInt'), true, 'what cannot be encoded');
    socket.off('sure?');
    equal((await failed(socket.call('ask', 7))).message, 'event: "sure?" is not one that this client knows', 'without a handler');
  },

  async 'on, once, off'({ start, connected }) {
    const { url } = await start();
    const socket = await connected(url);
    const heard = [];
    const a = (n) => heard.push(`a${n}`);
    const b = (n) => heard.push(`b${n}`);
    const say = async (n) => {
      socket.emit('back', n);
      await socket.call('echo');
    };
    socket.on('back', a).once('back', b);
    await say(1);
    await say(2);
    socket.once('back', b).off('back', b).off('back', a);
    await say(3);
    socket.on('back', a).on('back', b).off('back');
    await say(4);
    socket.on('back', a).off();
    await say(5);
    equal(heard, ['a1', 'b1', 'a2'], 'heard');
  },

  async 'binary'({ start, connected }) {
    const { url } = await start();
    const [ada, ben] = [await connected(url), await connected(url)];
    const data = bytes(70_000);
    const sum = (list) => list.reduce((x, y) => x + y, 0);
    const upload = async (data, again) => {
      const { name, length, sum } = await ada.call('upload', { name: 'x', data }, { args: [again] });
      return [name, length, sum];
    };
    const sent = ['x', [70_000, 3], sum(data) + 6];
    equal(await upload(data, new Uint8Array([1, 2, 3]).buffer), sent, 'typed array and ArrayBuffer');
    const part = new DataView(new Uint8Array([9, 1, 2, 3, 9]).buffer, 1, 3);
    equal(await upload(new Blob([data]), part), sent, 'Blob and DataView');
    // Node's Buffer, and what polyfills make of it, has a toJSON.
    class Buffer extends Uint8Array {
      toJSON() { return { type: 'Buffer', data: [...this] }; }
    }
    equal(await upload(Buffer.from(data), Buffer.of(1, 2, 3)), sent, 'Buffers');
    equal(await upload({ toJSON: () => data }, bytes(0)), ['x', [70_000, 0], sum(data)], 'what becomes binary by its toJSON');
    const frame = document.body.appendChild(document.createElement('iframe')).contentWindow;
    const foreign = frame.Uint8Array.of(1, 2, 3);
    equal(await upload(new frame.Blob([data]), foreign.buffer), sent, "another frame's");
    const got = await ada.call('download', 1000);
    equal([got.length, plain(got.data)], [1000, [...bytes(1000)]], 'download');
    for (const picture of [bytes(5), new Uint8Array()]) {
      const shown = next(ben, 'picture');
      await ada.call('picture', picture);
      equal(plain((await shown)[0]), [...picture], 'picture');
    }
    equal(await ada.call('echo', { _placeholder: true, num: 0 }), { _placeholder: true, num: 0 }, 'what only looks like binary');
  },

  async 'too large'({ start, client }) {
    const { url } = await start({ maxPayload: 1000 });
    const errors = reported();
    const { socket: late, story: lateStory } = client(url, { autoConnect: false });
    equal(late.emit('note', 'x'.repeat(2000)), true, 'what nobody knows to be too large');
    const lateCall = failed(late.call('note', 'x'.repeat(2000)));
    const fits = late.call('echo', 'fits');
    late.connect();
    const says = (n) => `expected at most 1000 bytes in a message to this server, not ${n}`;
    while (errors.length === 0) await new Promise((done) => { setTimeout(done); });
    equal([(await lateCall).message, await fits, errors], [says(2014), 'fits', [`RangeError: ${says(2013)}`]], 'once connected');
    equal(lateStory, ['connect'], 'story');

    const { socket, story } = client(url);
    await next(socket, 'connect');
    for (const [what, n, ...args] of [
      ['ASCII', 1001, 'x'.repeat(988)],
      ['UTF-8', 1213, '€'.repeat(400)],
      ['bytes', 1001, bytes(1001)],
      ['a Blob', 1001, new Blob([bytes(1001)])],
    ]) {
      equal(thrown(() => socket.emit('note', ...args)), `RangeError: ${says(n)}`, what);
    }
    equal(socket.emit('note', 'x'.repeat(987)), true, 'the largest');
    socket.emit('picture', bytes(900)); // a hub's bound is for all of a packet
    const error = await failed(socket.call('note', 'x'.repeat(2000), { retries: Infinity, timeout: 20 }));
    equal([error.name, error.message], ['RangeError', says(2014)], 'a call');
    socket.on('sure?', () => 'x'.repeat(2000));
    equal((await failed(socket.call('ask', 7))).message.startsWith('expected at most 1000 bytes'), true, 'an answer');
    equal([story, errors.length], [['connect'], 1], 'story');
  },

  async 'many attachments'({ start, client, connected }) {
    const { url } = await start({ maxAttachments: 20 });
    const errors = reported();
    const many = (n) => Array(n).fill(bytes(1));
    const { socket, story } = client(url);
    await next(socket, 'connect');
    const says = (n) => `expected at most 10 binary values, not ${n}`;
    equal(thrown(() => socket.emit('back', ...many(11))), `RangeError: ${says(11)}`, 'sent');
    equal((await socket.call('many', 10)).length, 10, 'ten');
    const error = await failed(socket.call('many', 11));
    equal([error.name, error.message], ['RangeError', says(11)], 'an answer');
    socket.on('many', () => { throw new Error('it came'); });
    socket.emit('emit-many', 20);
    equal(await socket.call('echo', 1), 1, 'and on');
    while (errors.length === 0) await new Promise((done) => { setTimeout(done); });
    equal([story, errors], [['connect'], [`RangeError: ${says(20)}`]], 'story');

    const other = await connected(url, { maxAttachments: 20 });
    const back = next(other, 'back');
    other.emit('back', ...many(15));
    equal((await back).length, 15, 'fifteen');
  },

  async 'a namespace'({ start, connected }) {
    const { url } = await start();
    const socket = await connected(url, { namespace: '/admin', auth: { name: 'Ada' } });
    equal(await socket.call('whoami', null), '/admin Ada', 'who');
    const gone = next(socket, 'disconnect');
    socket.close();
    equal([await gone, socket.state, socket.id], [['io client disconnect'], 'closed', undefined], 'closed');
  },

  async 'auth refused'({ start, client }) {
    const { url } = await start();
    const { socket, story } = client(url, { auth: { token: 'bad' } });
    const states = [];
    socket.onstate = (state) => states.push(state);
    const [error] = await next(socket, 'connect_error');
    equal([error.name, error.message, error.data], ['RefusedError', 'Auth failed', { code: 401 }], 'connect_error');
    equal([socket.state, states], ['closed', ['closed']], 'no other try');

    // Each try asks anew who we are, and may wait for it.
    const tokens = ['bad', 'ok'];
    const { socket: other } = client(url, { auth: async () => ({ token: tokens.shift() }) });
    equal((await next(other, 'connect_error'))[0].message, 'Auth failed', 'the first token');
    const called = other.call('echo', 'kept');
    other.connect();
    equal(await called, 'kept', 'a call from between');
    equal(tokens, [], 'tokens left');

    const fails = client(url, { auth: () => { throw new Error('no token yet'); } });
    await next(fails.socket, 'connect_error');
    await next(fails.socket, 'connect_error');
    equal(fails.story, ['connect_error: no token yet', 'connect_error: no token yet'], 'tries without a token');
    equal(story, ['connect_error: Auth failed'], 'what has happened to the first');
  },

  async 'the server disconnects'({ start, client }) {
    const { url } = await start();
    const { socket, story } = client(url);
    await next(socket, 'connect');
    const [goodbye, gone] = [next(socket, 'goodbye'), next(socket, 'disconnect')];
    const states = [];
    socket.onstate = (state) => states.push(state);
    socket.emit('kick');
    const pending = failed(socket.call('echo'));
    equal([await goodbye, await gone], [['the last word'], ['io server disconnect']], 'the end');
    equal((await pending).name, 'DisconnectedError', 'a call');
    equal([socket.state, states], ['closed', ['closed']], 'no other try');
    const back = next(socket, 'connect');
    socket.connect();
    await back;
    equal(story, ['connect', 'io server disconnect', 'connect'], 'story');
  },

  // What was sent while there was no server arrives at the next one: all of it, in order, once.
  async 'the server restarts'({ start, client }) {
    const server = await start();
    const { socket, story } = client(server.proxied, { ackTimeout: 60_000 });
    await next(socket, 'connect');
    const lost = failed(socket.call('ask-nobody'));
    const gone = next(socket, 'disconnect');
    await server.down();
    equal(await gone, ['transport close'], 'the end');
    equal((await lost).name, 'DisconnectedError', 'a call that was sent');
    await next(socket, 'connect_error');

    const rejoined = [];
    socket.on('connect', () => rejoined.push(socket.call('note', 'rejoin')));
    const tampered = new Uint8Array([1, 2, 3]);
    const upload = socket.call('upload', { name: 'x', data: tampered }, { args: [tampered] });
    tampered.fill(9);
    equal(socket.volatile.emit('note', 'volatile'), false, 'a volatile event');
    const answers = count(50).map((n) => {
      socket.emit('note', 2 * n);
      return socket.call('note', 2 * n + 1);
    });
    await server.up();
    await Promise.all(answers);
    equal((await upload).sum, 12, 'bytes as they were');
    equal(await socket.call('notes'), ['rejoin', ...count(100)], 'notes');
    equal(rejoined.length, 1, 'connects');
    equal([story[0], story[1], story[2], story.at(-1)], ['connect', 'transport close', 'connect_error: websocket error', 'connect'], 'story');
  },

  // A call with retries is sent again, before what was said later. At least once: the first may have been heard.
  async 'retries'({ start, client }) {
    const server = await start();
    const { socket } = client(server.proxied, { ackTimeout: 60_000 });
    await next(socket, 'connect');
    await server.stall(); // what is sent now is lost
    const answers = count(20).map((n) => socket.call('note', n, { retries: 1 }));
    const gone = next(socket, 'disconnect');
    await server.reset();
    await gone;
    answers.push(socket.call('note', 20), socket.call('note', 21, { retries: Infinity }));
    await Promise.all(answers);
    equal(await socket.call('notes'), count(22), 'notes');

    // Without an answer it is sent again on the same connection, as often as was said.
    const error = await failed(socket.call('ask-nobody', undefined, { timeout: 30, retries: 2 }));
    equal(error.name, 'TimeoutError', 'never answered');
  },

  // Nothing is lost and nothing overtakes, though some may come twice.
  async 'ten breaks'({ start, client }) {
    const server = await start();
    const { socket } = client(server.proxied);
    const answers = [];
    for (const _ of count(10)) {
      for (const verb of ['cut', 'reset']) {
        if (socket.state !== 'open') await next(socket, 'connect');
        const gone = next(socket, 'disconnect');
        for (const _ of count(10)) answers.push(socket.call('note', answers.length, { retries: Infinity }));
        await server[verb]();
        for (const _ of count(10)) answers.push(socket.call('note', answers.length, { retries: Infinity }));
        await gone;
      }
    }
    await Promise.all(answers);
    equal([...new Set(await socket.call('notes'))], count(400), 'notes, each where it came first');
  },

  async 'volatile'({ start, client }) {
    const { url } = await start();
    const { socket } = client(url);
    const say = (n) => socket.volatile.emit('note', n);
    equal(say(1), false, 'not connected');
    await next(socket, 'connect');
    equal(say(2), true, 'connected');
    const long = socket.call('echo', 'x'.repeat(200_000));
    equal(say(3), false, 'behind what is long');
    await long;
    equal(say(4), true, 'behind nothing');
    equal(await socket.call('notes'), [2, 4], 'notes');
  },

  async 'a full buffer'({ start, client }) {
    const { url } = await start();
    const { socket } = client(url, { autoConnect: false, offline: 3 });
    equal(socket.state, 'closed', 'not connected by itself');
    equal(count(5).map((n) => socket.emit('note', n)), [true, true, true, false, false], 'emits');
    equal((await failed(socket.call('notes'))).name, 'DisconnectedError', 'a call');
    socket.connect();
    await next(socket, 'connect');
    equal(await socket.call('notes'), [0, 1, 2], 'notes');

    // A call that gave up while it waited is not made later.
    const { socket: late } = client(url, { autoConnect: false });
    equal((await failed(late.call('note', 'late', { timeout: 20 }))).name, 'TimeoutError', 'a call that waited');
    late.connect();
    await next(late, 'connect');
    equal(await late.call('notes'), [0, 1, 2], 'notes after that');
  },

  async 'recovery'({ start, client, connected, server: kind }) {
    const server = await start({ recovery: 60_000 });
    const ben = await connected(server.url);
    const { socket, story } = client(server.proxied);
    const heard = [];
    socket.on('news', (news) => heard.push(news));
    socket.on('sure?', () => 'yes');
    await next(socket, 'connect');
    const { id } = socket;
    const first = next(socket, 'news');
    ben.emit('everyone', 'news 1');
    await first;
    for (const n of [2, 4]) {
      const [gone, back] = [next(socket, 'disconnect'), next(socket, 'connect')];
      await server.down();
      await gone;
      ben.emit('everyone', `news ${n}`);
      await ben.call('echo');
      await server.mend();
      await back;
      equal([socket.id, socket.recovered, heard.at(-1)], [id, true, `news ${n}`], 'once back');
      const live = next(socket, 'news');
      ben.emit('everyone', `news ${n + 1}`);
      await live;
      equal(await socket.call('ask', 'no offset'), 'yes', 'a question that ends with a string');
    }
    equal(heard, [1, 2, 3, 4, 5].map((n) => `news ${n}`), 'heard');
    equal(story.filter((what) => !what.startsWith('connect_error')), ['connect', 'transport close', 'connect', 'transport close', 'connect'], 'story');
    if (kind === 'hub') { // Node's server does not know someone again whose end it has not noticed yet
      const back = next(socket, 'connect');
      await server.sever();
      await back;
      equal([socket.id, socket.recovered], [id, true], 'back before the hub noticed');
    }

    // Who has said goodbye comes back as somebody else, even if the server could not hear it.
    const gone = next(socket, 'disconnect');
    await server.down();
    await gone;
    socket.close();
    await server.mend();
    const back = next(socket, 'connect');
    socket.connect();
    await back;
    equal([socket.id === id, socket.recovered], [false, false], 'the same one after goodbye');
  },

  async 'a silent network'({ start, client }) {
    const server = await start({ pingInterval: 1000, pingTimeout: 3000 }); // enough for a busy machine
    const { socket } = client(server.proxied);
    await next(socket, 'connect');
    const [gone, back] = [next(socket, 'disconnect'), next(socket, 'connect')];
    await server.stall();
    equal(await gone, ['ping timeout'], 'the end');
    await back;
    equal(await socket.call('echo', 1), 1, 'and on');
  },

  // The machine has slept, and the clock with it was right: the server has given up by now. Who looks at the page finds
  // out at once.
  async 'sleep'({ start, client }) {
    const server = await start();
    const { socket } = client(server.proxied);
    await next(socket, 'connect');
    look();
    equal(await socket.call('echo', 1), 1, 'a look does no harm');
    await server.stall();
    const forward = clock();
    forward(600_000);
    const gone = next(socket, 'disconnect');
    look();
    equal(await gone, ['ping timeout'], 'the end');
    await next(socket, 'connect');

    // So does who writes first, and what he wrote is not lost.
    await server.stall();
    forward(600_000);
    const goneAgain = next(socket, 'disconnect');
    equal(await socket.call('echo', 2), 2, 'a call');
    equal(await goneAgain, ['ping timeout'], 'the end again');
  },

  // After less than that a hub is asked whether the connection still is one. Another server has until it would have to
  // ping.
  async 'a short sleep'({ start, client, server: kind }) {
    const server = await start();
    const forward = clock();
    const settle = quicken(); // ticks
    const { socket, story } = client(server.proxied);
    await next(socket, 'connect');
    const { now } = Date;
    for (const [sleep, left] of [
      [() => forward(20_000), 25_000],
      [() => { Date.now = () => now() + 20_000; }, 45_000], // the other clock has slept, too
    ]) {
      await socket.call('echo', 1); // the hub has shown by now that it answers
      const [gone, back] = [next(socket, 'disconnect'), next(socket, 'connect')];
      await server.stall();
      sleep();
      await settle();
      forward((kind === 'hub' ? 10_000 : left) - 1000);
      await settle();
      equal(socket.state, 'open', 'there is time for an answer');
      forward(1500);
      equal(await gone, ['ping timeout'], 'the end');
      await back;
    }
    equal(story.filter((what) => what === 'ping timeout').length, 2, 'ends');
  },

  // A clock that people set tells nothing, forward or back.
  async 'a clock that is set'({ start, client }) {
    const server = await start();
    const forward = clock();
    const settle = quicken();
    const { socket, story } = client(server.proxied);
    await next(socket, 'connect');
    const { now } = Date;
    for (const ms of [3_600_000, -3_600_000]) {
      Date.now = () => now() + ms;
      await settle();
      look();
      equal(await socket.call('echo', ms), ms, 'a call');
      forward(15_000); // more than an answer may take
      await settle();
      equal(await socket.call('echo', ms), ms, 'another call');
    }
    equal([socket.state, story], ['open', ['connect']], 'story');
    const gone = next(socket, 'disconnect');
    await server.stall();
    forward(46_000);
    equal(await gone, ['ping timeout'], 'a dead server');
  },

  // Looking at the page again also ends a long delay, and so does the network, whether it is said to come or to go.
  async 'a look ends the delay'({ start, client }) {
    const server = await start();
    const { socket } = client(server.proxied, { reconnect: { min: 1e6, max: 1e6 } });
    await next(socket, 'connect');
    for (const event of ['visibilitychange', 'online', 'offline']) {
      const gone = next(socket, 'disconnect');
      await server.cut();
      await gone;
      equal(socket.state, 'waiting', 'state');
      const back = next(socket, 'connect');
      dispatchEvent(new Event(event));
      equal(socket.state, 'connecting', 'state');
      await back;
    }
  },

  // What the browser says about the network ends no connection, and keeps from no try: the server may be this machine.
  async 'offline'({ start, client }) {
    const server = await start();
    const { socket, story } = client(server.proxied, { reconnect: { min: 1, max: 1 } });
    await next(socket, 'connect');
    const states = [];
    socket.onstate = (state) => states.push(state);
    dispatchEvent(new Event('offline'));
    equal(await socket.call('echo', 'kept'), 'kept', 'a call while offline');
    equal([states, story], [[], ['connect']], 'states and story');
    const back = next(socket, 'connect');
    await server.cut();
    await back;
    dispatchEvent(new Event('online'));
    equal(await socket.call('echo', 1), 1, 'a call');
    equal(story, ['connect', 'transport close', 'connect'], 'story');
  },

  async 'no reconnect, or so many'({ start, client }) {
    const server = await start();
    const once = client(server.proxied, { reconnect: false });
    const thrice = client(server.proxied, { reconnect: { min: 1, max: 1, attempts: 2 } });
    await Promise.all([next(once.socket, 'connect'), next(thrice.socket, 'connect')]);
    const closed = new Promise((resolve) => { thrice.socket.onstate = (state) => state === 'closed' && resolve(); });
    const gone = next(once.socket, 'disconnect');
    await server.down();
    await Promise.all([gone, within(closed, patience, 'giving up')]);
    equal([once.story, once.socket.state], [['connect', 'transport close'], 'closed'], 'never again');
    equal(thrice.story, ['connect', 'transport close', ...Array(2).fill('connect_error: websocket error')], 'twice again');
    await server.mend();
    const back = next(once.socket, 'connect');
    once.socket.connect();
    await back;
  },

  // The delays grow, differ, and stay within their bounds, however many there are. Nobody waits for them here, and no
  // server is there.
  async 'delays'({ connect }) {
    globalThis.WebSocket = class {
      constructor() { queueMicrotask(() => this.onclose?.({ code: 1006 })); }
      close() {}
    };
    for (const [reconnect, ...bounds] of [
      [{}, [500, 1500], [1000, 3000], [2000, 5000], [2500, 5000]],
      [{ min: 9000 }, [4500, 9000]],
      [{ min: 10, max: 1000, factor: 10, jitter: 0 }, [10, 10], [100, 100], [1000, 1000]],
    ]) {
      const timeout = 123_456;
      globalThis.setTimeout = (f, ms) => (ms === timeout ? 0 : queueMicrotask(f));
      const socket = connect('ws://nowhere/', { reconnect: { ...reconnect, attempts: 1100 }, timeout, autoConnect: false });
      const delays = [];
      await within(new Promise((resolve) => {
        socket.onstate = (state, delay) => {
          if (state === 'waiting') delays.push(delay);
          if (state === 'closed') resolve();
        };
        socket.connect();
      }), patience, 'giving up');
      equal(delays.length, 1100, 'tries');
      delays.forEach((delay, i) => {
        const [least, most] = bounds[Math.min(i, bounds.length - 1)];
        if (!(least <= delay && delay <= most)) throw new Error(`delay ${i}: ${delay}, want one from ${least} to ${most}`);
      });
      equal(new Set(delays).size > 1000, reconnect.jitter !== 0, 'different delays');
    }
  },

  // A server that closes with 1012 restarts. Nothing has failed: the page comes back sooner, and the delays after that begin
  // with the first. Before it has let the page in, and right after, it is an attempt that has failed, for any code.
  async 'a server that restarts'({ connect }) {
    const quarter = [125, 375];
    const growing = [[500, 1500], [1000, 3000], [2000, 5000]];
    for (const { codes, lasts, welcomes, events, bounds } of [
      { codes: [1012, 1006, 1012, 1006], lasts: 1000, welcomes: 1, events: 'connect,transport close', bounds: [quarter, ...growing] },
      { codes: [1006, 1006, 1012, 1006], lasts: 1000, welcomes: 1, events: 'connect,transport close', bounds: growing },
      { codes: [1012, 1012, 1006, 1012], lasts: 999, welcomes: 3, events: Array(3).fill('connect,transport close').join(), bounds: growing },
    ]) {
      let clock = 0;
      let opened = 0;
      performance.now = () => clock;
      globalThis.WebSocket = class {
        readyState = 1;
        bufferedAmount = 0;
        constructor() {
          const code = codes.shift();
          this.ends = () => queueMicrotask(() => this.onclose?.({ code }));
          if (++opened > welcomes) this.ends();
          else queueMicrotask(() => this.onmessage({ data: '0{"pingInterval":25000,"pingTimeout":20000}' }));
        }
        send(message) {
          if (message.startsWith('40')) queueMicrotask(() => this.onmessage({ data: '40{"sid":"x"}' }));
          if (message !== '3probe') return; // the last that a page sends when it is let in
          clock += lasts;
          this.ends();
        }
        close() {}
      };
      globalThis.setTimeout = (f, ms) => (ms >= 5000 ? 0 : queueMicrotask(f));
      const socket = connect('ws://nowhere/', { reconnect: { attempts: 3 }, timeout: 123_456, autoConnect: false });
      const heard = [];
      const delays = [];
      for (const event of ['connect', 'disconnect']) socket.on(event, (reason) => heard.push(reason ?? event));
      await within(new Promise((resolve) => {
        socket.onstate = (state, delay) => {
          if (state === 'waiting') delays.push(delay);
          if (state === 'closed') resolve();
        };
        socket.connect();
      }), patience, 'giving up');
      equal([heard.join(), delays.length], [events, bounds.length], 'events and delays');
      bounds.forEach(([least, most], i) => {
        if (!(least <= delays[i] && delays[i] <= most)) throw new Error(`delay ${i}: ${delays[i]}, want one from ${least} to ${most}`);
      });
    }
  },

  async 'close leaves nothing behind'({ start, connect }) {
    const server = await start();
    const timers = new Set();
    const signals = [];
    globalThis.setTimeout = (f, ms) => {
      const id = setTimeout(() => { timers.delete(id); f(); }, ms);
      timers.add(id);
      return id;
    };
    globalThis.clearTimeout = (id) => {
      timers.delete(id);
      clearTimeout(id);
    };
    for (const target of [window, document]) {
      const add = target.addEventListener;
      target.addEventListener = (event, handler, options) => {
        signals.push(options.signal);
        add.call(target, event, handler, options);
      };
    }
    const socket = connect(server.proxied, { auth: { token: 'ok' }, reconnect: { min: 1e6, max: 1e6 } });
    for (const moment of ['connecting', 'open', 'waiting', 'closed']) {
      if (moment === 'open') await next(socket, 'connect');
      if (moment === 'waiting') {
        const gone = next(socket, 'disconnect');
        await server.cut();
        await gone;
      }
      equal(socket.state, moment, 'state');
      const calls = [failed(socket.call('ask-nobody')), failed(socket.call('ask-nobody', 1, { retries: Infinity, timeout: Infinity }))];
      socket.emit('note', 1);
      socket.close();
      equal((await Promise.all(calls)).map(({ name }) => name), ['DisconnectedError', 'DisconnectedError'], `calls, closed while ${moment}`);
      equal([timers.size, socket.state, signals.filter(({ aborted }) => !aborted).length], [0, 'closed', 0], `timers, closed while ${moment}`);
      equal(socket.close().state, 'closed', 'closed twice');
      if (moment !== 'closed') socket.connect();
      if (moment === 'open') await next(socket, 'connect');
      if (moment === 'waiting') socket.close();
    }
    equal(signals.length >= 9, true, `${signals.length} listeners`);
  },

  async 'what cannot be'({ start, connect, client, connected }) {
    const { url } = await start();
    equal(thrown(() => connect('ftp://127.0.0.1/')), 'TypeError: url: expected an absolute http or ws URL, not ftp://127.0.0.1/', 'a scheme');
    equal(thrown(() => connect(url, { namespace: 'admin' })), 'TypeError: namespace: expected a "/", and no comma', 'a namespace');
    const socket = await connected(url);
    for (const event of ['connect', 'disconnect', 'connect_error', '', undefined]) {
      equal(thrown(() => socket.emit(event)), `TypeError: event: expected a name that is not reserved, not "${event}"`, 'a name');
    }
    equal(thrown(() => socket.emit('back', 1n)).startsWith('TypeError: '), true, 'a BigInt');
    equal(thrown(() => socket.emit('back', ...Array(11).fill(bytes(1)))), 'RangeError: expected at most 10 binary values, not 11', 'many bytes');
    equal((await failed(socket.call('connect'))).name, 'TypeError', 'a call');
    equal(await socket.call('echo', 1), 1, 'and nothing has happened');

    // An option that is undefined is one that is left out.
    const no = undefined;
    const options = { namespace: no, timeout: no, ackTimeout: no, offline: no, autoConnect: no, reconnect: { min: no, attempts: no } };
    const { socket: other } = client(url, options);
    equal(await other.call('echo', 2, { args: no, timeout: no, retries: no }), 2, 'a call');
  },
};
