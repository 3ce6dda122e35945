// How the timeline is drawn, row by row.

import { formatStep } from "../drawing/format.js";
import { categoryColour } from "../drawing/colours.js";
import { strokeLine } from "../drawing/canvas.js";
import { fillName } from "../drawing/textfit.js";

const TIMELINE_FONT = "system-ui, sans-serif";
/** Heights in px, of the numbers of the steps and of a row. */
export const TIMELINE_HEAD = 26;
export const TIMELINE_ROW = 30;

/** Clocks count steps from 0, the page from 1: what a step is called here. */
export function timelineStep(step) {
  return formatStep(step + 1);
}

/** Colours of marks, the same here and in the legend. */
export function timelineColours(colours, theme) {
  return { ...colours, tick: categoryColour(0, theme), end: categoryColour(1, theme) };
}

/** Draw rows, the names at their left, and the numbers of the steps above; look: timeline, rows in sight, width, height, gutter, unit (px per step), left, top (scrolled by), pointed {row, step} or null. */
export function timelinePaint(pen, look, colours) {
  timelineEpisodes(pen, look, colours);
  for (const row of look.rows) (row.kind === "agent" ? timelineAgent : timelineChannel)(pen, look, row, colours);
  pen.fillStyle = colours.paper;
  pen.fillRect(0, TIMELINE_HEAD, look.gutter, look.height - TIMELINE_HEAD);
  for (const row of look.rows) timelineName(pen, look, row, colours);
  pen.fillStyle = colours.paper;
  pen.fillRect(0, 0, look.width, TIMELINE_HEAD);
  timelineHead(pen, look, colours);
}

/** The left end of a step's column. */
function timelineX(look, step) {
  return look.gutter - look.left + (step - look.timeline.start) * look.unit;
}

function timelineY(look, row) {
  return TIMELINE_HEAD + row.top - look.top;
}

function timelineEnd(look) {
  return Math.min(timelineX(look, look.timeline.start + look.timeline.steps), look.width);
}

function timelineEpisodes(pen, look, colours) {
  pen.strokeStyle = colours.muted;
  pen.lineWidth = 1.2;
  pen.setLineDash([4, 3]);
  const last = look.rows.at(-1);
  const bottom = last ? timelineY(look, last) + TIMELINE_ROW : TIMELINE_HEAD;
  for (const step of look.timeline.episode_ends) {
    const x = Math.round(timelineX(look, step + 1)) - 0.5;
    strokeLine(pen, x, TIMELINE_HEAD - 6, x, Math.min(bottom, look.height));
  }
  pen.setLineDash([]);
}

/** Ticks above; from each a line down to the earliest step its true gradient reaches; bars where windows end. */
function timelineAgent(pen, look, row, colours) {
  const times = look.timeline.agents[row.index];
  const y = timelineY(look, row);
  const [above, below] = [y + 9, y + TIMELINE_ROW - 5];
  const middle = (step) => timelineX(look, step) + look.unit / 2;
  const pointed = look.pointed?.row === row ? look.pointed.step : null;
  pen.strokeStyle = colours.tick;
  for (const [tick, since] of times.since) {
    if (since >= tick) continue;
    const strong = tick === pointed;
    const x = middle(Math.max(since, look.timeline.start));
    pen.globalAlpha = strong ? 1 : pointed === null ? 0.55 : 0.25;
    pen.lineWidth = strong ? 2.2 : 1.1;
    strokeLine(pen, middle(tick), above, x, below);
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
  for (const step of times.ends) pen.fillRect(Math.round(timelineX(look, step + 1)) - 4, y + 4, 3, TIMELINE_ROW - 8);
}

/** The age of the message read at each step, and marks, as `antiphon show --timeline` writes them. */
function timelineChannel(pen, look, row, colours) {
  pen.font = `11px ${TIMELINE_FONT}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillStyle = colours.ink;
  for (const [step, text] of look.timeline.channels[row.index].cells) {
    pen.fillText(text, timelineX(look, step) + look.unit / 2, timelineY(look, row) + TIMELINE_ROW / 2, look.unit - 2);
  }
}

/** The name of a row at its left, the line above it, and a band across where it is selected or pointed at. */
function timelineName(pen, look, row, colours) {
  const y = timelineY(look, row);
  if (row.strong || look.pointed?.row === row) {
    pen.fillStyle = row.strong ? colours.accent : colours.ink;
    pen.globalAlpha = row.strong ? 0.14 : 0.05;
    pen.fillRect(0, y, timelineEnd(look), TIMELINE_ROW);
    pen.globalAlpha = 1;
  }
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  strokeLine(pen, 0, Math.round(y) - 0.5, timelineEnd(look), Math.round(y) - 0.5);
  pen.font = `600 12px ${TIMELINE_FONT}`;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  pen.fillStyle = colours.ink;
  fillName(pen, row.label, 12, y + TIMELINE_ROW / 2, look.gutter - 22);
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
  strokeLine(pen, 0, TIMELINE_HEAD - 0.5, timelineEnd(look), TIMELINE_HEAD - 0.5);
}
