// A line chart of the last two minutes, in SVG: two series, a scale from 0 that fits, and their last values as text.

import { make, put } from './text.js';

const SPAN = 120; // seconds
const HEIGHT = 60; // of the view box

const draw = (tag, attributes = {}) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

export class Chart {
  #samples = []; // { at, values }, of which a value may be undefined; at in seconds
  #series;
  #format;
  #top;
  #scale;
  #least;

  // least is the least that the scale goes up to.
  constructor(parent, { title, series, format, least = 1 }) {
    this.#format = format;
    this.#least = least;
    this.#top = make('span', { className: 'scale', ariaHidden: 'true' });
    const picture = draw('svg', { viewBox: `0 0 ${SPAN} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' });
    picture.setAttribute('aria-label', `${title}, the last two minutes`);
    for (const y of [0, HEIGHT / 2]) picture.append(draw('line', { x1: 0, x2: SPAN, y1: y, y2: y, class: 'grid' }));
    picture.append(draw('line', { x1: 0, x2: SPAN, y1: HEIGHT, y2: HEIGHT, class: 'ground' }));
    this.#series = series.map((name, i) => {
      const area = draw('path', { class: `area area-${i}` });
      const line = draw('path', { class: `line line-${i}` });
      const value = make('b', {}, '–');
      return { name, area, line, value };
    });
    for (const { area } of this.#series) picture.append(area);
    for (const { line } of this.#series) picture.append(line);
    const key = make('ul', { className: 'key' }, ...this.#series.map(({ name, value }, i) => make('li', { className: `key-${i}` }, `${name} `, value)));
    parent.append(make('figure', { className: 'chart' }, make('figcaption', {}, title), key, make('div', { className: 'plot' }, this.#top, picture)));
  }

  // push adds a sample, and draws.
  push(at, values) {
    const last = this.#samples.at(-1);
    if (last && at - last.at > 5) this.#samples.push({ at: last.at + 1, values: [] }); // we were not connected
    this.#samples.push({ at, values });
    while (this.#samples[0].at < at - SPAN) this.#samples.shift();
    const most = Math.max(this.#least, ...this.#samples.flatMap(({ values }) => values.filter((value) => value !== undefined)));
    this.#scale = nice(most);
    put(this.#top, this.#format(this.#scale));
    this.#series.forEach((series, i) => {
      put(series.value, values[i] === undefined ? '–' : this.#format(values[i]));
      const pieces = this.#pieces(at, i);
      series.line.setAttribute('d', pieces.map((points) => 'M' + points.join('L')).join(''));
      series.area.setAttribute('d', pieces.map((points) => `M${points[0].split(' ')[0]} ${HEIGHT}L${points.join('L')}L${points.at(-1).split(' ')[0]} ${HEIGHT}Z`).join(''));
    });
  }

  // pieces returns the points of a series, between its gaps.
  #pieces(now, i) {
    const pieces = [[]];
    for (const { at, values } of this.#samples) {
      if (values[i] === undefined) pieces.push([]);
      else pieces.at(-1).push(`${(SPAN - now + at).toFixed(2)} ${(HEIGHT - (values[i] / this.#scale) * HEIGHT).toFixed(2)}`);
    }
    return pieces.filter((points) => points.length > 0);
  }
}

// nice returns the next 1, 2 or 5 with zeros.
function nice(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].find((step) => step * power >= n * 0.999) * power;
}
