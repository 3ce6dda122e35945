// The timeline: who ticks, learns and reads what in the first steps of a run. Rows are agents, columns are steps.

import { el, fitCanvas, placeTip, svgPicture } from "./dom.js";
import { formatCount } from "./format.js";
import { textMeasure } from "./textfit.js";
import { TIMELINE_HEIGHTS, TIMELINE_INDENT, timelineColours, timelinePaint, timelineStep } from "./timelinepaint.js";
import { timelineRows, timelineText } from "./timelinerows.js";

const TIMELINE_UNIT = [16, 128];
const TIMELINE_OLD = 4;
/** How many names of a row's members the tooltip lists. */
const TIMELINE_LISTED = 12;
const TIMELINE_NONE = "This run has no timeline: its graph is too large, or none was written.";

/** A view (see the contract of views) of a run's first steps. */
export class TimelineView {
  constructor(host, context) {
    Object.assign(this, { host, context, run: null, timeline: null, rows: [], asked: 0, pointed: null, waiting: false });
    this.canvas = el("canvas", { class: "ap-timeline-canvas", role: "img" });
    this.sizer = el("div");
    this.scroller = el("div", { class: "ap-timeline-scroller" }, this.canvas, this.sizer);
    this.empty = el("p", { class: "ap-empty", testid: "empty", hidden: true });
    this.tip = el("div", { class: "ap-tooltip", hidden: true });
    this.says = el("span", { class: "ap-says" });
    const check = (testid, text, checked) => {
      const box = el("input", { type: "checkbox", testid, on: { change: () => this.redraw() } });
      box.checked = checked;
      return [box, el("label", { class: "ap-inline" }, box, text)];
    };
    const [channels, ofChannels] = check("timeline-channels", "Messages", false);
    const [equals, ofEquals] = check("timeline-group", "Group identical", true);
    Object.assign(this, { withChannels: channels, grouped: equals });
    this.bar = el("div", { class: "ap-view-bar" }, ofChannels, ofEquals, this.says);
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
    } catch (error) {
      trouble = `The timeline cannot be read: ${error.message}`;
    }
    if (asked !== this.asked || this.gone) return;
    this.timeline = found;
    if (!found) return this.say(trouble);
    this.oldest = TIMELINE_OLD;
    for (const { read } of found.channels) for (const [, age] of read) this.oldest = Math.max(this.oldest, age);
    this.ticks = found.agents.map(({ ticks }) => new Set(ticks));
    this.redraw();
    const selected = this.context.selection();
    if (selected) this.reveal(selected.kind, selected.index);
  }

  /** Show a message in place of the timeline. */
  say(text) {
    this.empty.textContent = text;
    this.empty.hidden = !text;
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

  // --- rows and geometry -----------------------------------------------------------------------------------

  /** Those that search and filter let through: agents, with the channels into them beneath. */
  arrange() {
    const { run, context } = this;
    const how = { matches: context.matches, grouped: this.grouped.checked, channels: this.withChannels.checked };
    this.rows = timelineRows(run, this.timeline, how);
    this.tall = 0;
    let agents = 0;
    for (const row of this.rows) {
      Object.assign(row, { top: this.tall, height: TIMELINE_HEIGHTS[row.kind] });
      this.tall += row.height;
      if (row.kind === "agent") agents += row.members.length;
    }
    const row = this.pointed && this.rowOf(this.pointed.row.kind, this.pointed.row.index);
    if (row) this.pointed.row = row;
    else this.pointTo(null);
    const { start, steps } = this.timeline;
    const range = `The first ${formatCount(steps, "step")} (${timelineStep(start)} to ${timelineStep(start + steps - 1)})`;
    const shown = agents < run.agents.length ? ` ${agents.toLocaleString("en-US")} of ${formatCount(run.agents.length, "agent")} shown.` : "";
    this.says.textContent = `${range}, computed from the clocks alone; the slider has no effect here.${shown}`;
    this.say(agents ? "" : "No agent matches the search.");
    this.measure();
  }

  measure() {
    const [width, height] = [this.place.clientWidth, this.place.clientHeight];
    const wide = textMeasure("600 12px system-ui, sans-serif");
    const indent = { agent: 0, channel: TIMELINE_INDENT };
    const longest = this.rows.reduce((most, row) => Math.max(most, wide(row.text) + indent[row.kind]), 0);
    this.gutter = Math.round(Math.min(Math.max(longest + 28, 80), Math.max(0.4 * width, 60)));
    const unit = (width - this.gutter - 20) / Math.max(this.timeline.steps, 1);
    this.unit = Math.min(Math.max(unit, TIMELINE_UNIT[0]), TIMELINE_UNIT[1]);
    const across = this.gutter + this.unit * this.timeline.steps;
    this.sizer.style.width = `${Math.ceil(across)}px`;
    this.sizer.style.height = `${Math.ceil(this.tall + TIMELINE_HEIGHTS.head + 8)}px`;
    this.width = Math.min(width, this.scroller.clientWidth || width);
    this.height = Math.min(height, this.scroller.clientHeight || height);
  }

  look() {
    const { scrollLeft, scrollTop } = this.scroller;
    const bottom = scrollTop + this.height - TIMELINE_HEIGHTS.head;
    const rows = this.rows.filter((row) => row.top + row.height > scrollTop && row.top < bottom);
    const { timeline, run, width, height, gutter, unit, oldest, pointed } = this;
    const selected = this.context.selection();
    for (const row of rows) row.label = timelineText(run, row, selected);
    return { timeline, run, rows, width, height, gutter, unit, oldest, pointed, left: scrollLeft, top: scrollTop, selected };
  }

  /** What lies at a point of the canvas: {row, step | null}. */
  at(x, y) {
    if (!this.timeline || y < TIMELINE_HEIGHTS.head) return null;
    const down = y - TIMELINE_HEIGHTS.head + this.scroller.scrollTop;
    const row = this.rows.find((one) => down >= one.top && down < one.top + one.height);
    if (!row) return null;
    const column = Math.floor((x - this.gutter + this.scroller.scrollLeft) / this.unit);
    const inside = x >= this.gutter && column < this.timeline.steps;
    return { row, step: inside ? this.timeline.start + column : null };
  }

  /** The row of an agent or a channel, by itself or with its equals. */
  rowOf(kind, index) {
    return this.rows.find((row) => row.kind === kind && row.members.includes(index));
  }

  /** Client pixels of a row's name; null where it is out of sight. */
  rowPoint(kind, index) {
    const row = this.rowOf(kind, index);
    const down = row ? TIMELINE_HEIGHTS.head + row.top - this.scroller.scrollTop + row.height / 2 : -1;
    if (down < TIMELINE_HEIGHTS.head || down > this.height) return null;
    const box = this.canvas.getBoundingClientRect();
    return { x: box.left + 40, y: box.top + down };
  }

  /** Client pixels of the middle of a step's cell in a row; null where it is out of sight. */
  stepPoint(kind, index, step) {
    const name = this.rowPoint(kind, index);
    const across = this.gutter - this.scroller.scrollLeft + (step - (this.timeline?.start ?? 0) + 0.5) * this.unit;
    if (!name || across < this.gutter || across > this.width) return null;
    return { x: this.canvas.getBoundingClientRect().left + across, y: name.y };
  }

  /** Bring the row of an agent or a channel into sight. */
  reveal(kind, index) {
    const row = this.rowOf(kind, index);
    const room = this.height - TIMELINE_HEIGHTS.head;
    const { scrollTop } = this.scroller;
    if (row && (row.top < scrollTop || row.top + row.height > scrollTop + room)) this.scroller.scrollTop = row.top - room / 2;
  }

  // --- drawing ---------------------------------------------------------------------------------------------

  schedule() {
    if (this.waiting || this.gone) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (!this.gone && this.timeline) this.paint();
    });
  }

  paint() {
    if (!this.width || !this.height) this.measure();
    if (!this.width || !this.height) return;
    const began = performance.now();
    const ratio = window.devicePixelRatio || 1;
    if (fitCanvas(this.canvas, this.width, this.height)) {
      Object.assign(this.canvas.style, { width: `${this.width}px`, height: `${this.height}px`, marginBottom: `${-this.height}px` });
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    this.theme = this.context.theme();
    const colours = timelineColours(this.context.colours(), this.context.theme());
    timelinePaint(pen, this.look(), colours);
    this.legend.replaceChildren(...timelineLegend(colours).filter(({ dataset }) => dataset.of === "agent" || this.withChannels.checked));
    const agents = formatCount(this.run.agents.length, "agent");
    this.canvas.setAttribute("aria-label", `Timeline of ${agents}. ${this.says.textContent}`);
    this.context.drawn?.(performance.now() - began);
  }

  // --- pointer ------------------------------------------------------------------------------------

  /** Select a row's first member; with another click the next one. */
  choose(row) {
    if (!row) return this.context.select(null);
    const selected = this.context.selection();
    const now = selected?.kind === row.kind ? row.members.indexOf(selected.index) : -1;
    this.context.select(row.kind, row.members[(now + 1) % row.members.length]);
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
    if (row.kind === "agent") {
      const times = this.timeline.agents[row.index];
      if (!this.ticks[row.index].has(step)) return [who === "It" ? "It does not tick." : "None ticks."];
      const since = times.since.find(([tick]) => tick === step)?.[1] ?? step;
      const reach = since < step ? `The true gradient reaches back to step ${timelineStep(since)}.` : "The true gradient reaches no earlier step.";
      return [times.ends.includes(step) ? `${who} ticks; the window ends: it learns.` : `${who} ticks.`, reach];
    }
    const times = this.timeline.channels[row.index];
    const age = times.read.find(([tick]) => tick === step)?.[1];
    const due = this.ticks[this.run.channels[row.index].to].has(step);
    const read = age === undefined ? (due ? "No message has arrived yet." : "The receiver does not tick.") : `Reads the message of step ${timelineStep(step - age)}: age ${age}.`;
    return [read, ...(times.unread.includes(step) ? ["The message sent at this step is never read."] : [])];
  }
}

/** The marks in plain words; `tick` and `end` are their colours. */
function timelineLegend({ tick, end, muted, ink }) {
  const entry = (text, of, ...shapes) => el("span", { class: "ap-inline", data: { of } }, svgPicture(16, 14, shapes), text);
  const path = (d, stroke, more = {}) => ["path", { d, stroke, fill: "none", "stroke-width": 1.5, ...more }];
  return [
    entry("ticks", "agent", ["circle", { cx: 8, cy: 7, r: 4, fill: tick }]),
    entry("a window ends: it learns", "agent", path("M8 1V13", end, { "stroke-width": 3 })),
    entry("reach of the true gradient", "agent", path("M1 11L15 3", tick)),
    entry("an episode ends", "agent", path("M8 0V14", muted, { "stroke-dasharray": "3 2" })),
    entry("age of the message read, in steps (–: none has arrived yet)", "channel", ["rect", { width: 16, height: 14, fill: tick, "fill-opacity": 0.3 }], path("M6 5L8 4V10", ink)),
    entry("never read", "channel", path("M5 4L11 10M5 10L11 4", end)),
  ];
}
