// The help: keys, and what may be asked for.

import { el, iconButton } from "../drawing/dom.js";
import { FILTER_HELP } from "../data/filter.js";

const KEYS = [
  ["← →", "previous or next logged step; with Shift ten steps"],
  ["Home  End", "first and newest step"],
  ["Space", "play, pause"],
  ["G  M  T  A", "graph, matrix, timeline, parts"],
  ["N  P", "next or previous agent"],
  ["J  K", "next or previous channel"],
  ["/", "find; Enter selects the first match"],
  ["0", "fit the graph (or double-click)"],
  ["R", "refresh"],
  ["Esc", "close, deselect, clear"],
  ["?", "this help"],
];

/** Build the help; show it with showModal(). */
export function helpDialog() {
  const dialog = el("dialog", { class: "ap-help", closedby: "any", aria: { label: "Help" } });
  const close = iconButton("close", "Close (Esc)", () => dialog.close());
  dialog.append(el("div", { class: "ap-help-body" }, helpPart("Keys", KEYS), helpPart("Find", FILTER_HELP), close));
  // A browser may leave the focus on a button that is no longer seen: keys would go to it.
  dialog.addEventListener("close", () => {
    if (dialog.contains(document.activeElement)) document.activeElement.blur();
  });
  return dialog;
}

function helpPart(heading, rows) {
  const items = rows.flatMap(([name, text]) => [el("dt", {}, ...name.split("  ").flatMap((part) => [el("code", { text: part }), " "])), el("dd", { text })]);
  return el("section", {}, el("h2", { class: "ap-heading", text: heading }), el("dl", { class: "ap-facts" }, ...items));
}
