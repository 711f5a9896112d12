// Somebody with npm's socket.io-client who keeps who is in a room as SOCKETIO.md says: node socketio-presence.mjs address
// room key info. It prints the list, as one line of JSON, whenever it is another, and ends with its input.
import { io } from 'socket.io-client';

const [, , address, room, key, info] = process.argv;
const socket = io(address, { auth: { token: 'ok' } });
const people = new Map(); // key → infos
let version; // of what we know; undefined while the state is to come

socket.on('connect_error', (error) => { throw error; });
socket.on('connect', () => {
  socket.emit('present', { room, key, info: JSON.parse(info) });
  socket.emit('presence', { room }); // had we not come into the room, nobody would tell us
});
socket.on('presence', (event) => {
  if (event.room !== room) return;
  if (event.state) {
    if (!event.part) people.clear();
  } else if (version === undefined) {
    return;
  } else if (event.version !== version + 1) {
    version = undefined;
    socket.emit('presence', { room });
    return;
  }
  version = event.version;
  for (const person of [...(event.state ?? []), ...(event.joined ?? []), ...(event.changed ?? [])]) people.set(person.key, person.infos);
  for (const gone of event.left ?? []) people.delete(gone);
  if (event.part + 1 < event.parts) return;
  console.log(JSON.stringify([...people].map(([key, infos]) => ({ key, infos }))));
});
process.stdin.on('close', () => socket.close()).resume();
