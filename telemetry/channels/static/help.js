// The help: keys, filter, what to look for.

import { el, svgIcon } from "./dom.js";
import { FILTER_HELP } from "./filter.js";

const KEYS = [
  ["← →", "a logged step back or on; with Shift ten"],
  ["Home  End", "first and newest step"],
  ["Space", "play, pause"],
  ["G  M  T  A", "graph, matrix, timeline, parts"],
  ["N  P", "next or previous agent"],
  ["J  K", "next or previous channel (of the chosen agent)"],
  ["/", "search; ↑ ↓ Enter choose"],
  ["0  F", "fit the graph (or double click)"],
  ["R", "fetch what is new"],
  ["Esc", "close, deselect, clear"],
  ["?", "this help"],
];
const LOOKS = [
  ["Worth something?", "The strip on top counts which channels matter and which harm, by value or loss by ablation; a click leaves only those. Faded lines are not resolved: their interval holds 0."],
  ["Carries information?", "Thick lines have message energy; a hairline has next to none. Click one and look at its cloud."],
  ["Stale or silent?", "The strip counts these too; the figure “age” says how old the message is that the receiver reads."],
  ["Computed in parts?", "Agents stand on a disc of their part's colour, cut channels have two bars; the view “Parts” has the waiting."],
  ["Two runs?", "Choose a second run beside the first: both share the slider and the scale."],
];

/** Build the help; show it with showModal(). */
export function helpDialog() {
  const dialog = el("dialog", { class: "ap-help", aria: { labelledby: "ap-help-title" } });
  const close = el(
    "button",
    { class: "ap-button ap-icon", type: "button", title: "Close (Esc)", aria: { label: "Close" }, on: { click: () => dialog.close() } },
    svgIcon("close"),
  );
  dialog.append(
    el("header", { class: "ap-help-head" }, el("h2", { class: "ap-title", id: "ap-help-title", text: "Channels: how to use this page" }), close),
    el(
      "div",
      { class: "ap-help-body" },
      el("div", {}, helpPart("What to look for", LOOKS, "span"), helpPart("Filter", FILTER_HELP, "code")),
      helpPart("Keys", KEYS, "kbd"),
    ),
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  // A browser may leave the focus on a button that is no longer seen: keys would go to it.
  dialog.addEventListener("close", () => {
    if (dialog.contains(document.activeElement)) document.activeElement.blur();
  });
  return dialog;
}

function helpPart(heading, rows, tag) {
  return el(
    "section",
    {},
    el("h3", { class: "ap-heading", text: heading }),
    el(
      "dl",
      { class: `ap-help-rows ap-help-${tag}` },
      ...rows.flatMap(([name, text]) => [
        el("dt", {}, ...(tag === "span" ? [name] : name.split("  ").map((part) => el(tag, { text: part })))),
        el("dd", { text }),
      ]),
    ),
  );
}
