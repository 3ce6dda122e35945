// Which names are written into the graph: of agents with most channels first, those that have room.

import { shortName } from "../drawing/textfit.js";

/** Height of a line of text, in px. */
const LINE = 13;
const MOST = 400;
/** Distance between agents on screen, in px, from which all are named that have room; below it so many. */
const ROOMY = 22;
const FEW = 20;
/** Return an agent's network and what it observes: "mlp 64 of patch_4"; "" where nothing is known. */
export function networkOf({ about: { network, observes } = {} }) {
  return network ? network + (observes && observes !== "nothing" ? ` of ${observes}` : "") : "";
}

/** Return the agents in the order in which they are named, each with its text and how wide that is, in px. */
export function textsOf(run, wide) {
  const degree = (agent) => run.incoming(agent).length + run.outgoing(agent).length;
  const order = [...run.agents.keys()].sort((one, other) => degree(other) - degree(one));
  return order.map((agent) => [agent, shortName(run.agents[agent].name)]).map(([agent, text]) => ({ agent, text, width: wide(text) }));
}

/** Choose the labels to write: in the disc where the name fits, else below it, clear of other names; agents that are `bright` first. Return agent, text, x, y (in the graph's px), whether inside its disc. */
export function labelsFor({ places, radius, spacing, width, height }, view, texts, bright) {
  const { zoom, left, top } = view;
  const roomy = spacing * zoom >= ROOMY;
  const order = bright ? [...texts.filter(({ agent }) => bright[agent]), ...texts.filter(({ agent }) => !bright[agent])] : texts;
  const taken = [];
  const found = [];
  for (const { agent, text, width: wide } of roomy ? order : order.slice(0, FEW)) {
    const [x, y] = [places[2 * agent], places[2 * agent + 1]];
    const [across, down] = [x * zoom + left, y * zoom + top];
    if (found.length >= MOST || across < 0 || down < 0 || across > width || down > height) continue;
    const inside = wide <= 1.34 * radius * zoom;
    const middle = down + radius * zoom + LINE;
    const box = [across - wide / 2, middle - LINE / 2, across + wide / 2, middle + LINE / 2];
    if (!inside && taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
    if (!inside) taken.push(box);
    found.push({ agent, text, x, y: inside ? y : (middle - top) / zoom, inside });
  }
  return found;
}
