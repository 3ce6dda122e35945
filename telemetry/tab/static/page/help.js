// The help: keys, and what may be asked for.

import { el, iconButton } from "../drawing/dom.js";

const KEYS = [
  ["← →", "previous or next logged step; with Shift ten steps"],
  ["Home  End", "first and newest step"],
  ["Space", "play, pause"],
  ["G  M  T  L", "graph, matrix, table, timeline"],
  ["/", "find; Enter selects the first match"],
  ["0", "fit the graph or matrix"],
  ["R", "refresh"],
  ["Esc", "close, deselect, clear"],
];

const FIND = [
  ["n0", "agents and channels by part of the name"],
  ["decoupled  readout", "channels by coupling, agents by role or network"],
  ["helps  unresolved", "channels by the word for the interval of the metric shown"],
  ["cosine<0  loss>0.5", "by any logged metric, at the step shown"],
];

/** Build the help, as a dialog. */
export function helpDialog() {
  const dialog = el("dialog", { class: "ap-help", closedby: "any", aria: { label: "Help" } });
  const parts = [helpPart("Keys", KEYS), helpPart("Find: words that all hold", FIND)];
  dialog.append(el("div", { class: "ap-help-body" }, ...parts, iconButton("close", "Close (Esc)", () => dialog.close())));
  // A browser may leave the focus on a button that is no longer seen: keys would go to it.
  dialog.addEventListener("close", () => dialog.contains(document.activeElement) && document.activeElement.blur());
  return dialog;
}

function helpPart(heading, rows) {
  const items = rows.flatMap(([name, text]) => [el("dt", {}, ...name.split("  ").flatMap((part) => [el("code", { text: part }), " "])), el("dd", { text })]);
  return el("section", {}, el("h2", { class: "ap-heading", text: heading }), el("dl", { class: "ap-facts" }, ...items));
}
