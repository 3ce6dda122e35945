// Light or dark: as TensorBoard around the page, else as the system has it.

/** Return the theme of what is around the page: "light" or "dark". */
export function surroundingTheme() {
  const body = outerBody();
  if (body?.classList.contains("dark-mode")) return "dark";
  if (body?.querySelector("tb-webapp, tensor-board")) return "light";
  return darkSystem().matches ? "dark" : "light";
}

/** Follow the theme of what is around the page: `onTheme` is called with each new one. */
export function followTheme(onTheme) {
  const tell = () => onTheme(surroundingTheme());
  darkSystem().addEventListener("change", tell);
  const body = outerBody();
  if (body) new MutationObserver(tell).observe(body, { attributes: true, attributeFilter: ["class"] });
}

function darkSystem() {
  return window.matchMedia("(prefers-color-scheme: dark)");
}

/** The body of the page around ours; null where there is none, or it is another site's. */
function outerBody() {
  try {
    return window.parent === window ? null : window.parent.document.body;
  } catch {
    return null;
  }
}
