// Connects clients as they come, by polling and then a WebSocket, each from an address of its own: node proxies.mjs url
// number. A line of standard output says when all of them use a WebSocket, {"upgraded": number}, and when all have heard
// some news, {"heard": news}. The environment names who has signed the certificate of https: NODE_EXTRA_CA_CERTS.
import https from 'node:https';
import { io } from 'socket.io-client';

const [url, number] = [process.argv[2], Number(process.argv[3])];
const say = (what) => console.log(JSON.stringify(what));
const heard = new Map(); // how many, by the news
let upgraded = 0;

for (let i = 0; i < number; i++) {
  const socket = io(url, {
    forceNew: true,
    withCredentials: true, // HAProxy's cookie
    agent: new https.Agent({ localAddress: `127.0.0.${2 + i}` }),
    reconnectionDelay: 100,
    reconnectionDelayMax: 500,
  });
  socket.io.engine.once('upgrade', () => {
    if (++upgraded === number) say({ upgraded });
  });
  socket.on('connect_error', (error) => console.error(`${error}: ${error.description ?? ''}`));
  socket.on('news', (news) => {
    heard.set(news, (heard.get(news) ?? 0) + 1);
    if (heard.get(news) === number) say({ heard: news });
  });
}
