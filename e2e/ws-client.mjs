// A client by npm's ws, against a server that echoes: node ws-client.mjs ws://… windowBits. It asks for windows of that
// size in both directions and does not ask to forgo context takeover. It prints "ok" with the extensions that were
// agreed on and the bytes that came, or fails.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';
import { messages, total } from './ws-messages.mjs';

const [url, windowBits] = [process.argv[2], Number(process.argv[3])];
const ws = new WebSocket(url, {
  perMessageDeflate: { serverMaxWindowBits: windowBits, clientMaxWindowBits: windowBits, threshold: 0 },
});
const received = [];
const done = new Promise((resolve) => {
  ws.on('message', (data, isBinary) => {
    received.push(isBinary ? data : data.toString());
    if (received.length === 2 * messages.length) resolve();
  });
});
await once(ws, 'open');
for (const message of messages) {
  ws.send(message);
  // The same in fragments, an empty one and a ping between them.
  const bytes = Buffer.from(message);
  const third = Math.ceil(bytes.length / 3);
  const binary = typeof message !== 'string';
  ws.send(bytes.subarray(0, third), { binary, fin: false });
  ws.ping('between');
  ws.send(bytes.subarray(third, 2 * third), { binary, fin: false });
  ws.send('', { binary, fin: false });
  ws.send(bytes.subarray(2 * third), { binary, fin: true });
}
await Promise.race([done, once(ws, 'close').then((how) => assert.fail(`closed: ${how}`))]);
messages.forEach((message, i) => {
  assert.deepEqual(received[2 * i], message);
  assert.deepEqual(received[2 * i + 1], message);
});
const bytesRead = ws._socket.bytesRead;
assert.ok(bytesRead < total, `${bytesRead} bytes came for ${2 * total}`);
ws.close(1000, 'done');
const [code] = await once(ws, 'close');
assert.equal(code, 1000);
console.log('ok', ws.extensions, bytesRead);
