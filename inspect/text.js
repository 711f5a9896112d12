// How figures and names look, and the making of elements. Whatever clients have chosen becomes text nodes only.

// make returns an element with properties and children.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// put sets an element's text, if it is another: a selection and a screen reader's place stay.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// named returns an element for a name that a client may have chosen. What does not print is replaced, and its writing
// direction stays its own.
export const named = (name) => make('bdi', {}, printable(name));
export const printable = (name) => String(name).replace(/[^\P{C}\u200d]|[^\P{Z} ]/gu, '\ufffd');

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = (n) => (n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2)).replace(/\.0+$|(\.\d)0$/, '$1');
const scaled = (n, step, units) => {
  let i = 0;
  for (; n >= step * 0.9995 && i < units.length - 1; i++) n /= step;
  return i === 0 ? `${n < 10 ? short(n) : whole.format(n)}\u202f${units[0]}`.trim() : `${short(n)}\u202f${units[i]}`;
};

export const count = (n) => whole.format(n);
export const rate = (n) => (n < 10_000 ? (n < 10 ? short(n) : whole.format(n)) : scaled(n, 1000, ['', 'k', 'M', 'G']));
export const bytes = (n) => scaled(n, 1000, ['B', 'kB', 'MB', 'GB']);
export const nanoseconds = (n) => (n < 1e9 ? scaled(n / 1000, 1000, ['µs', 'ms', 's']) : `${short(n / 1e9)}\u202fs`);

// What the hub calls protocols and transports is what people call so.
export const proper = (name) => ({ 'socket.io': 'Socket.IO', websocket: 'WebSocket' })[name] ?? name;

// lasting says how long milliseconds are, in its two largest units.
export function lasting(ms) {
  let s = Math.max(0, Math.floor(ms / 1000));
  const parts = [];
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['m', 60], ['s', 1]]) {
    if (s >= size || (unit === 's' && parts.length === 0)) parts.push(`${Math.floor(s / size)}\u202f${unit}`);
    s %= size;
  }
  return parts.slice(0, 2).join(' ');
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
export const time = (ms) => clock.format(ms);
