// Writes testdata/deflate-vectors.txt: messages that Node's zlib has compressed as permessage-deflate asks (RFC 7692
// §7.2.1), at every window size, for TestInflateVectors. Run by hand, after a change to the list below:
//
//     node e2e/zlib-vectors.mjs > testdata/deflate-vectors.txt
import zlib from 'node:zlib';

// text is the same in deflate_test.go: n bytes of words, among them what stood up to 60,000 bytes before.
function text(n, seed) {
  const words = ['room', 'join', 'leave', 'message', 'user', '"id":', 'true', '{', '}', ',', '[1,2]', 'grüße'];
  const parts = [];
  let length = 0;
  let state = seed;
  const next = (below) => {
    state = Number((BigInt(state) * 1103515245n + 12345n) & 0x7fffffffn);
    return Math.floor(state / 65536) % below;
  };
  while (length < n) {
    const word = parts.length > 50 && next(2) === 0
      ? parts[parts.length - 1 - next(Math.min(parts.length, 12000))]
      : words[next(words.length)] + next(1000);
    parts.push(word);
    length += Buffer.byteLength(word);
  }
  return Buffer.from(parts.join('')).subarray(0, n);
}

const levels = [0, 1, 6, 9];
const { Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_FINISH, Z_DEFAULT_STRATEGY, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED } = zlib.constants;
const strategies = [Z_DEFAULT_STRATEGY, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED];

function vector(windowBits, level, strategy, flush, n, seed) {
  let data = zlib.deflateRawSync(text(n, seed), { windowBits, level, strategy, finishFlush: flush });
  if (flush !== Z_FINISH) {
    if (data.subarray(-4).toString('hex') !== '0000ffff') throw new Error('no sync flush');
    data = data.subarray(0, -4);
  } else {
    data = Buffer.concat([data, Buffer.of(0)]); // RFC 7692 §7.2.3.4
  }
  console.log(n, seed, data.toString('base64'));
}

console.log(`# size seed base64: by Node ${process.version}, zlib ${process.versions.zlib}, see e2e/zlib-vectors.mjs`);
let seed = 1;
for (let bits = 8; bits <= 15; bits++) {
  for (const n of [1, 300]) for (const level of levels) vector(bits, level, Z_DEFAULT_STRATEGY, Z_SYNC_FLUSH, n, seed++);
  for (const strategy of strategies) vector(bits, 6, strategy, Z_SYNC_FLUSH, 700, seed++);
  vector(bits, 6, Z_DEFAULT_STRATEGY, Z_FULL_FLUSH, 700, seed++);
  vector(bits, 6, Z_DEFAULT_STRATEGY, Z_FINISH, 700, seed++);
}
vector(9, 6, Z_DEFAULT_STRATEGY, Z_SYNC_FLUSH, 20000, seed++);
vector(15, 9, Z_DEFAULT_STRATEGY, Z_SYNC_FLUSH, 70000, seed++);
