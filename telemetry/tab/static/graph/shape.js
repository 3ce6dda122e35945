// The geometry of a graph on a stage: where discs, lines and heads are, in px at zoom 1. Drawn from arrays.

import { extremesOf } from "../data/source.js";

/** A full circle. */
const TURN = 2 * Math.PI;

/** Floats per channel in `curves`: start, two control points, end (the base of the head). */
const CURVE = 8;
/** What a channel's line is: straight, a quadratic curve (first control point), a loop (both). */
const STRAIGHT = 0;
const BENT = 1;
const LOOP = 2;

const MARGIN = 42;
const LOOP_MARGIN = 66;
const CROWD_MARGIN = 22;
const LEVEL_MARGIN = 132;
/** Agents from which a graph is a crowd: no room for names at first, so none is kept free. */
const CROWD = 200;
/** So few agents are always large enough to see. */
const FEW_AGENTS = 60;
/** So few agents have larger discs, and margins in which three lines have room. */
const FEWEST_AGENTS = 6;
const FEWEST_MARGIN = 78;
const LARGEST = 22;
/** Shorter side of a stage, in px, from which discs, lines and names grow with it, and how much at most. */
const GROWING = 900;
const MOST_GROWN = 2.2;
const LARGER = 1.4;
const CAREFUL = 800;
/** Pieces in which a bent line is looked at. */
const PIECES = 16;
const BENDS = [0, 0.1, -0.1, 0.18, -0.18, 0.28, -0.28, 0.4, -0.4];

/** Return how many times larger than usual texts are on a stage of so many px. */
export function growthOf(width, height) {
  return Math.min(Math.max(Math.min(width, height) / GROWING, 1), MOST_GROWN);
}

/** Lay a run's graph out on a stage of so many px: places (x, y per agent), radius, spacing, curves, kinds, heads, boxes, levels, and how far it is `grown`. */
export function shapeOf(run, width, height) {
  const grown = growthOf(width, height);
  const places = placesOf(run, width, height, grown);
  const spacing = spacingOf(places);
  const radius = Math.min(grown * LARGEST * (run.agents.length > FEWEST_AGENTS ? 1 : LARGER), Math.max(run.agents.length > FEW_AGENTS ? 1.6 : 7, 0.36 * spacing));
  const count = run.channels.length;
  const shape = {
    run, width, height, places, spacing, radius, grown,
    head: Math.min(9 * grown, Math.max(2.6, 0.72 * radius)),
    thinness: Math.min(grown, Math.max(0.34, radius / 13)),
    curves: new Float32Array(count * CURVE),
    kinds: new Uint8Array(count),
    heads: new Float32Array(count * 6),
    boxes: new Float32Array(count * 4),
    levels: levelsOf(run, places),
  };
  drawAll(shape);
  return shape;
}

/** Write the point of a channel's line at a share of its way into `point`. */
export function pointOn(shape, channel, share, point) {
  const { curves, kinds } = shape;
  const at = channel * CURVE;
  const rest = 1 - share;
  for (let axis = 0; axis < 2; axis++) {
    const start = curves[at + axis];
    const first = curves[at + 2 + axis];
    const second = curves[at + 4 + axis];
    const end = curves[at + 6 + axis];
    if (kinds[channel] === STRAIGHT) point[axis] = rest * start + share * end;
    else if (kinds[channel] === BENT) point[axis] = rest * rest * start + 2 * rest * share * first + share * share * end;
    else point[axis] = rest ** 3 * start + 3 * rest * rest * share * first + 3 * rest * share * share * second + share ** 3 * end;
  }
  return point;
}

/** Go along a channel's line in straight pieces until one, from `before` to `after`, is wanted; return whether one is. */
export function somePiece(shape, channel, wanted) {
  const pieces = shape.kinds[channel] === STRAIGHT ? 1 : PIECES;
  const [before, after] = [[0, 0], [0, 0]];
  pointOn(shape, channel, 0, before);
  for (let piece = 1; piece <= pieces; piece++) {
    pointOn(shape, channel, piece / pieces, after);
    if (wanted(before, after)) return true;
    [before[0], before[1]] = after;
  }
  return false;
}

/** Add a channel's line to a pen's path. */
export function trace(pen, shape, channel) {
  const { curves, kinds } = shape;
  const at = channel * CURVE;
  pen.moveTo(curves[at], curves[at + 1]);
  if (kinds[channel] === STRAIGHT) pen.lineTo(curves[at + 6], curves[at + 7]);
  else if (kinds[channel] === BENT) pen.quadraticCurveTo(curves[at + 2], curves[at + 3], curves[at + 6], curves[at + 7]);
  else pen.bezierCurveTo(curves[at + 2], curves[at + 3], curves[at + 4], curves[at + 5], curves[at + 6], curves[at + 7]);
}

/** Make circles around agents the pen's path. */
export function circles(pen, { places }, radius, wanted) {
  pen.beginPath();
  for (let agent = 0; agent < places.length / 2; agent++) {
    if (!wanted(agent)) continue;
    pen.moveTo(places[2 * agent] + radius, places[2 * agent + 1]);
    pen.arc(places[2 * agent], places[2 * agent + 1], radius, 0, TURN);
  }
}

/** Return the agent at a point, or -1. */
export function agentAt(shape, x, y, slack) {
  const { places } = shape;
  let [best, nearest] = [-1, shape.radius + slack];
  for (let agent = 0; agent < places.length / 2; agent++) {
    const distance = Math.hypot(places[2 * agent] - x, places[2 * agent + 1] - y);
    if (distance <= nearest) [nearest, best] = [distance, agent];
  }
  return best;
}

/** Return the channel whose line is nearest to a point and within `slack`, or -1. */
export function channelAt(shape, x, y, slack) {
  const { boxes } = shape;
  let best = -1;
  let nearest = slack * slack;
  for (let channel = 0; channel < boxes.length / 4; channel++) {
    const at = channel * 4;
    if (x < boxes[at] - slack || y < boxes[at + 1] - slack || x > boxes[at + 2] + slack || y > boxes[at + 3] + slack) continue;
    somePiece(shape, channel, (before, after) => {
      const distance = squaredDistance(x, y, before, after);
      if (distance < nearest) [nearest, best] = [distance, channel];
    });
  }
  return best;
}

function placesOf(run, width, height, grown) {
  const count = run.agents.length;
  const places = new Float32Array(2 * count);
  if (!count) return places;
  const [xs, ys] = ["x", "y"].map((axis) => run.agents.map((agent) => agent[axis]));
  const [[left, right], [low, high]] = [xs, ys].map(extremesOf);
  const levelled = run.graph.by_timescale;
  const loops = run.channels.some(({ from, to }) => from === to);
  const kept = count > FEWEST_AGENTS ? [MARGIN, LOOP_MARGIN] : [FEWEST_MARGIN, LOOP_MARGIN * LARGER];
  const margin = grown * (count > CROWD ? CROWD_MARGIN : kept[loops ? 1 : 0]);
  const before = levelled ? LEVEL_MARGIN : margin;
  const wide = Math.max(width - before - margin, 40);
  const tall = Math.max(height - 2 * margin, 40);
  let across = wide / Math.max(right - left, 1e-6);
  let up = tall / Math.max(high - low, 1e-6);
  // Proportions are kept roughly: a stretch up to 1.7 uses the stage well and still looks like the graph.
  if (!levelled) {
    const least = Math.min(across, up);
    across = Math.min(across, 1.7 * least);
    up = Math.min(up, 1.7 * least);
  }
  const middle = before + wide / 2;
  for (let agent = 0; agent < count; agent++) {
    places[2 * agent] = middle + (xs[agent] - (left + right) / 2) * across;
    places[2 * agent + 1] = height / 2 - (ys[agent] - (low + high) / 2) * up;
  }
  return places;
}

/** The distance to the nearest neighbour that nearly all agents have; in a crowd some may touch. */
function spacingOf(places) {
  const count = places.length / 2;
  if (count < 2) return 80;
  const order = Array.from({ length: count }, (_, agent) => agent).sort((a, b) => places[2 * a] - places[2 * b]);
  const nearest = new Float64Array(count).fill(Infinity);
  for (let i = 0; i < count; i++) {
    const one = order[i];
    for (let j = i + 1; j < count; j++) {
      const other = order[j];
      const across = places[2 * other] - places[2 * one];
      if (across > nearest[one] && across > 40) break;
      const distance = Math.hypot(across, places[2 * other + 1] - places[2 * one + 1]);
      if (distance < nearest[one]) nearest[one] = distance;
      if (distance < nearest[other]) nearest[other] = distance;
    }
  }
  nearest.sort();
  return nearest[Math.floor(count > CROWD ? 0.3 * count : count / 20)];
}

function levelsOf(run, places) {
  if (!run.graph.by_timescale) return [];
  return [...new Set(run.agents.map(({ period }) => period))].map((period) => {
    const ys = places.filter((_, at) => at % 2 && run.agents[at >> 1].period === period);
    return { y: ys.reduce((sum, y) => sum + y) / ys.length, label: period === 1 ? "every step" : `every ${period} steps` };
  });
}

function drawAll(shape) {
  const { run, places, radius } = shape;
  const count = run.agents.length;
  const pairs = new Map();
  run.channels.forEach(({ from, to }, channel) => {
    const pair = Math.min(from, to) * count + Math.max(from, to);
    if (!pairs.has(pair)) pairs.set(pair, [[], []]);
    pairs.get(pair)[from <= to ? 0 : 1].push(channel);
  });
  const careful = run.channels.length <= CAREFUL && count <= 200;
  for (const [there, back] of pairs.values()) {
    const { from, to } = run.channels[(there[0] ?? back[0])];
    if (from === to) {
      const angle = freeAngle(shape, from);
      there.forEach((channel, rank) => drawLoop(shape, channel, angle, rank));
      continue;
    }
    const length = Math.hypot(places[2 * to] - places[2 * from], places[2 * to + 1] - places[2 * from + 1]);
    const gap = Math.min(Math.max(0.13 * length, 0.55 * radius), 2.4 * radius);
    for (const [own, other] of [[there, back], [back, there]]) {
      own.forEach((channel, rank) => {
        const offset = other.length ? rank + 0.5 : rank - (own.length - 1) / 2;
        drawLine(shape, channel, offset * gap, careful);
      });
    }
  }
}

/** The middle of the widest gap between an agent's channels; upwards where there are none. */
function freeAngle(shape, agent) {
  const { run, places } = shape;
  const angles = [];
  for (const channel of [...run.outgoing(agent), ...run.incoming(agent)]) {
    const { from, to } = run.channels[channel];
    const other = from === agent ? to : from;
    if (other !== agent) angles.push(Math.atan2(places[2 * other + 1] - places[2 * agent + 1], places[2 * other] - places[2 * agent]));
  }
  if (!angles.length) return -Math.PI / 2;
  angles.sort((a, b) => a - b);
  const gaps = angles.map((angle, index) => [angle, angles[index + 1] ?? angles[0] + TURN]);
  const [from, to] = gaps.reduce((widest, gap) => (gap[1] - gap[0] > widest[1] - widest[0] ? gap : widest));
  return (from + to) / 2;
}

function drawLoop(shape, channel, angle, rank) {
  const { run, places, radius, curves, kinds, head } = shape;
  const agent = run.channels[channel].from;
  const x = places[2 * agent];
  const y = places[2 * agent + 1];
  const rim = radius + 1.5;
  const out = radius * (2.7 + 0.8 * rank) + 6;
  const wide = 0.5 + 0.1 * rank;
  const around = (reach, turn) => [x + reach * Math.cos(angle + turn), y + reach * Math.sin(angle + turn)];
  const [start, tip, first, second] = [around(rim, -wide), around(rim, wide), around(out, -0.62), around(out, 0.62)];
  const length = Math.hypot(second[0] - tip[0], second[1] - tip[1]) || 1;
  const back = [(second[0] - tip[0]) / length, (second[1] - tip[1]) / length];
  const base = [tip[0] + back[0] * head, tip[1] + back[1] * head];
  curves.set([...start, ...first, ...second, ...base], channel * CURVE);
  kinds[channel] = LOOP;
  setHead(shape, channel, tip, base);
  setBox(shape, channel);
}

function drawLine(shape, channel, offset, careful) {
  const { run, places, radius } = shape;
  const { from, to } = run.channels[channel];
  const a = [places[2 * from], places[2 * from + 1]];
  const b = [places[2 * to], places[2 * to + 1]];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  const left = [(b[1] - a[1]) / length, -(b[0] - a[0]) / length];
  let bend = offset;
  if (careful) {
    let fewest = Infinity;
    for (const share of BENDS) {
      const tried = offset + share * length;
      const hits = crossed(shape, from, to, a, b, left, tried);
      if (hits < fewest) [fewest, bend] = [hits, tried];
      if (!hits) break;
    }
  }
  const control = [(a[0] + b[0]) / 2 + 2 * bend * left[0], (a[1] + b[1]) / 2 + 2 * bend * left[1]];
  trim(shape, channel, a, control, b, Math.abs(bend) < 0.5, radius);
}

/** How many other discs a line with that bend would run over. */
function crossed(shape, from, to, a, b, left, bend) {
  const { places, radius } = shape;
  const near = (radius * 1.25 + 2) ** 2;
  let hits = outside(shape, (a[0] + b[0]) / 2 + bend * left[0], (a[1] + b[1]) / 2 + bend * left[1]) ? 1 : 0;
  const parts = Math.min(60, Math.max(8, Math.ceil(Math.hypot(b[0] - a[0], b[1] - a[1]) / (radius + 2))));
  for (let agent = 0; agent < places.length / 2; agent++) {
    if (agent === from || agent === to) continue;
    for (let part = 1; part < parts; part++) {
      const share = part / parts;
      const bow = 4 * share * (1 - share) * bend;
      const across = a[0] + share * (b[0] - a[0]) + bow * left[0] - places[2 * agent];
      const down = a[1] + share * (b[1] - a[1]) + bow * left[1] - places[2 * agent + 1];
      if (across * across + down * down >= near) continue;
      hits += 1;
      break;
    }
  }
  return hits;
}

function outside({ width, height }, x, y) {
  return x < 4 || y < 4 || x > width - 4 || y > height - 4;
}

/** Cut the line off at both discs and put its head on. */
function trim(shape, channel, a, control, b, straight, radius) {
  const { curves, kinds, head } = shape;
  const on = (share) => {
    const rest = 1 - share;
    return [0, 1].map((axis) => rest * rest * a[axis] + 2 * rest * share * control[axis] + share * share * b[axis]);
  };
  const cut = (centre, distance, inside, outside) => {
    for (let round = 0; round < 18; round++) {
      const middle = (inside + outside) / 2;
      const [x, y] = on(middle);
      if (Math.hypot(x - centre[0], y - centre[1]) < distance) inside = middle;
      else outside = middle;
    }
    return outside;
  };
  const first = cut(a, radius + 1, 0, 0.5);
  const last = cut(b, radius + 1.5, 1, 0.5);
  const basis = cut(b, radius + 1.5 + head, 1, first);
  const [start, tip, base] = [first, last, basis].map(on);
  // The part of a quadratic curve between two shares has its control point where the end tangents meet (blossom).
  const middle = [0, 1].map((axis) => (1 - first) * (1 - basis) * a[axis] + (first * (1 - basis) + basis * (1 - first)) * control[axis] + first * basis * b[axis]);
  curves.set([...start, ...middle, ...middle, ...base], channel * CURVE);
  kinds[channel] = straight ? STRAIGHT : BENT;
  setHead(shape, channel, tip, base);
  setBox(shape, channel);
}

function setHead(shape, channel, tip, base) {
  const across = [0.46 * (tip[1] - base[1]), -0.46 * (tip[0] - base[0])];
  shape.heads.set([...tip, base[0] + across[0], base[1] + across[1], base[0] - across[0], base[1] - across[1]], channel * 6);
}

function setBox(shape, channel) {
  const { curves, boxes, heads } = shape;
  const points = [...curves.subarray(channel * CURVE, (channel + 1) * CURVE), heads[channel * 6], heads[channel * 6 + 1]];
  const [[left, right], [top, bottom]] = [0, 1].map((axis) => extremesOf(points.filter((_, index) => index % 2 === axis)));
  boxes.set([left, top, right, bottom], channel * 4);
}

function squaredDistance(x, y, a, b) {
  const across = b[0] - a[0];
  const down = b[1] - a[1];
  const length = across * across + down * down || 1;
  const share = Math.min(1, Math.max(0, ((x - a[0]) * across + (y - a[1]) * down) / length));
  return (a[0] + share * across - x) ** 2 + (a[1] + share * down - y) ** 2;
}
