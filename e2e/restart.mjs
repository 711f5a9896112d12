// Witnesses of a restart in Node: node restart.mjs url. For each line of its input it prints what they have noticed.
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';
import './restart-witness.js';

const url = process.argv[2];
watchSocketIO('Node', io, url);
watchSocketIO('Node, WebSocket', io, url, ['websocket']);
watchSocketIO('Node, polling', io, url, ['polling']);
createInterface({ input: process.stdin })
  .on('line', () => console.log(JSON.stringify(witnesses)))
  .on('close', () => process.exit());
