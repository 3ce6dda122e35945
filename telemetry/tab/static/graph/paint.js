// Painting the graph: channels in batches of one style, discs, rings, names.

import { strokeLine } from "../drawing/canvas.js";
import { LEVELS, isDiverging, levelColour, themeColours } from "../drawing/colours.js";
import { shownLevel } from "../data/shown.js";
import { paintCuts, paintPlates } from "./parts.js";
import { circles, trace } from "./shape.js";

/** Widths of lines, in px, from none to the most energy of the runs shown. */
export const WIDTHS = [0.7, 1.2, 1.9, 2.7, 3.6];
/** Dashes from the shortest delay in the graph (none) to longer ones; the last for a link that drops. */
export const DASHES = [[], [16, 2.5], [8, 3], [4.5, 3], [7, 2.6, 1.4, 2.6], [0.1, 4.2]];
/** Of a hollow line that drops: round dots would be rings. */
const HOLLOW_LOSSY = [2, 3];
/** How visible is what is not selected or found, by theme: on dark paper the eye needs more. */
const DIMMED = { light: 0.19, dark: 0.36 };
const DIMMED_NAME = { light: 0.45, dark: 0.65 };
/** In a crowd what is dimmed adds up. */
const DIMMED_CROWD = 0.13;
const CROWD_CHANNELS = 600;

const LEVEL_LEFT = 14;

/** Radius of a disc on screen, in px, from which lines are dashed and ticks marked: in finer pictures dashes and halos are but noise. */
const DASHED_FROM = 7;

const LOSSY = DASHES.length - 1;
/** Of no number, of a scale, and of what misleads, much and a little. */
const COLOURS = LEVELS + 3;
const STYLES = WIDTHS.length * DASHES.length;
/** Of all texts on the stage. */
export const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

/** Return which of DASHES a channel is drawn with; `delays` are those that occur, ascending: the shortest has none. */
export function dashOf(channel, delays) {
  return channel.drop > 0 ? LOSSY : Math.min(Math.max(delays.indexOf(channel.delay), 0), LOSSY - 1);
}

/** Return which of WIDTHS a message energy is drawn with; `most` is the highest of the runs shown. */
function widthOf(energy, most) {
  if (!(energy > 0) || !(most > 0)) return 0;
  const share = energy / most;
  return share < 0.01 ? 0 : Math.min(WIDTHS.length - 1, 1 + Math.floor(share * (WIDTHS.length - 1)));
}

/** The styles of a graph's channels and agents at one step, sorted into batches. */
export class GraphStyles {
  constructor(run) {
    this.run = run;
    this.delays = null;
    const channels = run.channels.length;
    const agents = run.agents.length;
    this.dashes = new Uint8Array(channels);
    this.colours = new Uint8Array(channels);
    this.keys = new Uint32Array(channels);
    this.order = new Uint32Array(channels);
    this.starts = new Uint32Array(4 * COLOURS * STYLES + 1);
    this.rings = new Int8Array(agents);
    this.bright = new Uint8Array(agents);
    this.roles = run.agents.map((agent) => (agent.role in themeColours("light").roles ? agent.role : "other"));
    this.metric = null;
    this.ring = null;
    this.dimming = false;
  }

  /** Sort all items into batches, by data (metric, ring, width, delays) and by whether an item is `lit`, not dimmed; null: nothing is dimmed. */
  update({ metric, ring, width, delays }, lit) {
    if (delays !== this.delays) {
      this.delays = delays;
      this.run.channels.forEach((channel, index) => (this.dashes[index] = dashOf(channel, delays)));
    }
    const { colours, keys, order, starts, dashes } = this;
    this.metric = metric;
    this.ring = ring;
    this.dimming = lit !== null;
    starts.fill(0);
    for (let channel = 0; channel < keys.length; channel++) {
      const level = shownLevel(metric, channel);
      // Without energies all lines are of one middle width.
      const thick = width && width.values ? widthOf(width.values[channel], width.high) : level < 0 ? 1 : 2;
      colours[channel] = level + 1;
      const shown = 2 * (lit === null || lit("channel", channel)) + !metric.unresolved?.[channel];
      const rank = isDiverging(metric.scale) ? RANKS[level + 1] : level + 1;
      const key = ((shown * COLOURS + rank) * DASHES.length + dashes[channel]) * WIDTHS.length + thick;
      keys[channel] = key;
      starts[key + 1] += 1;
    }
    for (let key = 1; key < starts.length; key++) starts[key] += starts[key - 1];
    for (let channel = keys.length - 1; channel >= 0; channel--) order[--starts[keys[channel] + 1]] = channel;
    // Each start was counted down from the end of its batch: starts[key + 1] now is where batch `key` begins.
    for (let agent = 0; agent < this.rings.length; agent++) {
      this.rings[agent] = shownLevel(ring, agent);
      this.bright[agent] = lit === null || lit("agent", agent) ? 1 : 0;
    }
  }

  /** The colour a channel is drawn in. */
  channelColour(channel, theme) {
    return levelColour(this.metric.scale, this.colours[channel] - 1, theme);
  }
}

/** Levels of a diverging scale in the order in which they are drawn: no metric first, what stands out last. */
const OUTWARDS = [-1, LEVELS + 1, ...[...Array(LEVELS).keys()].sort((one, other) => Math.abs(2 * one + 1 - LEVELS) - Math.abs(2 * other + 1 - LEVELS)), LEVELS];
const RANKS = OUTWARDS.map((_, at) => OUTWARDS.indexOf(at - 1));

/** Draw a scene: shape, styles, theme, view {zoom, left, top}, ratio, labels, quick, ticking, parts. The pen's transform is set here. */
export function paintGraph(pen, scene) {
  const { shape, view, ratio } = scene;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  paintLevels(pen, scene);
  pen.setTransform(ratio * view.zoom, 0, 0, ratio * view.zoom, ratio * view.left, ratio * view.top);
  // What is dimmed lies under all that is not: lines that are not dimmed run over dimmed discs.
  const { order, starts } = scene.styles;
  const bright = starts[2 * COLOURS * STYLES + 1];
  const marked = !scene.quick && shape.radius * view.zoom >= DASHED_FROM;
  for (let lit = scene.styles.dimming ? 0 : 1; lit < 2; lit++) {
    if (scene.parts) paintPlates(pen, scene, lit, lit ? 1 : DIMMED[scene.theme]);
    const [from, to] = lit ? [bright, order.length] : [0, bright];
    paintChannels(pen, scene, from, to);
    if (scene.parts && marked) paintCuts(pen, scene, from, to, lit ? 1 : DIMMED[scene.theme]);
    paintAgents(pen, scene, lit);
  }
  if (shape.radius * view.zoom >= DASHED_FROM) paintTicks(pen, scene);
  paintLabels(pen, scene);
  pen.globalAlpha = 1;
}

function paintLevels(pen, { shape, view, theme }) {
  const colours = themeColours(theme);
  pen.globalAlpha = 1;
  pen.font = FONT;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  pen.lineWidth = 1;
  pen.setLineDash([]);
  for (const { y, label } of shape.levels) {
    const at = Math.round(y * view.zoom + view.top) + 0.5;
    pen.strokeStyle = colours.line;
    strokeLine(pen, levelEnd(label), at, shape.width, at);
    pen.fillStyle = colours.muted;
    pen.fillText(label, LEVEL_LEFT, at);
  }
}

/** Where the line of a level begins, in px. */
function levelEnd(label) {
  return 2 * LEVEL_LEFT + 6.2 * label.length;
}

/** The boxes of the names of levels, as [left, top, right, bottom] in px. */
export function levelBoxes({ levels }, view) {
  return levels.map(({ y, label }) => [0, y * view.zoom + view.top - 8, levelEnd(label), y * view.zoom + view.top + 8]);
}

function paintChannels(pen, { shape, styles, theme, view, quick }, from, to) {
  const { order, starts, keys, metric } = styles;
  const half = COLOURS * STYLES;
  const dimmed = order.length > CROWD_CHANNELS ? DIMMED_CROWD : DIMMED[theme];
  // Lines grow with the square root of the zoom: near enough to see, never bars.
  const scale = shape.thinness / Math.sqrt(view.zoom);
  const heads = !quick && shape.head * view.zoom >= 2.2;
  const dashed = !quick && shape.radius * view.zoom >= DASHED_FROM;
  let at = from;
  let headsFrom = from;
  let colour = -1;
  while (at < to) {
    const key = keys[order[at]];
    const end = starts[key + 2] ?? to;
    const style = key % STYLES;
    const own = (key - style) / STYLES;
    if (own !== colour) {
      if (heads) paintHeads(pen, shape, order, headsFrom, at);
      headsFrom = at;
      colour = own;
      const rank = own % COLOURS;
      const level = isDiverging(metric.scale) ? OUTWARDS[rank] : rank - 1;
      pen.strokeStyle = levelColour(metric.scale, level, theme);
      pen.fillStyle = pen.strokeStyle;
    }
    // Dots have little ink.
    pen.globalAlpha = Math.floor(key / half) >= 2 ? 1 : Math.floor(style / WIDTHS.length) === LOSSY ? 2 * dimmed : dimmed;
    const hollow = Math.floor(key / half) % 2 === 0;
    const wide = WIDTHS[style % WIDTHS.length] * scale;
    pen.lineWidth = hollow ? wide + 2 * scale : wide;
    setDashes(pen, Math.floor(style / WIDTHS.length), dashed ? scale : null, hollow);
    pen.beginPath();
    for (let index = at; index < end; index++) trace(pen, shape, order[index]);
    pen.stroke();
    if (hollow) {
      const { strokeStyle, globalAlpha } = pen;
      Object.assign(pen, { strokeStyle: themeColours(theme).paper, globalAlpha: 1, lineWidth: wide });
      pen.stroke();
      Object.assign(pen, { strokeStyle, globalAlpha });
    }
    at = end;
  }
  if (heads) paintHeads(pen, shape, order, headsFrom, to);
  pen.setLineDash(DASHES[0]);
  pen.lineCap = "butt";
}

function setDashes(pen, dash, scale, hollow) {
  const lossy = dash === LOSSY && scale !== null;
  const lengths = scale === null ? DASHES[0] : lossy && hollow ? HOLLOW_LOSSY : DASHES[dash];
  pen.setLineDash(lengths.map((length) => length * scale));
  pen.lineCap = lossy && !hollow ? "round" : "butt";
}

function paintHeads(pen, shape, order, from, to) {
  if (from === to) return;
  const { heads } = shape;
  pen.beginPath();
  for (let index = from; index < to; index++) {
    const at = order[index] * 6;
    pen.moveTo(heads[at], heads[at + 1]);
    pen.lineTo(heads[at + 2], heads[at + 3]);
    pen.lineTo(heads[at + 4], heads[at + 5]);
    pen.closePath();
  }
  pen.fill();
}

function paintAgents(pen, { shape, styles, theme }, lit) {
  const colours = themeColours(theme);
  const { radius } = shape;
  const ring = Math.max(0.24 * radius, Math.min(1.2, 0.5 * radius));
  // A disc hides the lines under it even where it is dimmed.
  pen.globalAlpha = 1;
  pen.fillStyle = colours.paper;
  const bright = (agent) => styles.bright[agent] === lit;
  circles(pen, shape, radius, bright);
  pen.fill();
  pen.globalAlpha = lit ? 1 : 1.5 * DIMMED[theme];
  for (const role in colours.roles) {
    pen.fillStyle = colours.roles[role];
    circles(pen, shape, radius - 1.35 * ring, (agent) => bright(agent) && styles.roles[agent] === role);
    pen.fill();
  }
  pen.lineWidth = ring;
  for (let level = -1; level < LEVELS; level++) {
    if (!styles.rings.includes(level)) continue;
    pen.strokeStyle = levelColour(styles.ring.scale, level, theme);
    circles(pen, shape, radius - ring / 2, (agent) => bright(agent) && styles.rings[agent] === level);
    pen.stroke();
  }
}

/** A thin halo around agents whose clock ticks at the step shown. */
function paintTicks(pen, { shape, styles, theme, view, ticking }) {
  const away = shape.radius + Math.max(2.5 / view.zoom, 0.16 * shape.radius);
  pen.strokeStyle = themeColours(theme).faint;
  pen.lineWidth = 1 / view.zoom;
  pen.globalAlpha = styles.dimming ? 0.25 : 0.75;
  circles(pen, shape, away, (agent) => ticking[agent]);
  pen.stroke();
}

function paintLabels(pen, { shape, styles, theme, view, labels }) {
  const colours = themeColours(theme);
  pen.font = FONT.replace("11px", `${(11 * shape.grown) / view.zoom}px`);
  pen.textBaseline = "middle";
  pen.lineWidth = 3 / view.zoom;
  pen.lineJoin = "round";
  for (const { agent, text, x, y, inside, detail, align } of labels) {
    pen.textAlign = align ?? "center";
    pen.globalAlpha = styles.dimming && !styles.bright[agent] ? DIMMED_NAME[theme] : 1;
    if (inside) {
      // A dimmed disc has the colour of the paper, nearly.
      pen.fillStyle = pen.globalAlpha < 1 ? colours.ink : colours.roleInks[styles.roles[agent]];
    } else {
      pen.strokeStyle = colours.paper;
      pen.strokeText(text, x, y);
      pen.fillStyle = detail ? colours.muted : colours.ink;
    }
    pen.fillText(text, x, y);
  }
}

/** Mark an agent or a channel; `strong`: it is selected, not only pointed at. */
export function paintMark(pen, scene, kind, index, strong) {
  const { shape, theme, view } = scene;
  const colours = themeColours(theme);
  pen.globalAlpha = 1;
  pen.setLineDash([]);
  pen.lineCap = "round";
  if (kind === "agent") {
    pen.strokeStyle = colours.ink;
    pen.lineWidth = (strong ? 2 : 1.5) / view.zoom;
    circles(pen, shape, shape.radius + 3.5 / view.zoom, (agent) => agent === index);
    pen.stroke();
    return;
  }
  const width = 3.2 * Math.max(shape.thinness, 0.6) / Math.sqrt(view.zoom);
  const rim = (strong ? 3.6 : 2.6) / view.zoom;
  const layers = [[colours.ink, width + rim], [scene.styles.channelColour(index, theme), width]];
  if (scene.styles.metric.unresolved?.[index]) layers.push([colours.paper, 0.65 * width]);
  for (const [colour, thick] of layers) {
    pen.beginPath();
    trace(pen, shape, index);
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.stroke();
  }
  pen.fillStyle = colours.ink;
  paintHeads(pen, shape, [index], 0, 1);
}
