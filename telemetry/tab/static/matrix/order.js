// Orders of the matrix's rows and columns: as given, or by part.

/** What the orders are called. */
export const MATRIX_ORDERS = { given: "default", part: "by part" };

/** Return agents in one of MATRIX_ORDERS, and the groups of neighbouring places: from, to, text. */
export function matrixOrder(run, way) {
  const order = [...run.agents.keys()];
  if (way === "given") return { order, groups: [] };
  const keyOf = (agent) => run.agents[agent][way];
  order.sort((a, b) => keyOf(a) - keyOf(b) || a - b);
  const groups = [];
  for (const [place, agent] of order.entries()) {
    const key = keyOf(agent);
    if (groups.at(-1)?.key === key) groups.at(-1).to = place + 1;
    else groups.push({ key, from: place, to: place + 1, text: `part ${key}` });
  }
  return { order, groups };
}

/** Gather a run's channels into cells, one per pair of sender and receiver: {from, to, channels}, and `of` a pair. */
export function matrixCells(run) {
  const byPair = new Map();
  const pairOf = (from, to) => from * run.agents.length + to;
  for (const [channel, { from, to }] of run.channels.entries()) {
    const pair = pairOf(from, to);
    if (!byPair.has(pair)) byPair.set(pair, { from, to, channels: [] });
    byPair.get(pair).channels.push(channel);
  }
  return { list: [...byPair.values()], of: (from, to) => byPair.get(pairOf(from, to)) ?? null };
}
