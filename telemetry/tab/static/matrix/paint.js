// What is drawn around and over the matrix's cells: names, groups, the pointed row and column.

import { strokeLine } from "../drawing/canvas.js";
import { formatNumber } from "../drawing/format.js";
import { fillName, textMeasure } from "../drawing/textfit.js";

const MATRIX_FONT = "system-ui, sans-serif";
/** Pixels per cell from which on rows and columns have names. */
export const MATRIX_NAMED = 9;
/** And from which on cells have numbers. */
const MATRIX_NUMBERED = 33;

/** Draw lines between groups (timescales), and their names to the right. */
export function matrixGroups(pen, view, colours) {
  if (view.groups.length < 2) return;
  pen.strokeStyle = colours.none;
  pen.fillStyle = colours.muted;
  pen.lineWidth = 1;
  pen.font = `${11 * view.grown}px ${MATRIX_FONT}`;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  const { x0, y0, spanX, spanY, unit, left, top } = view;
  let lowest = -Infinity;
  for (const { from, to, text } of view.groups) {
    const [x, y] = [Math.round(x0 + to * unit - left) - 0.5, Math.round(y0 + to * unit - top) - 0.5];
    const inner = to < view.order.length;
    if (inner && x > x0 && x < x0 + spanX) strokeLine(pen, x, y0, x, y0 + spanY);
    if (inner && y > y0 && y < y0 + spanY) strokeLine(pen, x0, y, x0 + spanX + 8, y);
    const seen = [Math.max(from * unit - top, 0), Math.min(to * unit - top, spanY)];
    if (seen[1] <= seen[0]) continue;
    // The name of a group that is lower than a line moves down, and those after it.
    lowest = Math.max(y0 + (seen[0] + seen[1]) / 2, lowest + 12 * view.grown);
    pen.fillText(text, x0 + spanX + 8, lowest);
  }
}

/** Write the number of each cell where there is room. */
export function matrixNumbers(pen, view, colours) {
  if (view.unit < MATRIX_NUMBERED * view.grown) return;
  pen.font = `${view.grown * (view.unit < 44 * view.grown ? 10 : 11)}px ${MATRIX_FONT}`;
  Object.assign(pen, { textAlign: "center", textBaseline: "middle" });
  for (const cell of view.cells.list) {
    const [[x, y], text] = [view.middle(cell), formatNumber(Number(view.means[cell.number].toPrecision(2)))];
    if (!view.shown[cell.number] || x < view.x0 || y < view.y0 || x > view.x0 + view.spanX || y > view.y0 + view.spanY) continue;
    const half = Math.min(pen.measureText(text).width / 2 + 2, view.unit / 2);
    pen.fillStyle = colours.paper;
    pen.fillRect(x - half, y + 0.25 * view.unit - 6 * view.grown, 2 * half, 12 * view.grown);
    pen.fillStyle = colours.ink;
    pen.fillText(text, x, y + 0.25 * view.unit, 2 * half - 2);
  }
}

/** Draw bands over the pointed row and column and those of the selected agent, a frame around the selected channel. */
export function matrixBands(pen, view, colours, selected) {
  const { x0, y0, spanX, spanY, unit } = view;
  const small = unit < 4;
  const band = (place, across, colour, alpha) => {
    const start = place * unit - (across ? view.top : view.left);
    const [from, to] = [Math.max(start, 0), Math.min(start + Math.max(unit, 1), across ? spanY : spanX)];
    if (!(place >= 0) || to <= from) return;
    pen.fillStyle = colour;
    pen.globalAlpha = alpha;
    if (across) pen.fillRect(x0, y0 + from, spanX, to - from);
    else pen.fillRect(x0 + from, y0, to - from, spanY);
    pen.globalAlpha = 1;
  };
  const frame = (cell, colour, width) => {
    const [x, y] = view.middle(cell);
    const size = Math.max(unit, 5) + width;
    if (x < x0 || y < y0 || x > x0 + spanX || y > y0 + spanY) return;
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.strokeRect(x - size / 2, y - size / 2, size, size);
  };
  for (const across of [true, false]) {
    if (selected?.kind === "agent") band(view.placeOf[selected.index], across, colours.accent, small ? 0.4 : 0.18);
    band(across ? view.pointed?.row : view.pointed?.column, across, colours.ink, small ? 0.25 : 0.08);
  }
  if (view.pointed?.cell) frame(view.pointed.cell, colours.ink, 1.5);
  if (selected?.kind === "channel") for (const channel of selected.both) frame(view.cells.list[view.cells.ofChannel[channel]], colours.accent, 2.5);
}

/** Write the names of rows and columns where there is room, and those of what is pointed at or selected anyhow. */
export function matrixNames(pen, view, colours, context) {
  const selected = context.selection();
  const channel = selected?.kind === "channel" ? view.run.channels[selected.index] : null;
  for (const across of [true, false]) {
    const strong = new Set();
    if (selected?.kind === "agent") strong.add(view.placeOf[selected.index]);
    if (channel) strong.add(view.placeOf[across ? channel.from : channel.to]);
    const pointed = across ? view.pointed?.row : view.pointed?.column;
    if (view.unit >= MATRIX_NAMED * view.grown) {
      const start = across ? view.top : view.left;
      const first = Math.max(Math.floor(start / view.unit), 0);
      const last = Math.min(Math.ceil((start + (across ? view.spanY : view.spanX)) / view.unit), view.order.length);
      for (let place = first; place < last; place++) {
        if (!strong.has(place) && place !== pointed) matrixName(pen, view, colours, context, place, across, false);
      }
    }
    if (pointed >= 0) strong.delete(pointed);
    for (const place of strong) matrixName(pen, view, colours, context, place, across, true);
    if (pointed >= 0) matrixName(pen, view, colours, context, pointed, across, true);
  }
}

function matrixName(pen, view, colours, context, place, across, strong) {
  const agent = view.order[place];
  const at = (place + 0.5) * view.unit - (across ? view.top : view.left);
  if (agent === undefined || at < 0 || at > (across ? view.spanY : view.spanX)) return;
  const size = strong ? 11 * view.grown : Math.min(11 * view.grown, view.unit + 1);
  const { name } = view.run.agents[agent];
  const room = Math.max((across ? view.x0 : view.y0) - 12, 1);
  pen.save();
  pen.font = `${strong ? 600 : 400} ${size}px ${MATRIX_FONT}`;
  pen.translate(across ? view.x0 - 6 : view.x0 + at, across ? view.y0 + at : view.y0 - 6);
  if (!across) pen.rotate(-Math.PI / 2);
  if (strong) {
    const width = Math.min(pen.measureText(name).width, room);
    pen.fillStyle = colours.paper;
    pen.fillRect(across ? -width - 4 : -4, -8 * view.grown, width + 8, 16 * view.grown);
  }
  pen.textAlign = across ? "right" : "left";
  pen.textBaseline = "middle";
  pen.fillStyle = strong ? colours.ink : colours.muted;
  pen.globalAlpha = strong || context.matches("agent", agent) ? 1 : 0.3;
  fillName(pen, name, 0, 0, room);
  pen.restore();
}

/** Return how wide the widest of some texts is, in px. */
export function matrixLongest(texts, style) {
  const wide = textMeasure(`${style} ${MATRIX_FONT}`);
  return texts.reduce((most, text) => Math.max(most, wide(text)), 0);
}
