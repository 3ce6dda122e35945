// Which names are written into the graph: those that have room, never one over another.

import { shortName } from "../drawing/textfit.js";
import { somePiece } from "./shape.js";

const SIZE = 11;
/** From one line of a label to the next, in px. */
const LINE = 13;
const MOST = 400;
/** Distance between agents on screen, in px, from which all are named that have room. */
const ROOMY = 22;
/** In graphs of so few agents what each is stands below its name. */
const DETAILED = 6;
const LONGEST_LINE = 32;
const MOST_LINES = 3;
/** Longest name in graphs of so few agents. */
const LONGEST_NAME = 40;
/** So many agents that are not dimmed are named in any crowd; in graphs of so few, names keep clear of channels. */
const FEW = 40;
/** What a label out of sight costs; one on a channel's line costs 1. */
const HIDDEN = 1000;

/** Return what is written at each agent: its name, and in small graphs the lines of what it is. */
export function textsOf(agents) {
  const few = agents.length <= DETAILED;
  return agents.map((agent) => ({ name: shortName(agent.name, few ? LONGEST_NAME : undefined), lines: few ? detailsOf(agent) : [] }));
}

/** Return what an agent is, in a few lines: its network, what it observes, its clock if it skips steps. */
function detailsOf(agent) {
  const parts = [...networkOf(agent).split(/(?<=.), (?=critic )| (?=of )/), agent.period > 1 ? `every ${agent.period} steps` : ""].filter(Boolean);
  const lines = [];
  for (const part of parts) {
    const joined = `${lines.at(-1)} ${part.startsWith("of ") ? "" : "· "}${part}`;
    if (lines.length && joined.length <= LONGEST_LINE) lines[lines.length - 1] = joined;
    else lines.push(shortName(part, LONGEST_LINE));
  }
  return lines.slice(0, MOST_LINES);
}

/** Return an agent's network and what it observes: "mlp 64 of patch_4"; "" where nothing is known. */
export function networkOf({ about: { network, observes } = {} }) {
  return network ? network + (observes && observes !== "nothing" ? ` of ${observes}` : "") : "";
}

/** Choose the labels to write of texts (textsOf, with the px that a name takes, `wide`, and its widest line), clear of the boxes that are `kept`; agents that are `bright` first. Return agent, text, x, y (in the graph's px), inside its disc or not, whether a detail, align. */
export function labelsFor(shape, view, texts, kept, bright) {
  const { places, radius, grown } = shape;
  const { zoom } = view;
  const [left, right] = [-view.left / zoom, (shape.width - view.left) / zoom];
  const [top, bottom] = [-view.top / zoom, (shape.height - view.top) / zoom];
  const found = [];
  const taken = kept.map(([west, north, east, south]) => [(west - view.left) / zoom, (north - view.top) / zoom, (east - view.left) / zoom, (south - view.top) / zoom]);
  const roomy = shape.spacing * zoom >= ROOMY;
  const careful = texts.length <= FEW;
  if (bright && (roomy || bright.reduce((sum, one) => sum + one, 0) <= FEW)) {
    for (let agent = 0; agent < texts.length; agent++) if (bright[agent]) place(agent);
  }
  for (let agent = 0; agent < texts.length && roomy && found.length < MOST; agent++) if (!bright || !bright[agent]) place(agent);
  return found;

  function place(agent) {
    const [x, y] = [places[2 * agent], places[2 * agent + 1]];
    if (!inSight(shape, x * zoom + view.left, y * zoom + view.top)) return;
    const { name, lines } = texts[agent];
    const [wide, widest] = [grown * texts[agent].wide, grown * texts[agent].widest];
    const inside = wide / zoom <= 1.34 * radius;
    if (inside) {
      found.push({ agent, text: name, x, y, inside });
      if (lines.length) write(agent, x, y, lines, widest, true);
    } else if (!lines.length || !write(agent, x, y, [name, ...lines], Math.max(wide, widest), false)) write(agent, x, y, [name], wide, false);
  }

  /** Write lines below an agent's disc; above or beside it where a channel, a text or the edge is in the way. False: there is no room. */
  function write(agent, x, y, lines, width, details) {
    const [half, tall, air] = [width / zoom / 2, (grown * (SIZE + LINE * (lines.length - 1))) / zoom, 3 / zoom];
    // Names at the edge are moved into sight.
    const middle = Math.max(Math.min(x, right - half - 4 * air), left + half + 4 * air);
    const away = radius + Math.max(2 * air, 0.2 * radius) + tall / 2; // beyond the halo of an agent that ticks
    const aside = radius + Math.max(2 * air, 0.2 * radius) + 2 * air + half;
    const high = y - (shape.levels.length ? tall / 2 + 2 * air : 0); // beside a disc, above the line of its level
    const spots = [[middle, y + away, "center"], [middle, y - away, "center"], [x + aside, high, "left"], [x - aside, high, "right"]];
    const hidden = (box) => (box[1] < top || box[3] > bottom || box[0] < left || box[2] > right ? HIDDEN : 0);
    const tried = (careful ? spots : spots.slice(0, 2)).map(([at, down, align]) => {
      const box = [at - half, down - tall / 2, at + half, down + tall / 2];
      return { box, align, cost: hidden(box) + (careful ? crossings(shape, box) : 0) };
    });
    for (const { box, align } of tried.sort((one, other) => one.cost - other.cost)) {
      if (taken.some((other) => overlap(box, other)) || (roomy && overDisc(shape, box, agent))) continue;
      taken.push(box);
      lines.forEach((text, line) => {
        const detail = details || line > 0;
        const at = { left: box[0], center: (box[0] + box[2]) / 2, right: box[2] }[align];
        found.push({ agent, text, x: at, y: box[1] + (grown * (SIZE / 2 + LINE * line)) / zoom, inside: false, detail, align });
      });
      return true;
    }
    return false;
  }
}

function inSight({ width, height }, left, top) {
  return left > -40 && top > -20 && left < width + 40 && top < height + 20;
}

function overlap(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}

/** Return how many channels' lines pass through a box. */
function crossings(shape, box) {
  const { boxes } = shape;
  let count = 0;
  for (let channel = 0; channel < boxes.length / 4; channel++) {
    const near = overlap(box, boxes.subarray(4 * channel, 4 * channel + 4));
    if (near && somePiece(shape, channel, (before, after) => onLine(box, ...before, after[0] - before[0], after[1] - before[1]))) count += 1;
  }
  return count;
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
