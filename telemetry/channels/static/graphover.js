// What lies over the graph: the item pointed at or selected.

import { themeColours } from "./colours.js";
import { TURN, trace } from "./graphshape.js";

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
