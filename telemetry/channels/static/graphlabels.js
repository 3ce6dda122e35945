// Which names are written into the graph: those that have room, never one over another.

const SIZE = 11;
const LONGEST = 22;
const MOST = 400;

/** Shorten a name in its middle: the ends of names tell them apart. */
export function shortName(name, longest = LONGEST) {
  if (name.length <= longest) return name;
  const kept = Math.floor((longest - 1) / 2);
  return `${name.slice(0, longest - 1 - kept)}…${name.slice(name.length - kept)}`;
}

/**
 * Choose the names to write.
 *
 * @param {Object} shape of the graph
 * @param {{zoom: number, left: number, top: number}} view
 * @param {Float32Array} widths of the shortened names, in px
 * @param {string[]} names shortened
 * @returns {Object[]} agent, text, x, y (in the graph's px), inside its disc or not
 */
export function labelsFor(shape, view, widths, names) {
  const { places, radius } = shape;
  const found = [];
  if (shape.spacing * view.zoom < 22) return found;
  const size = SIZE / view.zoom;
  const taken = [];
  const seen = (x, y) => {
    const left = x * view.zoom + view.left;
    const top = y * view.zoom + view.top;
    return left > -40 && top > -20 && left < shape.width + 40 && top < shape.height + 20;
  };
  for (let agent = 0; agent < names.length && found.length < MOST; agent++) {
    const x = places[2 * agent];
    const y = places[2 * agent + 1];
    if (!seen(x, y)) continue;
    const wide = widths[agent] / view.zoom;
    if (wide <= 1.34 * radius) {
      found.push({ agent, text: names[agent], x, y, inside: true });
      continue;
    }
    const below = y + radius + 0.85 * size + 2 / view.zoom;
    const box = [x - wide / 2, below - size / 2, x + wide / 2, below + size / 2];
    if (taken.some((other) => overlap(box, other)) || overDisc(shape, box, agent)) continue;
    taken.push(box);
    found.push({ agent, text: names[agent], x, y: below, inside: false });
  }
  return found;
}

function overlap(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}

function overDisc({ places, radius }, box, own) {
  for (let agent = 0; agent < places.length / 2; agent++) {
    if (agent === own) continue;
    const across = Math.max(box[0] - places[2 * agent], 0, places[2 * agent] - box[2]);
    const down = Math.max(box[1] - places[2 * agent + 1], 0, places[2 * agent + 1] - box[3]);
    if (across * across + down * down < radius * radius) return true;
  }
  return false;
}
