// Orders of the matrix's rows and columns: as given, by part, or by community.

/** Agents above which a run opens in the matrix, by community: a graph of more is a thicket. */
export const MATRIX_FROM = 200;
/** What the orders are called. */
export const MATRIX_ORDERS = { given: "default", community: "by community", part: "by part" };

/** Return agents in one of MATRIX_ORDERS, and the groups of places: from, to, text. */
export function matrixOrder(run, way) {
  const order = [...run.agents.keys()];
  if (way === "given") return { order, groups: [] };
  const keyOf = (agent) => run.agents[agent][way];
  order.sort((a, b) => keyOf(a) - keyOf(b) || a - b);
  return { order, groups: matrixRuns(order, keyOf, (key) => (way === "part" ? `part ${key}` : `community ${key + 1}`)) };
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
