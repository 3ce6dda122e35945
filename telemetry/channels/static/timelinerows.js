// Rows of the timeline: agents, and below them the channels they read; those whose clocks agree share a row.

import { formatCount } from "./format.js";

/** How many names a row lists before it counts. */
const TIMELINE_NAMED = 4;

/**
 * Return the rows of a run, in the order of its agents.
 *
 * @param {Object} run a Run
 * @param {Object} timeline its document
 * @param {Object} how matches(kind, index): whether search and filter let it through; grouped: whether equals share a row;
 *   channels: whether there are rows of channels
 * @returns {{kind: string, index: number, members: number[], text: string}[]} `index` is the first of the members
 */
export function timelineRows(run, timeline, { matches, grouped, channels }) {
  const into = (agent) => (channels ? run.incoming(agent).filter((channel) => matches("channel", channel)) : []);
  const agents = run.agents.map((_, index) => index).filter((index) => into(index).length || matches("agent", index));
  const rows = [];
  for (const members of timelineEquals(agents, timeline.agents, grouped)) {
    rows.push({ kind: "agent", index: members[0], members, text: timelineAgents(run, members) });
    for (const equal of timelineEquals(members.flatMap(into), timeline.channels, grouped)) {
      rows.push({ kind: "channel", index: equal[0], members: equal, text: timelineSenders(run, equal, members.length) });
    }
  }
  return rows;
}

/** The row's name for what is chosen: one that is selected comes before the others. */
export function timelineText(run, row, selected) {
  const chosen = row.kind === "agent" && selected?.kind === "agent" && row.members.length > 1 && row.members.includes(selected.index);
  return chosen ? timelineMore(run.agents[selected.index].name, row.members.length - 1) : row.text;
}

/** Items that do the same at the same steps, in the order of the first of each. */
function timelineEquals(items, times, grouped) {
  if (!grouped) return items.map((index) => [index]);
  const found = new Map();
  for (const index of items) {
    const key = JSON.stringify(times[index]);
    if (found.has(key)) found.get(key).push(index);
    else found.set(key, [index]);
  }
  return [...found.values()];
}

function timelineAgents(run, members) {
  if (members.length > 1 && members.length === run.agents.length) return `all ${formatCount(members.length, "agent")}`;
  return timelineMore(run.agents[members[0]].name, members.length - 1);
}

function timelineMore(name, more) {
  return more ? `${name} + ${more.toLocaleString("en-US")} more` : name;
}

/** Who sends what a row's receivers read. */
function timelineSenders(run, members, receivers) {
  if (members.length === 1) return timelineFrom(run, members[0]);
  const senders = [...new Set(members.map((channel) => run.agents[run.channels[channel].from].name))];
  if (senders.length === 1) return `from ${senders[0]}: ${formatCount(members.length, "channel")}`;
  if (receivers === 1 && senders.length <= TIMELINE_NAMED) return `from ${senders.join(", ")}`;
  return formatCount(members.length, "channel");
}

function timelineFrom(run, channel) {
  const { from, to, name, state } = run.channels[channel];
  const [sender, receiver] = [run.agents[from].name, run.agents[to].name];
  const key = name.startsWith(`${sender}->${receiver}:`) ? name.slice(`${sender}->${receiver}:`.length) : "";
  if (from === to) return state ? "its own state" : `from itself${key && ` (${key})`}`;
  return `from ${sender}${key && ` (${key})`}`;
}
