// Which names are written into the graph: of agents with most channels first, those that have room.

import { shortName } from "../drawing/textfit.js";

/** Height of a line of text, in px. */
const LINE = 13;
const MOST = 400;
/** Distance between agents on screen, in px, from which all are named that have room; below it so many. */
const ROOMY = 22;
const FEW = 20;
/** In graphs of so few agents what each is stands below its name. */
const DETAILED = 6;
const LONGEST_LINE = 32;

/** Return an agent's network and what it observes: "mlp 64 of patch_4"; "" where nothing is known. */
export function networkOf({ about: { network, observes } = {} }) {
  return network ? network + (observes && observes !== "nothing" ? ` of ${observes}` : "") : "";
}

/** Return the agents in the order in which they are named, each with its lines of text and how wide they are, in px. */
export function textsOf(run, wide) {
  const degree = (agent) => run.incoming(agent).length + run.outgoing(agent).length;
  const order = [...run.agents.keys()].sort((one, other) => degree(other) - degree(one));
  return order.map((agent) => {
    const details = run.agents.length <= DETAILED ? [networkOf(run.agents[agent])] : [];
    const lines = [shortName(run.agents[agent].name), ...details.filter(Boolean).map((line) => shortName(line, LONGEST_LINE))];
    return { agent, lines, widths: lines.map(wide) };
  });
}

/** Choose the labels to write: in the disc where the name fits, else below it, clear of the boxes that are `kept`; agents that are `bright` first. Return agent, text, x, y (in the graph's px), whether inside its disc, whether a detail. */
export function labelsFor({ places, radius, spacing, width, height }, view, texts, kept, bright) {
  const { zoom, left, top } = view;
  const roomy = spacing * zoom >= ROOMY;
  const order = bright ? [...texts.filter(({ agent }) => bright[agent]), ...texts.filter(({ agent }) => !bright[agent])] : texts;
  const taken = [...kept];
  const found = [];
  for (const { agent, lines, widths } of roomy ? order : order.slice(0, FEW)) {
    const [x, y] = [places[2 * agent], places[2 * agent + 1]];
    const [across, down] = [x * zoom + left, y * zoom + top];
    if (found.length >= MOST || across < 0 || down < 0 || across > width || down > height) continue;
    const inside = widths[0] <= 1.34 * radius * zoom;
    const below = inside ? lines.slice(1) : lines;
    const [half, first] = [Math.max(...widths) / 2, down + radius * zoom + LINE];
    const box = [across - half, first - LINE / 2, across + half, first + LINE * (below.length - 0.5)];
    if (below.length && taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
    if (inside) found.push({ agent, text: lines[0], x, y, inside, detail: false });
    if (below.length) taken.push(box);
    below.forEach((text, line) => found.push({ agent, text, x, y: (first + LINE * line - top) / zoom, inside: false, detail: inside || line > 0 }));
  }
  return found;
}
