// Clients of the chat's lobby that note what they notice, in globalThis.witnesses. restart.mjs runs them in Node, and
// restart_test.go in a page of the chat; a page that lets in no other scripts takes it as a classic script.
globalThis.witnesses = {};

{
  const ends = [];
  globalThis.leave = () => ends.forEach((end) => end());
  const auth = (name) => ({ name, password: 'atrium' });
  const lobby = { room: 'lobby' };
  const witness = (name) => (witnesses[name] = { connects: [], joined: 0, reasons: [], errors: [], heard: [], away: [] });

  // A client with the methods of Socket.IO's: client.js is one, too. call sends an event and returns a promise of its answer.
  const watch = (name, socket, call) => {
    const noted = witness(name);
    ends.push(() => socket.close());
    let left;
    socket.on('connect', async () => {
      noted.connects.push({ id: socket.id, recovered: socket.recovered });
      if (left !== undefined) noted.away.push(Math.round(performance.now() - left));
      if (!socket.recovered) await call('join', lobby);
      noted.joined++;
    });
    socket.on('disconnect', (reason) => {
      noted.reasons.push(reason);
      left = performance.now();
    });
    socket.on('connect_error', (error) => noted.errors.push(String(error)));
    socket.on('error', (error) => noted.errors.push(JSON.stringify(error)));
    socket.on('said', ({ key }) => noted.heard.push(Number(key)));
  };

  globalThis.watchSocketIO = (name, io, url, transports) => {
    const socket = io(url, { auth: auth(name), forceNew: true, ...(transports && { transports }) });
    watch(name, socket, (...args) => socket.emitWithAck(...args));
  };

  globalThis.watchClientScript = (name, connect, url) => {
    const socket = connect(url, { auth: auth(name) });
    watch(name, socket, (...args) => socket.call(...args));
  };

  // A WebSocket and nothing else. Its reasons are close codes.
  globalThis.watchPlain = (name, url) => {
    const noted = witness(name);
    const connect = () => {
      const socket = new WebSocket(url.replace('http', 'ws') + '/socket.io/', 'atrium');
      const send = (message) => socket.send(JSON.stringify(message));
      socket.onopen = () => send({ event: 'connect', data: auth(name) });
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.event === 'connect') {
          noted.connects.push({ id: message.data.sid, recovered: false });
          send({ event: 'join', data: lobby, id: 1 });
        } else if (message.id === 1 && !message.error) noted.joined++;
        else if (message.event === 'said') noted.heard.push(Number(message.data.key));
        else if (message.event !== 'presence') noted.errors.push(data);
      };
      socket.onclose = ({ code }) => {
        noted.reasons.push(String(code));
        setTimeout(connect, 100 * Math.random());
      };
    };
    connect();
  };
}
