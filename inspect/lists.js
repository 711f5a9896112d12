// The lists below the charts: sockets, rooms, what was refused, nodes. The hub searches, sorts and cuts them into pages of
// 100 rows.

import { bytes, count, lasting, make, nanoseconds, named, printable, proper, put, rate, time } from './text.js';

const $ = (id) => document.getElementById(id);
const PAGE = 100;

// A column: its name, what the hub sorts it by, what is in a cell, whether it is a number, and whether a phone leaves it
// out.
const COLUMNS = {
  sockets: [
    { title: 'Socket', sort: 'id', cell: (row) => named(row.id), opens: true },
    { title: 'User', sort: 'user', cell: (row) => named(row.user ?? ''), minor: true, only: (rows) => rows.some((row) => row.user) },
    { title: 'Address', sort: 'remote', cell: (row) => named(row.remote), minor: true },
    { title: 'Protocol', sort: 'protocol', cell: (row) => proper(row.protocol), minor: true },
    { title: 'Transport', sort: 'transport', cell: (row) => proper(row.transport), minor: true },
    { title: 'Namespace', sort: 'namespace', cell: (row) => named(row.namespace), minor: true, only: (rows) => rows.some((row) => row.namespace !== '/') },
    { title: 'Rooms', sort: 'rooms', cell: (row) => count(row.rooms), number: true, minor: true },
    { title: 'Queued', sort: 'queued', cell: (row) => bytes(row.queued), number: true },
    { title: 'Round trip', sort: 'roundTrip', cell: (row) => (row.roundTrip ? nanoseconds(row.roundTrip) : '–'), number: true, minor: true },
    { title: 'Connected', sort: 'connected', cell: (row, now) => lasting(now - row.connected), number: true },
  ],
  rooms: [
    { title: 'Room', sort: 'name', cell: (row) => named(row.name), opens: true },
    { title: 'Namespace', sort: 'namespace', cell: (row) => named(row.namespace), minor: true, only: (rows) => rows.some((row) => row.namespace !== '/') },
    { title: 'Sockets', sort: 'sockets', cell: (row) => count(row.sockets), number: true },
  ],
  nodes: [
    { title: 'Node', cell: (row) => named(row.node + (row.self ? ' (this one)' : '')) },
    { title: 'Clients', cell: (row) => figure(row, (s) => count(s.clients.plain + s.clients.socketIO)), number: true },
    { title: 'Events/s', cell: (row) => figure(row, (s) => rate(s.rates.received)), number: true },
    { title: 'Delivered/s', cell: (row) => figure(row, (s) => rate(s.rates.delivered)), number: true },
    { title: 'Queued', cell: (row) => figure(row, (s) => bytes(s.outboxes.bytes)), number: true, minor: true },
    { title: 'Disconnects', cell: (row) => figure(row, (s) => count(total(s.disconnects))), number: true, minor: true },
    { title: 'Refused', cell: (row) => figure(row, (s) => count(total(s.refused))), number: true, minor: true },
    { title: 'Up', cell: (row, now) => figure(row, (s) => lasting(now - Date.parse(s.start))), number: true, minor: true },
  ],
};
const SORTS = { sockets: ['connected', true], rooms: ['sockets', true], lately: ['', false], nodes: ['', false] };
const NAMES = { sockets: 'Sockets', rooms: 'Rooms', lately: 'Refused and ended', nodes: 'Nodes' };
const KEYS = { sockets: (row) => row.id, rooms: (row) => row.namespace + ',' + row.name, nodes: (row) => row.node };

const figure = (row, of) => (row.stats ? of(row.stats) : row.key === 'sum' ? '' : 'no answer');
const total = (counts) => Object.values(counts ?? {}).reduce((a, b) => a + b, 0);

export class Lists {
  #feed;
  #open; // called with the row of a socket
  #view = { list: 'sockets', namespace: '', room: '', search: '', sort: 'connected', descending: true, page: 0 };
  #rows = new Map(); // key → { element, cells }, of the table
  #columns = [];
  #announce = false; // the next list answers what a person has asked
  #before = new Map(); // node → the sample before

  constructor(feed, open) {
    this.#feed = feed;
    this.#open = open;
    feed.on('list', (list) => this.#show(list));
    addEventListener('hashchange', () => this.#turn());
    let typing;
    $('search').addEventListener('input', () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#change({ search: $('search').value.trim(), page: 0 }), 150);
    });
    $('tools').addEventListener('submit', (event) => event.preventDefault());
    $('namespace').addEventListener('change', () => this.#change({ namespace: $('namespace').value, page: 0 }));
    $('room').addEventListener('click', () => {
      this.#change({ room: '', page: 0 });
      $('search').focus();
    });
    $('earlier').addEventListener('click', () => this.#change({ page: this.#view.page - 1 }));
    $('later').addEventListener('click', () => this.#change({ page: this.#view.page + 1 }));
    $('table').addEventListener('keydown', (event) => this.#walk(event));
    this.#turn();
  }

  // ask tells the hub what we look at.
  ask() {
    this.#feed.emit('view', this.#view);
  }

  // showRoom lists the sockets in a room.
  showRoom(room, namespace) {
    $('search').value = '';
    this.#view = { ...this.#view, room, namespace, search: '', page: 0, list: 'sockets', sort: 'connected', descending: true };
    if (location.hash !== '#sockets') location.hash = 'sockets';
    else this.#turn();
  }

  // figures shows what the lists have of a sample.
  figures(stats) {
    const names = Object.keys(stats.namespaces ?? {}).filter((name) => name !== '*');
    $('namespace-label').hidden = names.length < 2 || !'sockets rooms'.includes(this.#view.list);
    const options = ['', ...names];
    if (options.join('\n') !== [...$('namespace').options].map((option) => option.value).join('\n')) {
      $('namespace').replaceChildren(...options.map((value) => make('option', { value }, value === '' ? 'All namespaces' : printable(value))));
      $('namespace').value = this.#view.namespace;
    }
    if (this.#view.list !== 'lately') return;
    const words = { perClient: 'per client', shuttingDown: 'shutting down', accept: 'Accept', use: 'Use', full: 'too many' };
    const some = (counts) => {
      const entries = Object.entries(counts ?? {}).filter(([, n]) => n > 0);
      return entries.length > 0 ? entries.sort(([, a], [, b]) => b - a) : [['none', 0]];
    };
    const table = (title, counts) =>
      make('table', {}, make('caption', {}, title), make('tbody', {},
        ...some(counts).map(([name, n]) => make('tr', {}, make('th', { scope: 'row' }, words[name] ?? name), make('td', { className: 'number' }, count(n))))));
    $('counts').replaceChildren(table('Refused, by reason', stats.refused), table('Disconnects, by reason', stats.disconnects));
  }

  #change(change) {
    this.#view = { ...this.#view, ...change };
    this.#announce = true;
    $('room').hidden = this.#view.room === '' || this.#view.list !== 'sockets';
    $('room').replaceChildren('in ', named(this.#view.room), make('span', { ariaHidden: 'true' }, ' ×'), make('span', { className: 'unseen' }, ', show all'));
    this.ask();
  }

  // turn goes to the list that the address names.
  #turn() {
    const list = Object.hasOwn(NAMES, location.hash.slice(1)) ? location.hash.slice(1) : 'sockets';
    const turned = list !== this.#view.list;
    for (const tab of document.querySelectorAll('.tabs a')) {
      if (tab.hash === '#' + list) tab.setAttribute('aria-current', 'page');
      else tab.removeAttribute('aria-current');
    }
    put($('list-title'), NAMES[list]);
    $('tools').hidden = list === 'lately' || list === 'nodes';
    $('counts').hidden = list !== 'lately';
    $('counts').replaceChildren();
    if (list !== 'sockets') $('namespace').value = '';
    $('search').placeholder = list === 'rooms' ? 'Room' : 'Id, user, room or address';
    if (turned) $('search').value = '';
    const [sort, descending] = SORTS[list];
    const kept = list === 'sockets' ? { room: this.#view.room, namespace: this.#view.namespace } : { room: '', namespace: '' };
    this.#change(turned ? { ...kept, list, sort, descending, search: '', page: 0 } : { list });
    if (turned) this.#show({ view: this.#view, rows: [], total: 0, time: 0, waiting: true });
  }

  #show({ view, rows, total, time, waiting }) {
    if (view.list !== this.#view.list || view.search !== this.#view.search || view.room !== this.#view.room) return; // of before
    const page = Math.min(view.page, Math.floor(total / PAGE));
    $('lately').hidden = view.list !== 'lately';
    $('table').hidden = view.list === 'lately';
    if (view.list === 'lately') this.#showLately(rows);
    else this.#showTable(view, view.list === 'nodes' ? this.#sumUp(rows, time) : rows, time);
    $('pager').hidden = total <= PAGE || view.list === 'lately';
    put($('range'), `${count(page * PAGE + 1)}–${count(page * PAGE + rows.length)} of ${count(total)}`);
    $('earlier').disabled = page === 0;
    $('later').disabled = (page + 1) * PAGE >= total;
    $('empty').hidden = rows.length > 0;
    const none = { sockets: 'No sockets', rooms: 'No rooms', lately: 'Nothing was refused, and nobody was disconnected for a fault.', nodes: '' };
    put($('empty'), waiting ? '…' : none[view.list]);
    if (this.#announce && !waiting) {
      this.#announce = false;
      put($('found'), `${count(total)} ${view.list === 'rooms' ? 'room' : 'socket'}${total === 1 ? '' : 's'}`);
    } else if ($('found').textContent && view.list !== 'lately') {
      $('found').setAttribute('role', 'none'); // ticking on, it is not to be read out
      put($('found'), `${count(total)} ${view.list === 'rooms' ? 'room' : 'socket'}${total === 1 ? '' : 's'}`);
      $('found').setAttribute('role', 'status');
    }
  }

  #showTable(view, rows, now) {
    const columns = COLUMNS[view.list].filter((column) => !column.only || column.only(rows));
    if (columns.length !== this.#columns.length || columns.some((column, i) => column !== this.#columns[i]) || !$('table').tHead) {
      this.#columns = columns;
      this.#rows.clear();
      $('table').replaceChildren(make('caption', { className: 'unseen' }, NAMES[view.list]),
        make('thead', {}, make('tr', {}, ...columns.map((column) => this.#heading(column)))), make('tbody', {}));
    }
    [...$('table').tHead.rows[0].cells].forEach((cell, i) => {
      if (columns[i].sort !== undefined && columns[i].sort === view.sort) cell.setAttribute('aria-sort', view.descending ? 'descending' : 'ascending');
      else cell.removeAttribute('aria-sort');
    });
    const focused = document.activeElement;
    const body = $('table').tBodies[0];
    const kept = new Map();
    rows.forEach((row, i) => {
      const key = KEYS[view.list](row);
      const shown = this.#rows.get(key) ?? this.#row(view.list, row);
      shown.row = row;
      columns.forEach((column, c) => {
        const content = column.cell(row, now);
        if (typeof content === 'string') put(shown.cells[c], content);
        else if (shown.cells[c].textContent !== content.textContent) shown.cells[c].replaceChildren(content);
      });
      if (body.rows[i] !== shown.element) body.insertBefore(shown.element, body.rows[i] ?? null);
      kept.set(key, shown);
    });
    while (body.rows.length > rows.length) body.rows[rows.length].remove();
    this.#rows = kept;
    if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
  }

  #heading(column) {
    const className = [column.number && 'number', column.minor && 'minor'].filter(Boolean).join(' ');
    if (column.sort === undefined) return make('th', { scope: 'col', className }, column.title);
    const button = make('button', { type: 'button' }, column.title);
    button.addEventListener('click', () => {
      const descending = this.#view.sort === column.sort ? !this.#view.descending : Boolean(column.number);
      this.#change({ sort: column.sort, descending, page: 0 });
    });
    return make('th', { scope: 'col', className }, button);
  }

  // row makes the row of a table. Its first cell has a button, which opens it.
  #row(list, row) {
    const shown = { row, cells: [] };
    shown.element = make('tr', {}, ...this.#columns.map((column) => {
      const className = [column.number && 'number', column.minor && 'minor', column.opens && 'name'].filter(Boolean).join(' ');
      if (!column.opens) {
        const cell = make('td', { className });
        shown.cells.push(cell);
        return cell;
      }
      const button = make('button', { type: 'button' });
      button.addEventListener('click', () => (list === 'rooms' ? this.showRoom(shown.row.name, shown.row.namespace) : this.#open(shown.row)));
      shown.cells.push(button);
      return make('th', { scope: 'row', className }, button);
    }));
    return shown;
  }

  // walk goes from row to row by the arrow keys.
  #walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest('tbody tr');
    if (!step || !row) return;
    event.preventDefault();
    (step > 0 ? row.nextElementSibling : row.previousElementSibling)?.querySelector('button')?.focus();
  }

  #showLately(incidents) {
    const seen = incidents.map((incident) => `${incident.time} ${incident.what} ${incident.remote} ${incident.detail}`).join('\n');
    if (seen === $('lately').dataset.seen) return;
    $('lately').dataset.seen = seen;
    $('lately').replaceChildren(...incidents.map((incident) => {
      const parts = [make('time', { dateTime: new Date(incident.time).toISOString() }, time(incident.time)), make('strong', {}, incident.what)];
      if (incident.remote) parts.push(make('span', { className: 'muted' }, named(incident.remote)));
      if (incident.detail) parts.push(make('p', {}, named(incident.detail)));
      if (incident.hint) parts.push(make('p', { className: 'hint' }, incident.hint));
      return make('li', {}, ...parts);
    }));
  }

  // sumUp puts the sum of all nodes ahead of them, and each one's rates since the last time.
  #sumUp(nodes, now) {
    const rates = { received: 0, delivered: 0 };
    for (const { node, stats } of nodes) {
      if (!stats) continue;
      const before = this.#before.get(node);
      if (!before || before.stats.received.events !== stats.received.events || now - before.at > 3000) {
        const seconds = before && (now - before.at) / 1000;
        const per = (of) => (before ? Math.max(0, of(stats) - of(before.stats)) / seconds : 0);
        stats.rates = { received: per((s) => s.received.events), delivered: per((s) => s.deliveries) };
        this.#before.set(node, { at: now, stats });
      } else {
        stats.rates = before.stats.rates;
      }
      rates.received += stats.rates.received;
      rates.delivered += stats.rates.delivered;
    }
    const add = (of) => nodes.reduce((n, { stats }) => n + (stats ? of(stats) : 0), 0);
    const all = {
      clients: { plain: add((s) => s.clients.plain), socketIO: add((s) => s.clients.socketIO) },
      outboxes: { bytes: add((s) => s.outboxes.bytes) },
      disconnects: { all: add((s) => total(s.disconnects)) },
      refused: { all: add((s) => total(s.refused)) },
      start: new Date(Math.min(...nodes.flatMap(({ stats }) => (stats ? [Date.parse(stats.start)] : [])), now)).toISOString(),
      rates,
    };
    return nodes.length > 0 ? [{ node: `All ${nodes.length}`, stats: all }, ...nodes] : [];
  }
}
