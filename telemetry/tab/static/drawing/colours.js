// Colours: of metrics (safe for colour-blind eyes), of the page, of categories. One place for canvas and CSS.

const CIVIDIS = [
  [0, 34, 78], [0, 49, 112], [42, 63, 109], [67, 78, 108], [87, 93, 109], [106, 108, 113], [125, 124, 120],
  [145, 139, 120], [165, 156, 116], [188, 174, 108], [210, 192, 96], [233, 211, 78], [254, 232, 56],
];
/** Below zero orange, above it blue. */
const DIVERGING = {
  light: [[150, 68, 0], [196, 104, 22], [214, 148, 84], [158, 163, 168], [110, 150, 190], [47, 109, 181], [8, 69, 148]],
  dark: [[255, 186, 96], [222, 145, 60], [166, 124, 78], [104, 109, 114], [88, 116, 146], [84, 142, 205], [116, 184, 255]],
};

/** How many colours a scale is drawn with. */
export const LEVELS = 64;

const THEMES = {
  light: {
    paper: "#ffffff", surface: "#f5f7f9", raised: "#ffffff", ink: "#1b2733", muted: "#56636f", faint: "#8793a0",
    line: "#dde3e8", accent: "#2457a6", accentInk: "#ffffff", none: "#d3d9df", warn: "#7a4b00", warnPaper: "#fff6e3",
    gain: "#2f6db5", harm: "#c46816", shade: "rgba(27, 39, 51, 0.14)",
    roles: { agent: "#e6ecf2", readout: "#2b3a48", frozen: "#ffffff", other: "#f1e9dc" },
    roleInks: { agent: "#1b2733", readout: "#ffffff", frozen: "#56636f", other: "#1b2733" },
  },
  dark: {
    paper: "#14191f", surface: "#1b2128", raised: "#232b33", ink: "#e8edf2", muted: "#a2afbb", faint: "#74818d",
    line: "#333d47", accent: "#8ab8ff", accentInk: "#0d1a2b", none: "#55616d", warn: "#f2c877", warnPaper: "#33290f",
    gain: "#548ecd", harm: "#de913c", shade: "rgba(0, 0, 0, 0.5)",
    roles: { agent: "#465462", readout: "#dbe3ea", frozen: "#14191f", other: "#3a3426" },
    roleInks: { agent: "#e8edf2", readout: "#14191f", frozen: "#a2afbb", other: "#e8edf2" },
  },
};

/** Colours told apart by all eyes (after Okabe and Ito, and Tol), for labels of samples and for lines. */
const CATEGORIES = {
  light: ["#0072b2", "#d55e00", "#009e73", "#a6498a", "#b58900", "#3f9bd1", "#7a5230", "#5b5fc7", "#6f8f1f", "#4d5a66"],
  dark: ["#56b4e9", "#ff9a52", "#2fc79c", "#e08cc4", "#f0d64a", "#8fd0f5", "#c79a72", "#a3a6ff", "#b3d355", "#b4c0cb"],
};

/** How many colours categories have before the first comes again. */
export const CATEGORY_COUNT = CATEGORIES.light.length;

const PALETTES = new Map();

/** Whether a scale goes to both sides of zero. */
export function isDiverging(scale) {
  return scale === "diverging";
}

/** Return which of the colours of a scale a number has, that of the end beyond it; -1 for NaN. */
export function levelOf(value, low, high) {
  if (Number.isNaN(value)) return -1;
  const share = (value - low) / (high - low);
  return Math.min(Math.max(Math.floor(share * LEVELS), 0), LEVELS - 1);
}

/** Return the colours of a scale, lowest first. More is more visible: dark on light paper, bright on dark. */
export function paletteOf(scale, theme) {
  const key = `${isDiverging(scale)}/${theme}`;
  if (!PALETTES.has(key)) {
    const shares = Array.from({ length: LEVELS }, (_, level) => level / (LEVELS - 1));
    PALETTES.set(key, shares.map((share) => (isDiverging(scale) ? between(DIVERGING[theme], share) : between(CIVIDIS, theme === "light" ? 0.86 * (1 - share) : 0.28 + 0.72 * share))));
  }
  return PALETTES.get(key);
}

/** Return the colour of a level of a scale (`levelOf`). */
export function levelColour(scale, level, theme) {
  return level < 0 ? themeColours(theme).none : paletteOf(scale, theme)[level];
}

/** Return which of the colours of its scale an item's number of a metric has; -1: it has none. */
export function metricLevel({ values, low, high }, item) {
  return levelOf(values?.[item] ?? NaN, low, high);
}

/** Return that colour. */
export function metricColour(metric, item, theme) {
  return levelColour(metric.scale, metricLevel(metric, item), theme);
}

/** Return the colours of the page. */
export function themeColours(theme) {
  return THEMES[theme];
}

/** Return the colour of a category, by its number. */
export function categoryColour(number, theme) {
  const colours = CATEGORIES[theme];
  return colours.at(Math.trunc(number) % colours.length);
}

/** Give an element the page's colours as CSS variables. */
export function applyTheme(root, theme) {
  const colours = themeColours(theme);
  root.dataset.theme = theme;
  root.style.colorScheme = theme;
  for (const [name, value] of Object.entries(colours)) {
    if (typeof value === "string") root.style.setProperty(`--${name.replace(/[A-Z]/g, (big) => `-${big.toLowerCase()}`)}`, value);
  }
}

function between(colours, share) {
  const at = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
  const first = Math.min(Math.floor(at), colours.length - 2);
  const mixed = colours[first].map((part, index) => Math.round(part + (at - first) * (colours[first + 1][index] - part)));
  return `rgb(${mixed.join(", ")})`;
}
