// The geometry of a graph on a stage: where discs, lines and heads are, in px at zoom 1. Drawn from arrays.

/** A full circle. */
const TURN = 2 * Math.PI;
/** Floats per channel in `curves`: start, two control points, end (the base of the head) of a cubic curve. */
const CURVE = 8;
/** Pieces in which a bent line is looked at. */
const PIECES = 16;

const MARGIN = 48;
/** So few agents leave more room around them. */
const FEWEST_AGENTS = 6;
const FEWEST_MARGIN = 96;
const LOOP_MARGIN = 66;
const CROWD_MARGIN = 22;
const LEVEL_MARGIN = 132;
/** Agents from which a graph is a crowd: no room for names at first, so none is kept free. */
const CROWD = 200;
/** So few agents are always large enough to see. */
const FEW_AGENTS = 60;
const LARGEST = 24;
/** How far a line bends beside another one between the same two agents, as a share of its length. */
const BEND = 0.1;
/** By how many radii more the middle of a line is moved, until it passes under no agent. */
const DETOURS = [0, 2, -2, 3.5, -3.5, 5, -5];

/** Lay a run's graph out on a stage of so many px: places (x, y per agent), radius, spacing, curves, which are straight, heads, boxes, levels. */
export function shapeOf(run, width, height) {
  const places = placesOf(run, width, height);
  const spacing = spacingOf(places);
  const radius = Math.min(LARGEST, Math.max(run.agents.length > FEW_AGENTS ? 1.6 : 7, 0.36 * spacing));
  const count = run.channels.length;
  const shape = {
    run, width, height, places, spacing, radius,
    head: Math.min(9, Math.max(2.6, 0.72 * radius)),
    thinness: Math.min(1, Math.max(0.34, radius / 13)),
    curves: new Float32Array(count * CURVE),
    straight: new Uint8Array(count),
    heads: new Float32Array(count * 6),
    boxes: new Float32Array(count * 4),
    levels: levelsOf(run, places),
  };
  drawAll(shape);
  return shape;
}

/** Return the point of a channel's line at a share of its way. */
export function pointOn({ curves }, channel, share) {
  const rest = 1 - share;
  const weights = [rest ** 3, 3 * rest * rest * share, 3 * rest * share * share, share ** 3];
  return [0, 1].map((axis) => weights.reduce((sum, weight, point) => sum + weight * curves[channel * CURVE + 2 * point + axis], 0));
}

/** Add a channel's line to a pen's path. */
export function trace(pen, { curves, straight }, channel) {
  const at = channel * CURVE;
  pen.moveTo(curves[at], curves[at + 1]);
  if (straight[channel]) pen.lineTo(curves[at + 6], curves[at + 7]);
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
export function agentAt({ places, radius }, x, y, slack) {
  let [best, nearest] = [-1, radius + slack];
  for (let agent = 0; agent < places.length / 2; agent++) {
    const distance = Math.hypot(places[2 * agent] - x, places[2 * agent + 1] - y);
    if (distance <= nearest) [nearest, best] = [distance, agent];
  }
  return best;
}

/** Return the channel whose line is nearest to a point and within `slack`, or -1. */
export function channelAt(shape, x, y, slack) {
  const { boxes, straight } = shape;
  let [best, nearest] = [-1, slack * slack];
  for (let channel = 0; channel < straight.length; channel++) {
    const at = channel * 4;
    if (x < boxes[at] - slack || y < boxes[at + 1] - slack || x > boxes[at + 2] + slack || y > boxes[at + 3] + slack) continue;
    const pieces = straight[channel] ? 1 : PIECES;
    let before = pointOn(shape, channel, 0);
    for (let piece = 1; piece <= pieces; piece++) {
      const after = pointOn(shape, channel, piece / pieces);
      const distance = squaredDistance(x, y, before, after);
      if (distance < nearest) [nearest, best] = [distance, channel];
      before = after;
    }
  }
  return best;
}

function placesOf(run, width, height) {
  const count = run.agents.length;
  const places = new Float32Array(2 * count);
  const [[left, right], [low, high]] = ["x", "y"].map((axis) => run.agents.map((agent) => agent[axis])).map((all) => [Math.min(...all), Math.max(...all)]);
  const levelled = run.graph.by_timescale;
  const loops = run.channels.some(({ from, to }) => from === to);
  const margin = count > CROWD ? CROWD_MARGIN : count <= FEWEST_AGENTS ? FEWEST_MARGIN : loops ? LOOP_MARGIN : MARGIN;
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
  run.agents.forEach(({ x, y }, agent) => {
    places[2 * agent] = before + wide / 2 + (x - (left + right) / 2) * across;
    places[2 * agent + 1] = height / 2 - (y - (low + high) / 2) * up;
  });
  return places;
}

/** The distance to the nearest neighbour that nearly all agents have; in a crowd some may touch. */
function spacingOf(places) {
  const count = places.length / 2;
  if (count < 2) return 80;
  const nearest = new Float64Array(count).fill(Infinity);
  for (let one = 0; one < count; one++) {
    for (let other = one + 1; other < count; other++) {
      const distance = Math.hypot(places[2 * other] - places[2 * one], places[2 * other + 1] - places[2 * one + 1]);
      nearest[one] = Math.min(nearest[one], distance);
      nearest[other] = Math.min(nearest[other], distance);
    }
  }
  return nearest.sort()[Math.floor(count > CROWD ? 0.3 * count : count / 20)];
}

function levelsOf(run, places) {
  if (!run.graph.by_timescale) return [];
  return [...new Set(run.agents.map(({ period }) => period))].map((period) => {
    const ys = places.filter((_, at) => at % 2 && run.agents[at >> 1].period === period);
    return { y: ys.reduce((sum, y) => sum + y) / ys.length, label: period === 1 ? "every step" : `every ${period} steps` };
  });
}

/** Draw a single line between two agents straight, several side by side, and those of an agent to itself as loops above it. */
function drawAll(shape) {
  const { run } = shape;
  const count = run.agents.length;
  const pairs = new Map();
  run.channels.forEach(({ from, to }, channel) => {
    const pair = Math.min(from, to) * count + Math.max(from, to);
    if (!pairs.has(pair)) pairs.set(pair, [[], []]);
    pairs.get(pair)[from <= to ? 0 : 1].push(channel);
  });
  for (const [there, back] of pairs.values()) {
    const { from, to } = run.channels[there[0] ?? back[0]];
    for (const [own, other] of [[there, back], [back, there]]) {
      own.forEach((channel, rank) => {
        if (from === to) drawLoop(shape, channel, rank);
        else drawLine(shape, channel, (other.length ? rank + 0.5 : rank - (own.length - 1) / 2) * 2 * BEND);
      });
    }
  }
}

function drawLoop(shape, channel, rank) {
  const { run, places, radius, head } = shape;
  const agent = run.channels[channel].from;
  const [rim, out, wide] = [radius + 1.5, radius * (2.7 + 0.8 * rank) + 6, 0.5 + 0.1 * rank];
  const around = (reach, turn) => [places[2 * agent] + reach * Math.sin(turn), places[2 * agent + 1] - reach * Math.cos(turn)];
  const [start, first, second, tip] = [around(rim, -wide), around(out, -0.62), around(out, 0.62), around(rim, wide)];
  setLine(shape, channel, [start, first, second, tip], toward(tip, second, head));
}

/** Draw a line that bends to its left by about a share of its length, from the rim of one disc to that of the other, around those between. */
function drawLine(shape, channel, share) {
  const { places, radius, run } = shape;
  const { from, to } = run.channels[channel];
  const length = Math.hypot(places[2 * to] - places[2 * from], places[2 * to + 1] - places[2 * from + 1]) || 1;
  for (const radii of run.agents.length > FEW_AGENTS ? [0] : DETOURS) {
    const more = (2 * radii * radius) / length;
    bendLine(shape, channel, share < 0 ? share - more : share + more);
    if (passesNone(shape, channel)) return;
  }
  bendLine(shape, channel, share);
}

function passesNone(shape, channel) {
  const { places, radius, run } = shape;
  const { from, to } = run.channels[channel];
  for (let piece = 1; piece < PIECES; piece++) {
    const [x, y] = pointOn(shape, channel, piece / PIECES);
    for (let agent = 0; agent < places.length / 2; agent++) {
      if (agent !== from && agent !== to && Math.hypot(places[2 * agent] - x, places[2 * agent + 1] - y) < radius + 6) return false;
    }
  }
  return true;
}

function bendLine(shape, channel, bend) {
  const { run, places, radius, head, straight } = shape;
  const { from, to } = run.channels[channel];
  const [a, b] = [from, to].map((agent) => [places[2 * agent], places[2 * agent + 1]]);
  const control = [(a[0] + b[0]) / 2 + bend * (b[1] - a[1]), (a[1] + b[1]) / 2 - bend * (b[0] - a[0])];
  const [start, tip] = [toward(a, control, radius + 1), toward(b, control, radius + 1.5)];
  const base = toward(tip, control, head);
  const third = (end) => [0, 1].map((axis) => end[axis] + (2 / 3) * (control[axis] - end[axis]));
  setLine(shape, channel, [start, third(start), third(base), tip], base);
  straight[channel] = bend === 0 ? 1 : 0;
}

/** The point at a distance from one point toward another. */
function toward(from, to, distance) {
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]) || 1;
  return [0, 1].map((axis) => from[axis] + (distance / length) * (to[axis] - from[axis]));
}

/** Store the curve of a line, whose head is between its tip and its base. */
function setLine({ curves, heads, boxes }, channel, [start, first, second, tip], base) {
  const points = [start, first, second, base];
  curves.set(points.flat(), channel * CURVE);
  const across = [0.46 * (tip[1] - base[1]), -0.46 * (tip[0] - base[0])];
  heads.set([...tip, base[0] + across[0], base[1] + across[1], base[0] - across[0], base[1] - across[1]], channel * 6);
  const [xs, ys] = [0, 1].map((axis) => [...points, tip].map((point) => point[axis]));
  boxes.set([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)], channel * 4);
}

function squaredDistance(x, y, a, b) {
  const across = b[0] - a[0];
  const down = b[1] - a[1];
  const length = across * across + down * down || 1;
  const share = Math.min(1, Math.max(0, ((x - a[0]) * across + (y - a[1]) * down) / length));
  return (a[0] + share * across - x) ** 2 + (a[1] + share * down - y) ** 2;
}
