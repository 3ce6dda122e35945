// Line charts: one metric over steps, a title, a plain sentence, and a line at the shown step. Drawn by uPlot.

import { clear, el, foldedTitle } from "./dom.js";
import { formatInterval, formatNumber, formatStep } from "./format.js";
import { rowAt } from "../data/source.js";
import { themeColours } from "./colours.js";

const CHART_HEIGHT = 132;
/** The largest of positive numbers, as a multiple of the least, from which their axis is logarithmic. */
const CHART_DECADES = 1000;
const CHART_LINE = { light: "#0b61a4", dark: "#6cb6f5" };
/** Of so few points each has a dot. */
const CHART_DOTS = 12;

/**
 * Draw a line over steps into a host element; options: title, says, line, positive (as of the metric), step (shown), onStep(step), theme, metric, span() → [first, last] step.
 * A line: {steps, values, low, high (a band)}. NaN is a gap.
 */
export function lineChart(host, options) {
  const chart = new LineChart(options);
  host.append(chart.node);
  chart.build();
  return chart;
}

class LineChart {
  constructor({ title, says, line, step, onStep, theme, metric, span, positive }) {
    Object.assign(this, { title, says, line, onStep, theme, step, span, positive, plot: null, hovered: null });
    this.place = el("div", { class: "ap-chart-plot" });
    this.legend = el("div", { class: "ap-chart-legend" });
    this.node = el("div", { class: "ap-chart", testid: "chart", data: { metric } }, foldedTitle(title, says), this.place, this.legend);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.place);
  }

  build() {
    this.plot?.destroy();
    this.plot = null;
    clear(this.place);
    const drawn = this.line.values.filter((value) => value > 0);
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
    const colour = CHART_LINE[this.theme];
    const edge = { stroke: "transparent", points: { show: false } };
    const series = [{}, { stroke: colour, width: 1.6, points: { show: true, size: 5, width: 0, fill: colour, filter: chartDots } }];
    if (this.line.low) series.push(edge, { ...edge });
    return {
      width,
      height: CHART_HEIGHT,
      padding: [6, 18, 0, 0],
      series,
      bands: this.line.low ? [{ series: [3, 2], fill: `${colour}33` }] : [],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { size: 7 } },
      scales: { x: { time: false, range: (plot) => this.range(plot.data[0]) }, ...(this.log && { y: { distr: 3 } }) },
      axes: [
        { ...axis, size: 22, gap: 4, space: 64, values: (_, splits) => splits.map((step) => (Number.isInteger(step) ? formatStep(step) : "")) },
        { ...axis, gap: 5, space: 26, values: (_, splits) => splits.map((value) => (value === null ? "" : formatNumber(value))) },
      ],
      hooks: { setCursor: [(plot) => this.hover(plot)], draw: [() => this.setStep(this.step)] },
    };
  }

  /** The line as uPlot takes it: the steps, a column of values, and those of the band; null is a gap. */
  table() {
    const sound = (value) => (Number.isFinite(value) && (!this.log || value > 0) ? value : null);
    const { steps, values, low, high } = this.line;
    const columns = low ? [values, low, high] : [values];
    return [Array.from(steps), ...columns.map((column) => Array.from(column, sound))];
  }

  /** First and last step shown: all charts of a panel have the same. */
  range(steps) {
    const [low, high] = this.span();
    const [first, last] = [Math.min(low, steps[0]), Math.max(high, steps.at(-1))];
    return first === last ? [first - 1, last + 1] : [first, last];
  }

  writeLegend() {
    this.reading = el("span", { class: "ap-chart-reading" });
    this.when = el("span", { class: "ap-chart-when" });
    clear(this.legend).append(this.reading, this.when);
  }

  read() {
    const step = this.hovered ?? this.step;
    const { values, low, high } = this.line;
    const row = rowAt(this.line, step);
    this.reading.textContent = formatInterval(row < 0 ? NaN : values[row], low?.[row], high?.[row]);
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

/** Which points get a dot: all where there are few, else those between two gaps. */
function chartDots(plot, index) {
  const column = plot.data[index];
  const there = [...column.keys()].filter((at) => column[at] !== null);
  return there.length <= CHART_DOTS ? there : there.filter((at) => (column[at - 1] ?? null) === null && (column[at + 1] ?? null) === null);
}
