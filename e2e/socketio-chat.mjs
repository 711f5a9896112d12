// Somebody who comes to the chat example with npm's socket.io-client instead of its page: node socketio-chat.mjs
// address. He says hello in the lobby, and answers the first two who speak there.
import { io } from 'socket.io-client';

const socket = io(process.argv[2], { auth: { name: 'Ben', password: 'atrium' } });
const say = (text) => socket.emitWithAck('say', { room: 'lobby', text, key: text });
socket.on('connect_error', (error) => { throw error; });
socket.once('connect', async () => {
  let heard = 0;
  socket.on('said', async ({ from, text }) => {
    const at = await say(`${from} said: ${text}`);
    if (++heard < 2) return;
    console.log(Number.isNaN(Date.parse(at)) ? `the ack is ${JSON.stringify(at)}` : 'ok');
    socket.disconnect();
  });
  await socket.emitWithAck('join', { room: 'lobby' });
  await say('Hello from Socket.IO');
});
