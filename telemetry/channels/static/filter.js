// The filter: words like coupling:decoupled, role:readout, from:a00, period:4, value<0.

/** What a filter may say, for the help. */
export const FILTER_HELP = [
  ["coupling:decoupled", "channels of a coupling"],
  ["from:a00  to:a01", "channels by sender or receiver (part of a name)"],
  ["delay:2  drop>0", "channels by their link"],
  ["role:readout  period:4", "agents by role or clock"],
  ["part:1  cut:1", "agents by their part, channels between parts"],
  ["verdict:harms", "channels by verdict: matters, harms, unresolved, stale, silent"],
  ["value<0  loss>0.5", "by any figure at the step shown"],
  ["figure>0.5  ring<1", "by the figure the lines or rings show"],
];

const OPERATORS = {
  ":": (a, b) => a === b,
  "=": (a, b) => a === b,
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
};
const TEXTS = { coupling: "channel", from: "channel", to: "channel", role: "agent", name: "both", verdict: "verdict" };
const NUMBERS = { delay: "channel", drop: "channel", size: "channel", cut: "channel", period: "agent", phase: "agent", part: "agent" };

/**
 * Read a filter.
 *
 * @param {string} text words that all must hold, e.g. `coupling:decoupled value<0`; quotes keep blanks together
 * @returns {{tests: Object[], error: string}} error: one line on what is not understood, or ""
 */
export function parseFilter(text) {
  const tests = [];
  const words = text.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? [];
  for (const word of words) {
    const parts = /^([\w.-]+?)(<=|>=|[:=<>])(.*)$/.exec(word);
    if (!parts || parts[3] === "") return { tests: [], error: `not understood: ${word} (try coupling:decoupled or value<0)` };
    const [, key, operator, raw] = parts;
    const value = raw.replaceAll('"', "");
    if (key in TEXTS) {
      if (operator !== ":" && operator !== "=") return { tests: [], error: `${key} takes a name: ${key}:${value}` };
      tests.push({ on: TEXTS[key], key, operator, value: value.toLowerCase() });
      continue;
    }
    const number = Number(value);
    if (Number.isNaN(number)) return { tests: [], error: `${key} takes a number, not ${value} (names go with ${Object.keys(TEXTS).join(", ")})` };
    tests.push({ on: NUMBERS[key] ?? "figure", key, operator, value: number });
  }
  return { tests, error: "" };
}

/** Whether a filter looks at figures, so that it depends on the step. */
export function filterMoves(tests) {
  return tests.some((test) => test.on === "figure" || test.on === "verdict");
}

/**
 * Find what a filter and a search leave of a run.
 *
 * A filter on channels leaves the agents at their ends, one on agents the channels they send or receive on.
 *
 * @param {Run} run
 * @param {Object[]} tests of parseFilter
 * @param {string} query part of a name, in any case
 * @param {function(Object): Object|null} valuesOf by test: {kind, values} of a figure at the step shown, of a verdict its `bit` too;
 *   null where there is none
 * @returns {{agent: Uint8Array, channel: Uint8Array, error: string}}
 */
export function maskOf(run, tests, query, valuesOf) {
  const agent = new Uint8Array(run.agents.length).fill(1);
  const channel = new Uint8Array(run.channels.length).fill(1);
  const masks = { agent, channel };
  const on = { agent: false, channel: false };
  let error = "";
  for (const test of tests) {
    const figure = test.on === "figure" || test.on === "verdict" ? valuesOf(test) : null;
    if (test.on === "figure" && !figure) {
      error = `there is no figure called ${test.key} here`;
      continue;
    }
    if (test.on === "verdict" && !figure) {
      error = `there is no verdict called ${test.value} here (or it is not measured)`;
      continue;
    }
    for (const kind of kindsOf(test, figure)) {
      on[kind] = true;
      const mask = masks[kind];
      for (let index = 0; index < mask.length; index++) mask[index] &= holds(test, run, kind, index, figure) ? 1 : 0;
    }
  }
  // Asked of one side only, the other is what hangs on it; asked of both, a channel needs an end that is left.
  if (on.agent) run.channels.forEach(({ from, to }, index) => (channel[index] &= agent[from] | agent[to]));
  if (on.channel) agent.forEach((_, index) => (agent[index] &= touched(run, channel, index) ? 1 : 0));
  const wanted = query.toLowerCase();
  if (wanted) {
    for (const kind of ["agent", "channel"]) {
      const mask = masks[kind];
      for (let index = 0; index < mask.length; index++) mask[index] &= run.nameOf(kind, index).toLowerCase().includes(wanted) ? 1 : 0;
    }
  }
  return { agent, channel, error };
}

function kindsOf(test, figure) {
  if (figure) return [figure.kind];
  return test.on === "both" ? ["agent", "channel"] : [test.on];
}

function touched(run, channel, agent) {
  return run.outgoing(agent).some((index) => channel[index]) || run.incoming(agent).some((index) => channel[index]);
}

function holds(test, run, kind, index, figure) {
  if (figure?.bit) return Boolean(figure.values) && (figure.values[index] & figure.bit) > 0;
  if (figure) return Boolean(figure.values) && OPERATORS[test.operator](figure.values[index], Math.fround(test.value));
  const item = (kind === "agent" ? run.agents : run.channels)[index];
  if (test.key === "from" || test.key === "to") return run.agents[item[test.key]].name.toLowerCase().includes(test.value);
  if (test.key === "cut") return OPERATORS[test.operator](run.isCut(index) ? 1 : 0, test.value);
  if (test.key === "name") return item.name.toLowerCase().includes(test.value);
  if (test.on === "channel" || test.on === "agent") {
    const own = item[test.key];
    return typeof test.value === "number" ? OPERATORS[test.operator](own, test.value) : String(own).toLowerCase() === test.value;
  }
  return false;
}
