// What lies over the graph and moves by itself: the item pointed at or selected, and pulses while playing.

import { themeColours } from "./colours.js";
import { TURN, pointOn, trace } from "./graphshape.js";

/** How long a pulse takes, in ms. */
export const PULSE_MS = 420;
const MOST_DOTS = 600;
const dot = [0, 0];

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
    pen.beginPath();
    pen.arc(shape.places[2 * index], shape.places[2 * index + 1], shape.radius + 3.5 / view.zoom, 0, TURN);
    pen.stroke();
    return;
  }
  const width = 3.2 * Math.max(shape.thinness, 0.6) / Math.sqrt(view.zoom);
  pen.beginPath();
  trace(pen, shape, index);
  pen.strokeStyle = colours.ink;
  pen.lineWidth = width + (strong ? 3.6 : 2.6) / view.zoom;
  pen.stroke();
  pen.beginPath();
  trace(pen, shape, index);
  pen.strokeStyle = scene.styles.channelColour(index, theme);
  pen.lineWidth = width;
  pen.stroke();
  const at = index * 6;
  pen.beginPath();
  pen.moveTo(shape.heads[at], shape.heads[at + 1]);
  pen.lineTo(shape.heads[at + 2], shape.heads[at + 3]);
  pen.lineTo(shape.heads[at + 4], shape.heads[at + 5]);
  pen.closePath();
  pen.fillStyle = colours.ink;
  pen.fill();
}

/** Draw the pulse of the agents that tick: a ring that widens, a dot that runs along each outgoing channel. */
export function paintPulse(pen, scene, share) {
  const { shape, theme, view, ticking, styles } = scene;
  const { run } = shape;
  const colours = themeColours(theme);
  const eased = 1 - (1 - share) * (1 - share);
  const away = shape.radius + (2 + 9 * eased * Math.max(shape.thinness, 0.5)) / view.zoom;
  pen.strokeStyle = colours.ink;
  pen.lineWidth = 1.5 / view.zoom;
  pen.setLineDash([]);
  pen.globalAlpha = 0.55 * (1 - share);
  pen.beginPath();
  for (let agent = 0; agent < ticking.length; agent++) {
    if (!ticking[agent] || !styles.bright[agent]) continue;
    pen.moveTo(shape.places[2 * agent] + away, shape.places[2 * agent + 1]);
    pen.arc(shape.places[2 * agent], shape.places[2 * agent + 1], away, 0, TURN);
  }
  pen.stroke();
  if (run.channels.length > MOST_DOTS) return;
  const size = Math.max(2.4 * shape.thinness, 1.2) / Math.sqrt(view.zoom);
  pen.fillStyle = colours.ink;
  pen.globalAlpha = 0.8 * (1 - share * share);
  pen.beginPath();
  for (let channel = 0; channel < run.channels.length; channel++) {
    const from = run.channels[channel].from;
    if (!ticking[from] || !styles.bright[from]) continue;
    pointOn(shape, channel, eased, dot);
    pen.moveTo(dot[0] + size, dot[1]);
    pen.arc(dot[0], dot[1], size, 0, TURN);
  }
  pen.fill();
}
