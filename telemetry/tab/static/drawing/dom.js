// Small helpers to build elements; text is always text, never markup.

const ICONS = {
  play: ["M4.5 2.8v10.4l8.4-5.2z"],
  pause: ["M4 3h2.8v10H4z", "M9.2 3H12v10H9.2z"],
  refresh: ["M8 2.5a5.5 5.5 0 0 1 4.2 1.95V2.6h1.5v4.5H9.2V5.6h2.1A4 4 0 1 0 12 8.3h1.5A5.5 5.5 0 1 1 8 2.5z"],
  close: ["M4.05 3 8 6.95 11.95 3 13 4.05 9.05 8 13 11.95 11.95 13 8 9.05 4.05 13 3 11.95 6.95 8 3 4.05z"],
  help: ["M5 6a3 3 0 1 1 4.2 2.75c-.3.15-.45.3-.45.65V10h-1.5v-.6c0-.95.5-1.6 1.3-2A1.5 1.5 0 1 0 6.5 6z", "M7.2 11.2h1.6v1.6H7.2z"],
  fit: ["M2.5 2.5h4V4H4v2.5H2.5z", "M9.5 2.5h4v4H12V4H9.5z", "M2.5 9.5H4V12h2.5v1.5h-4z", "M12 9.5h1.5v4h-4V12H12z"],
  rail: ["M2 3.5h12V5H2z", "M2 7.25h12v1.5H2z", "M2 11h12v1.5H2z"],
};

/** Build an element; props: class, text, title, testid, hidden, on {event: function}, data, aria; other keys are attributes. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key === "class") node.className = value;
    else if (key === "testid") node.dataset.testid = value;
    else if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (key === "data") Object.assign(node.dataset, value);
    else if (key === "aria") for (const [name, text] of Object.entries(value)) node.setAttribute(`aria-${name}`, text);
    else if (key === "value") node.value = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

/** Remove all children of a node. */
export function clear(node) {
  while (node.firstChild) node.firstChild.remove();
  return node;
}

/** Build the title of a metric that unfolds what it means. */
export function foldedTitle(title, says) {
  const heading = { class: "ap-chart-title", text: title };
  return says ? el("details", {}, el("summary", heading), el("p", { class: "ap-says", testid: "says", text: says })) : el("div", heading);
}

/** Build a picture of so many px from shapes: [tag, attributes] each. */
export function svgPicture(width, height, shapes) {
  const made = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const picture = made("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  picture.append(...shapes.map(([tag, attributes]) => made(tag, attributes)));
  return picture;
}

/** Build an icon of 16 px, by its name, that takes the colour of the text around it. */
export function svgIcon(name) {
  return svgPicture(16, 16, ICONS[name].map((d) => ["path", { d, fill: "currentColor", "fill-rule": "evenodd" }]));
}

/** Build a button with an icon; its title says what it does. */
export function iconButton(icon, title, action, testid) {
  return el("button", { class: "ap-button ap-icon", type: "button", testid, title, aria: { label: title }, on: { click: () => action() } }, svgIcon(icon));
}

/** Show a tooltip beside a point of its parent (px), within it. */
export function placeTip(tip, x, y) {
  tip.hidden = false;
  const { clientWidth, clientHeight } = tip.parentElement;
  const left = x + 14 + tip.offsetWidth > clientWidth ? x - tip.offsetWidth - 10 : x + 14;
  const top = y + 14 + tip.offsetHeight > clientHeight ? y - tip.offsetHeight - 10 : y + 14;
  tip.style.transform = `translate(${Math.max(left, 4)}px, ${Math.max(top, 4)}px)`;
}

/** Put a text into a node, which is hidden without one. */
export function setText(node, text) {
  node.textContent = text;
  node.hidden = !text;
}

/** Let a click on a column's heading sort a table, numbers from the highest on, texts from A on; another click turns the order. Without a number is last. */
export function sortable(table) {
  const [body] = table.tBodies;
  const sort = (head) => {
    const text = (row) => row.cells[head.cellIndex].textContent;
    const number = (row) => parseFloat(text(row).replaceAll("−", "-").replaceAll(",", ""));
    const numeric = head.cellIndex > 0 && [...body.rows].some((row) => !Number.isNaN(number(row)));
    const [first, other] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const turned = head.ariaSort === first ? other : first;
    const turn = turned === "ascending" ? 1 : -1;
    const byNumber = (a, b) => (Number.isNaN(a) - Number.isNaN(b)) || turn * (a - b);
    const compared = (a, b) => (numeric ? byNumber(number(a), number(b)) : turn * text(a).localeCompare(text(b), "en", { numeric: true }));
    for (const cell of head.parentElement.cells) cell.ariaSort = null;
    head.ariaSort = turned;
    body.append(...[...body.rows].sort(compared));
  };
  for (const head of table.querySelectorAll("th[scope=col]")) head.addEventListener("click", () => sort(head));
  return table;
}
