// The dialog about one socket: what it is, the rooms it is in, its events as they come, and what can be done to it.

import { bytes, lasting, make, nanoseconds, named, proper, put, time } from './text.js';

const $ = (id) => document.getElementById(id);
const KEPT = 200; // events

export class SocketDialog {
  #feed;
  #showRoom;
  #id = ''; // of the socket; '' while the dialog is closed
  #payloads = false;
  #held; // events that came during a pause; undefined: there is none

  constructor(feed, showRoom) {
    this.#feed = feed;
    this.#showRoom = showRoom;
    feed.on('connect', () => this.#id && this.#watch());
    feed.on('socket', (socket) => socket.id === this.#id && this.#show(socket));
    feed.on('events', ({ id, events, missed }) => id === this.#id && this.#add(events, missed ?? 0));
    $('close').addEventListener('click', () => $('socket').close());
    $('socket').addEventListener('close', () => this.#closed());
    $('socket').addEventListener('click', (event) => event.target === $('socket') && $('socket').close()); // beside it
    $('pause').addEventListener('click', () => this.#pause(!this.#held));
    $('send').addEventListener('submit', (event) => this.#send(event));
    $('disconnect').addEventListener('click', () => this.#disconnect());
    $('keep').addEventListener('click', () => this.#sure(false));
  }

  configure({ payloads, actions }) {
    this.#payloads = payloads;
    $('no-payloads').hidden = payloads;
    $('actions').hidden = !actions;
  }

  open(id) {
    this.#id = id;
    put($('socket-id'), id);
    $('facts').replaceChildren();
    $('rooms').replaceChildren();
    $('events').replaceChildren();
    $('no-events').hidden = false;
    $('gone').hidden = true;
    put($('missed'), '');
    put($('done'), '');
    this.#pause(false);
    this.#sure(false);
    $('socket').showModal();
    $('close').focus();
    this.#watch();
  }

  async #watch() {
    try {
      this.#show(await this.#feed.call('watch', this.#id));
    } catch (error) {
      this.#end(error.message);
    }
  }

  // The browser says a task later that the dialog is closed, and it may be open again by then.
  #closed() {
    if ($('socket').open) return;
    this.#id = '';
    this.#feed.emit('unwatch');
  }

  #end(text) {
    $('gone').hidden = false;
    put($('gone'), text);
    $('disconnect').disabled = true;
  }

  #show(socket) {
    const facts = {
      Address: named(socket.remote),
      User: socket.user && named(socket.user),
      Protocol: `${proper(socket.protocol)} over ${proper(socket.transport)}${socket.compression ? ', compressed' : ''}${socket.secure ? ', TLS' : ''}`,
      Namespace: named(socket.namespace),
      Connected: lasting(Date.now() - socket.connected) + (socket.recovered ? ', came back' : ''),
      'Round trip': socket.roundTrip ? nanoseconds(socket.roundTrip) : '–',
      Traffic: `${bytes(socket.received)} in, ${bytes(socket.sent)} out`,
      'Queued for it': bytes(socket.queued),
      'Events to handle': `${socket.waiting}`,
      'Handling now': socket.handling ? `${socket.handling}, for ${lasting(socket.since)}` : 'nothing',
      Path: named(socket.path),
      Origin: socket.origin && named(socket.origin),
      'User agent': socket.agent && named(socket.agent),
    };
    const list = $('facts');
    for (const [name, value] of Object.entries(facts)) {
      let cell = list.querySelector(`[data-name="${name}"]`);
      if (!value) continue;
      if (!cell) {
        cell = make('dd', { 'data-name': name });
        list.append(make('div', {}, make('dt', {}, name), cell));
      }
      if (typeof value === 'string') put(cell, value);
      else if (cell.textContent !== value.textContent) cell.replaceChildren(value);
    }
    const names = JSON.stringify([socket.names, socket.rooms]);
    if ($('rooms').dataset.names === names && $('rooms').childElementCount > 0) return;
    $('rooms').dataset.names = names;
    const more = socket.rooms - socket.names.length;
    $('rooms').replaceChildren(
      ...socket.names.map((name) => {
        const chip = make('button', { type: 'button', className: 'chip' }, named(name));
        chip.addEventListener('click', () => {
          $('socket').close();
          this.#showRoom(name, socket.namespace);
        });
        return make('li', {}, chip);
      }),
      ...(more > 0 ? [make('li', { className: 'muted' }, `and ${more} more`)] : []),
      ...(socket.rooms === 0 ? [make('li', { className: 'muted' }, 'none')] : []),
    );
  }

  // ---- Events ----

  #add(events, missed) {
    if (missed > 0) put($('missed'), `${missed} more came too fast to show`);
    const left = events.findLast((event) => event.kind === 'left');
    if (left) this.#end(`It has left: ${left.name}`);
    if (this.#held) {
      this.#held = [...this.#held, ...events].slice(-KEPT);
      put($('missed'), `${this.#held.length} while paused`);
      return;
    }
    const rows = events.slice(-KEPT).reverse().map((event) => this.#row(event));
    $('no-events').hidden = $('no-events').hidden || rows.length > 0;
    $('events').prepend(...rows);
    while ($('events').rows.length > KEPT) $('events').lastElementChild.remove();
  }

  #row(event) {
    const left = event.kind === 'left';
    const ack = event.ackID >= 0 && make('span', { className: 'muted' }, event.kind === 'ack' ? `answer to ${event.ackID}` : ` asks, ${event.ackID}`);
    const what = make('td', { className: 'name' }, left ? `left: ${event.name}` : named(event.name));
    if (ack) what.append(ack);
    if (event.kind === 'volatile') what.append(make('span', { className: 'muted' }, ' volatile'));
    if (this.#payloads && event.data) what.append(make('code', { className: 'data' }, named(event.data + (event.size > event.data.length ? '…' : ''))));
    return make('tr', {},
      make('td', { className: 'muted' }, time(event.time)),
      make('td', { className: left ? '' : event.out ? 'out' : 'in' }, left ? '' : event.out ? '↓ out' : '↑ in'),
      what,
      make('td', { className: 'number' }, left ? '' : bytes(event.size)));
  }

  #pause(paused) {
    const held = this.#held;
    this.#held = paused ? [] : undefined;
    put($('pause'), paused ? 'Go on' : 'Pause');
    $('pause').setAttribute('aria-pressed', String(paused));
    if (held) {
      put($('missed'), '');
      this.#add(held, 0);
    }
  }

  // ---- Actions ----

  async #send(event) {
    event.preventDefault();
    let args = [];
    const text = $('send-args').value.trim();
    try {
      if (text !== '') args = JSON.parse(`[${text}]`);
    } catch {
      put($('done'), 'The arguments are not JSON');
      $('send-args').focus();
      return;
    }
    await this.#do('send-event', { id: this.#id, event: $('send-event').value, args }, 'Sent');
  }

  // disconnect asks once more, first.
  async #disconnect() {
    if ($('keep').hidden) {
      this.#sure(true);
      return;
    }
    this.#sure(false);
    await this.#do('disconnect-socket', this.#id, 'Disconnected');
  }

  #sure(asking) {
    $('keep').hidden = !asking;
    $('disconnect').disabled = false;
    put($('disconnect'), asking ? 'Yes, disconnect it' : 'Disconnect');
  }

  async #do(action, what, done) {
    try {
      await this.#feed.call(action, what);
      put($('done'), done);
    } catch (error) {
      put($('done'), error.message);
    }
  }
}
