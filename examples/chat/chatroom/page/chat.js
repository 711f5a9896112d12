// The page: what people see and touch. What goes over the wire is the business of Atrium's client.js, which the server
// has with it: it keeps the connection up, and what it could not send yet.
// Whatever other people wrote enters the page as textContent only.

import { connect } from '/client.js';

const FIRST_ROOM = 'lobby';
const PUBLIC = '#'; // what the server puts before the names of rooms
const PERSON = '@'; // what we put before the name of a person to talk to
const TYPING_LASTS = 3000; // milliseconds without a key until we are typing no more
const TOGETHER = 5 * 60_000; // messages of one person this close stand under one name
const LONGEST_LOG = 500; // messages kept a room

const $ = (id) => document.getElementById(id);
const clone = (id) => $(id).content.firstElementChild.cloneNode(true);
const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' }).compare;
const clockTime = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const wide = matchMedia('(min-width: 48rem)');
const touch = matchMedia('(pointer: coarse)');

const rooms = new Map(); // name → Room, of the rooms we are in or just joining
const unsent = new Set(); // our messages that the server has not acknowledged
let house = new Map(); // name → people, of all rooms there are
let current = null; // the Room on the screen
let signIn = null; // {name, password} while we want to be in

const socket = connect('/socket.io/', { auth: () => signIn, autoConnect: false });
const everyone = socket.presence('everyone'); // each with the rooms that they are in

class Room {
  joined = false;
  unread = 0;
  draft = '';
  keys = new Set(); // of the messages shown
  last = null; // the message shown last
  atNewest = true; // the log is scrolled to its end, and should stay there

  constructor(name) {
    this.name = name;
    if (name.startsWith(PERSON)) this.person = name.slice(1);
    else this.presence = socket.presence(PUBLIC + name); // each with whether they are typing
    if (this.presence) this.presence.onchange = () => this === current && showPeople();
    this.log = clone('log-template');
    this.log.hidden = true;
    this.log.setAttribute('aria-label', `Messages in ${name}`);
    this.log.addEventListener('scroll', () => {
      this.atNewest = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
      if (this === current && this.atNewest) $('to-newest').hidden = true;
    });
    $('logs').append(this.log);
    resized.observe(this.log);
  }

  add(element) {
    this.log.append(element);
    if (this.log.childElementCount > LONGEST_LOG) this.log.firstElementChild.remove();
    if (this.atNewest) this.toNewest();
    else if (this === current) $('to-newest').hidden = false;
  }

  toNewest() {
    this.log.scrollTop = this.log.scrollHeight;
  }

  remove() {
    rooms.delete(this.name);
    this.presence?.close();
    resized.unobserve(this.log);
    this.log.remove();
  }
}

// The keyboard of a phone, or a growing text box, makes a log smaller. Its end stays in view.
const resized = new ResizeObserver((entries) => {
  for (const room of rooms.values()) {
    if (room.atNewest && entries.some(({ target }) => target === room.log)) room.toNewest();
  }
});

// ---- Signing in and out ----

$('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  for (const field of ['name', 'password', 'sign-in']) complain(field, '');
  signIn = { name: $('name').value.trim(), password: $('password').value };
  socket.connect();
});

$('sign-out').addEventListener('click', () => {
  for (const room of rooms.values()) room.remove();
  current = signIn = typingIn = null;
  history.replaceState(null, '', '#');
  socket.close();
  $('name').focus();
});

socket.onstate = (state, delay) => {
  $('enter').textContent = state === 'connecting' ? 'Signing in…' : 'Sign in';
  $('connection').textContent = { connecting: 'Connecting', open: 'Connected', waiting: 'Offline', closed: '' }[state];
  $('connection').dataset.state = state;
  $('offline').hidden = $('chat').hidden || (state !== 'waiting' && state !== 'connecting');
  countDown(delay);
  for (const message of unsent) setState(message, state === 'open' ? 'sending' : 'waiting');
  if (state === 'closed') {
    $('chat').hidden = true;
    $('welcome').hidden = false;
    document.title = 'Atrium chat';
  }
};

socket.on('connect', () => ($('chat').hidden ? comeIn() : comeBack()));

socket.on('disconnect', (reason) => {
  if (reason === 'io server disconnect') complain('sign-in', 'The server has ended this session.');
});

socket.on('connect_error', ({ name, message, data }) => {
  if (name === 'RefusedError') {
    complain(data ?? (message === 'Auth failed' ? 'password' : 'sign-in'), message);
  } else if ($('chat').hidden) {
    // There is nothing to come back to yet: say so at once instead of trying on and on.
    socket.close();
    complain('sign-in', 'The server cannot be reached. Is it running?');
  }
});

function comeIn() {
  $('welcome').hidden = true;
  $('chat').hidden = false;
  $('password').value = '';
  $('my-name').textContent = signIn.name;
  if (rooms.size === 0) return openRoom(roomInAddress() || FIRST_ROOM);
  comeBack(); // the server had sent us to the door again, and our rooms are still here
  showRoom(current);
}

// comeBack joins our rooms again, unless the server has kept us in them, and what was said. What was written meanwhile is
// sent behind that, and the server handles what we send in order, so nothing here has to wait for an answer.
function comeBack() {
  if (socket.recovered) return;
  for (const room of [...rooms.values()].filter(({ person }) => !person)) {
    socket.call('join', { room: room.name }).then(
      () => (room.joined ? notice(room, 'You are back. What others said meanwhile is not shown here.') : enterRoom(room)),
      ({ name, message }) => name === 'RefusedError' && leftRoom(room, message),
    );
  }
}

let ticking = 0;
function countDown(delay) {
  clearInterval(ticking);
  $('next-try').textContent = '';
  if (!(delay < Infinity)) return;
  const until = Date.now() + delay;
  const show = () => ($('next-try').textContent = `Next try in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s.`);
  show();
  ticking = setInterval(show, 1000);
}

$('retry').addEventListener('click', () => socket.connect());
document.addEventListener('visibilitychange', () => current && seen(current));

// ---- What the server tells ----

everyone.onchange = (people) => {
  house = new Map();
  for (const { infos } of people) { // one for each window
    for (const room of new Set(infos.flat())) {
      if (room.startsWith(PUBLIC)) house.set(room.slice(1), (house.get(room.slice(1)) ?? 0) + 1);
    }
  }
  showRooms();
  if (current?.person) showPeople();
};

socket.on('said', (message) => {
  const mine = message.from === signIn.name; // in another window
  const person = message.to && PERSON + (mine ? message.to : message.from);
  const room = rooms.get(person ?? message.room) ?? (person && talkTo(person));
  if (!room || room.keys.has(message.key)) return;
  message = { ...message, room, mine, at: new Date(message.at) };
  message.element = showMessage(message);
  if (mine) setState(message, 'sent');
  else if (room !== current || document.hidden) room.unread++;
  showRooms();
});

// ---- Rooms ----

function roomInAddress() {
  try {
    return location.hash.startsWith('#/') ? decodeURIComponent(location.hash.slice(2)) : '';
  } catch {
    return ''; // somebody typed an address that is no address
  }
}

const address = (name) => `#/${encodeURIComponent(name)}`;

// The address says which room is on the screen, so the browser's Back works and a link to a room can be shared.
addEventListener('hashchange', () => {
  if (signIn === null || $('chat').hidden) return;
  const name = roomInAddress();
  if (name) openRoom(name);
  else showRoom(null);
});

$('join').addEventListener('submit', (event) => {
  event.preventDefault();
  openRoom($('room').value.trim());
});

$('room').addEventListener('input', () => {
  complain('room', '');
  showRooms();
});

function openRoom(name) {
  complain('room', '');
  let room = rooms.get(name);
  if (room?.joined) return showRoom(room);
  if (name.startsWith(PERSON)) return showRoom(talkTo(name));
  if (!room) rooms.set(name, (room = new Room(name)));
  const offline = 'You are offline. Join when the connection is back.';
  if (socket.state !== 'open') return leftRoom(room, offline);
  socket.call('join', { room: name }).then(
    () => enterRoom(room),
    (error) => leftRoom(room, error.name === 'RefusedError' ? error.message : offline),
  );
}

// talkTo begins a conversation with one person: a room that the server does not know.
function talkTo(name) {
  const room = new Room(name);
  rooms.set(name, room);
  room.joined = true;
  notice(room, `What you say here is for ${room.person} alone.`);
  $('room').value = '';
  return room;
}

function enterRoom(room) {
  if (!room.joined) notice(room, 'You are in. What is said from now on appears here.');
  room.joined = true;
  $('room').value = '';
  showRoom(room);
}

$('leave').addEventListener('click', () => {
  if (current.presence && socket.state === 'open') socket.emit('leave', { room: current.name }); // offline we have left already
  leftRoom(current);
});

// leftRoom is also for a room that we could not enter: then why says the reason, beside the input for room names.
function leftRoom(room, why = '') {
  room.remove();
  if (room === current) current = null;
  let next = current ?? [...rooms.values()].find(({ joined }) => joined);
  if (!wide.matches) next = null; // where there is no space for both, the list of rooms is what we go back to
  history.replaceState(null, '', next ? address(next.name) : '#');
  showRoom(next, !why);
  if (why) {
    complain('room', why);
    $('room').focus();
  }
}

// showRoom(null) shows that no room is chosen. On a phone that is the list of rooms.
function showRoom(room, moveFocus = true) {
  room ??= null;
  if (current) current.draft = $('text').value;
  if (room !== current) complain('message', '');
  if (room) $('text').value = room.draft;
  if (room && roomInAddress() !== room.name) history.pushState(null, '', address(room.name));
  current = room;
  $('chat').dataset.view = room ? 'room' : 'rooms';
  $('conversation').hidden = !room;
  $('nowhere').hidden = Boolean(room);
  $('people').hidden = !room;
  for (const { log } of rooms.values()) log.hidden = log !== room?.log;
  $('to-newest').hidden = true;
  unfold(false);
  if (room) {
    $('room-name').textContent = $('room-name').title = room.name;
    $('text').labels[0].textContent = `Message to ${room.name}`;
    if (room.atNewest) room.toNewest();
    showPeople();
    seen(room);
    if (moveFocus) (touch.matches ? $('room-name') : $('text')).focus();
  } else {
    document.title = 'Atrium chat';
    if (moveFocus) (wide.matches ? $('room') : $('mine-title')).focus();
  }
  showRooms();
}

function seen(room) {
  if (document.hidden) return;
  room.unread = 0;
  showRooms();
}

const links = new Map(); // name → the <li> of a room, kept so that the focus stays on it while the lists change

function showRooms() {
  const sought = $('room').value.trim().toLocaleLowerCase();
  const mine = [...rooms.values()].filter(({ joined }) => joined);
  const others = [...house.keys()].filter((name) => !rooms.get(name)?.joined);
  const found = others.filter((name) => name.toLocaleLowerCase().includes(sought));
  fill($('mine'), mine.map(({ name }) => name).sort(byName).map(roomLink));
  fill($('others'), found.sort(byName).map(roomLink));
  $('mine-empty').hidden = mine.length > 0;
  $('others-empty').hidden = found.length > 0;
  $('others-empty').textContent = others.length > 0 ? 'None of this name. Join creates it.' : 'None right now. Type a name above to create one.';

  const unread = mine.reduce((sum, room) => sum + room.unread, 0);
  if (current) document.title = `${unread ? `(${unread}) ` : ''}${current.name} · Atrium chat`;
}

function fill(list, items) {
  if (items.length !== list.childElementCount || items.some((item, i) => item !== list.children[i])) {
    const focused = document.activeElement;
    list.replaceChildren(...items);
    if (list.contains(focused)) focused.focus({ preventScroll: true });
  }
}

function roomLink(name) {
  let item = links.get(name);
  if (!item) links.set(name, (item = clone('room-template')));
  const unread = rooms.get(name)?.unread;
  const link = item.querySelector('a');
  link.href = address(name);
  link.title = name;
  if (name === current?.name) link.setAttribute('aria-current', 'page');
  else link.removeAttribute('aria-current');
  item.querySelector('.room-link-name').textContent = name;
  item.querySelector('.unread').textContent = unread ? `${unread} new` : '';
  item.querySelector('.count').textContent = house.get(name) ?? '';
  item.querySelector('.unseen').textContent = house.has(name) ? ' people' : '';
  return item;
}

// ---- People ----

const faces = new Map(); // name → the <li> of a person

function showPeople() {
  const both = () => everyone.list.filter(({ key }) => key === current.person || key === signIn.name);
  const list = current.presence?.list ?? both();
  $('people-count').textContent = `${current.presence?.count ?? list.length} here`;
  fill($('people-list'), list.map(({ key }) => key).sort(byName).map(face));
  const typing = list.filter(({ key, infos }) => key !== signIn.name && infos.some((info) => info.typing));
  const names = typing.map(({ key }) => `\u2068${key}\u2069`); // isolated, so that a name turns nothing around
  $('typing').classList.toggle('shown', names.length > 0);
  $('typing-names').textContent =
    names.length === 0 ? '' : names.length < 3 ? `${names.join(' and ')} ${names.length > 1 ? 'are' : 'is'} typing…` : 'Several people are typing…';
}

function face(name) {
  let item = faces.get(name);
  if (!item) faces.set(name, (item = clone('person-template')));
  const me = name === signIn.name;
  const link = item.querySelector('a');
  link.title = me ? name : `Talk to ${name}`;
  if (me) link.removeAttribute('href');
  else link.href = address(PERSON + name);
  item.querySelector('.avatar').textContent = initial(name);
  item.querySelector('.avatar').dataset.hue = hue(name);
  item.querySelector('.person-name').textContent = name;
  item.querySelector('.you').textContent = me ? 'you' : '';
  return item;
}

const graphemes = new Intl.Segmenter();
const initial = (name) => [...graphemes.segment(name.trim())][0]?.segment.toLocaleUpperCase() ?? '';
const hue = (name) => [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 6997, 7) % 6;

function unfold(open) {
  $('people').dataset.open = open;
  $('show-people').setAttribute('aria-expanded', open);
}

$('show-people').addEventListener('click', () => unfold($('show-people').getAttribute('aria-expanded') !== 'true'));
addEventListener('keydown', (event) => event.key === 'Escape' && unfold(false));

// ---- Messages ----

$('compose').addEventListener('submit', (event) => {
  event.preventDefault();
  complain('message', '');
  const text = $('text').value;
  if (text.trim() === '') return;
  const key = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const message = { room: current, key, text, from: signIn.name, at: new Date(), mine: true };
  $('text').value = '';
  message.element = showMessage(message);
  current.toNewest();
  typeIn(null);
  send(message);
});

// send resolves when the server has the message, however often the connection is lost until then. One whose
// acknowledgement was lost goes out again, and the others know it by its key.
async function send(message) {
  const { room, key, text } = message;
  const to = room.person ? { to: room.person } : { room: room.name };
  unsent.add(message);
  setState(message, socket.state === 'open' ? 'sending' : 'waiting');
  try {
    message.at = new Date(await socket.call('say', { ...to, key, text }, { retries: Infinity }));
    setState(message, 'sent');
  } catch (error) {
    refused(message, error);
  } finally {
    unsent.delete(message);
  }
}

// A message that was refused goes back where it was written, to be mended. If something else stands there already,
// it stays in the log and says why.
function refused(message, error) {
  if (message.room === current && $('text').value.trim() === '') {
    takeBack(message);
    complain('message', error.message);
  } else {
    setState(message, 'failed', error.message);
    const edit = message.element.querySelector('.edit');
    edit.hidden = false;
    edit.addEventListener('click', () => {
      takeBack(message);
      $('text').focus();
    });
  }
}

function takeBack({ room, element, text }) {
  element.remove();
  room.last = null;
  $('text').value = [text, $('text').value].filter((part) => part.trim() !== '').join('\n');
}

function setState({ element, at }, state, why) {
  element.dataset.state = state;
  const text = {
    waiting: 'Waiting for the connection',
    sending: 'Sending',
    sent: 'Sent',
    failed: `Not sent. ${why}`,
  }[state];
  element.querySelector('use').setAttribute('href', { sent: '#tick-icon', failed: '#cross-icon' }[state] ?? '#clock-icon');
  element.querySelector('.state-text').textContent = text;
  showTime(element, at);
}

function showMessage(message) {
  const { room, key, text, from, at, mine } = message;
  const element = clone('message-template');
  const follows = room.last && room.last.from === from && room.last.mine === mine && at - room.last.at < TOGETHER;
  element.classList.toggle('mine', Boolean(mine));
  element.classList.toggle('follows', Boolean(follows));
  element.querySelector('.from').textContent = mine ? 'You' : from;
  element.querySelector('.from').dataset.hue = hue(from);
  element.querySelector('.text').textContent = text;
  if (mine) element.querySelector('.state').append(element.querySelector('time')); // beside the tick
  showTime(element, at);
  room.last = message;
  room.keys.add(key);
  room.add(element);
  return element;
}

function showTime(element, at) {
  const time = element.querySelector('time');
  time.dateTime = at.toISOString();
  time.textContent = clockTime.format(at);
}

function notice(room, text) {
  const element = document.createElement('p');
  element.className = 'notice';
  element.textContent = text;
  room.last = null;
  room.add(element);
}

$('to-newest').addEventListener('click', () => {
  current.toNewest();
  $('text').focus();
});

$('skip').addEventListener('click', (event) => {
  event.preventDefault();
  (current ? $('text') : $('room')).focus();
});

$('text').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $('compose').requestSubmit();
  }
});

// ---- Typing ----

let typingIn = null; // the Room in which we are, as the server knows
let lull; // the timer that ends it

$('text').addEventListener('input', () => {
  complain('message', '');
  typeIn(current.presence && $('text').value.trim() !== '' ? current : null);
});

function typeIn(room) {
  clearTimeout(lull);
  if (room) lull = setTimeout(typeIn, TYPING_LASTS, null);
  if (room === typingIn) return;
  if (typingIn) socket.emit('typing', { room: typingIn.name, typing: false });
  if (room) socket.emit('typing', { room: room.name, typing: true });
  typingIn = room;
}

// ---- Errors, each beside the input it is about ----

function complain(field, message) {
  ($(`${field}-error`) ?? $('sign-in-error')).textContent = message;
  const input = document.querySelector(`[aria-describedby~="${field}-error"]`);
  if (message) input?.setAttribute('aria-invalid', 'true');
  else input?.removeAttribute('aria-invalid');
  if (message && !$('welcome').hidden) (input ?? $('enter')).focus();
}
