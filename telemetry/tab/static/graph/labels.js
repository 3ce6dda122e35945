// Which names are written into the graph: those that have room, never one over another.

import { shortName } from "../drawing/textfit.js";

const SIZE = 11;
const MOST = 400;
/** Distance between agents on screen, in px, from which all are named that have room. */
const ROOMY = 22;
/** In graphs of so few agents what each is stands below its name. */
const DETAILED = 6;
const LONGEST_DETAIL = 30;
/** So many agents that are not dimmed are named in any crowd. */
const FEW = 40;

/** Return what each agent is, in a few words: its network, what it observes, its clock if it skips steps; [] in larger graphs. */
export function detailsOf(agents) {
  if (agents.length > DETAILED) return [];
  return agents.map((agent) => {
    const words = [networkOf(agent), agent.period > 1 ? `every ${agent.period} steps` : ""].filter(Boolean);
    return shortName(words.join(" · "), LONGEST_DETAIL);
  });
}

/** Return an agent's network and what it observes: "mlp 64 of patch_4"; "" where nothing is known. */
export function networkOf({ about: { network, observes } = {} }) {
  return network ? network + (observes && observes !== "nothing" ? ` of ${observes}` : "") : "";
}

/**
 * Choose the names to write.
 *
 * @param {Object} shape of the graph
 * @param {{zoom: number, left: number, top: number}} view
 * @param {Float32Array} widths of the shortened names, in px
 * @param {string[]} names shortened
 * @param {{texts: string[], widths: Float32Array}} details of detailsOf, and their widths in px: written below the names that have room
 * @param {Uint8Array|null} bright agents that are not dimmed: they are named first; null: all are alike
 * @returns {Object[]} agent, text, x, y (in the graph's px), inside its disc or not
 */
export function labelsFor(shape, view, widths, names, details, bright) {
  const { places, radius } = shape;
  const found = [];
  const taken = [];
  const under = [];
  const roomy = shape.spacing * view.zoom >= ROOMY;
  if (bright && (roomy || bright.reduce((sum, one) => sum + one, 0) <= FEW)) {
    for (let agent = 0; agent < names.length; agent++) if (bright[agent]) place(agent);
  }
  for (let agent = 0; agent < names.length && roomy && found.length < MOST; agent++) if (!bright || !bright[agent]) place(agent);
  for (const line of under) detail(...line);
  return found;

  function place(agent) {
    const x = places[2 * agent];
    const y = places[2 * agent + 1];
    if (!inSight(shape, x * view.zoom + view.left, y * view.zoom + view.top)) return;
    const wide = widths[agent] / view.zoom;
    if (wide <= 1.34 * radius) {
      found.push({ agent, text: names[agent], x, y, inside: true });
      under.push([agent, x, y, radius]);
      return;
    }
    const size = SIZE / view.zoom;
    const [left, right] = [-view.left, shape.width - view.left].map((edge) => edge / view.zoom);
    const bottom = (shape.height - view.top) / view.zoom;
    // Names at the edge are moved into sight, those at the lower edge over their disc.
    const air = 3 / view.zoom;
    const middle = Math.max(Math.min(x, right - wide / 2 - air), left + wide / 2 + air);
    const away = radius + 0.85 * size + 2 / view.zoom;
    const below = y + away + size / 2 > bottom ? y - away : y + away;
    const box = [middle - wide / 2, below - size / 2, middle + wide / 2, below + size / 2];
    if (taken.some((other) => overlap(box, other)) || (roomy && overDisc(shape, box, agent))) return;
    taken.push(box);
    found.push({ agent, text: names[agent], x: middle, y: below, inside: false });
    under.push([agent, x, y, below > y ? below + size / 2 - y : radius]);
  }

  /** What an agent is: below its disc and name, `reach` under its middle; above or beside it where a channel or the edge is in the way. */
  function detail(agent, x, y, reach) {
    const text = details.texts[agent];
    if (!text) return;
    const [half, size, air] = [details.widths[agent] / view.zoom / 2, SIZE / view.zoom, 3 / view.zoom];
    const [left, right] = [-view.left, shape.width - view.left].map((edge) => edge / view.zoom);
    const [top, bottom] = [-view.top, shape.height - view.top].map((edge) => edge / view.zoom);
    const middle = Math.max(Math.min(x, right - half - air), left + half + air);
    const halo = Math.max(2 * air, 0.2 * radius); // marks an agent that ticks
    const spots = [[middle, y + reach + halo], [middle, y - radius - halo - size], [x + radius + halo + 2 * air + half, y - size / 2]];
    const boxes = spots.map(([at, above]) => [at - half, above, at + half, above + size]);
    const ends = [...shape.run.outgoing(agent), ...shape.run.incoming(agent)].map((one) => shape.run.channels[one]).map(({ from, to }) => from + to - agent);
    // A loop is drawn on the outer side.
    const towards = ends.map((end) => (end === agent ? [x, y > (top + bottom) / 2 ? bottom : top] : [places[2 * end], places[2 * end + 1]]));
    const clear = (box) => !towards.some(([toX, toY]) => onLine(box, x, y, toX - x, toY - y));
    for (const box of boxes.sort((one, other) => clear(other) - clear(one))) {
      if (box[1] < top || box[3] > bottom || box[2] > right || taken.some((other) => overlap(box, other)) || overDisc(shape, box, agent)) continue;
      taken.push(box);
      found.push({ agent, text, x: (box[0] + box[2]) / 2, y: box[1] + size / 2, inside: false, detail: true });
      return;
    }
  }
}

function inSight({ width, height }, left, top) {
  return left > -40 && top > -20 && left < width + 40 && top < height + 20;
}

function overlap(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}

/** Whether a straight line from (x, y) passes through a box. */
function onLine([left, top, right, bottom], x, y, across, down) {
  const [wide, high] = [[(left - x) / across, (right - x) / across], [(top - y) / down, (bottom - y) / down]];
  return Math.max(Math.min(...wide), Math.min(...high), 0) < Math.min(Math.max(...wide), Math.max(...high), 1);
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
