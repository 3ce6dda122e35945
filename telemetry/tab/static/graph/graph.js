// The graph of a run on a canvas: drawn, zoomed, pointed at.

import { el, clear, iconButton, placeTip } from "../drawing/dom.js";
import { clearedPen, fitCanvas, listenToPointer } from "../drawing/canvas.js";
import { formatInterval, formatNumber } from "../drawing/format.js";
import { agentAt, channelAt, pointOn, shapeOf } from "./shape.js";
import { FONT, GraphStyles, paintGraph, paintMark } from "./paint.js";
import { labelsFor, networkOf, textsOf } from "./labels.js";
import { shortName, textMeasure } from "../drawing/textfit.js";

const FARTHEST = 0.5;
const NEAREST = 40;
const NOTHING = { kind: null, index: -1 };

/** The graph view; its interface is that of all views. */
export class GraphView {
  #host;
  #context;
  #canvas = el("canvas", { class: "ap-graph-canvas", aria: { hidden: "true" } });
  #over = el("canvas", { class: "ap-graph-canvas", aria: { hidden: "true" } });
  #tip = el("div", { class: "ap-tooltip", hidden: true });
  #data = null;
  #styles = null;
  #shape = null;
  #view = { zoom: 1, left: 0, top: 0 };
  #texts = [];
  #hovered = NOTHING;
  #frame = 0;
  #stale = false;

  constructor(host, context) {
    this.#host = host;
    this.#context = context;
    const fit = iconButton("fit", "Fit the graph (0)", () => this.fit());
    fit.classList.add("ap-graph-fit");
    host.append(this.#canvas, this.#over, fit, this.#tip);
    this.#listen();
  }

  /** Show metrics at a step, another selection or search; cheap enough for every move of the slider. */
  setData(data) {
    if (this.#data?.run !== data.run) {
      this.#styles = new GraphStyles(data.run);
      this.#texts = textsOf(data.run, textMeasure(FONT));
      this.#shape = null;
      if (this.#data?.run.name !== data.run.name) this.#view = { zoom: 1, left: 0, top: 0 };
    }
    this.#data = data;
    this.#styles.update(data, this.#lit());
    this.#ask(true);
    if (this.#hovered.kind && !this.#tip.hidden) this.#showTip();
  }

  resize() {
    this.#shape = null;
    // What was under the pointer is somewhere else now.
    this.#point(NOTHING);
    this.#ask(true);
  }

  destroy() {
    cancelAnimationFrame(this.#frame);
  }

  /** Show the whole graph. */
  fit() {
    this.#look({ zoom: 1, left: 0, top: 0 });
  }

  /** A point of an item in px of the page: the middle of a disc or of a line. */
  pointOf(kind, index) {
    const box = this.#host.getBoundingClientRect();
    const [x, y] = this.#placeOf(kind, index);
    return { x: box.left + x, y: box.top + y };
  }

  /** Shift the picture so that an item is in sight. */
  reveal(kind, index) {
    const [x, y] = this.#placeOf(kind, index);
    const { width, height } = this.#shape;
    if (x > 30 && y > 30 && x < width - 30 && y < height - 30) return;
    const { zoom, left, top } = this.#view;
    this.#look({ zoom, left: left + width / 2 - x, top: top + height / 2 - y });
  }

  #placeOf(kind, index) {
    const shape = this.#shaped();
    const { zoom, left, top } = this.#view;
    const [x, y] = kind === "agent" ? shape.places.subarray(2 * index, 2 * index + 2) : pointOn(shape, index, 0.5);
    return [x * zoom + left, y * zoom + top];
  }

  /** What decides which items are not dimmed: what is chosen, with all that hangs on it, and what is found; null: all are shown alike. */
  #lit() {
    const { run, found } = this.#data;
    const chosen = this.#context.selection();
    const matches = (kind, index) => Boolean(found?.[kind][index]);
    if (!chosen) return found && matches;
    const near = { agent: new Set(), channel: new Set() };
    near[chosen.kind].add(chosen.index);
    if (chosen.kind === "agent") for (const channel of [...run.outgoing(chosen.index), ...run.incoming(chosen.index)]) near.channel.add(channel);
    for (const channel of near.channel) near.agent.add(run.channels[channel].from).add(run.channels[channel].to);
    return (kind, index) => near[kind].has(index) || matches(kind, index);
  }

  #shaped() {
    const width = this.#host.clientWidth || 1;
    const height = this.#host.clientHeight || 1;
    if (this.#shape?.width !== width || this.#shape?.height !== height) this.#shape = shapeOf(this.#data.run, width, height);
    return this.#shape;
  }

  #scene() {
    const shape = this.#shaped();
    const { run, step } = this.#data;
    return {
      shape, styles: this.#styles, theme: this.#context.theme(), view: this.#view, ratio: window.devicePixelRatio || 1,
      ticking: run.agents.map((_, agent) => run.ticks(agent, step)),
      labels: labelsFor(shape, this.#view, this.#texts, this.#styles.dimming ? this.#styles.bright : null),
    };
  }

  /** Ask for a frame; `base`: the graph itself has changed, not only what is pointed at. */
  #ask(base) {
    this.#stale ||= base;
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    if (!this.#data || !this.#host.clientWidth) return;
    const resized = [this.#canvas, this.#over].map((canvas) => fitCanvas(canvas, this.#host.clientWidth, this.#host.clientHeight)).some(Boolean);
    const scene = this.#scene();
    if (this.#stale || resized) paintGraph(clearedPen(this.#canvas), scene);
    this.#stale = false;
    const pen = clearedPen(this.#over);
    const { ratio, view } = scene;
    pen.setTransform(ratio * view.zoom, 0, 0, ratio * view.zoom, ratio * view.left, ratio * view.top);
    const chosen = this.#context.selection();
    if (chosen) paintMark(pen, scene, chosen.kind, chosen.index, true);
    if (this.#hovered.kind) paintMark(pen, scene, this.#hovered.kind, this.#hovered.index, false);
  }

  #listen() {
    listenToPointer(this.#over, {
      hover: (x, y) => this.#point(this.#hit(x, y), [x, y]),
      leave: () => this.#point(NOTHING),
      click: (x, y) => {
        const { kind, index } = this.#hit(x, y);
        this.#context.select(kind, index);
      },
      twice: (x, y) => this.#hit(x, y).kind || this.fit(),
      drag: (across, down) => {
        const { zoom, left, top } = this.#view;
        this.#look({ zoom, left: left + across, top: top + down });
        this.#point(NOTHING);
      },
      zoom: (factor, x, y) => {
        const zoom = Math.min(NEAREST, Math.max(FARTHEST, this.#view.zoom * factor));
        const by = zoom / this.#view.zoom;
        this.#look({ zoom, left: x - (x - this.#view.left) * by, top: y - (y - this.#view.top) * by });
      },
    });
  }

  #look(view) {
    this.#view = view;
    this.#ask(true);
  }

  /** What lies at a point of the stage: agents before channels. */
  #hit(left, top) {
    const shape = this.#shaped();
    const { zoom } = this.#view;
    const x = (left - this.#view.left) / zoom;
    const y = (top - this.#view.top) / zoom;
    const agent = agentAt(shape, x, y, 2 / zoom);
    if (agent >= 0) return { kind: "agent", index: agent };
    const channel = channelAt(shape, x, y, 6 / zoom);
    return channel >= 0 ? { kind: "channel", index: channel } : NOTHING;
  }

  #point(hit, spot) {
    const changed = hit.kind !== this.#hovered.kind || hit.index !== this.#hovered.index;
    if (changed) {
      this.#hovered = hit;
      this.#over.style.cursor = hit.kind ? "pointer" : "";
      this.#ask(false);
    }
    if (spot && hit.kind) {
      this.#showTip();
      placeTip(this.#tip, ...spot);
    } else this.#tip.hidden = true;
  }

  #showTip() {
    const { kind, index } = this.#hovered;
    const { run, metric, ring, step } = this.#data;
    const { name, info } = kind === "agent" ? ring : metric;
    const { value, low, high, word } = run.numberAt(kind, name, index, step);
    clear(this.#tip).append(
      el("strong", { text: shortName(run.nameOf(kind, index), 48) }),
      el("span", { text: Number.isNaN(value) ? "" : `${info.title} ${formatInterval(value, low, high)} ${word}` }),
      el("span", { text: kind === "agent" ? aboutAgent(run, index) : aboutChannel(run, index) }),
    );
  }
}

function aboutAgent(run, index) {
  const { role, period, phase, part } = run.agents[index];
  const clock = period === 1 ? "ticks every step" : `ticks every ${period} steps${phase ? `, phase ${phase}` : ""}`;
  return [networkOf(run.agents[index]), role, clock, run.parts ? `part ${part}` : ""].filter(Boolean).join(", ");
}

function aboutChannel(run, index) {
  const { coupling, delay, drop, state } = run.channels[index];
  const texts = [coupling, `delay ${delay}`, drop > 0 ? `drops ${formatNumber(100 * drop)} %` : "", state ? "carries state" : ""];
  return [...texts, run.isCut(index) ? "between parts" : ""].filter(Boolean).join(", ");
}
