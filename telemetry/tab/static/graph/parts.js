// The parts of a run in the graph: a plate of its part's colour under each agent, two bars across each cut channel.

import { CATEGORY_COUNT, categoryColour, themeColours } from "../drawing/colours.js";
import { circles, pointOn } from "./shape.js";

/** Radius of a plate, in radii of a disc. */
const PLATE = 1.42;
const PLATE_ALPHA = { light: 0.34, dark: 0.42 };
/** Half the length of a bar and half the gap between the two, in px at zoom 1. */
const BAR_HALF = 5;
const BAR_GAP = 1.8;

const before = [0, 0];
const after = [0, 0];

/** Paint the plates of agents that are not dimmed (`lit` 1) or are (0), those of a part that does not run as a dashed outline. */
export function paintPlates(pen, scene, lit, alpha) {
  const { shape, styles, theme, view, parts } = scene;
  const { agents } = shape.run;
  const plates = (wanted) => circles(pen, shape, PLATE * shape.radius, (agent) => styles.bright[agent] === lit && wanted(agents[agent].part));
  pen.setLineDash([]);
  pen.globalAlpha = alpha * PLATE_ALPHA[theme];
  for (let colour = 0; colour < CATEGORY_COUNT; colour++) {
    pen.fillStyle = categoryColour(colour, theme);
    plates((part) => !parts.gone(part) && part % CATEGORY_COUNT === colour);
    pen.fill();
  }
  pen.globalAlpha = alpha;
  pen.strokeStyle = themeColours(theme).warn;
  pen.lineWidth = Math.min(1.6, 0.3 * shape.radius * view.zoom) / view.zoom;
  pen.setLineDash([4 / view.zoom, 3 / view.zoom]);
  plates((part) => parts.gone(part));
  pen.stroke();
  pen.setLineDash([]);
}

/** Paint two bars across the middle of each cut channel among those drawn from one place in the order to another. */
export function paintCuts(pen, { shape, styles, theme, view }, from, to, alpha) {
  const colours = themeColours(theme);
  const scale = Math.max(shape.thinness, 0.6) / Math.sqrt(view.zoom);
  pen.globalAlpha = alpha;
  pen.lineCap = "butt";
  // The line itself ends at the bars.
  pen.strokeStyle = colours.paper;
  pen.lineWidth = 5 * scale;
  addBars(pen, shape, styles.order, from, to, 0, BAR_GAP * scale);
  pen.stroke();
  pen.strokeStyle = colours.ink;
  pen.lineWidth = 1.4 * scale;
  addBars(pen, shape, styles.order, from, to, BAR_HALF * scale, BAR_GAP * scale);
  pen.stroke();
}

/** Add to the path two bars of half a length across each cut channel, or (length 0) the gap between them along it. */
function addBars(pen, shape, order, from, to, half, gap) {
  pen.beginPath();
  for (let at = from; at < to; at++) {
    const channel = order[at];
    if (!shape.run.isCut(channel)) continue;
    pointOn(shape, channel, 0.48, before);
    pointOn(shape, channel, 0.52, after);
    const length = Math.hypot(after[0] - before[0], after[1] - before[1]) || 1;
    const [along, down] = [0, 1].map((axis) => (after[axis] - before[axis]) / length);
    const [x, y] = [0, 1].map((axis) => (before[axis] + after[axis]) / 2);
    if (half === 0) {
      pen.moveTo(x - gap * along, y - gap * down);
      pen.lineTo(x + gap * along, y + gap * down);
      continue;
    }
    for (let side = -gap; side <= gap; side += 2 * gap) {
      pen.moveTo(x + side * along - half * down, y + side * down + half * along);
      pen.lineTo(x + side * along + half * down, y + side * down - half * along);
    }
  }
}
