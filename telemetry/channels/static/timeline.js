// The timeline: who ticks, learns and reads what in the first steps of a run. Rows are agents, columns are steps.

import { el } from "./dom.js";
import { formatCount } from "./format.js";
import { SvgPen } from "./svgpen.js";
import { textMeasure } from "./textfit.js";
import { TIMELINE_HEIGHTS, timelineColours, timelinePaint, timelineStep } from "./timelinepaint.js";

const TIMELINE_UNIT = [16, 64];
const TIMELINE_OLD = 4;
const TIMELINE_NONE = "This run has no timeline: its graph is very large, or it was written without one.";

/** A view (see the contract of views) of a run's first steps. */
export class TimelineView {
  constructor(host, context) {
    Object.assign(this, { host, context, run: null, timeline: null, rows: [], asked: 0, pointed: null, waiting: false });
    this.canvas = el("canvas", { class: "ap-timeline-canvas", tabindex: "0", role: "img" });
    this.sizer = el("div", { class: "ap-timeline-sizer" });
    this.scroller = el("div", { class: "ap-timeline-scroller" }, this.canvas, this.sizer);
    this.empty = el("p", { class: "ap-empty", testid: "empty", hidden: true });
    this.tip = el("div", { class: "ap-tooltip ap-timeline-tip", hidden: true });
    this.says = el("span", { class: "ap-says" });
    this.withChannels = el("input", { type: "checkbox", testid: "timeline-channels", on: { change: () => this.redraw() } });
    this.bar = el("div", { class: "ap-timeline-bar" }, el("label", { class: "ap-timeline-check" }, this.withChannels, "Messages"), this.says);
    this.legend = timelineLegend();
    this.place = el("div", { class: "ap-timeline-place" }, this.scroller, this.tip, this.empty);
    this.node = el("div", { class: "ap-timeline" }, this.bar, this.legend, this.place);
    host.append(this.node);
    this.scroller.addEventListener("scroll", () => this.schedule());
    this.canvas.addEventListener("pointermove", (event) => this.pointTo(this.at(event.offsetX, event.offsetY), event.offsetX, event.offsetY));
    this.canvas.addEventListener("pointerleave", () => this.pointTo(null));
    this.canvas.addEventListener("click", (event) => this.choose(this.at(event.offsetX, event.offsetY)?.row));
    this.canvas.addEventListener("keydown", (event) => this.press(event));
  }

  /** Show a run; the step does not matter here. */
  setData({ run }) {
    const late = !this.timeline && run.catalog !== this.catalog;
    if (run === this.run && !late) {
      if (this.context.theme() !== this.theme) this.redraw();
      return;
    }
    Object.assign(this, { run, timeline: null, catalog: run.catalog });
    this.load(run);
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
    this.rows = [];
    let top = 0;
    let agents = 0;
    const add = (kind, index, text) => {
      this.rows.push({ kind, index, text, top, height: TIMELINE_HEIGHTS[kind] });
      top += TIMELINE_HEIGHTS[kind];
    };
    for (const [index, agent] of run.agents.entries()) {
      const into = this.withChannels.checked ? run.incoming(index).filter((channel) => context.matches("channel", channel)) : [];
      if (!into.length && !context.matches("agent", index)) continue;
      agents += 1;
      add("agent", index, agent.name);
      for (const channel of into) add("channel", channel, timelineFrom(run, channel));
    }
    this.tall = top;
    const row = this.pointed && this.rows.find(({ kind, index }) => kind === this.pointed.row.kind && index === this.pointed.row.index);
    if (row) this.pointed.row = row;
    else this.pointTo(null);
    const { start, steps } = this.timeline;
    const range = `The first ${formatCount(steps, "step")} (${timelineStep(start)} to ${timelineStep(start + steps - 1)})`;
    const shown = agents < run.agents.length ? ` ${agents.toLocaleString("en-US")} of ${formatCount(run.agents.length, "agent")} shown.` : "";
    this.says.textContent = `${range}, as the clocks alone have it; the slider does not apply here.${shown}`;
    this.say(agents ? "" : "No agent fits the search.");
    this.measure();
  }

  measure() {
    const [width, height] = [this.place.clientWidth, this.place.clientHeight];
    const wide = textMeasure("600 12px system-ui, sans-serif");
    const longest = this.rows.reduce((most, row) => Math.max(most, wide(row.text.slice(0, 40)) + (row.kind === "agent" ? 0 : 18)), 0);
    this.gutter = Math.round(Math.min(Math.max(longest + 28, 80), 210, Math.max(width / 3, 60)));
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
    return { timeline, run, rows, width, height, gutter, unit, oldest, pointed, left: scrollLeft, top: scrollTop, selected: this.context.selection() };
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

  /** Client pixels of a row's name; null where it is out of sight. */
  rowPoint(kind, index) {
    const row = this.rows.find((one) => one.kind === kind && one.index === index);
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
    this.scrollTo(this.rows.find((row) => row.kind === kind && row.index === index), true);
  }

  scrollTo(row, central = false) {
    const room = this.height - TIMELINE_HEIGHTS.head;
    const { scrollTop } = this.scroller;
    if (!row || (row.top >= scrollTop && row.top + row.height <= scrollTop + room)) return;
    if (central) this.scroller.scrollTop = row.top - room / 2;
    else this.scroller.scrollTop = row.top < scrollTop ? row.top : row.top + row.height - room;
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
    const [wide, tall] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== tall) {
      Object.assign(this.canvas, { width: wide, height: tall });
      Object.assign(this.canvas.style, { width: `${this.width}px`, height: `${this.height}px`, marginBottom: `${-this.height}px` });
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    this.theme = this.context.theme();
    const colours = timelineColours(this.context.colours(), this.context.theme());
    timelinePaint(pen, this.look(), colours);
    for (const mark of ["tick", "end"]) this.node.style.setProperty(`--timeline-${mark}`, colours[mark]);
    const agents = formatCount(this.run.agents.length, "agent");
    this.canvas.setAttribute("aria-label", `Timeline of ${agents}. ${this.says.textContent} Arrow keys go from row to row, Enter selects.`);
    for (const mark of this.legend.querySelectorAll("[data-of=channel]")) mark.hidden = !this.withChannels.checked;
    this.context.drawn?.(performance.now() - began);
  }

  /** All rows as SVG. */
  toSVG() {
    if (!this.timeline) return "";
    const colours = timelineColours(this.context.colours(), this.context.theme());
    const width = Math.ceil(this.gutter + this.unit * this.timeline.steps + 12);
    const height = Math.ceil(this.tall + TIMELINE_HEIGHTS.head + 8);
    const pen = new SvgPen(Math.max(width, 700), height + 24, colours.paper);
    timelinePaint(pen, { ...this.look(), rows: this.rows, width, height, left: 0, top: 0, pointed: null, selected: null }, colours);
    pen.fillStyle = colours.muted;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "left";
    const read = this.withChannels.checked ? " · numbers: ages of messages read · crosses: messages never read" : "";
    pen.fillText(`${this.run.name} · dots: ticks · bars: windows end · lines: reach of the true gradient${read}`, 12, height + 8);
    return pen.text();
  }

  // --- pointer and keys ------------------------------------------------------------------------------------

  choose(row) {
    if (row) this.context.select(row.kind, row.index);
    else this.context.select(null);
  }

  pointTo(spot, x = 0, y = 0) {
    const before = this.pointed;
    this.pointed = spot;
    if (spot?.row !== before?.row) this.context.hover(spot ? spot.row.kind : null, spot ? spot.row.index : -1);
    if (spot?.row !== before?.row || spot?.step !== before?.step) this.schedule();
    this.canvas.style.cursor = spot ? "pointer" : "";
    this.tip.hidden = !spot;
    if (!spot) return;
    this.tip.replaceChildren(...this.words(spot).map((text) => el("div", { dir: "auto", text })));
    const [wide, tall] = [this.tip.offsetWidth, this.tip.offsetHeight];
    this.tip.style.left = `${Math.min(Math.max(x + 14, 0), Math.max(this.width - wide - 4, 0))}px`;
    this.tip.style.top = `${y + 18 + tall > this.height ? Math.max(y - tall - 10, 0) : y + 18}px`;
  }

  /** What is to be said of a row at a step, in plain words. */
  words({ row, step }) {
    const name = this.run.nameOf(row.kind, row.index);
    if (step === null) return [name];
    const head = `${name}, step ${timelineStep(step)}`;
    if (row.kind === "agent") {
      const times = this.timeline.agents[row.index];
      if (!this.ticks[row.index].has(step)) return [head, "It does not tick."];
      const since = times.since.find(([tick]) => tick === step)?.[1] ?? step;
      const reach = since < step ? `Its true gradient reaches back to step ${timelineStep(since)}.` : "Its true gradient reaches no earlier step.";
      return [head, times.ends.includes(step) ? "It ticks; its window ends: it learns." : "It ticks.", reach];
    }
    const times = this.timeline.channels[row.index];
    const age = times.read.find(([tick]) => tick === step)?.[1];
    const due = this.ticks[this.run.channels[row.index].to].has(step);
    const read = age === undefined ? (due ? "Nothing has come yet." : "The receiver does not tick.") : `Reads the message of step ${timelineStep(step - age)}: age ${age}.`;
    return [head, read, ...(times.unread.includes(step) ? ["The message sent at this step is never read."] : [])];
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.rows.length) return;
    const way = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter" && this.pointed) this.choose(this.pointed.row);
    else if (way !== undefined) {
      const now = this.pointed ? this.rows.indexOf(this.pointed.row) : -1;
      const row = this.rows[Math.min(Math.max(now + way, 0), this.rows.length - 1)];
      this.scrollTo(row);
      this.pointTo({ row, step: null }, this.gutter, TIMELINE_HEIGHTS.head + row.top - this.scroller.scrollTop);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function timelineFrom(run, channel) {
  const { from, to, name, state } = run.channels[channel];
  const [sender, receiver] = [run.agents[from].name, run.agents[to].name];
  const key = name.startsWith(`${sender}->${receiver}:`) ? name.slice(`${sender}->${receiver}:`.length) : "";
  if (from === to) return state ? "its own state" : `from itself${key && ` (${key})`}`;
  return `from ${sender}${key && ` (${key})`}`;
}

/** The marks in plain words. */
function timelineLegend() {
  const entry = (mark, text, of = "agent") => el("span", { class: "ap-timeline-entry", data: { of } }, el("i", { class: `ap-timeline-mark ap-timeline-${mark}` }), text);
  return el(
    "div",
    { class: "ap-timeline-legend", testid: "legend" },
    entry("tick", "ticks"),
    entry("end", "its window ends: it learns"),
    entry("reach", "how far back its true gradient reaches"),
    entry("episode", "an episode ends"),
    entry("age", "age of the message it reads, in steps", "channel"),
    entry("none", "nothing has come yet", "channel"),
    entry("unread", "a message nobody will read", "channel"),
  );
}
