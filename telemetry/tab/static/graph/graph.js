// The graph of a run on a canvas: drawn, zoomed, pointed at.

import { el, clear, iconButton, placeTip } from "../drawing/dom.js";
import { clearedPen, fitCanvas, listenToPointer } from "../drawing/canvas.js";
import { formatNumber } from "../drawing/format.js";
import { agentAt, channelAt, pointOn, shapeOf } from "./shape.js";
import { FONT, GraphStyles, levelBoxes, paintGraph, paintMark } from "./paint.js";
import { labelsFor, networkOf, textsOf } from "./labels.js";
import { shortName, textMeasure } from "../drawing/textfit.js";
import { resultText } from "../data/shown.js";
import { partName } from "../panel/parts.js";

const FARTHEST = 0.5;
const NEAREST = 40;
/** Channels above which dashes are left out while the picture moves. */
const MANY = 1500;
const CALM_MS = 160;
/** Side of the corner of the button that fits the graph, in px. */
const FIT_BUTTON = 44;
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
  #ticking = new Uint8Array(0);
  #view = { zoom: 1, left: 0, top: 0 };
  #labels = [];
  #texts = [];
  #hovered = NOTHING;
  #moved = -Infinity;
  #frame = 0;
  #stale = { base: false, labels: false };
  #calm = 0;

  constructor(host, context) {
    this.#host = host;
    this.#context = context;
    const fit = iconButton("fit", "Fit the graph (0)", () => this.fit());
    fit.classList.add("ap-graph-fit");
    host.append(this.#canvas, this.#over, fit, this.#tip);
    this.#listen();
  }

  /** Show metrics at a step; cheap enough for every move of the slider. */
  setData(data) {
    const other = !this.#data || this.#data.run !== data.run;
    const moved = !this.#data || this.#data.step !== data.step;
    this.#data = data;
    if (other) {
      this.#styles = new GraphStyles(data.run);
      this.#ticking = new Uint8Array(data.run.agents.length);
      this.#texts = [];
      this.#view = { zoom: 1, left: 0, top: 0 };
      this.#shape = null;
    }
    for (let agent = 0; agent < this.#ticking.length; agent++) this.#ticking[agent] = data.run.ticks(agent, data.step) ? 1 : 0;
    if (moved) this.#moved = performance.now();
    this.redraw();
    if (this.#hovered.kind && !this.#tip.hidden) this.#showTip();
  }

  /** Draw again: another selection, search or theme. */
  redraw() {
    if (!this.#data) return;
    const dimmed = this.#styles.dimming;
    this.#styles.update(this.#data, this.#lit());
    this.#ask(true, dimmed || this.#styles.dimming);
  }

  resize() {
    this.#shape = null;
    // What was under the pointer is somewhere else now.
    this.#point(NOTHING);
    this.#ask(true, true);
  }

  destroy() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#calm);
    clear(this.#host);
  }

  /** Show the whole graph. */
  fit() {
    this.#view = { zoom: 1, left: 0, top: 0 };
    this.#ask(true, true);
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
    this.#view.left += width / 2 - x;
    this.#view.top += height / 2 - y;
    this.#ask(true, true);
  }

  #placeOf(kind, index) {
    const shape = this.#shaped();
    const { zoom, left, top } = this.#view;
    if (kind === "agent") return [shape.places[2 * index] * zoom + left, shape.places[2 * index + 1] * zoom + top];
    const middle = pointOn(shape, index, 0.5, [0, 0]);
    return [middle[0] * zoom + left, middle[1] * zoom + top];
  }

  /** What decides which items are not dimmed; null: all are shown alike. */
  #lit() {
    const { run } = this.#data;
    const { matches, filtering } = this.#context;
    const chosen = this.#context.selection();
    if (!chosen) return filtering() ? matches : null;
    if (chosen.kind === "agent") {
      const near = new Set(chosen.both);
      const own = new Set(chosen.both.flatMap((agent) => [...run.outgoing(agent), ...run.incoming(agent)]));
      for (const channel of own) near.add(run.channels[channel].from).add(run.channels[channel].to);
      return (kind, index) => (kind === "agent" ? near : own).has(index) && (chosen.both.includes(index) || matches(kind, index));
    }
    const shown = (index) => chosen.both.includes(index) || (filtering() && matches("channel", index));
    const ends = new Set([...run.channels.keys()].filter(shown).flatMap((channel) => [run.channels[channel].from, run.channels[channel].to]));
    return (kind, index) => (kind === "agent" ? ends.has(index) : shown(index));
  }

  #shaped() {
    const width = this.#host.clientWidth || 1;
    const height = this.#host.clientHeight || 1;
    const old = this.#shape;
    if (!old || old.width !== width || old.height !== height) {
      this.#shape = shapeOf(this.#data.run, width, height);
      this.#stale.labels = true;
    }
    return this.#shape;
  }

  #scene(ratio, quick) {
    const shape = this.#shaped();
    if (this.#stale.labels) this.#label();
    return {
      shape, ratio, quick, styles: this.#styles, theme: this.#context.theme(), view: this.#view, labels: this.#labels, ticking: this.#ticking,
      parts: this.#data.parts,
    };
  }

  #label() {
    this.#stale.labels = false;
    if (!this.#texts.length) {
      const wide = textMeasure(FONT);
      this.#texts = textsOf(this.#data.run.agents).map(({ name, lines }) => ({ name, lines, wide: wide(name), widest: Math.max(0, ...lines.map(wide)) }));
    }
    const { width } = this.#shape;
    const kept = [[width - FIT_BUTTON, 0, width, FIT_BUTTON], ...levelBoxes(this.#shape, this.#view)];
    this.#labels = labelsFor(this.#shape, this.#view, this.#texts, kept, this.#styles.dimming ? this.#styles.bright : null);
  }

  /** Ask for a frame; `base`: the graph itself has changed, `labels`: and so has the room for names. */
  #ask(base, labels) {
    this.#stale.base ||= base;
    this.#stale.labels ||= labels;
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    if (!this.#data || !this.#host.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    const grown = [this.#canvas, this.#over].map((canvas) => fitCanvas(canvas, this.#host.clientWidth, this.#host.clientHeight)).some(Boolean);
    const many = this.#data.run.channels.length > MANY;
    const quick = many && performance.now() - this.#moved < CALM_MS;
    const scene = this.#scene(ratio, quick);
    if (this.#stale.base || grown) {
      this.#stale.base = false;
      paintGraph(clearedPen(this.#canvas), scene);
    }
    if (quick) {
      clearTimeout(this.#calm);
      this.#calm = setTimeout(() => this.#ask(true, false), CALM_MS);
    }
    this.#drawOver(scene);
  }

  #drawOver(scene) {
    const pen = clearedPen(this.#over);
    const { ratio, view } = scene;
    pen.setTransform(ratio * view.zoom, 0, 0, ratio * view.zoom, ratio * view.left, ratio * view.top);
    const chosen = this.#context.selection();
    for (const index of chosen?.both ?? []) paintMark(pen, scene, chosen.kind, index, true);
    if (this.#hovered.kind) paintMark(pen, scene, this.#hovered.kind, this.#hovered.index, false);
  }

  #listen() {
    listenToPointer(this.#over, {
      hover: (x, y) => this.#point(this.#hit(x, y), [x, y]),
      leave: () => this.#point(NOTHING),
      click: (x, y, shift) => {
        const { kind, index } = this.#hit(x, y);
        this.#context.select(kind, index, shift);
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
    this.#moved = performance.now();
    this.#ask(true, true);
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
      this.#ask(false, false);
    }
    if (spot && hit.kind) {
      this.#showTip();
      placeTip(this.#tip, ...spot);
    } else this.#tip.hidden = true;
  }

  #showTip() {
    const { kind, index } = this.#hovered;
    const { run, metric, ring } = this.#data;
    const shown = kind === "agent" ? ring : metric;
    const text = resultText(shown, index);
    clear(this.#tip).append(
      el("strong", { text: shortName(run.nameOf(kind, index), 48) }),
      el("span", { text: text === "–" ? "" : `${shown.info.title} ${text}` }),
      el("span", { text: kind === "agent" ? aboutAgent(run, index) : aboutChannel(run, index) }),
    );
  }
}

function aboutAgent(run, index) {
  const { role, period, phase, part } = run.agents[index];
  const clock = period === 1 ? "ticks every step" : `ticks every ${period} steps${phase ? `, phase ${phase}` : ""}`;
  return [networkOf(run.agents[index]), role, clock, run.parts ? partName(run, part) : ""].filter(Boolean).join(", ");
}

function aboutChannel(run, index) {
  const { coupling, delay, drop, state } = run.channels[index];
  const texts = [coupling, `delay ${delay}`, drop > 0 ? `drops ${formatNumber(100 * drop)} %` : "", state ? "carries state" : ""];
  return [...texts, run.isCut(index) ? "cut" : ""].filter(Boolean).join(", ");
}
