// A live page about a hub. The hub sends its figures (Hub.Stats) once a second over client.js, and the list that the page
// looks at; differences and drawing are made here.

import { connect } from './client.js';
import { Chart } from './charts.js';
import { Lists } from './lists.js';
import { SocketDialog } from './socket.js';
import { bytes, count, lasting, make, nanoseconds, put, rate } from './text.js';

const $ = (id) => document.getElementById(id);
const feed = connect('feed', { reconnect: { min: 500, max: 5000 } });
const lists = new Lists(feed, (row) => dialog.open(row.id));
const dialog = new SocketDialog(feed, (room, namespace) => lists.showRoom(room, namespace));

// ---- The connection ----

feed.onstate = (state) => {
  const texts = { open: 'Live', connecting: 'Connecting…', waiting: 'Connection lost, trying again', closed: 'The hub has ended' };
  put($('status'), texts[state]);
  $('status').dataset.state = state;
};

let bounds = []; // of the histograms, in nanoseconds
feed.on('hello', (hub) => {
  bounds = hub.bounds;
  previous = undefined;
  put($('node'), hub.node);
  $('nodes-tab').hidden = !hub.cluster;
  dialog.configure(hub);
  lists.ask();
});

// ---- The figures ----

const charts = {
  events: new Chart($('charts'), { title: 'Events a second', series: ['received', 'delivered'], format: rate, least: 10 }),
  bytes: new Chart($('charts'), { title: 'Bytes a second', series: ['in', 'out'], format: bytes, least: 1000 }),
  handlers: new Chart($('charts'), { title: 'Handler time', series: ['median', '99 %'], format: nanoseconds, least: 100_000 }),
  clients: new Chart($('charts'), { title: 'Connections a second', series: ['opened', 'ended'], format: rate, least: 10 }),
};

const tiles = Object.fromEntries(
  ['Clients', 'Rooms', 'Queued', 'Handlers', 'Disconnects', 'Refused'].map((name) => {
    const tile = { value: make('dd', { className: 'value' }, '–'), detail: make('dd', { className: 'detail' }) };
    $('tiles').append(make('div', {}, make('dt', {}, name), tile.value, tile.detail));
    return [name, tile];
  }),
);

const show = (name, value, ...details) => {
  put(tiles[name].value, value);
  put(tiles[name].detail, details.filter(Boolean).map((detail) => detail.replaceAll(' ', '\u00a0')).join(' · '));
};

const sum = (counts) => Object.values(counts ?? {}).reduce((a, b) => a + b, 0);
const some = (n, what) => n > 0 && `${count(n)} ${what}`;

let previous; // the sample before
feed.on('stats', ({ time, stats }) => {
  const { clients, outboxes, inboxes, handlers, calls, recovery } = stats;
  const spaces = Object.values(stats.namespaces ?? {});
  const total = (key) => spaces.reduce((n, space) => n + space[key], 0);
  put($('up'), `up ${lasting(time - Date.parse(stats.start))}`);
  show('Clients', count(clients.plain + clients.socketIO), `${count(clients.webSocket)} WebSocket`, `${count(clients.polling)} polling`,
    some(clients.plain, 'plain'), some(clients.pending, 'pending'), some(recovery.away, 'away'));
  show('Rooms', count(total('rooms')), `${count(total('sockets'))} sockets`, `${count(spaces.length)} ${spaces.length === 1 ? 'namespace' : 'namespaces'}`);
  show('Queued', bytes(outboxes.bytes), `largest ${bytes(outboxes.largest)}`, inboxes.bytes > 0 && `to handle ${bytes(inboxes.bytes)}`);
  show('Handlers', count(sum(handlers.duration.counts)), `${count(handlers.errors)} errors`, `${count(handlers.panics)} panics`, some(calls.pending, 'calls pending'));
  show('Disconnects', count(sum(stats.disconnects)), `${count(clients.slow)} slow`, `${count(clients.silent)} silent`);
  show('Refused', count(sum(stats.refused)), some(stats.refused.origin, 'origin'), some(stats.refused.full + stats.refused.perClient, 'full'));

  if (previous) {
    const seconds = Math.max(0.1, (time - previous.time) / 1000);
    const per = (now, before) => Math.max(0, now - before) / seconds;
    const was = previous.stats;
    const at = time / 1000;
    charts.events.push(at, [per(stats.received.events, was.received.events), per(stats.deliveries, was.deliveries)]);
    charts.bytes.push(at, [per(stats.received.bytes, was.received.bytes), per(stats.sent.bytes, was.sent.bytes)]);
    charts.handlers.push(at, [0.5, 0.99].map((share) => quantile(handlers.duration.counts, was.handlers.duration.counts, share)));
    charts.clients.push(at, [per(clients.opened, was.clients.opened), per(sum(stats.disconnects), sum(was.disconnects))]);
  }
  previous = { time, stats };
  lists.figures(stats, time);
});

// quantile returns the duration that this share of the handlers of the last second was below, in nanoseconds; undefined
// if there were none. Within a bucket they count as evenly spread.
function quantile(now, before, share) {
  const counts = now.map((n, i) => n - before[i]);
  let rest = share * sum(counts);
  if (rest === 0) return undefined;
  for (let i = 0; i < bounds.length; i++) {
    const from = i > 0 ? bounds[i - 1] : 0;
    if (rest <= counts[i]) return from + ((bounds[i] - from) * rest) / counts[i];
    rest -= counts[i];
  }
  return bounds.at(-1);
}

// ---- Keys ----

document.addEventListener('keydown', (event) => {
  if (event.key === '/' && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest('input, textarea, dialog')) {
    event.preventDefault();
    $('search').focus();
    $('search').select();
  }
});
