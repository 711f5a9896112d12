// Somebody who comes to the chat example with npm's socket.io-client instead of its page: node socketio-chat.mjs
// address. He says hello in the lobby, and answers the first who speaks there.
import { io } from 'socket.io-client';

const socket = io(process.argv[2], { auth: { name: 'Ben', password: 'atrium' } });
socket.on('connect_error', (error) => { throw error; });
socket.once('connect', async () => {
  await socket.emitWithAck('join', { room: 'lobby' });
  await socket.emitWithAck('say', { room: 'lobby', text: 'Hello from Socket.IO', key: '1' });
  socket.once('said', async ({ from, text }) => {
    const at = await socket.emitWithAck('say', { room: 'lobby', text: `${from} said: ${text}`, key: '2' });
    console.log(Number.isNaN(Date.parse(at)) ? `the ack is ${JSON.stringify(at)}` : 'ok');
    socket.disconnect();
  });
});
