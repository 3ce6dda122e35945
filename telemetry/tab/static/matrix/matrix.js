// The matrix: senders as rows, receivers as columns, a cell where there is a channel, coloured by the chosen metric.

import { clear, el, placeTip } from "../drawing/dom.js";
import { clearedPen, fitCanvas, listenToPointer, strokeLine } from "../drawing/canvas.js";
import { formatInterval, formatNumber } from "../drawing/format.js";
import { levelColour, levelOf } from "../drawing/colours.js";
import { shortName, textMeasure } from "../drawing/textfit.js";
import { MATRIX_ORDERS, matrixCells, matrixOrder } from "./order.js";
import { channelEnds, pairOf } from "../panel/facts.js";

const TEXT = "11px system-ui, sans-serif";
const STRONG = `600 ${TEXT}`;
/** Largest cell, in px; from which size on rows and columns have names. */
const LARGEST_CELL = 120;
const NAMED = 9;
/** Least side of a cell, and how far from a smaller one the pointer may be, in px. */
const LEAST = 2;
const REACH = 4;
/** How visible a cell is that is not found. */
const FADED = 0.16;
/** So many channels of a cell are named. */
const NAMED_CHANNELS = 8;

/** The matrix view; its interface is that of all views. */
export class MatrixView {
  #host;
  #context;
  #data = null;
  #cells = null;
  #order = [];
  #groups = [];
  #placeOf = [];
  /** Px per cell, and how far the picture is shifted; 0: the whole matrix is shown. */
  #unit = 0;
  #left = 0;
  #top = 0;
  #box = null;
  #pointed = null;
  #frame = 0;

  constructor(host, context) {
    this.#host = host;
    this.#context = context;
    const options = Object.entries(MATRIX_ORDERS).map(([value, text]) => el("option", { value, text }));
    this.orders = el("select", { class: "ap-select", testid: "order", on: { change: () => this.#arrange(this.orders.value) } }, ...options);
    const fit = el("button", { class: "ap-button", type: "button", text: "Fit", title: "Show the whole matrix (0)", on: { click: () => this.fit() } });
    this.canvas = el("canvas", { class: "ap-matrix-canvas", role: "img", aria: { label: "Matrix of channels: rows send, columns receive." } });
    this.tip = el("div", { class: "ap-tooltip", hidden: true });
    const bar = el("div", { class: "ap-view-bar" }, el("label", { class: "ap-inline" }, "Order ", this.orders), el("span", { class: "ap-says", text: "Rows send, columns receive. Hollow: unresolved; grey: no value." }), fit);
    this.place = el("div", { class: "ap-view-place" }, this.canvas, this.tip);
    host.append(el("div", { class: "ap-matrix" }, bar, this.place));
    this.#listen();
  }

  setData(data) {
    const before = this.#data?.run;
    this.#data = data;
    if (before !== data.run) this.#cells = matrixCells(data.run);
    if (before?.name !== data.run.name) this.#begin(data.run);
    this.#ask();
  }

  #begin(run) {
    for (const option of this.orders.options) option.hidden = option.value === "part" && !run.parts;
    this.#arrange("given");
  }

  #arrange(way) {
    this.orders.value = way;
    const { order, groups } = matrixOrder(this.#data.run, way);
    this.#order = order;
    this.#groups = groups;
    this.#placeOf = [];
    order.forEach((agent, place) => (this.#placeOf[agent] = place));
    this.fit();
  }

  resize() {
    this.tip.hidden = true;
    this.#box = null;
    this.#ask();
  }

  destroy() {
    cancelAnimationFrame(this.#frame);
  }

  /** Show the whole matrix. */
  fit() {
    [this.#unit, this.#left, this.#top, this.#box, this.#pointed] = [0, 0, 0, null, null];
    this.#ask();
  }

  #ask() {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** Where the cells are: their corner (x, y), the px they span, and the least size of a cell. */
  #measure() {
    const [width, height] = [this.place.clientWidth, this.place.clientHeight];
    fitCanvas(this.canvas, width, height);
    const longest = (texts, font) => Math.max(0, ...texts.map(textMeasure(font)));
    const names = longest(this.#data.run.agents.map(({ name }) => shortName(name)), STRONG) + 20;
    const side = this.#groups.length ? longest(this.#groups.map(({ text }) => text), TEXT) + 16 : 12;
    const [across, down] = [Math.min(names, 0.4 * width), Math.min(names, 0.4 * height)];
    const count = Math.max(this.#order.length, 1);
    const [roomX, roomY] = [width - across - side, height - down - 12];
    const least = Math.min(roomX / count, roomY / count, LARGEST_CELL);
    this.#unit = Math.min(Math.max(this.#unit, least), LARGEST_CELL);
    const size = this.#unit * count;
    const [spanX, spanY] = [Math.min(size, roomX), Math.min(size, roomY)];
    this.#left = Math.min(Math.max(this.#left, 0), size - spanX);
    this.#top = Math.min(Math.max(this.#top, 0), size - spanY);
    this.#box = { x: Math.round(across + (roomX - spanX) / 2), y: Math.round(down), spanX, spanY };
  }

  /** The corner of the cell of a row and a column, in px of the canvas. */
  #cornerOf(row, column) {
    return [this.#box.x + column * this.#unit - this.#left, this.#box.y + row * this.#unit - this.#top];
  }

  #placesOf({ from, to }) {
    return [this.#placeOf[from], this.#placeOf[to]];
  }

  /** A point of a channel, the middle of its cell, in px of the page. */
  pointOf(_, channel) {
    if (!this.#box) this.#measure();
    const corner = this.canvas.getBoundingClientRect();
    const [x, y] = this.#cornerOf(...this.#placesOf(this.#data.run.channels[channel]));
    return { x: corner.left + x + this.#unit / 2, y: corner.top + y + this.#unit / 2 };
  }

  /** Bring an agent's row and column, or a channel's cell, into sight. */
  reveal(kind, index) {
    if (!this.#box) return;
    const [row, column] = this.#placesOf(kind === "agent" ? { from: index, to: index } : this.#data.run.channels[index]);
    const [x, y] = [(column + 0.5) * this.#unit, (row + 0.5) * this.#unit];
    const { spanX, spanY } = this.#box;
    if (x > this.#left && y > this.#top && x < this.#left + spanX && y < this.#top + spanY) return;
    [this.#left, this.#top, this.#box] = [x - spanX / 2, y - spanY / 2, null];
    this.#ask();
  }

  /** What lies at a point: {row, column, cell}, places in the order (-1: beside the cells) and a cell or null; null outside. */
  #at(x, y) {
    if (!this.#box) this.#measure();
    const { x: x0, y: y0, spanX, spanY } = this.#box;
    const column = x < x0 ? -1 : Math.floor((x - x0 + this.#left) / this.#unit);
    const row = y < y0 ? -1 : Math.floor((y - y0 + this.#top) / this.#unit);
    if (x > x0 + spanX || y > y0 + spanY || (row < 0 && column < 0)) return null;
    return row < 0 || column < 0 ? { row, column, cell: null } : this.#nearest(row, column);
  }

  /** Small cells are hard to hit: the nearest within a few pixels counts. */
  #nearest(row, column) {
    const reach = this.#unit >= NAMED ? 0 : Math.ceil(REACH / this.#unit);
    let [found, least] = [null, Infinity];
    for (let down = -reach; down <= reach; down++) {
      for (let across = -reach; across <= reach; across++) {
        const cell = this.#cells.of(this.#order[row + down], this.#order[column + across]);
        if (cell && down * down + across * across < least) [found, least] = [cell, down * down + across * across];
      }
    }
    return found ? { row: this.#placeOf[found.from], column: this.#placeOf[found.to], cell: found } : { row, column, cell: null };
  }

  /** A cell's number: the mean over its channels that have one. */
  #meanOf({ channels }) {
    const known = channels.map((channel) => this.#data.metric.values?.[channel] ?? NaN).filter((value) => !Number.isNaN(value));
    return known.length ? known.reduce((sum, value) => sum + value) / known.length : NaN;
  }

  #draw() {
    this.#frame = 0;
    if (!this.#data || !this.place.clientWidth) return;
    if (!this.#box) this.#measure();
    const ratio = window.devicePixelRatio || 1;
    const pen = clearedPen(this.canvas, ratio);
    const colours = this.#context.colours();
    const { x, y, spanX, spanY } = this.#box;
    pen.save();
    pen.beginPath();
    pen.rect(x, y, spanX, spanY);
    pen.clip();
    pen.fillStyle = colours.surface;
    pen.fillRect(x, y, spanX, spanY);
    this.#drawCells(pen, colours);
    this.#drawBands(pen, colours);
    pen.restore();
    pen.strokeStyle = colours.line;
    pen.strokeRect(x - 0.5, y - 0.5, spanX + 1, spanY + 1);
    this.#drawGroups(pen, colours);
    this.#drawNames(pen, colours);
  }

  /** Draw the cells in sight: hollow where all channels are unresolved, faded where none is found. */
  #drawCells(pen, colours) {
    const { metric, found } = this.#data;
    const { x, y, spanX, spanY } = this.#box;
    const gap = this.#unit >= 6 ? 1 : 0;
    const size = Math.max(this.#unit - gap, LEAST);
    const rim = this.#unit >= 6 ? Math.max(1.5, 0.12 * this.#unit) : 0;
    for (const cell of this.#cells.list) {
      const [left, top] = this.#cornerOf(...this.#placesOf(cell));
      if (left + size < x || top + size < y || left > x + spanX || top > y + spanY) continue;
      pen.globalAlpha = !found || cell.channels.some((channel) => found.channel[channel]) ? 1 : FADED;
      pen.fillStyle = levelColour(metric.scale, levelOf(this.#meanOf(cell), metric.low, metric.high), this.#context.theme());
      pen.fillRect(left, top, size, size);
      pen.fillStyle = colours.surface;
      if (rim && cell.channels.every((channel) => metric.unresolved?.[channel])) pen.fillRect(left + rim, top + rim, size - 2 * rim, size - 2 * rim);
    }
    pen.globalAlpha = 1;
  }

  /** Draw bands over the pointed row and column and those of the selected agent, and frames around the pointed and the selected cell. */
  #drawBands(pen, colours) {
    const { x, y, spanX, spanY } = this.#box;
    const chosen = this.#context.selection();
    const bands = [[this.#pointed?.row, this.#pointed?.column, colours.ink, 0.1]];
    if (chosen?.kind === "agent") bands.push([this.#placeOf[chosen.index], this.#placeOf[chosen.index], colours.accent, 0.22]);
    const wide = Math.max(this.#unit, LEAST);
    for (const [row, column, colour, alpha] of bands) {
      Object.assign(pen, { fillStyle: colour, globalAlpha: alpha });
      if (row >= 0) pen.fillRect(x, this.#cornerOf(row, 0)[1], spanX, wide);
      if (column >= 0) pen.fillRect(this.#cornerOf(0, column)[0], y, wide, spanY);
    }
    pen.globalAlpha = 1;
    const framed = [[this.#pointed?.cell, colours.ink, 1.5], [chosen?.kind === "channel" && this.#data.run.channels[chosen.index], colours.accent, 2.5]];
    for (const [cell, strokeStyle, lineWidth] of framed.filter(([one]) => one)) {
      const [left, top] = this.#cornerOf(...this.#placesOf(cell));
      Object.assign(pen, { strokeStyle, lineWidth });
      pen.strokeRect(left, top, wide, wide);
    }
    pen.lineWidth = 1;
  }

  /** Draw lines between groups, and their names to the right. */
  #drawGroups(pen, colours) {
    const { x, y, spanX, spanY } = this.#box;
    Object.assign(pen, { strokeStyle: colours.none, fillStyle: colours.muted, font: TEXT, textAlign: "left", textBaseline: "middle" });
    let lowest = -Infinity;
    for (const { from, to, text } of this.#groups) {
      const [[left, top], [right, bottom]] = [from, to].map((place) => this.#cornerOf(place, place));
      if (left > x && left < x + spanX) strokeLine(pen, left - 0.5, y, left - 0.5, y + spanY);
      if (top > y && top < y + spanY) strokeLine(pen, x, top - 0.5, x + spanX + 8, top - 0.5);
      const [first, last] = [Math.max(top, y), Math.min(bottom, y + spanY)];
      if (last <= first || right < x) continue;
      // The name of a group that is lower than a line moves down, and those after it.
      lowest = Math.max((first + last) / 2, lowest + 12);
      pen.fillText(text, x + spanX + 8, lowest);
    }
  }

  /** Write the names of rows and columns where there is room, and those of what is pointed at or selected anyhow. */
  #drawNames(pen, colours) {
    const chosen = this.#context.selection();
    const ends = chosen && (chosen.kind === "agent" ? { from: chosen.index, to: chosen.index } : this.#data.run.channels[chosen.index]);
    const [rows, columns] = ends ? this.#placesOf(ends).map((place) => [place]) : [[], []];
    for (const [strong, pointed, across] of [[rows, this.#pointed?.row, true], [columns, this.#pointed?.column, false]]) {
      if (pointed >= 0) strong.push(pointed);
      if (this.#unit >= NAMED) this.#order.forEach((_, place) => strong.includes(place) || this.#drawName(pen, colours, place, across, false));
      for (const place of strong) this.#drawName(pen, colours, place, across, true);
    }
  }

  #drawName(pen, colours, place, across, strong) {
    const { x, y, spanX, spanY } = this.#box;
    const at = (place + 0.5) * this.#unit - (across ? this.#top : this.#left);
    if (at < 0 || at > (across ? spanY : spanX)) return;
    const agent = this.#order[place];
    const { found, run } = this.#data;
    pen.save();
    pen.translate(across ? x - 6 : x + at, across ? y + at : y - 6);
    if (!across) pen.rotate(-Math.PI / 2);
    Object.assign(pen, { font: strong ? STRONG : TEXT, textAlign: across ? "right" : "left", textBaseline: "middle" });
    const [name, room] = [shortName(run.agents[agent].name), Math.max((across ? x : y) - 12, 1)];
    if (strong) {
      const width = Math.min(pen.measureText(name).width, room);
      pen.fillStyle = colours.paper;
      pen.fillRect(across ? -width - 4 : -4, -8, width + 8, 16);
    }
    Object.assign(pen, { fillStyle: strong ? colours.ink : colours.muted, globalAlpha: strong || !found || found.agent[agent] ? 1 : 0.3 });
    pen.fillText(name, 0, 0, room);
    pen.restore();
  }

  #listen() {
    listenToPointer(this.canvas, {
      hover: (x, y) => this.#point(this.#at(x, y), x, y),
      leave: () => this.#point(null),
      click: (x, y) => this.#choose(this.#at(x, y)),
      twice: (x, y) => this.#zoom(2, x, y),
      drag: (across, down) => {
        [this.#left, this.#top, this.#box] = [this.#left - across, this.#top - down, null];
        this.#point(null);
        this.#ask();
      },
      zoom: (factor, x, y) => this.#zoom(factor, x, y),
    });
  }

  /** Zoom around a point of the canvas. */
  #zoom(factor, x, y) {
    const { x: x0, y: y0 } = this.#box;
    const [across, down] = [(x - x0 + this.#left) / this.#unit, (y - y0 + this.#top) / this.#unit];
    this.#unit *= factor;
    this.#measure();
    [this.#left, this.#top] = [across * this.#unit - (x - x0), down * this.#unit - (y - y0)];
    this.#measure();
    this.tip.hidden = true;
    this.#ask();
  }

  /** Select what was clicked: a channel (of several in a cell one after the other), or beside the cells an agent. */
  #choose(spot) {
    if (!spot || (!spot.cell && spot.row >= 0 && spot.column >= 0)) return this.#context.select(null);
    if (!spot.cell) return this.#context.select("agent", this.#order[Math.max(spot.row, spot.column)]);
    const { channels } = spot.cell;
    const chosen = this.#context.selection();
    const now = chosen?.kind === "channel" ? channels.indexOf(chosen.index) : -1;
    return this.#context.select("channel", channels[(now + 1) % channels.length]);
  }

  #point(spot, x = 0, y = 0) {
    this.#pointed = spot;
    this.#ask();
    this.tip.hidden = !spot?.cell;
    if (!spot?.cell) return;
    clear(this.tip).append(...this.#tipLines(spot.cell));
    placeTip(this.tip, x, y);
  }

  #tipLines(cell) {
    const { run, step, metric: { name, info } } = this.#data;
    const textOf = (channel) => {
      const { value, low, high, word } = run.numberAt("channel", name, channel, step);
      return `${formatInterval(value, low, high)} ${word}`;
    };
    const lines = [el("div", {}, pairOf(run.agents[cell.from].name, run.agents[cell.to].name))];
    if (cell.channels.length === 1) return [...lines, el("div", { text: `${info.title} ${textOf(cell.channels[0])}` })];
    lines.push(el("div", { text: `mean of ${cell.channels.length} channels, ${info.title} ${formatNumber(this.#meanOf(cell))}` }));
    lines.push(...cell.channels.slice(0, NAMED_CHANNELS).map((channel) => el("div", { class: "ap-muted", text: `${channelEnds(run, channel).key || "without a key"}: ${textOf(channel)}` })));
    if (cell.channels.length > NAMED_CHANNELS) lines.push(el("div", { text: `and ${cell.channels.length - NAMED_CHANNELS} more` }));
    return lines;
  }
}
