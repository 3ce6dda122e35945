// Line charts: one metric over steps, a title, a plain sentence, and a line at the shown step. Drawn by uPlot.

import { clear, el, foldedTitle } from "./dom.js";
import { formatInterval, formatNumber, formatStep } from "./format.js";
import { rowAt } from "../data/source.js";
import { themeColours } from "./colours.js";

const CHART_HEIGHT = 132;
/** The largest of positive numbers, as a multiple of the least, from which their axis is logarithmic. */
const CHART_DECADES = 1000;
/** What a logarithmic axis has: some powers of ten. */
const CHART_POWERS = {
  splits: (_, axis, low, high) => [...new Set([0, 1, 2, 3, 4].map((part) => Math.round(Math.log10(low) + (part * Math.log10(high / low)) / 4)))].map((power) => 10 ** power),
  filter: (_, splits) => splits,
  values: (_, splits) => splits.map((value) => value.toExponential(0).replace("e+", "e").replace("-", "−")),
};
/** Colours of the line, and of what stands in the background. */
const CHART_LINES = { light: ["#0b61a4", "#7b8794"], dark: ["#6cb6f5", "#8b98a5"] };

/**
 * Draw lines over steps into a host element; options: title, says, caution, lines, positive (as of the metric), step (shown), onStep(step), theme, metric, span() → [first, last] step.
 * A line: {name, steps, values, low, high (a band), ground (grey, behind)}. NaN is a gap.
 */
export function lineChart(host, options) {
  const chart = new LineChart(options);
  host.append(chart.node);
  chart.build();
  return chart;
}

class LineChart {
  constructor({ title, says, caution, lines, step, onStep, theme, metric, span, positive }) {
    Object.assign(this, { title, says, lines, onStep, theme, step, span, positive, plot: null, hovered: null });
    this.place = el("div", { class: "ap-chart-plot" });
    this.legend = el("div", { class: "ap-chart-legend" });
    this.node = el("div", { class: "ap-chart", testid: "chart", data: { metric } }, foldedTitle(title, says, caution), this.place, this.legend);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.place);
  }

  build() {
    this.plot?.destroy();
    this.plot = null;
    clear(this.place);
    const drawn = this.lines.flatMap(({ values }) => Array.from(values)).filter((value) => value > 0);
    this.log = this.positive && Math.max(...drawn) > CHART_DECADES * Math.min(...drawn);
    this.writeLegend();
    this.width = Math.max(this.place.clientWidth, 120);
    this.plot = new globalThis.uPlot(this.settings(this.width), this.table(), this.place);
    this.now = el("div", { class: "ap-chart-now" });
    this.plot.over.append(this.now);
    this.listen(this.plot.over);
    this.read();
  }

  settings(width) {
    const colours = themeColours(this.theme);
    const axis = { stroke: colours.muted, font: "11px system-ui, sans-serif", grid: { stroke: colours.line, width: 1 }, ticks: { show: false } };
    const series = [{}];
    const bands = [];
    for (const [index, line] of this.lines.entries()) {
      const colour = this.colourOf(index);
      const dash = line.ground ? [2, 3] : undefined;
      const dots = { show: true, size: 5, width: 0, fill: colour, stroke: colour, filter: chartDots };
      series.push({ band: Boolean(line.low) && !line.ground, stroke: colour, width: line.ground ? 1 : 1.6, dash, points: line.ground ? { show: false } : dots });
      if (!line.low) continue;
      const edge = { stroke: "transparent", width: 0, points: { show: false } };
      series.push(edge, { ...edge });
      bands.push({ series: [series.length - 1, series.length - 2], fill: `${colour}${line.ground ? "26" : "33"}` });
    }
    return {
      width,
      height: CHART_HEIGHT,
      padding: [6, 18, 0, 0],
      series,
      bands,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { size: 7 } },
      scales: { x: { time: false, range: (plot) => this.range(plot.data[0]) }, ...(this.log && { y: { distr: 3 } }) },
      axes: [
        { ...axis, size: 22, gap: 4, space: 64, values: (_, splits) => splits.map(chartStepText) },
        { ...axis, size: (_, texts) => chartAxisWidth(texts), gap: 5, space: 26, values: (_, splits, at, space, by) => chartTicks(splits, by), ...(this.log && CHART_POWERS) },
      ],
      hooks: { setCursor: [(plot) => this.hover(plot)], drawSeries: [chartBar], draw: [() => this.setStep(this.step)] },
    };
  }

  /** The lines as uPlot takes them: one list of steps, a column per line; null is a gap. */
  table() {
    const sound = (value) => (Number.isFinite(value) && (!this.log || value > 0) ? value : null);
    const tables = this.lines.map((line) => {
      const columns = line.low ? [line.values, line.low, line.high] : [line.values];
      return [Array.from(line.steps), ...columns.map((column) => Array.from(column, sound))];
    });
    return tables.length === 1 ? tables[0] : globalThis.uPlot.join(tables);
  }

  /** First and last step shown: all charts of a panel have the same. */
  range(steps) {
    const [low, high] = this.span();
    const [first, last] = [Math.min(low, steps[0]), Math.max(high, steps.at(-1))];
    return first === last ? [first - 1, last + 1] : [first, last];
  }

  colourOf(index) {
    return CHART_LINES[this.theme][this.lines[index].ground ? 1 : 0];
  }

  writeLegend() {
    clear(this.legend);
    this.readings = this.lines.map((line, index) => {
      const reading = el("span", { class: "ap-chart-reading" });
      const mark = el("span", { class: "ap-chart-mark" });
      mark.style.borderTop = `2px ${line.ground ? "dotted" : "solid"} ${this.colourOf(index)}`;
      const name = el("span", { class: "ap-cut", dir: "auto", text: line.name, title: line.name });
      this.legend.append(el("span", { class: "ap-inline" }, mark, name, reading));
      return reading;
    });
    this.when = el("span", { class: "ap-chart-when" });
    this.legend.append(this.when);
  }

  read() {
    const step = this.hovered ?? this.step;
    for (const [index, line] of this.lines.entries()) {
      const row = rowAt(line, step);
      const value = row < 0 ? NaN : line.values[row];
      this.readings[index].textContent = line.ground ? formatNumber(value) : formatInterval(value, line.low?.[row], line.high?.[row]);
    }
    this.when.textContent = this.hovered === null ? "" : `step ${formatStep(step)}`;
  }

  /** Move the line of the shown step; cheap. */
  setStep(step) {
    this.step = step;
    if (!this.plot) return; // it says its first drawing before it is handed over
    const { min, max } = this.plot.scales.x;
    const inside = step >= min && step <= max;
    this.now.style.display = inside ? "" : "none";
    if (inside) this.now.style.transform = `translateX(${this.plot.valToPos(step, "x").toFixed(1)}px)`;
    if (this.hovered === null) this.read();
  }

  /** Show other lines. */
  setData(lines) {
    this.lines = lines;
    this.build();
  }

  resize() {
    const width = this.place.clientWidth;
    if (!this.plot || width < 60 || width === this.width) return;
    this.width = width;
    this.plot.setSize({ width, height: this.plot.height });
  }

  destroy() {
    this.observer.disconnect();
    this.plot?.destroy();
    this.plot = null;
    this.node.remove();
  }

  hover(plot) {
    const at = plot.cursor.idx;
    const outside = at === null || at === undefined || plot.cursor.left < 0;
    this.hovered = outside ? null : plot.data[0][at];
    this.read();
  }

  /** A press or a drag sets the step. */
  listen(over) {
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", `Chart of ${this.title}. ${this.says}`);
    const scrub = (event) => {
      const left = event.clientX - over.getBoundingClientRect().left;
      const step = this.plot.data[0][this.plot.posToIdx(left)];
      if (step !== undefined && step !== this.step) this.onStep(step);
    };
    over.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      over.setPointerCapture(event.pointerId);
      scrub(event);
    });
    over.addEventListener("pointermove", (event) => over.hasPointerCapture(event.pointerId) && scrub(event));
  }
}

/** Which points get a dot: all where there are few, else those that no line reaches. */
function chartDots(plot, index) {
  const column = plot.data[index];
  const there = [];
  for (let at = 0; at < column.length; at++) if (column[at] !== null && column[at] !== undefined) there.push(at);
  if (there.length <= 12) return there;
  const joined = (from, way) => {
    let at = from + way;
    while (at >= 0 && at < column.length && column[at] === undefined) at += way;
    return at >= 0 && at < column.length && column[at] !== null;
  };
  return there.filter((at) => !joined(at, -1) && !joined(at, 1));
}

/** Draw the interval of each point of a line that has a dot: a band needs two. */
function chartBar(plot, index) {
  const { stroke, band } = plot.series[index];
  for (const row of band ? chartDots(plot, index).filter((at) => plot.data[index + 1][at] !== null) : []) {
    const [x, low, high] = [0, index + 1, index + 2].map((column) => plot.valToPos(plot.data[column][row], column ? "y" : "x", true));
    plot.ctx.fillStyle = stroke(plot, index);
    plot.ctx.fillRect(Math.round(x) - 1, high, 2, low - high);
  }
}

function chartStepText(step) {
  if (!Number.isInteger(step)) return "";
  if (step >= 1e6 && step % 1e4 === 0) return `${step / 1e6}M`;
  if (step >= 1e4 && step % 100 === 0) return `${step / 1e3}k`;
  return formatStep(step);
}

/** Texts of ticks that lie `by` apart, with as many digits as they need to differ. */
function chartTicks(splits, by) {
  const largest = Math.max(...splits.map((value) => Math.abs(value)));
  if (largest >= 1e5 || (largest < 1e-3 && largest > 0)) {
    return splits.map((value) => (value === 0 ? "0" : value.toExponential(1).replace("e+", "e").replace(/-/g, "−")));
  }
  let digits = 0;
  while (digits < 6 && Math.abs(by * 10 ** digits - Math.round(by * 10 ** digits)) > 1e-6) digits += 1;
  return splits.map((value) => value.toFixed(digits).replace(/^-(?=.*[1-9])/, "−").replace(/^-/, ""));
}

function chartAxisWidth(values) {
  const longest = Math.max(...(values ?? []).map((text) => text?.length ?? 0), 0);
  return Math.max(34, Math.min(10 + 6.2 * longest, 84));
}
