// Parts of the side panel: sentences, facts, and which metrics belong together.

import { el } from "../drawing/dom.js";

/** Return the metrics that were logged, in groups with a heading. */
export function panelGroups(run, kind) {
  const there = new Set(run.shownMetrics(kind));
  const groups = run.catalog.groups[kind].map(([heading, names]) => ({ heading, metrics: names.filter((name) => there.delete(name)) }));
  groups.push({ heading: "Other metrics", metrics: [...there] });
  return groups.filter((group) => group.metrics.length);
}

/** Return what a channel is called: sender, receiver and key. */
export function channelEnds(run, index) {
  const { name, from, to } = run.channels[index];
  const [sender, receiver] = [run.agents[from].name, run.agents[to].name];
  const start = `${sender}->${receiver}:`;
  return { sender, receiver, key: name.startsWith(start) ? name.slice(start.length) : "" };
}

/** Return "sender → receiver"; a name written from right to left turns only itself. */
export function pairOf(sender, receiver) {
  return el("span", {}, el("bdi", { text: sender }), " → ", el("bdi", { text: receiver }));
}

/** List facts: [name, anything]. Empty ones are left out. */
export function factList(entries) {
  const list = el("dl", { class: "ap-facts" });
  for (const [name, value] of entries) {
    const text = factText(value);
    if (text) list.append(el("dt", { dir: "auto", text: name.replaceAll("_", " ") }), el("dd", { dir: "auto", text }));
  }
  return list;
}

function factText(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return value.toLocaleString("en-US", { maximumSignificantDigits: 6 });
  return Array.isArray(value) ? value.map(factText).join(", ") : String(value);
}
