// npm's socket.io-client, unmodified, behind a network that breaks: what it misses it gets, once, in order.
// recovery_test.go runs it with the hub's port and the transports to use; it prints what was wrong, or nothing.
import net from 'node:net';
import assert from 'node:assert/strict';
import { io } from 'socket.io-client';

const [port, transports] = process.argv.slice(2);

// A network that passes bytes on, until it is told to break.
class Network {
  pairs = new Set();
  deaf = false; // what the hub sends gets lost
  server = net.createServer((near) => {
    const far = net.connect(port, '127.0.0.1');
    const pair = { near, far };
    this.pairs.add(pair);
    near.on('error', () => {}).on('data', (p) => far.write(p)).on('close', () => pair.halfOpen || far.destroy());
    far.on('error', () => {}).on('data', (p) => this.deaf || near.write(p)).on('close', () => near.destroy());
  });
  async start() {
    await new Promise((r) => this.server.listen(0, '127.0.0.1', r));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }
  // cut breaks all connections until the client has noticed, which one that is between two polls does not at once.
  // halfOpen: the hub does not notice.
  async cut(s, halfOpen = false) {
    while (s.connected) {
      for (const pair of this.pairs) {
        pair.halfOpen = halfOpen;
        pair.near.destroy();
      }
      await new Promise((r) => setTimeout(r, 10));
    }
    this.deaf = false;
  }
  stop() {
    for (const { near, far } of this.pairs) near.destroy(), far.destroy();
    this.server.close();
  }
}

const options = { forceNew: true, reconnectionDelay: 200, randomizationFactor: 0 };
if (transports !== 'default') options.transports = [transports];
const once = (s, event) => new Promise((r) => s.once(event, (...args) => r(args)));

const network = new Network();
await network.start();
const driver = io(`http://127.0.0.1:${port}`, { ...options, transports: ['websocket'] });
await once(driver, 'connect');
const say = (...args) => driver.emitWithAck('say', ...args);

async function client() {
  const s = io(network.url, options);
  const heard = [];
  s.on('said', (...args) => heard.push(args.length > 1 && typeof args.at(-1) === 'string' ? args.slice(0, -1) : args));
  await once(s, 'connect');
  assert.equal(s.recovered, false);
  await s.emitWithAck('join', 'room');
  if (transports === 'default' && s.io.engine.transport.name !== 'websocket') await once(s.io.engine, 'upgrade');
  return { s, heard, id: s.id };
}

// back waits until the client is, and has what was said before.
async function back({ s, heard, id }, ...want) {
  await once(s, 'connect');
  assert.equal(s.recovered, true);
  assert.equal(s.id, id);
  assert.deepEqual(heard, want);
  assert.equal(await driver.emitWithAck('count', id), 1);
  await say('room', 'live');
  while (heard.length === want.length) await once(s, 'said');
  assert.deepEqual(heard.at(-1), ['live']);
  s.disconnect();
}

const scenarios = {
  async 'cut after an event, which got lost'() {
    const c = await client();
    await say('room', 1);
    while (c.heard.length === 0) await once(c.s, 'said');
    network.deaf = true;
    await say('room', 2);
    await network.cut(c.s);
    await say('room', 3, Buffer.from('three'));
    await say('elsewhere', 4);
    await say(c.id, 5);
    await back(c, [1], [2], [3, Buffer.from('three')], [5]);
  },
  async 'nothing received before the cut'() {
    const c = await client();
    await network.cut(c.s);
    await say('room', 1);
    await back(c, [1]);
  },
  async 'a volatile event that ends in a string'() {
    const c = await client();
    const volatile = once(c.s, 'volatile');
    await driver.emitWithAck('say-volatile', 'room', 'foo');
    await volatile;
    await network.cut(c.s);
    await say('room', 1);
    await back(c, [1]);
  },
  async 'the hub does not notice'() {
    const c = await client();
    await say('room', 1);
    while (c.heard.length === 0) await once(c.s, 'said');
    network.deaf = true;
    await say('room', 2);
    await network.cut(c.s, true);
    await say('room', 3);
    await back(c, [1], [2], [3]);
  },
};

let failed = 0;
for (const [name, scenario] of Object.entries(scenarios)) {
  try {
    await Promise.race([scenario(), new Promise((_, no) => setTimeout(no, 60000, new Error('timed out')).unref())]);
  } catch (error) {
    failed++;
    console.log(`${name}: ${error.stack}`);
  }
}
driver.disconnect();
network.stop();
process.exit(failed && 1);
