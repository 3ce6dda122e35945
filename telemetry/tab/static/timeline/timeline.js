// The timeline: who ticks and learns, and what is read, in the first steps of a run. Rows are agents and channels, columns are steps.

import { el, placeTip, setText, svgPicture } from "../drawing/dom.js";
import { clearedPen, fitCanvas } from "../drawing/canvas.js";
import { formatCount } from "../drawing/format.js";
import { textMeasure } from "../drawing/textfit.js";
import { columnOf } from "../data/source.js";
import { TIMELINE_HEAD, TIMELINE_ROW, timelineColours, timelinePaint, timelineStep } from "./paint.js";

const TIMELINE_UNIT = [16, 128];
/** How many names of a row's members the tooltip lists. */
const TIMELINE_LISTED = 12;
const TIMELINE_NONE = "This run has no timeline: its graph is too large, or none was written.";

/** A view (see the contract of views) of a run's first steps. */
export class TimelineView {
  constructor(host, context) {
    Object.assign(this, { host, context, run: null, timeline: null, rows: [], asked: 0, pointed: null, frame: 0 });
    this.canvas = el("canvas", { class: "ap-timeline-canvas", role: "img" });
    this.sizer = el("div");
    this.scroller = el("div", { class: "ap-timeline-scroller" }, this.canvas, this.sizer);
    this.empty = el("p", { class: "ap-empty", testid: "empty", hidden: true });
    this.tip = el("div", { class: "ap-tooltip", hidden: true });
    this.says = el("span", { class: "ap-says ap-cut" });
    this.bar = el("div", { class: "ap-view-bar" }, this.says);
    this.legend = el("div", { class: "ap-timeline-legend ap-inline", testid: "timeline-legend" });
    this.place = el("div", { class: "ap-view-place" }, this.scroller, this.tip, this.empty);
    this.node = el("div", { class: "ap-timeline" }, this.bar, this.legend, this.place);
    host.append(this.node);
    this.scroller.addEventListener("scroll", () => this.schedule());
    this.canvas.addEventListener("pointermove", (event) => this.pointTo(this.at(event.offsetX, event.offsetY), event.offsetX, event.offsetY));
    this.canvas.addEventListener("pointerleave", () => this.pointTo(null));
    this.canvas.addEventListener("click", (event) => this.choose(this.at(event.offsetX, event.offsetY)?.row));
  }

  /** Show a run; the step does not matter here. */
  setData({ run }) {
    const late = !this.timeline && run.catalog !== this.catalog;
    if (run === this.run && !late) {
      if (this.context.theme() !== this.theme) this.redraw();
      return;
    }
    Object.assign(this, { run, timeline: null, catalog: run.catalog });
    this.context.track(this.load(run));
  }

  async load(run) {
    const asked = ++this.asked;
    this.say("loading…");
    let found = null;
    let trouble = TIMELINE_NONE;
    try {
      found = await run.timeline();
      // A window without a loss or a gradient ends without an update: what was counted tells.
      this.updates = found && (await run.series("agent", "updates"));
    } catch (error) {
      trouble = `The timeline cannot be read: ${error.message}`;
    }
    if (asked !== this.asked || this.gone) return;
    this.timeline = found;
    if (!found) return this.say(trouble);
    this.redraw();
    const selected = this.context.selection();
    if (selected) this.reveal(selected.kind, selected.index);
  }

  /** Show a message in place of the timeline. */
  say(text) {
    setText(this.empty, text);
    this.scroller.style.visibility = text ? "hidden" : "";
    for (const node of [this.bar, this.legend]) node.hidden = !this.timeline;
  }

  redraw() {
    if (!this.timeline || this.gone) return;
    this.arrange();
    this.schedule();
  }

  resize() {
    this.redraw();
  }

  destroy() {
    this.gone = true;
    this.asked += 1;
    this.node.remove();
  }

  /** Agents that search and filter let through; those that do the same at the same steps share a row. */
  arrange() {
    const { run } = this;
    const rows = new Map();
    const counts = { agent: 0, channel: 0 };
    for (const kind in counts) {
      for (const [index, times] of this.timeline[`${kind}s`].entries()) {
        if (!this.context.matches(kind, index) || (kind === "channel" && !times.cells)) continue;
        const key = kind + JSON.stringify([times, this.updatesOf(kind, index)]);
        if (!rows.has(key)) rows.set(key, { kind, index, members: [], top: TIMELINE_ROW * rows.size });
        rows.get(key).members.push(index);
        counts[kind] += 1;
      }
    }
    this.rows = [...rows.values()];
    this.pointTo(null);
    const { start, steps } = this.timeline;
    const range = `The first ${formatCount(steps, "step")} (${timelineStep(start)} to ${timelineStep(start + steps - 1)})`;
    const left = counts.agent < run.agents.length ? ` ${counts.agent.toLocaleString("en-US")} of ${formatCount(run.agents.length, "agent")} shown.` : "";
    this.says.textContent = `${range}, computed from the clocks alone.${left}`;
    this.say(rows.size ? "" : "No agent or channel matches the search.");
    this.measure();
  }

  measure() {
    const [width, height] = [this.place.clientWidth, this.place.clientHeight];
    const wide = textMeasure("600 12px system-ui, sans-serif");
    const longest = this.rows.reduce((most, row) => Math.max(most, wide(this.textOf(row, null))), 0);
    this.gutter = Math.round(Math.min(Math.max(longest + 28, 80), Math.max(0.4 * width, 60)));
    const unit = (width - this.gutter - 20) / Math.max(this.timeline.steps, 1);
    this.unit = Math.min(Math.max(unit, TIMELINE_UNIT[0]), TIMELINE_UNIT[1]);
    const across = this.gutter + this.unit * this.timeline.steps;
    this.sizer.style.width = `${Math.ceil(across)}px`;
    this.sizer.style.height = `${TIMELINE_ROW * this.rows.length + TIMELINE_HEAD + 8}px`;
    this.width = Math.min(width, this.scroller.clientWidth || width);
    this.height = Math.min(height, this.scroller.clientHeight || height);
  }

  look() {
    const { scrollLeft, scrollTop } = this.scroller;
    const bottom = scrollTop + this.height - TIMELINE_HEAD;
    const rows = this.rows.filter((row) => row.top + TIMELINE_ROW > scrollTop && row.top < bottom);
    const { timeline, width, height, gutter, unit, pointed } = this;
    for (const row of rows) Object.assign(row, { strong: this.selectedIn(row) >= 0, label: this.textOf(row) });
    return { timeline, rows, width, height, gutter, unit, pointed, left: scrollLeft, top: scrollTop };
  }

  /** The place among a row's members of the one that is selected; -1: none is. */
  selectedIn({ kind, members }) {
    const selection = this.context.selection();
    return selection?.kind === kind ? members.indexOf(selection.index) : -1;
  }

  /** How many updates an agent had taken at the last log entry: " · 50 updates"; "": it is not known. */
  updatesOf(kind, index) {
    const count = kind === "agent" && this.updates ? columnOf(this.updates, index).at(-1) : NaN;
    return Number.isNaN(count) ? "" : ` · ${formatCount(count, "update")}`;
  }

  /** A row's name: of several members one stands for all, the selected one first of all. */
  textOf(row) {
    const { kind, members } = row;
    const more = members.length - 1;
    const chosen = this.selectedIn(row);
    const updates = this.updatesOf(kind, members[0]);
    if (chosen < 0 && more && members.length === this.run[`${kind}s`].length) return `all ${formatCount(members.length, kind)}${updates}`;
    const { name, coupling } = this.run[`${kind}s`][members[Math.max(chosen, 0)]];
    return name + (more ? ` + ${more.toLocaleString("en-US")} more` : coupling ? ` (${coupling})` : "") + updates;
  }

  /** What lies at a point of the canvas: {row, step | null}. */
  at(x, y) {
    if (!this.timeline || y < TIMELINE_HEAD) return null;
    const row = this.rows[Math.floor((y - TIMELINE_HEAD + this.scroller.scrollTop) / TIMELINE_ROW)];
    if (!row) return null;
    const column = Math.floor((x - this.gutter + this.scroller.scrollLeft) / this.unit);
    const inside = x >= this.gutter && column < this.timeline.steps;
    return { row, step: inside ? this.timeline.start + column : null };
  }

  /** The row of an agent or a channel, by itself or with its equals. */
  rowOf(of, index) {
    return this.rows.find(({ kind, members }) => kind === of && members.includes(index));
  }

  /** Client pixels of the name of a row; null where it is out of sight. */
  rowPoint(index, kind = "agent") {
    const row = this.rowOf(kind, index);
    const down = row ? TIMELINE_HEAD + row.top - this.scroller.scrollTop + TIMELINE_ROW / 2 : -1;
    if (down < TIMELINE_HEAD || down > this.height) return null;
    const box = this.canvas.getBoundingClientRect();
    return { x: box.left + 40, y: box.top + down };
  }

  /** Client pixels of the middle of a step's cell in a row; null where it is out of sight. */
  stepPoint(index, step, kind = "agent") {
    const name = this.rowPoint(index, kind);
    const across = this.gutter - this.scroller.scrollLeft + (step - (this.timeline?.start ?? 0) + 0.5) * this.unit;
    if (!name || across < this.gutter || across > this.width) return null;
    return { x: this.canvas.getBoundingClientRect().left + across, y: name.y };
  }

  /** Bring a row into sight. */
  reveal(kind, index) {
    const row = this.rowOf(kind, index);
    const room = this.height - TIMELINE_HEAD;
    const { scrollTop } = this.scroller;
    if (row && (row.top < scrollTop || row.top + TIMELINE_ROW > scrollTop + room)) this.scroller.scrollTop = row.top - room / 2;
  }

  schedule() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.gone && this.timeline) this.paint();
    });
  }

  paint() {
    if (!this.width || !this.height) this.measure();
    if (!this.width || !this.height) return;
    if (fitCanvas(this.canvas, this.width, this.height)) {
      Object.assign(this.canvas.style, { width: `${this.width}px`, height: `${this.height}px`, marginBottom: `${-this.height}px` });
    }
    const pen = clearedPen(this.canvas, window.devicePixelRatio || 1);
    this.theme = this.context.theme();
    const colours = timelineColours(this.context.colours(), this.context.theme());
    timelinePaint(pen, this.look(), colours);
    this.legend.replaceChildren(...timelineLegend(colours, this.timeline));
    this.canvas.setAttribute("aria-label", `Timeline of ${formatCount(this.run.agents.length, "agent")}. ${this.says.textContent}`);
  }

  /** Select a row's first member; with another click the next one. */
  choose(row) {
    if (!row) return this.context.select(null);
    this.context.select(row.kind, row.members[(this.selectedIn(row) + 1) % row.members.length]);
  }

  pointTo(spot, x = 0, y = 0) {
    const before = this.pointed;
    this.pointed = spot;
    if (spot?.row !== before?.row || spot?.step !== before?.step) this.schedule();
    this.canvas.style.cursor = spot ? "pointer" : "";
    this.tip.hidden = !spot;
    if (!spot) return;
    this.tip.replaceChildren(...this.words(spot).map((text) => el("div", { dir: "auto", text })));
    placeTip(this.tip, x, y);
  }

  /** What is to be said of a row at a step, in plain words. */
  words({ row, step }) {
    const names = row.members.slice(0, TIMELINE_LISTED).map((index) => this.run.nameOf(row.kind, index));
    const more = row.members.length - names.length;
    const several = row.members.length > 1;
    const title = several ? formatCount(row.members.length, row.kind) : names[0];
    const below = several ? [`${names.join(", ")}${more ? ` and ${more} more` : ""}`] : [];
    if (step === null) return [title, ...below];
    const head = `${title}, step ${timelineStep(step)}`;
    return [head, ...this.wordsAt(row, step, several ? "Each" : "It"), ...below];
  }

  wordsAt(row, step, who) {
    if (row.kind === "channel") return [timelineCell(this.timeline.channels[row.index], step)];
    const { ticks, since, ends } = this.timeline.agents[row.index];
    if (!ticks.includes(step)) return [who === "It" ? "It does not tick." : "None ticks."];
    const first = since.find(([tick]) => tick === step)?.[1] ?? step;
    const reach = first < step ? `The true gradient reaches back to step ${timelineStep(first)}.` : "The true gradient reaches no earlier step.";
    return [ends.includes(step) ? `${who} ticks; the window ends: it learns if it has a loss or a gradient.` : `${who} ticks.`, reach];
  }
}

/** The marks that a timeline has, in plain words; `tick` and `end` are their colours. */
function timelineLegend({ tick, end, muted }, { agents, channels, episode_ends: over }) {
  const entry = (text, shape) => el("span", { class: "ap-inline" }, svgPicture(16, 14, [shape]), text);
  const path = (d, stroke, more = {}) => ["path", { d, stroke, fill: "none", "stroke-width": 1.5, ...more }];
  const texts = channels.flatMap(({ cells }) => cells.map(([, text]) => text)).join("");
  const cells = [["-", "- nothing to read"], ["x", "x the message sent is never read"], ["!", "! no gradient returns"]].filter(([mark]) => texts.includes(mark));
  return [
    entry("ticks", ["circle", { cx: 8, cy: 7, r: 4, fill: tick }]),
    agents.some(({ ends }) => ends.length) && entry("a window ends: it learns if it has a loss or a gradient", path("M8 1V13", end, { "stroke-width": 3 })),
    agents.some(({ since }) => since.some(([at, from]) => from < at)) && entry("reach of the true gradient", path("M1 11L15 3", tick)),
    over.length > 0 && entry("an episode ends", path("M8 0V14", muted, { "stroke-dasharray": "3 2" })),
    channels.length > 0 && el("span", { text: ["channels: age of the message read", ...cells.map(([, text]) => text)].join(" · ") }),
  ].filter(Boolean);
}

/** What a channel's cell means, in plain words. */
function timelineCell({ cells }, step) {
  const text = cells.find(([at]) => at === step)?.[1] ?? "";
  const age = text.replace(/[-!x]/g, "");
  const read = age ? `The message read was sent ${formatCount(age, "step")} before.` : text.startsWith("-") ? "There is nothing to read." : "Nothing is read.";
  return read + (text.includes("!") ? " No gradient returns." : "") + (text.includes("x") ? " The message sent is never read." : "");
}
