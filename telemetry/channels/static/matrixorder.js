// Orders of the matrix's rows and columns: as given, by part, or by community with neighbours in the graph close together.

/** Agents above which a run opens in the matrix, by community: a graph of more is a thicket. */
export const MATRIX_FROM = 200;
/** What the orders are called. */
export const MATRIX_ORDERS = { given: "default", community: "by community", part: "by part" };

/**
 * Return agents in an order, and where groups begin.
 *
 * @param {Object} run a Run
 * @param {string} way one of MATRIX_ORDERS
 * @returns {{order: number[], groups: {from: number, to: number, text: string}[]}} groups of places: by community or part
 */
export function matrixOrder(run, way) {
  const { agents } = run;
  if (way === "community") return matrixCommunities(run);
  const order = [...agents.keys()];
  if (way !== "part" || !run.parts) return { order, groups: [] };
  order.sort((a, b) => agents[a].part - agents[b].part || a - b);
  return { order, groups: matrixRuns(order, (agent) => agents[agent].part, (part) => `part ${part}`) };
}

/** Order agents by community, and within each by neighbours. */
function matrixCommunities(run) {
  const { agents } = run;
  const near = new Int32Array(agents.length);
  for (const [place, agent] of matrixNeighbours(run).entries()) near[agent] = place;
  const order = [...agents.keys()].sort((a, b) => agents[a].community - agents[b].community || near[a] - near[b]);
  return { order, groups: matrixRuns(order, (agent) => agents[agent].community, (community) => `community ${community + 1}`) };
}

/** Groups of neighbouring places whose agents have the same key. */
function matrixRuns(order, keyOf, textOf) {
  const groups = [];
  for (const [place, agent] of order.entries()) {
    const key = keyOf(agent);
    if (groups.length && groups.at(-1).key === key) groups.at(-1).to = place + 1;
    else groups.push({ key, from: place, to: place + 1, text: textOf(key) });
  }
  return groups;
}

/**
 * Order agents after Cuthill and McKee (1969), reversed: neighbours get near places, so cells gather at the diagonal.
 *
 * Parts that are not connected follow one another, largest first.
 */
function matrixNeighbours(run) {
  const near = run.agents.map(() => new Set());
  for (const { from, to } of run.channels) {
    if (from === to) continue;
    near[from].add(to);
    near[to].add(from);
  }
  const fewer = (a, b) => near[a].size - near[b].size || a - b;
  const sorted = near.map((others) => [...others].sort(fewer));
  const seen = new Uint8Array(near.length);
  const parts = [];
  for (const first of run.agents.map((_, index) => index).sort(fewer)) {
    if (seen[first]) continue;
    const start = matrixFarthest(sorted, matrixFarthest(sorted, first));
    const part = matrixBreadthFirst(sorted, start);
    for (const agent of part) seen[agent] = 1;
    parts.push(part.reverse());
  }
  return parts.sort((a, b) => b.length - a.length).flat();
}

/** The last agent reached from one: an end of its part of the graph. */
function matrixFarthest(sorted, start) {
  return matrixBreadthFirst(sorted, start).at(-1);
}

function matrixBreadthFirst(sorted, start) {
  const reached = [start];
  const seen = new Set(reached);
  for (let at = 0; at < reached.length; at++) {
    for (const other of sorted[reached[at]]) {
      if (seen.has(other)) continue;
      seen.add(other);
      reached.push(other);
    }
  }
  return reached;
}
