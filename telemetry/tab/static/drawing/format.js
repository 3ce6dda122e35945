// Numbers and names as people read them.

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Format a number with three significant digits; "–" where there is none. */
export function formatNumber(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === Infinity) return "∞";
  if (value === -Infinity) return "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  let text;
  if (size >= 1e6 || size < 1e-4) text = value.toExponential(2).replace("e+", "e");
  else if (size >= 1000) text = Math.round(value).toLocaleString("en-US");
  else text = String(Number(value.toPrecision(3)));
  return text.replace(/^-/, "−").replace("e-", "e−");
}

/** Format a number with its interval, where it has one: "0.9 [0.7, 1.1]". */
export function formatInterval(value, low, high) {
  return formatNumber(value) + (Number.isFinite(low) ? ` [${formatNumber(low)}, ${formatNumber(high)}]` : "");
}

/** Format a number of a scale: a share in per cent. */
export function formatResult(scale, value) {
  return scale === "share" ? `${formatNumber(100 * value)} %` : formatNumber(value);
}

/** Format a step: whole, with commas at the thousands. */
export function formatStep(step) {
  return Number.isFinite(step) ? Math.round(step).toLocaleString("en-US") : "–";
}

/** Format a number of bytes with a unit: "1.25 MB". */
export function formatBytes(bytes) {
  if (!(bytes >= 1000)) return Number.isNaN(bytes) ? "–" : `${bytes} B`;
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), BYTE_UNITS.length - 1);
  return `${formatNumber(bytes / 1000 ** power)} ${BYTE_UNITS[power]}`;
}

/** Return "1 agent", "2 agents". */
export function formatCount(count, noun) {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}
