// Small helpers to build elements; text is always text, never markup.

const ICONS = {
  play: ["M4.5 2.8v10.4l8.4-5.2z"],
  pause: ["M4 3h2.8v10H4z", "M9.2 3H12v10H9.2z"],
  first: ["M3.4 3h1.8v10H3.4z", "M13 3v10L6.2 8z"],
  last: ["M10.8 3h1.8v10h-1.8z", "M3 3v10l6.8-5z"],
  next: ["M5.6 3.2 10.8 8l-5.2 4.8-1.1-1.2L8.6 8 4.5 4.4z"],
  previous: ["M10.4 3.2 5.2 8l5.2 4.8 1.1-1.2L7.4 8l4.1-3.6z"],
  theme: ["M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8zm0 1.5v9.4a4.7 4.7 0 0 1 0-9.4z"],
  refresh: ["M8 2.5a5.5 5.5 0 0 1 4.2 1.95V2.6h1.5v4.5H9.2V5.6h2.1A4 4 0 1 0 12 8.3h1.5A5.5 5.5 0 1 1 8 2.5z"],
  export: ["M7.25 2h1.5v5.8l2.2-2.2 1.05 1.05L8 10.7 4 6.65 5.05 5.6l2.2 2.2z", "M2.5 10.5H4v2h8v-2h1.5V14h-11z"],
  close: ["M4.05 3 8 6.95 11.95 3 13 4.05 9.05 8 13 11.95 11.95 13 8 9.05 4.05 13 3 11.95 6.95 8 3 4.05z"],
  fit: ["M2.5 2.5h4V4H4v2.5H2.5z", "M9.5 2.5h4v4H12V4H9.5z", "M2.5 9.5H4V12h2.5v1.5h-4z", "M12 9.5h1.5v4h-4V12H12z"],
  rail: ["M2 3.5h12V5H2z", "M2 7.25h12v1.5H2z", "M2 11h12v1.5H2z"],
};

/**
 * Build an element.
 *
 * @param {string} tag
 * @param {Object} [props] class, text, title, testid, hidden, on {event: function}, data, aria; other keys are attributes
 * @param {...(Node|string|null)} children
 * @returns {HTMLElement}
 */
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

/**
 * Build an icon of 16 px that takes the colour of the text around it.
 *
 * @param {string} name one of play pause first last next previous theme refresh export help close fit rail
 * @returns {SVGElement}
 */
export function svgIcon(name) {
  const space = "http://www.w3.org/2000/svg";
  const icon = document.createElementNS(space, "svg");
  icon.setAttribute("viewBox", "0 0 16 16");
  icon.setAttribute("width", "16");
  icon.setAttribute("height", "16");
  icon.setAttribute("aria-hidden", "true");
  for (const shape of ICONS[name] ?? []) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", shape);
    path.setAttribute("fill", "currentColor");
    path.setAttribute("fill-rule", "evenodd");
    icon.append(path);
  }
  return icon;
}
