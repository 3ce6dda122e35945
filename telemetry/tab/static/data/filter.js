// What is found: by name, or by words like coupling:decoupled, role:readout, from:a00, period:4, value<0.

/** What may be asked for, for the help. */
export const FILTER_HELP = [
  ["a00", "agents and channels by part of the name"],
  ["coupling:decoupled", "channels with a coupling"],
  ["from:a00  to:a01", "channels by sender or receiver (part of a name)"],
  ["delay:2  drop>0", "channels by their link"],
  ["role:readout  period:4", "agents by role or clock"],
  ["part:1  cut:1", "agents in a part, channels between parts"],
  ["verdict:harms", "channels by verdict: matters, harms, unresolved, stale, silent, shut"],
  ["value<0  loss>0.5", "by any metric at the step shown"],
  ["metric>0.5  ring<1", "by the metric that the lines or the rings show"],
];

const OPERATORS = {
  ":": (a, b) => a === b,
  "=": (a, b) => a === b,
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
};
const TEXTS = { coupling: "channel", from: "channel", to: "channel", role: "agent", verdict: "verdict" };
const NUMBERS = { delay: "channel", drop: "channel", size: "channel", cut: "channel", period: "agent", phase: "agent", part: "agent" };

/**
 * Read what is asked for.
 *
 * @param {string} text words that all must hold, e.g. `a00 coupling:decoupled value<0`; quotes keep blanks together
 * @returns {{tests: Object[], error: string}} error: one line on what is not understood, or ""
 */
export function parseFilter(text) {
  const tests = [];
  const words = text.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? [];
  for (const word of words) {
    const parts = word.includes("->") ? null : /^([\w.-]+?)(<=|>=|[:=<>])(.*)$/.exec(word);
    if (!parts) {
      tests.push({ on: "name", value: word.replaceAll('"', "").toLowerCase() });
      continue;
    }
    if (parts[3] === "") return { tests: [], error: `invalid: ${word} (try coupling:decoupled or value<0)` };
    const [, key, operator, raw] = parts;
    const value = raw.replaceAll('"', "");
    if (key in TEXTS) {
      if (operator !== ":" && operator !== "=") return { tests: [], error: `${key} takes a name: ${key}:${value}` };
      tests.push({ on: TEXTS[key], key, operator, value: value.toLowerCase() });
      continue;
    }
    const number = Number(value);
    if (Number.isNaN(number)) return { tests: [], error: `${key} takes a number, not ${value} (only ${Object.keys(TEXTS).join(", ")} take names)` };
    tests.push({ on: NUMBERS[key] ?? "metric", key, operator, value: number });
  }
  return { tests, error: "" };
}

/** Whether a filter looks at metrics, so that it depends on the step. */
export function filterMoves(tests) {
  return tests.some((test) => test.on === "metric" || test.on === "verdict");
}

/**
 * Find what is left of a run.
 *
 * A test of channels leaves the agents at their ends, one of agents the channels they send or receive on; of names each leaves its own.
 *
 * @param {Run} run
 * @param {Object[]} tests of parseFilter
 * @param {function(Object): Object|null} valuesOf by test: {kind, values} of a metric at the step shown, of a verdict its `bit` too;
 *   null where there is none
 * @returns {{agent: Uint8Array, channel: Uint8Array, error: string}}
 */
export function maskOf(run, tests, valuesOf) {
  const agent = new Uint8Array(run.agents.length).fill(1);
  const channel = new Uint8Array(run.channels.length).fill(1);
  const masks = { agent, channel };
  const on = { agent: false, channel: false };
  let error = "";
  for (const test of tests.filter((one) => one.on !== "name")) {
    const metric = test.on === "metric" || test.on === "verdict" ? valuesOf(test) : null;
    if (test.on === "metric" && !metric) {
      error = `no metric ${test.key}`;
      continue;
    }
    if (test.on === "verdict" && !metric) {
      error = `no verdict ${test.value}, or it is not measured`;
      continue;
    }
    const kind = metric ? metric.kind : test.on;
    on[kind] = true;
    const mask = masks[kind];
    for (let index = 0; index < mask.length; index++) mask[index] &= holds(test, run, kind, index, metric) ? 1 : 0;
  }
  // Asked of one side only, the other is what hangs on it; asked of both, a channel needs an end that is left.
  if (on.agent) run.channels.forEach(({ from, to }, index) => (channel[index] &= agent[from] | agent[to]));
  if (on.channel) agent.forEach((_, index) => (agent[index] &= touched(run, channel, index) ? 1 : 0));
  for (const { value } of tests.filter((one) => one.on === "name")) {
    for (const kind of ["agent", "channel"]) {
      masks[kind].forEach((_, index, mask) => (mask[index] &= run.nameOf(kind, index).toLowerCase().includes(value) ? 1 : 0));
    }
  }
  return { agent, channel, error };
}

function touched(run, channel, agent) {
  return run.outgoing(agent).some((index) => channel[index]) || run.incoming(agent).some((index) => channel[index]);
}

function holds(test, run, kind, index, metric) {
  if (metric?.bit) return Boolean(metric.values) && (metric.values[index] & metric.bit) > 0;
  if (metric) return Boolean(metric.values) && OPERATORS[test.operator](metric.values[index], Math.fround(test.value));
  const item = (kind === "agent" ? run.agents : run.channels)[index];
  if (test.key === "from" || test.key === "to") return run.agents[item[test.key]].name.toLowerCase().includes(test.value);
  if (test.key === "cut") return OPERATORS[test.operator](run.isCut(index) ? 1 : 0, test.value);
  const own = item[test.key];
  return typeof test.value === "number" ? OPERATORS[test.operator](own, test.value) : String(own).toLowerCase() === test.value;
}
