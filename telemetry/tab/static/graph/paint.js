// Painting the graph: channels in batches of one style, discs, rings, names.

import { strokeLine } from "../drawing/canvas.js";
import { CATEGORY_COUNT, LEVELS, categoryColour, levelColour, metricColour, metricLevel, themeColours } from "../drawing/colours.js";
import { circles, trace } from "./shape.js";

/** Widths of lines, in px, from no message energy to the most. */
export const WIDTHS = [0.9, 2, 3.4];
/** Dashes: of the shortest delay in the graph, of longer ones, of a link that drops. */
export const DASHES = [[], [8, 3], [2, 3]];
/** How visible is what is not selected or found, by theme: on dark paper the eye needs more; in a crowd what is dimmed adds up. */
const DIMMED = { light: 0.19, dark: 0.36 };
const DIMMED_NAME = { light: 0.45, dark: 0.65 };
const DIMMED_CROWD = 0.13;
const CROWD_CHANNELS = 600;
const LEVEL_LEFT = 14;
/** Radius of a disc on screen, in px, from which lines are dashed and ticks marked: in finer pictures dashes and halos are but noise. */
const DASHED_FROM = 7;
/** Of all texts on the stage. */
export const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

const STYLES = WIDTHS.length * DASHES.length;
/** Colours of a scale, and that of no number. */
const COLOURS = LEVELS + 1;

/** Return which of DASHES a channel is drawn with; `delays` are those that occur, ascending. */
export function dashOf({ drop, delay }, delays) {
  return drop > 0 ? 2 : delay > delays[0] ? 1 : 0;
}

/** The styles of a graph's channels and agents at one step, sorted into batches. */
export class GraphStyles {
  constructor(run) {
    this.run = run;
    this.keys = new Uint32Array(run.channels.length);
    this.order = [];
    this.rings = new Int8Array(run.agents.length);
    this.bright = new Uint8Array(run.agents.length);
  }

  /** Sort all items into batches, by data (metric, ring, width, delays) and by whether an item is `lit`, not dimmed; null: nothing is dimmed. */
  update({ metric, ring, width, delays }, lit) {
    const { keys, rings, bright, run } = this;
    Object.assign(this, { metric, ring, dimming: lit !== null });
    run.channels.forEach((channel, index) => {
      const share = width?.values ? width.values[index] / width.high : 0.5;
      const thick = Math.min(Math.max(Math.ceil(share * (WIDTHS.length - 1)), 0), WIDTHS.length - 1) || 0;
      const style = dashOf(channel, delays) * WIDTHS.length + thick;
      const solid = metric.unresolved?.[index] ? 0 : 1;
      const shown = 2 * (lit === null || lit("channel", index)) + solid;
      keys[index] = (shown * COLOURS + metricLevel(metric, index) + 1) * STYLES + style;
    });
    this.order = [...keys.keys()].sort((one, other) => keys[one] - keys[other]);
    run.agents.forEach((_, agent) => {
      rings[agent] = metricLevel(ring, agent);
      bright[agent] = lit === null || lit("agent", agent) ? 1 : 0;
    });
  }
}

/** Draw a scene: shape, styles, theme, view {zoom, left, top}, ratio, labels, ticking. The pen's transform is set here. */
export function paintGraph(pen, scene) {
  const { shape, styles, view, ratio } = scene;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  paintLevels(pen, scene);
  pen.setTransform(ratio * view.zoom, 0, 0, ratio * view.zoom, ratio * view.left, ratio * view.top);
  // What is dimmed lies under all that is not: lines that are not dimmed run over dimmed discs.
  const bright = styles.order.filter((channel) => styles.keys[channel] >= 2 * COLOURS * STYLES);
  const dimmed = styles.order.slice(0, styles.order.length - bright.length);
  for (const [lit, channels] of [[0, dimmed], [1, bright]]) {
    paintChannels(pen, scene, channels);
    paintAgents(pen, scene, lit);
  }
  if (shape.radius * view.zoom >= DASHED_FROM) paintTicks(pen, scene);
  paintLabels(pen, scene);
  pen.globalAlpha = 1;
}

function paintLevels(pen, { shape, view, theme }) {
  const colours = themeColours(theme);
  Object.assign(pen, { globalAlpha: 1, font: FONT, textAlign: "left", textBaseline: "middle", lineWidth: 1 });
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

/** Draw channels in the order of their styles, each batch as one path. */
function paintChannels(pen, { shape, styles: { keys, metric }, theme, view }, channels) {
  const dim = keys.length > CROWD_CHANNELS ? DIMMED_CROWD : DIMMED[theme];
  // Lines grow with the square root of the zoom: near enough to see, never bars.
  const scale = shape.thinness / Math.sqrt(view.zoom);
  const heads = shape.head * view.zoom >= 2.2;
  const dashed = shape.radius * view.zoom >= DASHED_FROM;
  for (let from = 0, to = 0; from < channels.length; from = to) {
    const key = keys[channels[from]];
    while (to < channels.length && keys[channels[to]] === key) to += 1;
    const batch = channels.slice(from, to);
    const [style, colour] = [key % STYLES, Math.floor(key / STYLES)];
    const shown = Math.floor(colour / COLOURS);
    const hollow = shown % 2 === 0;
    const wide = WIDTHS[style % WIDTHS.length] * scale;
    pen.strokeStyle = pen.fillStyle = levelColour(metric.scale, (colour % COLOURS) - 1, theme);
    pen.globalAlpha = shown >= 2 ? 1 : dim;
    pen.lineWidth = hollow ? wide + 2 * scale : wide;
    pen.setLineDash(dashed ? DASHES[Math.floor(style / WIDTHS.length)].map((length) => length * scale) : []);
    pen.beginPath();
    for (const channel of batch) trace(pen, shape, channel);
    pen.stroke();
    if (hollow) {
      Object.assign(pen, { strokeStyle: themeColours(theme).paper, globalAlpha: 1, lineWidth: wide });
      pen.stroke();
      pen.globalAlpha = shown >= 2 ? 1 : dim;
    }
    if (heads) paintHeads(pen, shape, batch);
  }
  pen.setLineDash([]);
}

function paintHeads(pen, { heads }, channels) {
  pen.beginPath();
  for (const channel of channels) {
    const at = channel * 6;
    pen.moveTo(heads[at], heads[at + 1]);
    pen.lineTo(heads[at + 2], heads[at + 3]);
    pen.lineTo(heads[at + 4], heads[at + 5]);
    pen.closePath();
  }
  pen.fill();
}

function paintAgents(pen, { shape, styles, theme }, lit) {
  const colours = themeColours(theme);
  const { radius, run } = shape;
  const ring = Math.max(0.24 * radius, Math.min(1.2, 0.5 * radius));
  const bright = (agent) => styles.bright[agent] === lit;
  // A disc hides the lines under it even where it is dimmed.
  Object.assign(pen, { globalAlpha: 1, fillStyle: colours.paper });
  circles(pen, shape, radius, bright);
  pen.fill();
  pen.globalAlpha = lit ? 1 : 1.5 * DIMMED[theme];
  const fills = run.agents.map((agent) => discColour(run, agent, theme));
  for (const fill of new Set(fills)) {
    pen.fillStyle = fill;
    circles(pen, shape, radius - 1.35 * ring, (agent) => bright(agent) && fills[agent] === fill);
    pen.fill();
  }
  pen.lineWidth = ring;
  for (const level of new Set(styles.rings)) {
    pen.strokeStyle = levelColour(styles.ring.scale, level, theme);
    circles(pen, shape, radius - ring / 2, (agent) => bright(agent) && styles.rings[agent] === level);
    pen.stroke();
  }
}

/** The colour of an agent's disc: of its role, in a run in parts of its part. */
function discColour(run, { role, part }, theme) {
  const { roles } = themeColours(theme);
  return run.parts && role !== "readout" ? categoryColour(part % CATEGORY_COUNT, theme) : roles[role] ?? roles.other;
}

/** A thin halo around agents whose clock ticks at the step shown. */
function paintTicks(pen, { shape, styles, theme, view, ticking }) {
  const away = shape.radius + Math.max(2.5 / view.zoom, 0.16 * shape.radius);
  Object.assign(pen, { strokeStyle: themeColours(theme).faint, lineWidth: 1 / view.zoom, globalAlpha: styles.dimming ? 0.25 : 0.75 });
  circles(pen, shape, away, (agent) => ticking[agent]);
  pen.stroke();
}

function paintLabels(pen, { shape, styles, theme, view, labels }) {
  const colours = themeColours(theme);
  Object.assign(pen, { font: FONT.replace("11px", `${11 / view.zoom}px`), textBaseline: "middle", textAlign: "center", lineWidth: 3 / view.zoom, lineJoin: "round", strokeStyle: colours.paper });
  for (const { agent, text, x, y, inside } of labels) {
    const dimmed = styles.dimming && !styles.bright[agent];
    const { role } = shape.run.agents[agent];
    const onDisc = shape.run.parts && role !== "readout" ? colours.paper : colours.roleInks[role] ?? colours.ink;
    pen.globalAlpha = dimmed ? DIMMED_NAME[theme] : 1;
    // A dimmed disc has the colour of the paper, nearly.
    pen.fillStyle = inside && !dimmed ? onDisc : colours.ink;
    if (!inside) pen.strokeText(text, x, y);
    pen.fillText(text, x, y);
  }
}

/** Mark an agent or a channel; `strong`: it is selected, not only pointed at. */
export function paintMark(pen, { shape, theme, view, styles: { metric } }, kind, index, strong) {
  const colours = themeColours(theme);
  Object.assign(pen, { globalAlpha: 1, lineCap: "round", strokeStyle: colours.ink });
  if (kind === "agent") {
    pen.lineWidth = (strong ? 2 : 1.5) / view.zoom;
    circles(pen, shape, shape.radius + 3.5 / view.zoom, (agent) => agent === index);
    pen.stroke();
    return;
  }
  const width = (3.2 * Math.max(shape.thinness, 0.6)) / Math.sqrt(view.zoom);
  for (const [colour, wide] of [[colours.ink, width + (strong ? 3.6 : 2.6) / view.zoom], [metricColour(metric, index, theme), width]]) {
    pen.beginPath();
    trace(pen, shape, index);
    Object.assign(pen, { strokeStyle: colour, lineWidth: wide });
    pen.stroke();
  }
  pen.fillStyle = colours.ink;
  paintHeads(pen, shape, [index]);
}
