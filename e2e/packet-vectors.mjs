// Writes testdata/packet-vectors.jsonl: what npm's socket.io-parser and engine.io-parser make of packets, both ways, for
// TestPacketVectors and TestPayloadVectors. Run by hand, after a change to the lists below or of the packages:
//
//     (cd e2e && npm ci) && node e2e/packet-vectors.mjs > testdata/packet-vectors.jsonl
//
// Binary is {"$binary":"<base64>"} in data and {"binary":"<base64>"} in frames. Nothing depends on time or chance.
import { readFileSync } from 'node:fs';
import { Decoder, Encoder } from 'socket.io-parser';
import { decodePayload, encodePayload } from 'engine.io-parser';

const { devDependencies: versions } = JSON.parse(readFileSync(new URL('package.json', import.meta.url)));
const write = (vector) => console.log(JSON.stringify(vector));

// shown replaces bytes by their base64, in a copy; and undefined, of which JSON knows nothing.
function shown(data) {
  if (Buffer.isBuffer(data)) return { $binary: data.toString('base64') };
  if (Array.isArray(data)) return data.map(shown);
  if (data !== null && typeof data === 'object') {
    return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, shown(value)]));
  }
  return data === undefined ? { $undefined: true } : data;
}
const frame = (f) => (typeof f === 'string' ? { text: f } : { binary: f.toString('base64') });

// ---- packets to encode. Keys stand in alphabetical order, as Go writes a map's.

const bytes = (...b) => Buffer.from(b);
const CONNECT = 0, DISCONNECT = 1, EVENT = 2, ACK = 3, CONNECT_ERROR = 4;
const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
const encode = [
  { type: CONNECT, nsp: '/' },
  { type: CONNECT, nsp: '/admin' },
  { type: CONNECT, nsp: '/admin?token=1', data: { token: 'x' } },
  { type: CONNECT, nsp: '/', data: { sid: 'oSO0OpakMV_3jnilAAAA' } },
  { type: CONNECT, nsp: '/', data: {} },
  { type: DISCONNECT, nsp: '/' },
  { type: DISCONNECT, nsp: '/admin' },
  { type: CONNECT_ERROR, nsp: '/x', data: { message: 'Invalid namespace' } },
  { type: CONNECT_ERROR, nsp: '/', data: { data: { code: 1 }, message: 'Auth failed' } },
  { type: CONNECT_ERROR, nsp: '/', data: 'an old server' },
  { type: EVENT, nsp: '/', data: ['foo'] },
  { type: EVENT, nsp: '/', data: ['foo', 1, null, true, 'x', [1, [2]], { a: { b: [] } }] },
  { type: EVENT, nsp: '/', id: 0, data: ['foo', 1] },
  { type: EVENT, nsp: '/admin', id: 12, data: ['foo'] },
  { type: EVENT, nsp: '/', id: 9007199254740991, data: ['foo'] },
  { type: EVENT, nsp: '/', data: ['numbers', 0, -1, 1.5, 1e21, 1e-7, 123456789012, -0.001, 5e-324, 1.7976931348623157e308] },
  { type: EVENT, nsp: '/', data: ['quotes " \\ / \b\f\n\r\t\u0000\u001e\u007f', '<script>&amp;</script>', "'"] },
  { type: EVENT, nsp: '/', data: ['grüße', '日本語', '😀', '\u00e9e\u0301', '\ufeff\ufffd\uffff'] },
  { type: EVENT, nsp: '/größe', data: ['é'] },
  { type: EVENT, nsp: '/', data: ['lines', '\u2028\u2029'] },
  { type: EVENT, nsp: '/', data: ['halves', '\ud83d', '\ude00x', 'a\ude00\ud83db'] },
  { type: EVENT, nsp: '/', data: ['2', '{"_placeholder":true,"num":0}'] },
  { type: ACK, nsp: '/', id: 0, data: [] },
  { type: ACK, nsp: '/admin', id: 13, data: ['bar'] },
  { type: ACK, nsp: '/', id: 1, data: [{ error: { message: 'Required' } }] },
  { type: EVENT, nsp: '/', data: ['photo', bytes(1, 2, 3)] },
  { type: EVENT, nsp: '/', data: ['photo', bytes()] },
  { type: EVENT, nsp: '/', data: ['photo', all] },
  { type: EVENT, nsp: '/admin', id: 7, data: ['photo', { a: bytes(1), b: [bytes(2), { c: bytes(3), d: 'x' }] }, 1, bytes(4)] },
  { type: EVENT, nsp: '/', data: ['same', bytes(1, 1), bytes(1, 1)] },
  { type: EVENT, nsp: '/', data: ['text beside', 'AQID', bytes(1, 2, 3), 'AQID'] },
  { type: EVENT, nsp: '/', data: ['escaped keys', { 'a"b\\': bytes(1), 'ü\n': bytes(2) }] },
  { type: EVENT, nsp: '/', data: ['ten', ...Array.from({ length: 10 }, (_, i) => bytes(i))] },
  { type: ACK, nsp: '/', id: 1, data: [bytes(255)] },
  { type: ACK, nsp: '/admin', id: 13, data: [null, [bytes(0, 255)]] },
];

// ---- frames to decode

const one = bytes(1), two = bytes(2, 2), p0 = '{"_placeholder":true,"num":0}', p1 = '{"_placeholder":true,"num":1}';
const deep = (n) => '['.repeat(n) + ']'.repeat(n);
const decode = [
  ['0'], ['0/'], ['0/,'], ['0/admin'], ['0/admin,'], ['0{"token":"x"}'], ['0/admin,{"token":"x"}'], ['0{}'], ['0 {}'], ['0{} '],
  ['0/a?b=1&c="d",{}'], ['0/a{"b":1}'], ['0[]'], ['0"x"'], ['0null'], ['0true'], ['0{'], ['0{}x'], ['0/a,null'], ['05'], ['05{}'],
  ['0,'], ['0admin'], ['0\u0000'], ['0/a\u001eb,'], ['0/' + 'n'.repeat(255)], ['0/' + 'n'.repeat(256)],
  ['1'], ['1/admin,'], ['1/admin'], ['1{}'], ['1[]'], ['1null'], ['1/admin,{}'], ['17'], ['1 '], ['1undefined'],
  ['2["foo"]'], ['2["foo",1]'], ['212["foo",1]'], ['2/admin,12["foo"]'], ['2/,["foo"]'], ['20["foo"]'], ['2007["foo"]'],
  ['29007199254740991["foo"]'], ['29007199254740992["foo"]'], ['2' + '9'.repeat(30) + '["foo"]'], ['2' + '0'.repeat(17) + '1["foo"]'],
  ['2'], ['2/admin'], ['2/admin,'], ['212'], ['2[]'], ['2{}'], ['2"foo"'], ['2null'], ['2[null]'], ['2[true]'], ['2[["foo"]]'], ['2[{}]'],
  ['2[""]'], ['2["' + 'n'.repeat(256) + '"]'], ['2["' + 'n'.repeat(257) + '"]'], ['2[1]'], ['2[0,"x"]'], ['2[-1.5]'], ['2[1e3]'], ['2[1.0]'],
  ['2["connect"]'], ['2["connect_error"]'], ['2["disconnect"]'], ['2["disconnecting"]'], ['2["newListener"]'], ['2["removeListener"]'],
  ['2["error"]'], ['2["connection"]'], ['2["\\u0063onnect"]'], ['2["Connect"]'],
  ['2 ["foo"]'], ['21 ["foo"]'], ['2\n["foo"]'], ['2[ "foo" , 1 ] '], ['2[\t"foo"\r\n]\n'], ['2["foo"]]'], ['2["foo"]x'], ['2["foo",]'], ['2[,"foo"]'],
  ['2["foo" 1]'], ['2["foo"'], ['2["foo'], ['2["foo",01]'], ['2["foo",.5]'], ['2["foo",NaN]'], ["2['foo']"], ['2["foo\n"]'], ['2["\\x"]'],
  ['2-1["foo"]'], ['2+1["foo"]'], ['20x1["foo"]'], ['21.5["foo"]'], ['21e3["foo"]'], ['2abc["foo"]'], ['21-["foo"]'], ['2/admin["foo"]'], ['2/admin12,["foo"]'],
  ['2["\\u00e9\\ud83d\\ude00","é😀"]'], ['2["\\ud83d","\\ude00\\ud83d"]'], ['2["a","b","c"]'], ['2["x",{"a":1,"a":2}]'], ['2["x",{"__proto__":1}]'],
  [`2["x",${p0}]`], ['2["x",' + deep(100) + ']'], ['2["x",' + deep(128) + ']'], ['2["x",' + deep(129) + ']'], ['2["x",1e400]'],
  ['30[]'], ['312["bar",null]'], ['3/admin,13["bar"]'], ['3[]'], ['3["bar"]'], ['31'], ['31{}'], ['31"x"'], ['31null'], ['31[connect]'], ['31["connect"]'],
  ['4{"message":"x"}'], ['4/x,{"message":"Invalid namespace"}'], ['4"x"'], ['4'], ['4[]'], ['4null'], ['41'], ['41{}'], ['4{"message":"x"'], ['4/x'],
  [''], ['7'], ['9[]'], ['-1'], ['a'], [' 2["foo"]'], ['"2"'], ['é'], ['\u0000'], ['8["foo"]'],
  ['51-["x"]', one], [`51-["x",${p0}]`, one], [`51-/admin,12["x",${p0}]`, one], [`52-["x",${p0},${p1}]`, one, two], [`52-["x",${p1},${p0}]`, one, two],
  [`51-["x",{"a":[${p0}],"b":"y"}]`, one], ['51-["x",{"num":0,"_placeholder":true}]', one], ['51-["x",{ "_placeholder" : true , "num" : 0 }]', one],
  [`51-["x",${p0}]`, bytes()], [`51-["x",${p0}]`, all], [`52-["x",${p1}]`, one, two], [`52-["x",${p0},${p0}]`, one, two], [`51-["x",${p1}]`, one],
  ['51-["x",{"_placeholder":true,"num":-1}]', one], ['51-["x",{"_placeholder":true,"num":0.5}]', one], ['51-["x",{"_placeholder":true,"num":0.0}]', one],
  ['51-["x",{"_placeholder":true,"num":"0"}]', one], ['51-["x",{"_placeholder":true}]', one], ['51-["x",{"_placeholder":true,"num":null}]', one],
  ['51-["x",{"_placeholder":true,"num":0,"more":1}]', one], ['51-["x",{"more":1,"_placeholder":true,"num":0}]', one], ['51-["x",{"_placeholder":1,"num":0}]', one],
  ['51-["x",{"_placeholder":false,"num":7}]', one], ['51-["x",{"\\u005fplaceholder":true,"num":0}]', one], ['51-["x",{"num":1}]', one],
  ['51-["x","_placeholder",true,"{\\"_placeholder\\":true,\\"num\\":7}"]', one], ['51-["x",{"_placeholder":true,"num":1,"num":0}]', one],
  ['51-["x",{"_placeholder":true,"num":99999999999999999999}]', one], [`51-[${p0}]`, one], [`51-[${p0},"x"]`, one], ['51-["connect"]', one],
  [`51-[1,${p0}]`, one], [`51-["x",${p0}]`, Buffer.from('text')], ['5["x"]'], ['5-["x"]'], ['50-["x"]'], [`50-["x",${p0}]`], ['51["x"]', one], ['51'], ['51-', one], ['5'],
  ['510-["x"]', ...Array(10).fill(one)], ['511-["x"]'], ['501-["x"]', one], ['5+1-["x"]', one], ['51e0-["x"]', one], ['50x1-["x"]', one], ['51.0-["x"]', one], ['5 1-["x"]', one],
  ['5-1-["x"]'], ['51.5-["x"]'], ['5NaN-["x"]'], ['5999999999999999999999-["x"]'], ['51-{}', one], ['51-[]', one], ['51-/admin', one], ['51-/admin,', one],
  [`61-1[${p0}]`, one], [`61-/admin,13[${p0}]`, one], [`61-[${p0}]`, one], ['61-1[]', one], ['61-1{}', one], ['60-1[]'], ['6[]'], ['611-1[]'],
];

// ---- payloads

const packets = [
  [{ type: 'open', data: '{"sid":"lv_VI97HAXpY6yYWAAAC"}' }],
  [{ type: 'close' }], [{ type: 'ping' }], [{ type: 'ping', data: 'probe' }], [{ type: 'pong', data: 'probe' }], [{ type: 'upgrade' }], [{ type: 'noop' }],
  [{ type: 'message', data: 'hello' }], [{ type: 'message', data: '' }], [{ type: 'message', data: '2["a"]' }, { type: 'message', data: 'é😀' }],
  [{ type: 'message', data: bytes(1, 2, 3) }], [{ type: 'message', data: bytes() }], [{ type: 'message', data: all }],
  [{ type: 'message', data: '51-["x"]' }, { type: 'message', data: bytes(251, 255) }, { type: 'ping' }, { type: 'close' }],
];
const payloads = [
  '', '4', '4hello', '2', '4a\x1e4b', '4a\x1e', '\x1e4a', '4a\x1e\x1e4b', '\x1e', '7', 'hello', '4a\x1e7\x1e4b', '2probe\x1e3probe\x1e5\x1e6\x1e1\x1e0{}',
  'b', 'bAQID', 'bAQ==', 'bAQI=', 'bAQ', 'bAQ=', 'bAQ==x', 'b====', 'b!', 'bAR==', 'b_-8=', 'b+/8=', 'bAQ ID', 'bAQ\nID', '4a\x1ebAQID\x1e4b', 'bAQID\x1eb!\x1e4b', 'B', '4\u0000\ufeff',
];

// ----

write({ about: `by socket.io-parser ${versions['socket.io-parser']} and engine.io-parser ${versions['engine.io-parser']}: see e2e/packet-vectors.mjs` });
for (const packet of encode) {
  const vector = { what: 'encode', packet: shown(packet) };
  vector.frames = new Encoder().encode(packet).map(frame);
  write(vector);
}
for (const frames of decode) {
  const vector = { what: 'decode', frames: frames.map(frame) };
  const decoder = new Decoder();
  decoder.on('decoded', (packet) => { vector.packet = shown({ ...packet }); });
  try {
    for (const f of frames) decoder.add(f);
    if (!vector.packet) vector.refused = 'waits for more';
  } catch (e) {
    vector.refused = e.message;
  }
  write(vector);
}
for (const list of packets) {
  encodePayload(list, (payload) => write({ what: 'encode payload', packets: shown(list), payload }));
}
for (const payload of payloads) {
  write({ what: 'decode payload', payload, packets: shown(decodePayload(payload, 'nodebuffer')) });
}
