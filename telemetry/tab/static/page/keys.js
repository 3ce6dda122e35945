// Keys of the whole page.

const TYPING = "input:not([type=range]), select, textarea, [contenteditable]";

/** Listen to keys in the app, or in the document where the page is ours; actions by what they do. */
export function listenToKeys(where, actions) {
  const byKey = {
    " ": actions.play,
    ArrowLeft: (event) => actions.move(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => actions.move(event.shiftKey ? 10 : 1),
    Home: () => actions.move(-Infinity),
    End: () => actions.move(Infinity),
    g: () => actions.setView("graph"),
    m: () => actions.setView("matrix"),
    t: () => actions.setView("table"),
    l: () => actions.setView("timeline"),
    0: actions.fit,
    r: actions.refresh,
    "/": actions.search,
    "?": actions.help,
    Escape: actions.escape,
  };
  where.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const { target } = event;
    if (target.matches?.(TYPING) && event.key !== "Escape") return;
    if (target.closest?.("button, a, summary") && (event.key === " " || event.key === "Enter")) return;
    // The slider moves by itself on these keys.
    if (target.matches?.("[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key) && !event.shiftKey) return;
    const action = byKey[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  });
}
