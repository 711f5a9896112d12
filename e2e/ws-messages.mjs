// What the tests with npm's ws send: texts and binaries of all sizes, that refer back far and near or not at all.
import { randomBytes } from 'node:crypto';

const words = (n) => {
  let text = '';
  for (let i = 0; text.length < n; i++) text += `${(i * i) % 1009} grüße, `;
  return text.slice(0, n);
};

export const messages = [
  '', 'a', words(200), words(300), words(5000), words(40_000), words(100_000), words(5000),
  Buffer.alloc(0), Buffer.from(words(3000)), Buffer.alloc(200_000), randomBytes(1000), randomBytes(20_000),
];

export const total = messages.reduce((sum, message) => sum + Buffer.byteLength(message), 0);
