// Numbers out of the page: CSV of a figure, JSON of the shown step, names of files, the download itself.

import { rowAt } from "./source.js";

/**
 * Return a figure as CSV (RFC 4180): step, name, metric, value; a line per item and step that has a number.
 *
 * Names that a spreadsheet would take for a formula begin with a quote mark (').
 *
 * @param {Object} run a Run
 * @param {string} kind "agent" | "channel"
 * @param {string} metric
 * @param {{steps: Float64Array, values: Float32Array, items: number}} series
 */
export function figureCsv(run, kind, metric, series) {
  const names = (kind === "agent" ? run.agents : run.channels).map((item) => exportCell(item.name));
  const figure = exportCell(metric);
  const lines = ["step,name,metric,value"];
  for (let row = 0; row < series.steps.length; row++) {
    const step = series.steps[row];
    for (let item = 0; item < Math.min(series.items, names.length); item++) {
      const value = series.values[row * series.items + item];
      if (!Number.isNaN(value)) lines.push(`${step},${names[item]},${figure},${exactNumber(value)}`);
    }
  }
  return `${lines.join("\r\n")}\r\n`;
}

/**
 * Return all figures at a step as JSON, by the names of agents and channels and the numbers of parts; null where there is no number.
 *
 * @param {Object} run a Run
 * @param {number} step
 * @param {Array} figures {kind, metric, series}
 */
export function stepJson(run, step, figures) {
  const found = { run: run.name, scenario: run.graph.scenario ?? null, step, agents: [], channels: [] };
  const parts = Array.from({ length: run.parts }, (_, part) => ({ name: String(part) }));
  const families = [["agent", "agents", run.agents], ["channel", "channels", run.channels], ["part", "parts", parts]];
  for (const [kind, part, items] of run.parts ? families : families.slice(0, 2)) {
    const rows = figures
      .filter((figure) => figure.kind === kind && figure.series)
      .map(({ metric, series }) => ({ metric, series, row: rowAt(series, step) }));
    found[part] = items.map((item, at) => ({
      name: item.name,
      figures: rows.map(({ metric, series, row }) => {
        const value = row < 0 || at >= series.items ? NaN : series.values[row * series.items + at];
        return { metric, step: row < 0 ? null : series.steps[row], value: exportJsonNumber(value) };
      }),
    }));
  }
  return `${JSON.stringify(found, null, 2)}\n`;
}

/** Return a float32 with as few digits as tell it from every other one; "–" for NaN. */
export function exactNumber(value) {
  if (Number.isNaN(value) || value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "Infinity" : "-Infinity";
  for (let digits = 1; digits < 9; digits++) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === Math.fround(value)) return exportDigits(Number(text));
  }
  return exportDigits(Number(value.toPrecision(9)));
}

/** Small numbers are written with an exponent: nobody counts zeros. */
function exportDigits(number) {
  return number !== 0 && Math.abs(number) < 1e-4 ? number.toExponential() : String(number);
}

/**
 * Return a name for a file from parts that may be anything: letters, digits, dots and dashes are kept.
 *
 * @param {string[]} parts
 * @param {string} ending without the dot
 */
export function fileName(parts, ending) {
  const safe = parts
    .map((part) => String(part).replace(/->/g, "-to-").replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+|[-.]+$/g, ""))
    .filter((part) => part)
    .map((part) => [...part].slice(0, 60).join(""));
  return `${safe.join("_") || "antiphon"}.${ending}`;
}

/**
 * Hand a text to the browser as a file.
 *
 * @param {string} name of the file
 * @param {string} type media type
 * @param {string} text
 */
export function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A cell of text: never a formula, quoted where it has to be. */
function exportCell(text) {
  const plain = String(text);
  const harmless = /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/** JSON knows no infinity: it becomes a text. */
function exportJsonNumber(value) {
  if (Number.isNaN(value)) return null;
  return Number.isFinite(value) ? Number(exactNumber(value)) : exactNumber(value);
}
