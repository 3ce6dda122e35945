// Messages as points: their first two principal components, coloured by label. The scales are the same for all rows.

import { el } from "./dom.js";
import { clearedPen, fitCanvas, strokeLine } from "./canvas.js";
import { formatNumber, formatStep } from "./format.js";
import { rowAt } from "../data/source.js";
import { categoryColour, levelOf, paletteOf, themeColours } from "./colours.js";

const SCATTER_HEIGHT = 240;
const SCATTER_EDGE = { left: 14, right: 10, top: 10, bottom: 10 };
const SCATTER_CLASSES = 10;
const SCATTER_RADIUS = 3.4;

/** Draw a cloud of messages into a host element; options: title, cloud (see decodeCloud), step (shown), theme ("light" | "dark"). */
export function scatterPlot(host, options) {
  const plot = new ScatterPlot(options);
  host.append(plot.node);
  plot.resize();
  return plot;
}

/** Say how labels are coloured: by class where there are few whole ones, else by size; NaN: `missing`. */
function scatterLabels(labels) {
  const known = labels.filter(Number.isFinite);
  const found = [...new Set(known)].sort((a, b) => a - b);
  const whole = found.length <= SCATTER_CLASSES && found.every(Number.isInteger);
  return { classes: whole ? found : null, low: found[0], high: found.at(-1), missing: known.length < labels.length };
}

class ScatterPlot {
  constructor({ title, cloud, step, theme }) {
    Object.assign(this, { title, theme, step, row: -2 });
    this.canvas = el("canvas", { class: "ap-scatter-canvas", testid: "cloud", role: "img" });
    this.axes = el("p", { class: "ap-says" });
    this.note = el("p", { class: "ap-says" });
    this.legend = el("div", { class: "ap-scatter-legend ap-inline" });
    const place = el("div", { class: "ap-scatter-place" }, this.canvas);
    const heading = el("div", { class: "ap-chart-title", text: title });
    this.node = el("div", { class: "ap-chart" }, heading, this.note, place, this.axes, this.legend);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.canvas.parentElement);
    this.cloud = cloud;
    this.labels = scatterLabels(cloud.labels);
    this.range = [scatterRange(cloud.points, 0), scatterRange(cloud.points, 1)];
    const [across, up] = cloud.explained.map((share) => (Number.isFinite(share) ? ` (${Math.round(100 * share)} % of variance)` : ""));
    this.axes.textContent = `Across: 1st principal component${across}; up: 2nd${up}.`;
    this.writeLegend();
    this.row = -2;
    this.setStep(this.step);
  }

  /** Show the newest row at or before a step; cheap where that is the same row. */
  setStep(step) {
    this.step = step;
    const row = rowAt(this.cloud, step);
    const moved = row !== this.row;
    this.row = row;
    this.canvas.dataset.step = row < 0 ? "" : String(this.cloud.steps[row]);
    const first = this.cloud.steps[0];
    const none = first === undefined ? "No messages were logged." : `The first messages were logged at step ${formatStep(first)}.`;
    const of = this.cloud.steps[row] === step ? "of" : "as of";
    this.note.textContent = row < 0 ? none : `Messages ${of} step ${formatStep(this.cloud.steps[row])}; the axes are the same at all steps.`;
    this.canvas.setAttribute("aria-label", `${this.title}. ${this.note.textContent}`);
    if (moved) this.draw();
  }

  resize() {
    const width = this.canvas.parentElement.clientWidth;
    if (width < 40) return;
    this.width = width;
    this.canvas.style.height = `${SCATTER_HEIGHT}px`;
    fitCanvas(this.canvas, width, SCATTER_HEIGHT);
    this.draw();
  }

  destroy() {
    this.observer.disconnect();
    this.node.remove();
  }

  draw() {
    if (!this.width) return;
    const pen = clearedPen(this.canvas, this.canvas.width / this.width);
    const colours = themeColours(this.theme);
    this.drawZero(pen, colours);
    if (this.row < 0) return;
    for (let at = 0; at < this.cloud.samples; at++) {
      const spot = this.spotOf(at);
      if (!spot) continue;
      const label = this.cloud.labels[this.row * this.cloud.samples + at];
      pen.globalAlpha = 0.85;
      pen.fillStyle = this.colourOf(label);
      pen.beginPath();
      pen.arc(spot[0], spot[1], SCATTER_RADIUS, 0, 2 * Math.PI);
      pen.fill();
      pen.lineWidth = 0.8;
      pen.strokeStyle = colours.paper;
      pen.stroke();
    }
    pen.globalAlpha = 1;
    this.drawNames(pen, colours);
  }

  drawZero(pen, colours) {
    pen.strokeStyle = colours.line;
    pen.lineWidth = 1;
    const [x, y] = this.placeOf(0, 0);
    strokeLine(pen, x, SCATTER_EDGE.top, x, SCATTER_HEIGHT - SCATTER_EDGE.bottom);
    strokeLine(pen, SCATTER_EDGE.left, y, this.width - SCATTER_EDGE.right, y);
  }

  /** Write each class where its middle is: who sees no colours can read the picture too. */
  drawNames(pen, colours) {
    pen.font = "600 12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    for (const label of this.labels.classes ?? []) {
      const spots = [];
      for (let at = 0; at < this.cloud.samples; at++) {
        const spot = this.cloud.labels[this.row * this.cloud.samples + at] === label ? this.spotOf(at) : null;
        if (spot) spots.push(spot);
      }
      if (spots.length < 2) continue;
      const [x, y] = [0, 1].map((axis) => spots.map((spot) => spot[axis]).sort((one, other) => one - other)[spots.length >> 1]);
      pen.strokeStyle = colours.paper;
      pen.lineWidth = 4;
      pen.strokeText(String(label), x, y);
      pen.fillStyle = colours.ink;
      pen.fillText(String(label), x, y);
    }
  }

  spotOf(at) {
    const place = 2 * (this.row * this.cloud.samples + at);
    const [x, y] = [this.cloud.points[place], this.cloud.points[place + 1]];
    return Number.isFinite(x) && Number.isFinite(y) ? this.placeOf(x, y) : null;
  }

  placeOf(...point) {
    const { left, right, top, bottom } = SCATTER_EDGE;
    const [across, up] = point.map((value, axis) => (value - this.range[axis][0]) / (this.range[axis][1] - this.range[axis][0]));
    return [left + across * (this.width - left - right), top + (1 - up) * (SCATTER_HEIGHT - top - bottom)];
  }

  colourOf(label) {
    if (!Number.isFinite(label)) return themeColours(this.theme).none;
    const { classes } = this.labels;
    // Classes 0 to 9 keep their own colours, in every channel and run; others are counted.
    const few = classes && classes[0] >= 0 && classes.at(-1) < SCATTER_CLASSES;
    if (classes) return categoryColour(few ? label : classes.indexOf(label), this.theme);
    return paletteOf("sequential", this.theme)[levelOf(label, this.labels.low, this.labels.high)];
  }

  writeLegend() {
    this.legend.replaceChildren();
    const { classes, low, high, missing } = this.labels;
    const entry = (colour, text) => {
      const dot = el("span", { class: "ap-swatch" });
      dot.style.background = colour;
      this.legend.append(el("span", { class: "ap-inline" }, dot, text));
    };
    for (const label of classes ?? []) entry(this.colourOf(label), String(label));
    if (!classes && low <= high) {
      const bar = el("span", { class: "ap-bar" });
      const shades = paletteOf("sequential", this.theme);
      bar.style.background = `linear-gradient(to right, ${shades.join(", ")})`;
      this.legend.append(el("span", { text: `label ${formatNumber(low)}` }), bar, el("span", { text: formatNumber(high) }));
    }
    if (missing && this.cloud.samples) entry(themeColours(this.theme).none, "no label");
  }
}

/** Lowest and highest coordinate over all rows, with some air; never empty. */
function scatterRange(points, axis) {
  const along = points.filter((value, at) => at % 2 === axis && Number.isFinite(value));
  const [low, high] = [Math.min(0, ...along), Math.max(0, ...along)];
  const air = 0.05 * (high - low) || 1;
  return [low - air, high + air];
}
