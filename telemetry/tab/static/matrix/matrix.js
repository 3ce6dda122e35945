// The matrix: senders as rows, receivers as columns, a cell where there is a channel, coloured by the chosen metric.

import { el, placeTip } from "../drawing/dom.js";
import { clearedPen, fitCanvas, listenToPointer } from "../drawing/canvas.js";
import { formatCount, formatNumber } from "../drawing/format.js";
import { misleads, resultText, shownLevel } from "../data/shown.js";
import { levelOf, paletteOf } from "../drawing/colours.js";
import { MATRIX_FROM, MATRIX_ORDERS, matrixOrder } from "./order.js";
import { matrixCells, matrixMeans, matrixRaster } from "./cells.js";
import { growthOf } from "../graph/shape.js";
import { panelChannel, panelPair } from "../panel/facts.js";
import { MATRIX_NAMED, matrixBands, matrixGroups, matrixLongest, matrixNames, matrixNumbers } from "./paint.js";

const MATRIX_TOP_UNIT = 120;
const MATRIX_REACH = 4;
const MATRIX_LISTED = 8;

/** A view (see the contract of views) of one run as a matrix. */
export class MatrixView {
  constructor(host, context) {
    Object.assign(this, { host, context, run: null, data: null, way: "given", unit: 0, least: 0, left: 0, top: 0 });
    Object.assign(this, { pointed: null, frame: 0, fresh: true, cells: null });
    this.sheet = document.createElement("canvas");
    this.canvas = el("canvas", { class: "ap-matrix-canvas", role: "img" });
    this.tip = el("div", { class: "ap-tooltip", hidden: true });
    this.empty = el("p", { class: "ap-empty", testid: "empty", hidden: true });
    const options = Object.entries(MATRIX_ORDERS).map(([value, text]) => el("option", { value, text }));
    this.orders = el("select", { class: "ap-select", testid: "order", on: { change: () => this.setOrder(this.orders.value) } }, ...options);
    this.whole = el("button", { class: "ap-button", type: "button", text: "Fit", title: "Show the whole matrix (0)", on: { click: () => this.zoom(0) } });
    const says = "Rows send, columns receive. Hollow: the interval contains 0; faded: of an earlier step; grey: no value.";
    this.bar = el("div", { class: "ap-view-bar" }, el("label", { class: "ap-inline" }, "Order ", this.orders), el("span", { class: "ap-says", text: says }), this.whole);
    this.place = el("div", { class: "ap-view-place" }, this.canvas, this.tip, this.empty);
    this.node = el("div", { class: "ap-matrix" }, this.bar, this.place);
    host.append(this.node);
    this.listen();
  }

  /** Show a metric at a step; cheap, drawn with the next frame. */
  setData(data) {
    this.data = data;
    if (data.run !== this.run) {
      this.run = data.run;
      this.cells = matrixCells(data.run);
      this.offer(data.run);
      this.arrange();
    }
    this.redraw();
  }

  /** Draw again: selection, filter, theme or numbers have changed. */
  redraw() {
    this.fresh = true;
    this.schedule();
  }

  resize() {
    this.tip.hidden = true;
    this.measured = false;
    this.redraw();
  }

  destroy() {
    this.gone = true;
    this.node.remove();
  }

  /** Show the whole matrix. */
  fit() {
    this.zoom(0);
  }

  /** Offer the orders that a run has; a large one begins by community. */
  offer(run) {
    const lacking = { part: !run.parts, community: run.agents.some(({ community }) => community === undefined) };
    for (const option of this.orders.options) option.hidden = Boolean(lacking[option.value]);
    if (!this.ordered) this.way = run.agents.length > MATRIX_FROM && !lacking.community ? "community" : "given";
    if (lacking[this.way]) this.way = "given";
    this.orders.value = this.way;
  }

  setOrder(way) {
    this.ordered = true;
    this.way = way;
    this.arrange();
    this.redraw();
  }

  arrange() {
    const { order, groups } = matrixOrder(this.run, this.way);
    Object.assign(this, { order, groups, unit: 0, left: 0, top: 0, pointed: null, measured: false });
    this.placeOf = new Int32Array(order.length);
    order.forEach((agent, place) => (this.placeOf[agent] = place));
  }

  schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.gone && this.run) this.paint();
    });
  }

  measure() {
    const [width, height] = [this.place.clientWidth, this.place.clientHeight];
    const ratio = window.devicePixelRatio || 1;
    fitCanvas(this.canvas, width, height);
    const grown = growthOf(width, height);
    const longest = grown * matrixLongest(this.run.agents.map(({ name }) => name), "600 11px");
    const [across, down] = [0.4 * width, 0.4 * height].map((most) => Math.round(Math.min(Math.max(longest + 20, 48), most)));
    const side = this.groups.length > 1 ? grown * matrixLongest(this.groups.map(({ text }) => text), "11px") + 16 : 12;
    const gutter = { across, down };
    const [roomX, roomY] = [width - across - side, height - down - 12];
    const count = Math.max(this.order.length, 1);
    const zoomed = this.unit > this.least * 1.0001;
    Object.assign(this, { width, height, ratio, grown, gutter, roomX, roomY, measured: true });
    this.least = Math.max(Math.min(roomX / count, roomY / count, MATRIX_TOP_UNIT), 0.01);
    this.look(zoomed ? this.unit : this.least, this.left, this.top);
  }

  /** Look at a part: `unit` pixels per cell, from `left` and `top` pixels on. */
  look(unit, left, top) {
    this.unit = Math.min(Math.max(unit, this.least), MATRIX_TOP_UNIT);
    const size = this.unit * this.order.length;
    this.spanX = Math.min(size, this.roomX);
    this.spanY = Math.min(size, this.roomY);
    this.left = Math.min(Math.max(left, 0), size - this.spanX);
    this.top = Math.min(Math.max(top, 0), size - this.spanY);
    this.x0 = Math.round(this.gutter.across + (this.roomX - this.spanX) / 2);
    this.y0 = Math.round(this.gutter.down);
    this.whole.disabled = this.unit <= this.least * 1.0001;
    this.canvas.style.cursor = this.whole.disabled ? "default" : "grab";
  }

  /** Bring an agent's row and column, or a channel's cell, into sight. */
  reveal(kind, index) {
    if (!this.measured) return;
    const { from, to } = kind === "agent" ? { from: index, to: index } : this.run.channels[index];
    const [x, y] = [(this.placeOf[to] + 0.5) * this.unit, (this.placeOf[from] + 0.5) * this.unit];
    const outside = x < this.left || y < this.top || x > this.left + this.spanX || y > this.top + this.spanY;
    if (outside) this.look(this.unit, x - this.spanX / 2, y - this.spanY / 2);
    this.redraw();
  }

  /** Zoom around a point of the canvas (the middle); factor 0 shows everything. */
  zoom(factor, x = this.x0 + this.spanX / 2, y = this.y0 + this.spanY / 2) {
    if (!this.measured) return;
    const [atX, atY] = [(x - this.x0 + this.left) / this.unit, (y - this.y0 + this.top) / this.unit];
    const unit = Math.min(Math.max(this.unit * factor, this.least), MATRIX_TOP_UNIT);
    this.look(unit, 0, 0);
    this.look(unit, atX * unit - (x - this.x0), atY * unit - (y - this.y0));
    this.tip.hidden = true;
    this.redraw();
  }

  /** Client pixels of the middle of a channel's cell, as now drawn. */
  cellPoint(channel) {
    if (!this.measured) this.measure();
    const cell = this.cells.list[this.cells.ofChannel[channel]];
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = this.middle(cell);
    return { x: box.left + x, y: box.top + y };
  }

  middle(cell) {
    const x = this.x0 - this.left + (this.placeOf[cell.to] + 0.5) * this.unit;
    return [x, this.y0 - this.top + (this.placeOf[cell.from] + 0.5) * this.unit];
  }

  /** What lies at a point: {row, column, cell}, places in the order and a cell or null; null outside. */
  at(x, y) {
    if (!this.run?.agents.length) return null;
    if (!this.measured) this.measure();
    const column = Math.floor((x - this.x0 + this.left) / this.unit);
    const row = Math.floor((y - this.y0 + this.top) / this.unit);
    const inX = x >= this.x0 && x < this.x0 + this.spanX;
    const inY = y >= this.y0 && y < this.y0 + this.spanY;
    if (inX && inY) return this.nearest(row, column);
    if (inY && x < this.x0) return { row, column: -1, cell: null };
    if (inX && y < this.y0) return { row: -1, column, cell: null };
    return null;
  }

  /** Cells of a pixel or less are hard to hit: the nearest within a few pixels counts. */
  nearest(row, column) {
    const reach = this.unit >= MATRIX_NAMED * this.grown ? 0 : Math.ceil(MATRIX_REACH / this.unit);
    let found = null;
    let least = Infinity;
    for (let down = -reach; down <= reach; down++) {
      for (let across = -reach; across <= reach; across++) {
        const [sender, receiver] = [this.order[row + down], this.order[column + across]];
        const cell = sender === undefined || receiver === undefined ? undefined : this.cells.find(sender, receiver);
        const distance = down * down + across * across;
        if (cell && distance < least) [found, least] = [cell, distance];
      }
    }
    if (!found) return { row, column, cell: null };
    return { row: this.placeOf[found.from], column: this.placeOf[found.to], cell: found };
  }

  paint() {
    this.empty.hidden = this.cells.list.length > 0;
    this.empty.textContent = "This run has no channels.";
    if (!this.measured || !this.width) this.measure();
    if (!this.width || !this.height) return;
    if (this.fresh) this.raster();
    this.fresh = false;
    const colours = this.context.colours();
    const pen = clearedPen(this.canvas);
    pen.drawImage(this.sheet, Math.round(this.x0 * this.ratio), Math.round(this.y0 * this.ratio));
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.lineWidth = 1;
    pen.strokeStyle = colours.line;
    pen.strokeRect(this.x0 - 0.5, this.y0 - 0.5, this.spanX + 1, this.spanY + 1);
    matrixGroups(pen, this, colours);
    matrixNumbers(pen, this, colours);
    matrixBands(pen, this, colours, this.context.selection());
    matrixNames(pen, this, colours, this.context);
    const told = `${formatCount(this.run.agents.length, "agent")}, ${formatCount(this.run.channels.length, "channel")}`;
    this.canvas.setAttribute("aria-label", `Matrix of ${told}: rows send, columns receive.`);
  }

  raster() {
    const { values, coloured, words, unresolved, scale, low, high } = this.data.metric;
    const [theme, colours] = [this.context.theme(), this.context.colours()];
    const { means, shown } = matrixMeans(this.cells, values, this.context.matches);
    Object.assign(this, { means, shown });
    const numbers = coloured ? matrixMeans(this.cells, coloured, this.context.matches).means : means;
    const all = (holds) => Uint8Array.from(this.cells.list, ({ channels }) => channels.every(holds));
    const [hollow, misled] = [all((channel) => unresolved?.[channel]), all((channel) => misleads(words?.[channel]))];
    const levels = Int16Array.from(numbers, (value, cell) => (misled[cell] ? shownLevel(this.data.metric, this.cells.list[cell].channels[0]) : levelOf(scale, value, low, high)));
    const weights = Float32Array.from(shown, (found) => (found ? 1 : 0.16));
    matrixRaster(this.sheet, this, this.cells, { levels, weights, hollow }, [...paletteOf(scale, theme), colours.misleads, colours.misleadsLittle], colours);
  }

  listen() {
    listenToPointer(this.canvas, {
      hover: (x, y) => this.pointTo(this.at(x, y), x, y),
      leave: () => this.pointTo(null),
      click: (x, y, shift) => this.choose(this.at(x, y), shift),
      twice: (x, y) => this.zoom(2, x, y),
      drag: (across, down) => {
        this.look(this.unit, this.left - across, this.top - down);
        this.pointTo(null);
        this.redraw();
      },
      zoom: (factor, x, y) => this.zoom(factor, x, y),
    });
  }

  choose(spot, shift) {
    if (!spot) return this.context.select(null);
    if (spot.cell) {
      const selected = this.context.selection();
      const now = selected?.kind === "channel" ? spot.cell.channels.indexOf(selected.index) : -1;
      return this.context.select("channel", spot.cell.channels[(now + 1) % spot.cell.channels.length], shift);
    }
    if (spot.row < 0 || spot.column < 0) this.context.select("agent", this.order[Math.max(spot.row, spot.column)], shift);
    else this.context.select(null);
  }

  pointTo(spot, x = 0, y = 0) {
    const before = this.pointed;
    this.pointed = spot;
    if (spot?.row !== before?.row || spot?.column !== before?.column) this.schedule();
    this.tip.hidden = !spot?.cell;
    if (!spot?.cell) return;
    this.tip.replaceChildren(...this.tipLines(spot.cell));
    placeTip(this.tip, x, y);
  }

  tipLines(cell) {
    const { metric } = this.data;
    const { agents } = this.run;
    const { title } = metric.info;
    const lines = [el("div", {}, panelPair(agents[cell.from].name, agents[cell.to].name))];
    if (cell.channels.length === 1) return [...lines, el("div", { text: `${title}: ${resultText(metric, cell.channels[0])}` })];
    lines.push(el("div", { text: `mean of ${cell.channels.length} channels · ${title}: ${formatNumber(this.means[cell.number])}` }));
    for (const channel of cell.channels.slice(0, MATRIX_LISTED)) {
      const key = panelChannel(this.run, channel).key || "without a key";
      lines.push(el("div", { class: "ap-muted" }, el("bdi", { text: key }), `: ${resultText(metric, channel)}`));
    }
    if (cell.channels.length > MATRIX_LISTED) lines.push(el("div", { text: `and ${cell.channels.length - MATRIX_LISTED} more` }));
    return lines;
  }
}
