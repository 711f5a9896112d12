// Node's own Socket.IO server, with what the scenarios of client-scenarios.mjs need of newLabHub: node client-server.mjs
// '{"pingInterval":…,"pingTimeout":…,"recovery":…,"maxPayload":…,"maxAttachments":…}'. It prints its port, and ends with its standard input.
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import * as parser from 'socket.io-parser';

const { pingInterval, pingTimeout, recovery, maxPayload, maxAttachments } = JSON.parse(process.argv[2]);
const http = createServer();
const io = new Server(http, {
  cors: { origin: true },
  ...(pingInterval && { pingInterval, pingTimeout }),
  ...(maxPayload && { maxHttpBufferSize: maxPayload }),
  ...(maxAttachments && { parser: { ...parser, Decoder: class extends parser.Decoder { constructor() { super({ maxAttachments }); } } } }),
  ...(recovery && { connectionStateRecovery: { maxDisconnectionDuration: recovery } }),
});
const notes = [];

io.use((socket, next) => {
  if (socket.handshake.auth.token === 'ok') next();
  else next(Object.assign(new Error('Auth failed'), { data: { code: 401 } }));
});

io.on('connection', (socket) => {
  socket.on('echo', (...args) => args.pop()(...args));
  socket.on('back', (...args) => socket.emit('back', ...args));
  socket.on('everyone', (news) => io.emit('news', news));
  const many = (n) => Array(n).fill(Buffer.of(1));
  socket.on('many', (n, done) => done(many(n)));
  socket.on('emit-many', (n) => socket.emit('many', ...many(n)));
  socket.on('note', (n, done) => {
    notes.push(n);
    done?.();
  });
  socket.on('notes', (done) => done(notes));
  socket.on('ask-nobody', () => {});
  socket.on('ask', async (n, done) => {
    const answer = await socket.timeout(5000).emitWithAck('sure?', n);
    done(answer);
  });
  socket.on('send-msg', ({ text }, done) => done(text ? { success: true, id: 1 } : { error: { message: 'Invalid', data: { field: 'text' } } }));
  socket.on('join-room', (room, done) => {
    socket.join(room);
    done();
  });
  socket.on('kick', () => {
    socket.emit('goodbye', 'the last word');
    socket.disconnect();
  });
  socket.on('upload', (file, again, done) => {
    const sum = [...file.data, ...again].reduce((a, b) => a + b, 0);
    done({ name: file.name, length: [file.data.length, again.length], sum });
  });
  socket.on('download', (n, done) => done({ length: n, data: Buffer.from(Uint8Array.from({ length: n }, (_, i) => (i * 7 + (i >> 8)) & 0xff)) }));
  socket.on('picture', (data, done) => {
    socket.broadcast.emit('picture', data);
    done?.();
  });
});

const admin = io.of('/admin');
admin.on('connection', (socket) => socket.on('whoami', (_, done) => done(`/admin ${socket.handshake.auth.name}`)));

http.listen(0, '127.0.0.1', () => console.log(http.address().port));
process.stdin.on('end', () => process.exit()).resume();
