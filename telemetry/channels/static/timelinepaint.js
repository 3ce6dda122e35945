// How the timeline is drawn, row by row.

import { formatStep } from "./format.js";
import { categoryColour } from "./colours.js";
import { fitText } from "./textfit.js";

const TIMELINE_FONT = "system-ui, sans-serif";
/** Heights in px, and by how much channels are indented. */
export const TIMELINE_HEIGHTS = { head: 26, agent: 30, channel: 20 };
export const TIMELINE_INDENT = 18;

/** Clocks count steps from 0, the page from 1: what a step is called here. */
export function timelineStep(step) {
  return formatStep(step + 1);
}

/** Colours of marks, the same here and in the legend. */
export function timelineColours(colours, theme) {
  return { ...colours, tick: categoryColour(0, theme), end: categoryColour(1, theme) };
}

/**
 * Draw rows, the names at their left, and the numbers of the steps above.
 *
 * @param {CanvasRenderingContext2D} pen
 * @param {Object} look timeline, run, rows (those in sight), width, height, gutter, unit (px per step), left, top (scrolled
 *   by), oldest (the age that is darkest), pointed {row, step} | null, selected {kind, index} | null
 * @param {Object} colours see timelineColours
 */
export function timelinePaint(pen, look, colours) {
  const { head } = TIMELINE_HEIGHTS;
  for (const row of look.rows) timelineBack(pen, look, row, colours);
  timelineEpisodes(pen, look, colours);
  for (const row of look.rows) {
    if (row.kind === "agent") timelineAgent(pen, look, row, colours);
    else timelineChannel(pen, look, row, colours);
  }
  pen.fillStyle = colours.paper;
  pen.fillRect(0, head, look.gutter, look.height - head);
  for (const row of look.rows) timelineName(pen, look, row, colours);
  pen.fillStyle = colours.paper;
  pen.fillRect(0, 0, look.width, head);
  timelineHead(pen, look, colours);
}

/** The left end of a step's column. */
function timelineX(look, step) {
  return look.gutter - look.left + (step - look.timeline.start) * look.unit;
}

function timelineY(look, row) {
  return TIMELINE_HEIGHTS.head + row.top - look.top;
}

function timelineEnd(look) {
  return Math.min(timelineX(look, look.timeline.start + look.timeline.steps), look.width);
}

function timelineIs(row, other) {
  return Boolean(other) && other.kind === row.kind && row.members.includes(other.index);
}

function timelineLine(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function timelineBack(pen, look, row, colours) {
  const y = timelineY(look, row);
  const wide = timelineEnd(look) - look.gutter;
  if (row.kind === "channel") {
    pen.fillStyle = colours.surface;
    pen.fillRect(look.gutter, y, wide, row.height);
  }
  if (timelineIs(row, look.selected) || timelineIs(row, look.pointed?.row)) {
    pen.fillStyle = timelineIs(row, look.selected) ? colours.accent : colours.ink;
    pen.globalAlpha = timelineIs(row, look.selected) ? 0.14 : 0.05;
    pen.fillRect(look.gutter, y, wide, row.height);
    pen.globalAlpha = 1;
  }
  if (row.kind === "channel") return;
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  timelineLine(pen, 0, Math.round(y) - 0.5, timelineEnd(look), Math.round(y) - 0.5);
}

function timelineEpisodes(pen, look, colours) {
  pen.strokeStyle = colours.muted;
  pen.lineWidth = 1.2;
  pen.setLineDash([4, 3]);
  const last = look.rows.at(-1);
  const bottom = last ? timelineY(look, last) + last.height : TIMELINE_HEIGHTS.head;
  for (const step of look.timeline.episode_ends) {
    const x = Math.round(timelineX(look, step + 1)) - 0.5;
    timelineLine(pen, x, TIMELINE_HEIGHTS.head - 6, x, Math.min(bottom, look.height));
  }
  pen.setLineDash([]);
}

/** Ticks above; from each a line down to the earliest step its true gradient reaches; bars where windows end. */
function timelineAgent(pen, look, row, colours) {
  const times = look.timeline.agents[row.index];
  const y = timelineY(look, row);
  const [above, below] = [y + 9, y + row.height - 5];
  const middle = (step) => timelineX(look, step) + look.unit / 2;
  const pointed = timelineIs(row, look.pointed?.row) ? look.pointed.step : null;
  pen.strokeStyle = colours.tick;
  for (const [tick, since] of times.since) {
    if (since >= tick) continue;
    const strong = tick === pointed;
    const x = middle(Math.max(since, look.timeline.start));
    pen.globalAlpha = strong ? 1 : pointed === null ? 0.55 : 0.25;
    pen.lineWidth = strong ? 2.2 : 1.1;
    timelineLine(pen, middle(tick), above, x, below);
    pen.fillStyle = colours.tick;
    pen.fillRect(x - 1.5, below - 1.5, 3, 3);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = colours.tick;
  const radius = Math.min(4.2, 0.3 * look.unit);
  for (const tick of times.ticks) {
    pen.beginPath();
    pen.arc(middle(tick), above, tick === pointed ? radius + 1.2 : radius, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.fillStyle = colours.end;
  for (const step of times.ends) pen.fillRect(Math.round(timelineX(look, step + 1)) - 4, y + 4, 3, row.height - 8);
}

/** Ages of what the receiver reads; a cross where a message is sent that nobody reads. */
function timelineChannel(pen, look, row, colours) {
  const times = look.timeline.channels[row.index];
  const y = timelineY(look, row);
  const { unit } = look;
  const middle = y + row.height / 2;
  const ages = new Map(times.read);
  pen.font = `${unit < 20 ? 9 : 10.5}px ${TIMELINE_FONT}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  for (const tick of look.timeline.agents[look.run.channels[row.index].to].ticks) {
    const x = timelineX(look, tick);
    const age = ages.get(tick);
    if (age !== undefined) {
      pen.fillStyle = colours.tick;
      pen.globalAlpha = 0.1 + 0.4 * (age / look.oldest);
      pen.fillRect(x + 1, y + 2, unit - 2, row.height - 4);
      pen.globalAlpha = 1;
    }
    pen.fillStyle = age === undefined ? colours.muted : colours.ink;
    if (unit >= 14) pen.fillText(age === undefined ? "–" : String(age), x + unit / 2, middle + 0.5);
  }
  pen.strokeStyle = colours.end;
  pen.lineWidth = 1.4;
  for (const step of times.unread) {
    const [x, size] = [timelineX(look, step + 1) - 8, 2.6];
    timelineLine(pen, x - size, middle - size, x + size, middle + size);
    timelineLine(pen, x - size, middle + size, x + size, middle - size);
  }
}

function timelineName(pen, look, row, colours) {
  const y = timelineY(look, row);
  const agent = row.kind === "agent";
  const left = agent ? 12 : 12 + TIMELINE_INDENT;
  const strong = timelineIs(row, look.selected);
  const font = `${strong || agent ? 600 : 400} ${agent ? 12 : 11}px ${TIMELINE_FONT}`;
  if (strong || timelineIs(row, look.pointed?.row)) {
    pen.fillStyle = strong ? colours.accent : colours.ink;
    pen.globalAlpha = strong ? 0.14 : 0.05;
    pen.fillRect(0, y, look.gutter, row.height);
    pen.globalAlpha = 1;
  }
  pen.font = font;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  pen.fillStyle = agent ? colours.ink : colours.muted;
  pen.fillText(fitText(row.label, font, look.gutter - left - 10).text, left, y + row.height / 2);
}

function timelineHead(pen, look, colours) {
  const { start, steps } = look.timeline;
  pen.font = `11px ${TIMELINE_FONT}`;
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  pen.fillStyle = colours.muted;
  pen.fillText("step", 12, 13);
  pen.textAlign = "center";
  const every = Math.max(Math.ceil((8 * String(start + steps).length + 8) / look.unit), 1);
  for (let step = start; step < start + steps; step++) {
    const x = timelineX(look, step) + look.unit / 2;
    if (x < look.gutter || x > look.width) continue;
    const pointed = look.pointed?.step === step;
    if ((step - start) % every && !pointed) continue;
    pen.fillStyle = pointed ? colours.ink : colours.muted;
    pen.fillText(timelineStep(step), x, 13);
  }
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  timelineLine(pen, 0, TIMELINE_HEIGHTS.head - 0.5, timelineEnd(look), TIMELINE_HEIGHTS.head - 0.5);
}
