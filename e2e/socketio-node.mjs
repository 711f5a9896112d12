// Runs scenarios of socketio-scenarios.mjs in Node: node socketio-node.mjs lab-address. A line of standard input names
// one, {"id", "name", "transports"}; a line of standard output says how it went, {"id", "error"}.
import readline from 'node:readline';
import { io } from 'socket.io-client';
import WebSocket from 'ws';
import { names, run } from './socketio-scenarios.mjs';

const lab = process.argv[2];
console.log(JSON.stringify(names()));
readline.createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const { id, name, transports } = JSON.parse(line);
    let error = '';
    try {
      await run(name, { io, WebSocket, lab, transports });
    } catch (e) {
      error = `${e.stack}`;
    }
    console.log(JSON.stringify({ id, error }));
  })
  .on('close', () => process.exit());
