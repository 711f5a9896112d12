// What clients of Socket.IO do, and what they must see. The same scenarios run in Node (socketio-node.mjs) and in a
// browser; socketio_test.go is the other side: it starts the hubs, cuts their connections, and knows what they saw.

const patience = 30_000; // ms; what goes well takes a few, or a thousand where a crowd does the same

export const names = () => Object.keys(scenarios);

// run runs one scenario. transports is "default", "polling" or "websocket"; lab is the address of the other side.
export async function run(name, { io, WebSocket, lab, transports }) {
  const ask = async (path, params = {}) => {
    const response = await fetch(`${lab}/lab/${path}?${new URLSearchParams(params)}`, { method: 'POST' });
    if (!response.ok) throw new Error(`lab: ${path}: ${await response.text()}`);
    return response.json();
  };
  const ends = [];
  const kit = {
    polls: transports === 'polling',
    upgrades: transports === 'default',
    WebSocket,

    // start starts a hub. Its proxied address is one that the lab can cut.
    async start(options) {
      const hub = await ask('start', options);
      const tell = (verb) => (params) => ask(`${hub.id}/${verb}`, params);
      ends.push(tell('stop'));
      const left = async (id) => (await ask(`${hub.id}/left`, { socket: id })).reason;
      return { ...hub, left, cut: tell('cut'), reset: tell('reset'), stall: tell('stall'), sever: tell('sever'), down: tell('down'), up: tell('up'), mend: tell('mend'), shutdown: tell('shutdown') };
    },

    // client makes a socket that connects when it is told to.
    client(url, options) {
      const wanted = transports === 'default' ? {} : { transports: [transports] };
      const socket = io(url, { forceNew: true, autoConnect: false, auth: { token: 'ok' }, ...wanted, ...options });
      ends.push(async () => { socket.disconnect(); });
      return socket;
    },

    async connect(url, options) {
      const socket = kit.client(url, options);
      const connected = next(socket, 'connect');
      socket.connect();
      await connected;
      return socket;
    },

    // settled waits until the socket has the transport that it will keep.
    async settled(socket) {
      const { engine } = socket.io;
      if (kit.upgrades && engine.transport.name === 'polling') await next(engine, 'upgrade');
      equal(engine.transport.name, kit.polls ? 'polling' : 'websocket', 'transport');
    },
  };
  const wrong = [];
  const note = (error) => wrong.push(error.stack);
  await within(scenarios[name](kit), name.startsWith('a crowd') ? 4 * patience : 1.5 * patience, name).catch(note);
  for (const end of ends.reverse()) await end().catch(note);
  if (wrong.length > 0) throw new Error(wrong.join('\n'));
}

function equal(got, want, what) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`${what}: got ${a}, want ${b}`);
}

function oneOf(got, wanted, what) {
  if (!wanted.includes(got)) throw new Error(`${what}: got ${JSON.stringify(got)}, want one of ${JSON.stringify(wanted)}`);
}

function within(promise, ms, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came of it in ${ms} ms: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// next waits for one event, and resolves to its first argument.
function next(emitter, event) {
  const { stack } = new Error(); // of who waits
  const came = within(new Promise((resolve) => emitter.once(event, resolve)), patience, `${event}\n${stack}`);
  came.catch(() => {}); // who waits for it may not have come to that yet
  return came;
}

// collect keeps the arguments of every such event.
function collect(emitter, event) {
  const list = [];
  emitter.on(event, (arg) => list.push(arg));
  return list;
}

// heard resolves when what the hub sent the sockets before has arrived: each asks for something and has its answer.
const heard = (...sockets) => Promise.all(sockets.map((socket) => socket.timeout(patience).emitWithAck('echo')));

// repeated breaks the connection until the client notices: one that polls has none at times, and goes on.
async function repeated(cut, noticed) {
  let over = false;
  noticed.finally(() => { over = true; }).catch(() => {});
  while (!over) {
    await cut();
    await Promise.race([noticed, new Promise((done) => { setTimeout(done, 50); })]);
  }
}

// Why one that polled may have left, to the server: a GET was broken off, or none came; or the client, who has noticed
// before, sends a last POST to say that it closes.
const pollingEnds = ['transport error', 'ping timeout', 'transport close'];

// For a hub that is to notice by its pings that a client has gone: in a moment, but not while all that happens is that
// the machine is busy. A client whose connection breaks visibly needs none.
const soon = { pingInterval: 500, pingTimeout: 2000 };

const bytes = (n) => Uint8Array.from({ length: n }, (_, i) => (i * 7 + (i >> 8)) & 0xff);

// plain is what came as binary: a Buffer in Node, an ArrayBuffer in a browser.
function plain(binary) {
  if (!(binary instanceof ArrayBuffer || ArrayBuffer.isView(binary))) throw new Error(`no binary: ${JSON.stringify(binary)}`);
  return [...new Uint8Array(binary.buffer ?? binary, binary.byteOffset ?? 0, binary.byteLength)];
}

const scenarios = {
  async 'auth refused'({ start, client, connect }) {
    const hub = await start();
    const socket = client(hub.url, { auth: { token: 'bad' } });
    const refused = next(socket, 'connect_error');
    socket.connect();
    const error = await refused;
    equal([error.message, error.data], ['Auth failed', { code: 401 }], 'connect_error');
    equal([socket.connected, socket.active, socket.id], [false, false, undefined], 'the refused socket');
    // With another token it is let in.
    socket.auth = { token: 'ok' };
    const connected = next(socket, 'connect');
    socket.connect();
    await connected;
    equal(socket.id.length, 20, 'length of the id');
    const without = client(hub.url, { auth: (done) => done({}) });
    const refusedToo = next(without, 'connect_error');
    without.connect();
    equal((await refusedToo).message, 'Auth failed', 'without a token');
    await heard(await connect(hub.url));
  },

  async 'rooms'({ start, connect }) {
    const hub = await start();
    const [ada, ben, cleo] = await Promise.all([1, 2, 3].map(() => connect(hub.url)));
    const logs = [ada, ben, cleo].map((socket) => collect(socket, 'msg'));
    equal(await ada.emitWithAck('join-room', 'garden'), undefined, 'ack of join-room');
    await ben.emitWithAck('join-room', 'garden');
    await cleo.emitWithAck('join-room', 'kitchen');
    await ada.emitWithAck('send-msg', { room: 'garden', text: 'with the sender' });
    await ben.emitWithAck('send-others', { room: 'garden', text: 'without the sender' });
    await ben.emitWithAck('leave-room', 'garden');
    await ada.emitWithAck('send-msg', { room: 'garden', text: 'Ben has left' });
    await heard(ada, ben, cleo);
    equal(logs, [['with the sender', 'without the sender', 'Ben has left'], ['with the sender'], []], 'messages');
  },

  async 'acks'({ start, connect }) {
    const { url } = await start();
    const socket = await connect(url);
    await socket.emitWithAck('join-room', 'garden');
    const answers = await Promise.all([1, 2, 3].map((n) => socket.emitWithAck('send-msg', { room: 'garden', text: `no. ${n}` })));
    equal(answers, [1, 2, 3].map((id) => ({ success: true, id })), 'answers');
    equal(await socket.emitWithAck('send-msg', { room: 'kitchen', text: 'hello?' }),
      { error: { message: 'You are not in this room', data: { room: 'kitchen' } } }, 'error');
    equal(await socket.emitWithAck('secret'), { error: { message: 'internal error' } }, 'an error that is not for us');
    socket.on('sure?', (n, answer) => answer(`sure, ${n}`));
    equal(await socket.emitWithAck('ask', 7), 'sure, 7', 'the hub asks');
    equal(await new Promise((done) => socket.timeout(patience).emit('echo', 1, 'two', [3], { four: null }, (...args) => done(args))),
      [null, 1, 'two', [3], { four: null }], 'several arguments');
    await heard(socket);
    const late = await socket.timeout(1).emitWithAck('ask-nobody').then(() => 'no error', (error) => error.message);
    equal(late, 'operation has timed out', 'an answer that does not come');
  },

  async 'validation'({ start, connect }) {
    const { url } = await start();
    const socket = await connect(url);
    equal(await socket.emitWithAck('send-msg', { room: 'garden', text: '' }), { error: { message: 'Invalid', data: { field: 'text' } } }, 'ack');
    equal(await socket.emitWithAck('send-msg', { room: 'garden', text: 12 }), { error: { message: 'text: expected a string, got number' } }, 'ack');
    let error = next(socket, 'error');
    socket.emit('send-msg', { room: 'garden', text: '' });
    equal(await error, { event: 'send-msg', message: 'Invalid', data: { field: 'text' } }, 'without an ack');
    error = next(socket, 'error');
    socket.emit('no such event', 1);
    equal(await error, { event: 'no such event', message: 'event: "no such event" is not one that this server knows' }, 'an unknown event');
    await heard(socket);
  },

  async 'broadcast'({ start, connect }) {
    const { url } = await start();
    const sockets = await Promise.all([1, 2, 3, 4].map(() => connect(url)));
    const logs = sockets.map((socket) => collect(socket, 'news'));
    await sockets[0].emitWithAck('broadcast', 'from the first');
    await sockets[1].emitWithAck('everyone', 'for all');
    await heard(...sockets);
    equal(logs, [['for all'], ...[1, 2, 3].map(() => ['from the first', 'for all'])], 'news');
  },

  async 'text of every plane'({ start, connect }) {
    const { url } = await start();
    const socket = await connect(url);
    const texts = [
      '', '\u0000\u001e\u001f"\\\b', '\x1e', 'grüße \u2028\u2029 \ufeff\uffff', '🌿👩‍👩‍👧‍👦 𝄞 𠀀 \u{10fffd}', '</script>&amp;', 'b', '4', '2probe', '[', '{"_placeholder":1}',
      'long '.repeat(20_000), 'ž'.repeat(70_000),
    ];
    for (const text of texts) equal(await socket.emitWithAck('echo', text), text, 'echo');
    equal(await Promise.all(texts.map((text) => socket.emitWithAck('echo', { [text]: text }))), texts.map((text) => ({ [text]: text })), 'together');
  },

  async 'binary'({ start, connect }) {
    const { url } = await start();
    const socket = await connect(url);
    for (const n of [0, 1, 2, 3, 125, 126, 3000, 70_000]) {
      const sum = bytes(n).reduce((a, b) => a + b, 0);
      equal(await socket.emitWithAck('upload', { name: 'x', data: bytes(n) }, bytes(n).buffer), { length: [n, n], name: 'x', sum: 2 * sum }, `${n} bytes up`);
      // What is ours can come in between: packets of one client stay whole.
      const [a, b] = await Promise.all([socket.emitWithAck('download', n), socket.emitWithAck('echo', n)]);
      equal([a.length, plain(a.data), b], [n, [...bytes(n)], n], `${n} bytes down`);
    }
    const other = await connect(url);
    const got = next(other, 'picture');
    await socket.emitWithAck('picture', bytes(1000));
    equal(plain(await got), [...bytes(1000)], 'a broadcast');
  },

  async 'namespaces'({ start, client, connect }) {
    const hub = await start();
    const main = await connect(hub.url);
    const enter = (name, event, options) => {
      const socket = main.io.socket(name, options); // over the same connection
      const came = next(socket, event);
      socket.connect();
      return [socket, came];
    };
    const [admin, welcome] = enter('/admin', 'welcome', { auth: { name: 'Ada' } });
    equal(await welcome, 'Ada', 'welcome');
    if (admin.id === main.id) throw new Error('both sockets have one id');
    equal(await admin.emitWithAck('whoami'), '/admin Ada', 'an ack in a namespace');
    const error = next(admin, 'error');
    admin.emit('send-msg', { room: 'garden', text: 'hello' }); // is of the other namespace
    equal((await error).event, 'send-msg', 'error');

    const [, refused] = enter('/nowhere', 'connect_error');
    equal((await refused).message, 'Invalid namespace', 'connect_error');

    // One leaves, the others stay.
    const { id } = admin;
    const reason = next(admin, 'disconnect');
    admin.disconnect();
    equal([await reason, await hub.left(id)], ['io client disconnect', 'client namespace disconnect'], 'reasons');
    await heard(main);
    const again = next(admin, 'welcome');
    admin.connect();
    await again;
    const thrown = next(main, 'disconnect');
    const mainID = main.id;
    main.emit('kick');
    equal(await thrown, 'io server disconnect', 'reason');
    equal(await hub.left(mainID), 'server namespace disconnect', 'reason on the server');
    equal(await admin.emitWithAck('whoami'), '/admin Ada', 'the other namespace after that');
  },

  async 'a bare WebSocket in the same room'({ start, connect, WebSocket }) {
    const { url } = await start();
    const socket = await connect(url);
    const bare = new WebSocket(`${url.replace('http', 'ws')}/socket.io/`, 'atrium');
    const received = [];
    let look = () => {};
    bare.onmessage = ({ data }) => { received.push(JSON.parse(data)); look(); };
    const until = (n) => within(new Promise((done) => { look = () => received.length >= n && done(); look(); }), patience, `${n} messages`);
    await within(new Promise((done) => { bare.onopen = done; }), patience, 'open');
    const send = (message) => bare.send(JSON.stringify(message));
    send({ event: 'connect', data: { token: 'ok' } });
    await until(1);
    send({ event: 'join-room', data: 'garden', id: 1 });
    await until(2);
    await socket.emitWithAck('join-room', 'garden');
    await socket.emitWithAck('send-msg', { room: 'garden', text: 'from Socket.IO' });
    await until(3);
    const msg = next(socket, 'msg');
    const other = collect(socket, 'msg');
    send({ event: 'send-msg', data: { room: 'garden', text: 'from a bare WebSocket' }, id: 2 });
    await until(5);
    equal(await msg, other[0], 'msg');
    equal(other, ['from a bare WebSocket'], 'what Socket.IO heard');
    const [connected, joined, ...rest] = received;
    equal([connected.event, joined, rest.find((m) => m.id === 2), rest.filter((m) => m.event)],
      ['connect', { id: 1 }, { id: 2, data: { success: true, id: 2 } },
        [{ event: 'msg', data: 'from Socket.IO' }, { event: 'msg', data: 'from a bare WebSocket' }]], 'what the bare one heard');
    bare.close();
  },

  async 'the server disconnects'({ start, connect }) {
    const hub = await start();
    const socket = await connect(hub.url);
    const { id } = socket;
    const [last, reason] = [next(socket, 'goodbye'), next(socket, 'disconnect')];
    socket.emit('kick');
    equal(await last, 'the last word', 'what was sent before');
    equal(await reason, 'io server disconnect', 'reason');
    equal([await hub.left(id), socket.active], ['server namespace disconnect', false], 'reason on the server, and active');
    const again = next(socket, 'connect');
    socket.connect(); // does not come back by itself, but may
    await again;
    await heard(socket);
  },

  async 'the server ends the connection after a last event'({ start, connect }) {
    const hub = await start();
    for (let n = 0; n < 10; n++) {
      const socket = await connect(hub.url);
      const { id } = socket;
      const [last, reason] = [next(socket, 'goodbye'), next(socket, 'disconnect')];
      socket.emit('kick-client');
      equal(await last, 'the last word', 'what was sent before');
      equal(await reason, 'io server disconnect', 'reason');
      equal(await hub.left(id), 'server namespace disconnect', 'reason on the server');
    }
  },

  async 'the server says why it disconnects'({ start, connect }) {
    const hub = await start();
    const socket = await connect(hub.url);
    const heard = [];
    socket.on('disconnect_reason', (why) => heard.push(why));
    const reason = next(socket, 'disconnect');
    socket.emit('ban');
    equal(await reason, 'io server disconnect', 'reason');
    equal(heard, [{ code: 4001, reason: 'banned' }], 'what came before');
  },

  async 'an answer that comes later holds up nothing'({ start, connect }) {
    const hub = await start();
    const socket = await connect(hub.url);
    const order = [];
    const ask = (event) => socket.emitWithAck(event, null).then((answer) => order.push([event, answer]));
    await Promise.all([ask('slow'), ask('fast')]);
    equal(order, [['fast', 'first'], ['slow', 'second']], 'answers');
  },

  async 'the client disconnects, 100 times'({ start, connect, settled }) {
    const hub = await start();
    const visit = async (n) => {
      const socket = await connect(hub.url);
      if (n % 2 === 0) await settled(socket); // and else on its way
      const { id } = socket;
      const reason = next(socket, 'disconnect');
      const words = n % 3;
      for (let i = 0; i < words; i++) socket.emit('last-words', i);
      socket.disconnect();
      equal(await reason, 'io client disconnect', `reason of no. ${n}`);
      equal(await hub.left(id), `client namespace disconnect${' after last words'.repeat(words)}`, `reason of no. ${n} on the server`);
    };
    const one = async (from) => { for (let n = from; n < 100; n += 5) await visit(n); };
    await Promise.all([0, 1, 2, 3, 4].map(one));
  },

  async 'the connection is cut'({ start, connect, settled, polls }) {
    const hub = await start(polls ? soon : {});
    const socket = await connect(hub.proxied);
    await settled(socket);
    await heard(socket);
    const { id } = socket;
    const [reason, back] = [next(socket, 'disconnect'), next(socket.io, 'reconnect')];
    await repeated(hub.cut, reason);
    equal(await reason, polls ? 'transport error' : 'transport close', 'reason');
    oneOf(await hub.left(id), polls ? pollingEnds : ['transport close'], 'reason on the server');
    await back;
    if (!socket.connected) await next(socket, 'connect');
    if (socket.id === id) throw new Error('a new socket has the old id');
    await heard(socket);
  },

  async 'the connection is reset'({ start, connect, settled, polls }) {
    const hub = await start(polls ? soon : {});
    const socket = await connect(hub.proxied, { reconnection: false });
    await settled(socket);
    await heard(socket);
    const { id } = socket;
    const reason = next(socket, 'disconnect');
    await repeated(hub.reset, reason);
    oneOf(await reason, ['transport error', 'transport close'], 'reason'); // close: the hub has noticed first, and could still say so
    oneOf(await hub.left(id), polls ? pollingEnds : ['transport error'], 'reason on the server');
  },

  async 'the connection goes silent'({ start, connect, settled, polls }) {
    const hub = await start(soon);
    const socket = await connect(hub.proxied, { reconnection: false });
    await settled(socket);
    await heard(socket);
    const { id } = socket;
    const reason = next(socket, 'disconnect');
    await repeated(hub.stall, reason);
    equal(await reason, 'ping timeout', 'reason');
    oneOf(await hub.left(id), polls ? pollingEnds : ['ping timeout'], 'reason on the server');
  },

  async 'nobody says anything'({ start, connect, settled }) {
    const hub = await start({ pingInterval: 100, pingTimeout: 5000 });
    const socket = await connect(hub.url);
    await settled(socket);
    for (let pings = 0; pings < 8; pings++) await next(socket.io, 'ping');
    equal(socket.connected, true, 'connected');
    await heard(socket);
  },

  async 'the server shuts down'({ start, connect, settled }) {
    const hub = await start();
    const socket = await connect(hub.url, { reconnection: false });
    await settled(socket);
    await heard(socket);
    const { id } = socket;
    const reason = next(socket, 'disconnect');
    await hub.shutdown();
    equal([await reason, await hub.left(id)], ['transport close', 'server shutting down'], 'reasons');
  },

  async 'the client breaks the rules'({ start, connect, settled, polls }) {
    const hub = await start();
    const other = await connect(hub.url);
    const socket = await connect(hub.url, { reconnection: false });
    await settled(socket);
    const { id } = socket;
    const reason = next(socket, 'disconnect');
    socket.io.engine.write('2["disconnect"]');
    // Who polls is told twice at a time: the GET is answered with the end, and the POST with status 400.
    oneOf(await reason, polls ? ['transport close', 'transport error'] : ['transport close'], 'reason');
    equal(await hub.left(id), 'parse error', 'reason on the server');
    await heard(other);
  },

  async 'the server is killed and comes back'({ start, connect, settled }) {
    const hub = await start();
    const socket = await connect(hub.proxied, { reconnectionDelay: 50, reconnectionDelayMax: 200, randomizationFactor: 0 });
    await settled(socket);
    await heard(socket);
    const { id } = socket;
    const [reason, errors, tries] = [next(socket, 'disconnect'), collect(socket.io, 'reconnect_error'), []];
    let third;
    const tried = new Promise((done) => { third = done; });
    socket.io.on('reconnect_attempt', (n) => { tries.push([n, performance.now()]); if (n === 4) third(); });
    await hub.down();
    const cut = performance.now();
    oneOf(await reason, ['transport close', 'transport error'], 'reason');
    const late = socket.emitWithAck('echo', 'said meanwhile'); // kept until the socket is connected again
    await within(tried, patience, 'the fourth attempt');
    const [reconnected, connected] = [next(socket.io, 'reconnect'), next(socket, 'connect')];
    await hub.up();
    await connected;
    const attempt = await reconnected;
    if (attempt < 4) throw new Error(`it was back at attempt ${attempt}, want the fifth or so`);
    equal(tries.map(([n]) => n), tries.map((_, i) => i + 1), 'attempts');
    // 50, 100, 200 ms, and then 200 for ever, less what timers may be early.
    tries.slice(0, 4).reduce((before, [n, at]) => {
      const least = Math.min(50 * 2 ** (n - 1), 200) - 5;
      if (n > 1 && at - before < least) throw new Error(`attempt ${n} came after ${at - before} ms, want ${least}`);
      return at;
    }, cut);
    if (errors.length < 3) throw new Error(`${errors.length} errors for ${attempt} attempts`);
    equal(await late, 'said meanwhile', 'what was said meanwhile');
    if (socket.id === id) throw new Error('the new server knows the old id');
  },

  async 'the server is killed and stays away'({ start, connect }) {
    const hub = await start();
    const socket = await connect(hub.proxied, { reconnectionDelay: 20, reconnectionDelayMax: 50, reconnectionAttempts: 3 });
    await heard(socket);
    const attempts = collect(socket.io, 'reconnect_attempt');
    const failed = next(socket.io, 'reconnect_failed');
    await hub.down();
    await failed;
    equal([attempts, socket.connected], [[1, 2, 3], false], 'attempts');
  },

  async 'recovery'({ start, connect, settled }) {
    const hub = await start({ recovery: 30_000 });
    const [ada, ben] = [await connect(hub.proxied, { reconnectionDelay: 20, reconnectionDelayMax: 50 }), await connect(hub.url)];
    equal(ada.recovered, false, 'recovered at first');
    const { id } = ada;
    const [said, seen] = [collect(ada, 'msg'), collect(ada, 'picture')];
    await ada.emitWithAck('join-room', 'garden');
    await ben.emitWithAck('join-room', 'garden');
    await settled(ada);
    const want = [];
    const say = async (text) => {
      want.push(text);
      await ben.emitWithAck('send-msg', { room: 'garden', text });
    };
    for (let round = 0; round < 3; round++) { // in the first one, nothing was received before
      const reason = next(ada, 'disconnect');
      await hub.down();
      await reason;
      await say(`missed ${round}`);
      await ben.emitWithAck('picture', bytes(100 + round));
      await say(`missed as well ${round}`);
      const connected = next(ada, 'connect');
      await hub.mend();
      await connected;
      equal([ada.recovered, ada.id], [true, id], 'recovered, and the id');
      await settled(ada);
      await say(`after ${round}`);
      await heard(ada);
    }
    equal([said, seen.map((b) => plain(b).length)], [want, [100, 101, 102]], 'what was said');
  },

  // The client's network changes, say: it comes back before the server has noticed that it went.
  async 'recovery of a connection that is half open'({ start, connect, settled }) {
    const hub = await start({ recovery: 30_000 });
    const [ada, ben] = [await connect(hub.proxied, { reconnectionDelay: 20, reconnectionDelayMax: 50 }), await connect(hub.url)];
    const { id } = ada;
    const said = collect(ada, 'msg');
    await ada.emitWithAck('join-room', 'garden');
    await ben.emitWithAck('join-room', 'garden');
    await settled(ada);
    await ben.emitWithAck('send-msg', { room: 'garden', text: 'before' });
    await heard(ada);
    const [reason, connected] = [next(ada, 'disconnect'), next(ada, 'connect')];
    await repeated(hub.sever, reason);
    await ben.emitWithAck('send-msg', { room: 'garden', text: 'lost on its way, or missed' });
    await connected;
    equal([ada.recovered, ada.id], [true, id], 'recovered, and the id');
    await ben.emitWithAck('send-msg', { room: 'garden', text: 'after' });
    await heard(ada);
    equal(said, ['before', 'lost on its way, or missed', 'after'], 'what was said');
  },

  // Messages go both ways all the time, some in flight at any moment, while the transport changes. Those of the client
  // are numbered, and each is answered with its number; the hub numbers what it broadcasts.
  async 'traffic'({ start, client, upgrades, polls }, clients = 3, rounds = 60) {
    const hub = await start();
    const talk = async (which) => {
      const socket = client(hub.url);
      let [sent, answered, acked, tick, remaining, done] = [0, 0, 0, undefined, rounds, undefined];
      const finished = new Promise((resolve, reject) => {
        const fail = (what) => reject(new Error(`client ${which}: ${what}`));
        const say = () => {
          const n = sent++;
          socket.emit('up', n, (got) => { if (got !== n || got !== acked++) fail(`ack ${got} for ${n}, want ${acked - 1}`); });
        };
        socket.on('down', (n) => {
          if (n !== answered++) fail(`answer ${n}, want ${answered - 1}`);
          const settled = !upgrades || socket.io.engine.transport.name === 'websocket';
          if (settled && tick !== undefined) remaining--;
          if (remaining > 0) say();
          else if (!done) {
            done = true;
            socket.emit('up-count', (count) => {
              if (count !== sent || answered !== sent || acked !== sent) fail(`said ${sent}, the hub heard ${count}, answered ${answered}, acknowledged ${acked}`);
              resolve();
            });
          }
        });
        socket.on('tick', (n) => {
          if (tick !== undefined && n !== tick + 1) fail(`broadcast ${n} after ${tick}`);
          tick = n;
        });
        socket.on('disconnect', (reason) => fail(`disconnected: ${reason}`));
        socket.on('connect_error', (error) => fail(`refused: ${error.message} ${error.description ?? ''}`));
        socket.once('connect', () => { for (let i = 0; i < 4; i++) say(); });
      });
      socket.connect();
      await finished;
      socket.off('disconnect');
      equal(socket.io.engine.transport.name, polls ? 'polling' : 'websocket', 'transport');
      const { id } = socket;
      socket.disconnect();
      equal(await hub.left(id), 'client namespace disconnect', 'reason on the server');
      return sent;
    };
    return Promise.all(Array.from({ length: clients }, (_, i) => talk(i)));
  },

  // A browser has too few connections for this many that poll.
  'a crowd of 200': (kit) => scenarios.traffic(kit, 200, 20),
};
