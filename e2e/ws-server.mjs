// A server by npm's ws: node ws-server.mjs windowBits. It prints its port and sends every message back, binary ones in
// fragments, until its standard input ends. It wants windows of that size in both directions.
import { WebSocketServer } from 'ws';

const windowBits = Number(process.argv[2]);
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: { serverMaxWindowBits: windowBits, clientMaxWindowBits: windowBits, threshold: 0 },
});
server.on('listening', () => console.log(server.address().port));
server.on('connection', (ws) => {
  ws.on('error', (error) => console.error(error));
  ws.on('message', (data, binary) => {
    if (!binary) {
      ws.send(data, { binary });
      return;
    }
    const third = Math.ceil(data.length / 3);
    ws.send(data.subarray(0, third), { binary, fin: false });
    ws.ping('between');
    ws.send('', { binary, fin: false });
    ws.send(data.subarray(third), { binary, fin: true });
  });
});
process.stdin.on('end', () => process.exit()).resume();
