// Socket.IO's own client takes part in a room: it joins, waits until somebody says "go", says who it is, and returns who
// else there is, when it has heard of as many as there should be. In Node: node one-room.mjs hub-address name others.
export function takePart(io, hub, name, others) {
  return new Promise((resolve, reject) => {
    const socket = io(hub, { auth: { token: 'ok' }, forceNew: true });
    const heard = [];
    socket.on('connect_error', reject);
    socket.on('connect', () => socket.emit('join-room', 'hall'));
    socket.on('msg', (text) => {
      if (text === 'go') return socket.emit('send-others', { room: 'hall', text: name });
      heard.push(text);
      if (heard.length === others) resolve(heard.sort().join(' '));
    });
  });
}

if (globalThis.process?.argv[2]) {
  const { io } = await import('socket.io-client');
  const [hub, name, others] = process.argv.slice(2);
  console.log(await takePart(io, hub, name, Number(others)));
  process.exit();
}
