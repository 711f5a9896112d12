// Socket.IO's own server, for atrium's Client: node node-server.mjs [port]. It prints its port, and then a line for each
// connection that comes and goes. It ends when its standard input does.
import http from 'node:http';
import { Server } from 'socket.io';

const server = http.createServer();
const io = new Server(server, { connectionStateRecovery: {}, pingInterval: 300, pingTimeout: 5000 });
const say = (...words) => console.log(words.join(' '));
let missed = 0;

io.use((socket, next) => {
  const { token } = socket.handshake.auth;
  if (token === 'ok') return next();
  const refusal = new Error('Auth failed');
  refusal.data = { code: 401 };
  next(refusal);
});

io.on('connection', (socket) => {
  say('connected', socket.id, socket.recovered, socket.handshake.query.color, socket.handshake.headers['x-test']);
  socket.on('disconnect', (reason) => say('disconnected', socket.id, reason));
  if (!socket.recovered) socket.join('everybody');

  socket.emit('welcome', 'first of all', 2);
  socket.on('echo', (...args) => args.pop()(...args));
  socket.on('silence', () => {}); // an acknowledgement that never comes
  socket.on('upload', (file, more, callback) => callback({
    buffers: [Buffer.isBuffer(file.data), Buffer.isBuffer(more)],
    sum: [...file.data, ...more].reduce((a, b) => a + b, 0),
    name: file.name,
  }));
  socket.on('download', (n, callback) => callback({ data: Buffer.from(Array.from({ length: n }, (_, i) => i % 256)) }));
  socket.on('picture', (data) => io.to('everybody').emit('picture', 'a.png', data, { copy: data }));
  socket.on('ask', async (n, callback) => {
    try {
      callback(await socket.timeout(5000).emitWithAck('sure?', n));
    } catch (e) {
      callback(`${e}`);
    }
  });
  socket.on('heartbeat', (callback) => socket.conn.once('heartbeat', () => callback('heard'))); // the next pong
  socket.on('kick', () => socket.disconnect());
  socket.on('cut', () => {
    socket.conn.transport.socket.terminate(); // no close frame
    setTimeout(() => { for (let n = 0; n < 5; n++) io.to('everybody').emit('news', missed++); }, 50);
  });
  socket.on('rubbish', () => socket.conn.transport.socket.send('4"what?"'));
});

io.of('/admin').on('connection', (socket) => {
  socket.on('whoami', (callback) => callback(`${socket.nsp.name} ${socket.handshake.auth.name} ${socket.id}`));
});

process.stdin.on('end', () => process.exit()).resume();

server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => say('port', server.address().port));
