// What is found: by name, or by words like coupling:decoupled, role:readout, from:a00, period:4, value<0.

import { nearest } from "./nearest.js";

/** What may be asked for, for the help, with the names of a run. */
export function filterHelp(run) {
  const [one = "a", other = one] = run?.agents.map(({ name }) => name) ?? [];
  const { coupling = "decoupled", delay = 0 } = run?.channels[0] ?? {};
  return [
    [one, "agents and channels by part of the name"],
    [`coupling:${coupling}`, "channels with a coupling"],
    [`from:${one}  to:${other}`, "channels by sender or receiver (part of a name)"],
    [`delay:${delay}  drop>0`, "channels by their link"],
    ["role:readout  period:4", "agents by role or clock"],
    ...(run?.parts ? [["part:1  cut:1", "agents in a part, channels between parts"]] : []),
    ["verdict:harms", `channels by verdict: ${(run?.catalog.verdicts?.words ?? []).map(({ name }) => name).join(", ")}`],
    ["value<0  training loss>0.5", "by any metric at the step shown, by its name or title"],
    ["metric>0.5  ring<1", "by the metric that the lines or the rings show"],
  ];
}

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
/** Fields of parts of names. */
const ENDS = ["from", "to"];
/** So many values that a run has are listed where none is near to what was asked. */
const LISTED = 8;

/** Read what is asked for, words that all must hold (`a00 coupling:decoupled value<0`): its tests, and as `error` what is not understood in any run, or "". */
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
    const [, key, operator, quoted] = parts;
    const raw = quoted.replaceAll('"', "");
    if (Object.hasOwn(TEXTS, key)) {
      if (operator !== ":" && operator !== "=") return { tests: [], error: `${key} takes a name: ${key}:${raw}` };
      tests.push({ on: TEXTS[key], key, operator, value: raw.toLowerCase(), raw });
    } else tests.push({ on: Object.hasOwn(NUMBERS, key) ? NUMBERS[key] : "metric", key, operator, value: Number(raw), raw });
  }
  return { tests, error: "" };
}

/** Whether a filter looks at metrics, so that it depends on the step. */
export function filterMoves(tests) {
  return tests.some((test) => test.on === "metric" || test.on === "verdict");
}

/** Find what is left of a run, by agent and channel, and as `error` a word that the run has not; `valuesOf` a test: {kind, values} at the step shown, of a verdict its `bit`; null: none. A test of channels leaves the agents at their ends, one of agents the channels they send or receive on; of names each leaves its own. */
export function maskOf(run, tests, valuesOf) {
  const agent = new Uint8Array(run.agents.length).fill(1);
  const channel = new Uint8Array(run.channels.length).fill(1);
  const masks = { agent, channel };
  const on = { agent: false, channel: false };
  let error = "";
  for (const test of tests.filter((one) => one.on !== "name")) {
    const metric = test.on === "metric" || test.on === "verdict" ? valuesOf(test) : null;
    const wrong = misread(run, test, metric);
    if (wrong) {
      error = wrong;
      continue;
    }
    const kind = metric ? metric.kind : test.on;
    on[kind] = true;
    const passes = masks[kind].map((_, index) => (holds(test, run, kind, index, metric) ? 1 : 0));
    if (!metric && !passes.includes(1)) error = nothing(run, test, kind);
    passes.forEach((pass, index) => (masks[kind][index] &= pass));
  }
  // Asked of one side only, the other is what hangs on it; asked of both, a channel needs an end that is left.
  if (on.agent) run.channels.forEach(({ from, to }, index) => (channel[index] &= agent[from] | agent[to]));
  if (on.channel) agent.forEach((_, index) => (agent[index] &= touched(run, channel, index) ? 1 : 0));
  for (const { value } of tests.filter((one) => one.on === "name")) {
    const named = ["agent", "channel"].map((kind) => masks[kind].map((_, index) => Number(run.nameOf(kind, index).toLowerCase().includes(value))));
    [agent, channel].forEach((mask, at) => named[at].forEach((pass, index) => (mask[index] &= pass)));
    if (!named.some((passes) => passes.includes(1))) error = `no name contains ${value}${nearOf(value, run.agents.map(({ name }) => name))}`;
  }
  return { agent, channel, error };
}

/** Return what is wrong with a test before it is tried; "" where nothing is. */
function misread(run, { on, key, value, raw }, metric) {
  if (on === "verdict") {
    if (metric) return "";
    const words = (run.catalog.verdicts?.words ?? []).map(({ name }) => name);
    return words.includes(value) ? `verdict ${value} is not measured` : `no verdict ${raw}${nearOf(value, words, true)}`;
  }
  if (on === "metric" && !metric) {
    const logged = ["channel", "agent"].flatMap((kind) => run.metrics(kind));
    const near = nearOf(key, [...Object.keys(TEXTS), ...Object.keys(NUMBERS), ...logged]);
    return `no field or metric ${key}${near || "; ? lists what Find accepts"}`;
  }
  return Number.isNaN(value) ? `${key} takes a number, not ${raw}` : "";
}

/** Return that no item of a run has what a test asks, and what they have. */
function nothing(run, { key, operator, value, raw }, kind) {
  if (key === "part" && !run.parts) return "part: the run is not divided into parts";
  if (ENDS.includes(key)) return `no channel ${key} ${raw}${nearOf(value, run.agents.map(({ name }) => name))}`;
  const has = [...new Set(run[`${kind}s`].map((_, index) => fieldOf(run, kind, index, key)))];
  const asked = OPERATORS[operator] === OPERATORS[":"] ? `${key} ${raw}` : `${key}${operator}${raw}`;
  return `no ${asked}${nearOf(String(value), has, true)}`;
}

/** Return a hint at the name that was meant; where none is near, at all names if they are wanted; else "". */
function nearOf(word, names, all = false) {
  const near = nearest(word, names.filter((name) => typeof name === "string"));
  if (near) return `; did you mean ${near}?`;
  const listed = [...names].sort((a, b) => (typeof a === "number" ? a - b : a < b ? -1 : 1)).slice(0, LISTED);
  return all && listed.length ? `; the run has ${listed.join(", ")}${names.length > LISTED ? ", …" : ""}` : "";
}

function touched(run, channel, agent) {
  return run.outgoing(agent).some((index) => channel[index]) || run.incoming(agent).some((index) => channel[index]);
}

function holds(test, run, kind, index, metric) {
  if (metric?.bit) return Boolean(metric.values) && (metric.values[index] & metric.bit) > 0;
  if (metric) return Boolean(metric.values) && OPERATORS[test.operator](metric.values[index], Math.fround(test.value));
  const own = fieldOf(run, kind, index, test.key);
  if (ENDS.includes(test.key)) return own.toLowerCase().includes(test.value);
  return typeof test.value === "number" ? OPERATORS[test.operator](own, test.value) : String(own).toLowerCase() === test.value;
}

/** Return what an agent or a channel has in a field. */
function fieldOf(run, kind, index, key) {
  const item = run[`${kind}s`][index];
  if (ENDS.includes(key)) return run.agents[item[key]].name;
  return key === "cut" ? (run.isCut(index) ? 1 : 0) : item[key];
}
