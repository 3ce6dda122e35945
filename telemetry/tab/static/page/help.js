// The help: keys, and what may be asked for.

import { clear, el, iconButton } from "../drawing/dom.js";
import { filterHelp } from "../data/filter.js";

const KEYS = [
  ["← →", "previous or next logged step; with Shift ten steps"],
  ["Home  End", "first and newest step"],
  ["Space", "play, pause"],
  ["G  M  T  A", "graph, matrix, timeline, parts"],
  ["N  P", "next or previous agent"],
  ["J  K", "next or previous channel"],
  ["/", "find; Enter selects the first match"],
  ["0", "fit the graph or matrix"],
  ["R", "refresh"],
  ["Esc", "close, deselect, clear"],
  ["?", "this help"],
];

const GESTURES = [
  ["click", "select a channel or agent; in a chart: show that step"],
  ["Shift-click", "compare a channel or agent with the one selected"],
  ["drag, wheel", "move, zoom"],
  ["double-click", "fit the graph; zoom into the matrix"],
  ["hover", "numbers, and what a word or metric means"],
];

/** Show the help, with examples from a run. */
export function showHelp(dialog, run) {
  const close = iconButton("close", "Close (Esc)", () => dialog.close());
  const parts = [el("div", {}, helpPart("Keys", KEYS), helpPart("Mouse", GESTURES)), helpPart("Find", filterHelp(run))];
  clear(dialog).append(el("div", { class: "ap-help-body" }, ...parts, close));
  dialog.showModal();
}

/** Build an empty help (`showHelp`). */
export function helpDialog() {
  const dialog = el("dialog", { class: "ap-help", closedby: "any", aria: { label: "Help" } });
  // A browser may leave the focus on a button that is no longer seen: keys would go to it.
  dialog.addEventListener("close", () => dialog.contains(document.activeElement) && document.activeElement.blur());
  return dialog;
}

function helpPart(heading, rows) {
  const items = rows.flatMap(([name, text]) => [el("dt", {}, ...name.split("  ").flatMap((part) => [el("code", { text: part }), " "])), el("dd", { text })]);
  return el("section", {}, el("h2", { class: "ap-heading", text: heading }), el("dl", { class: "ap-facts" }, ...items));
}
