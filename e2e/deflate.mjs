// Inflates with Node's zlib, at exactly the window that was agreed. Each line on stdin is "windowBits hex", the hex
// being the payload of a permessage-deflate message; each line on stdout is the message in hex, or "error: …". An
// empty message is an empty line.
import readline from 'node:readline';
import zlib from 'node:zlib';

const tail = Buffer.from('0000ffff', 'hex'); // RFC 7692 §7.2.2

for await (const line of readline.createInterface({ input: process.stdin })) {
  const [windowBits, hex = ''] = line.trim().split(' ');
  try {
    // Small chunks of output make zlib look back into its window, not into the output.
    const message = zlib.inflateRawSync(Buffer.concat([Buffer.from(hex, 'hex'), tail]), {
      windowBits: Number(windowBits),
      chunkSize: 64,
      finishFlush: zlib.constants.Z_SYNC_FLUSH,
    });
    console.log(message.toString('hex'));
  } catch (error) {
    console.log(`error: ${error.message}`);
  }
}
