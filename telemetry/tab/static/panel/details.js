// The side panel: everything about one channel or one agent, for one run or two; or about two of them in one run.

import { clear, el, foldedTitle, iconButton, setText } from "../drawing/dom.js";
import { formatInterval, formatNumber, formatStep } from "../drawing/format.js";
import { columnOf } from "../data/source.js";
import { aheadOf, badnessOf, measuresOf, resultText } from "../data/shown.js";
import { lineChart } from "../drawing/chart.js";
import { partName } from "./parts.js";
import { arrivalOf, reasonOf, wayOf } from "../data/diagnosis.js";
import { panelChannel, panelClock, panelConstant, panelEntries, panelFacts, panelGround, panelGroups, panelOnce, panelPair, panelText } from "./facts.js";
import { scatterPlot } from "../drawing/scatter.js";

const PANEL_LISTED = 48;
/** Of two numbers that are compared: they were set, their intervals are apart, one is better, or neither, for what reason; in the order of rows. */
const PANEL_RANKS = ["set", "apart", "", "no interval", "overlap", "worse run", "alike", "other step"];
/** Losses where a value was measured: with no signal, with its own, with the true gradient; drawn as differences from the first. */
const PANEL_LOSSES = ["loss_zero", "loss_synthetic", "loss_true"];

/** The panel on the right, with facts, numbers at the shown step, curves, messages; of what is compared (`runs`) each has a `label`. */
export class SidePanel {
  /** Takes its element, the model, and actions: select(kind, name, also), close(), setStep(step), setMetric(kind, metric), theme(), track(promise). */
  constructor(panel, model, actions) {
    Object.assign(this, { panel, model, actions, runs: [], step: 0, round: 0, slots: [], clouds: [] });
  }

  /** Show what is chosen; nothing chosen: nothing shown. */
  show() {
    this.close();
    const { kind, name, beside } = this.model.selection ?? {};
    const runs = this.model.shown();
    // Another item, or another comparison, begins at its top, where the table of differences is.
    const about = [kind, name, beside, ...runs.map((run) => run.name)].join("\n");
    if (about !== this.about) this.panel.scrollTop = 0;
    this.about = about;
    if (!kind) return;
    Object.assign(this, { kind, name, beside, theme: this.actions.theme() });
    const compared = beside ? [name, beside].map((one) => ({ run: runs[0], label: one, name: one })) : runs.map((run) => ({ run, label: run.name, name }));
    this.runs = compared.map((one) => ({ ...one, item: one.run.find(kind, one.name) })).filter(({ item }) => item >= 0);
    if (this.runs.length) this.actions.track(this.build());
  }

  /** Show nothing; what is still being fetched for it comes to nothing. */
  close() {
    this.round += 1;
    this.runs = [];
    this.takeDown();
    clear(this.panel);
  }

  async build() {
    this.round += 1;
    this.others = [];
    this.metricNames = [];
    this.cloudPlace = this.entries = null;
    this.words = [];
    this.clocks = [];
    this.known = this.metrics().join("/");
    clear(this.panel);
    const groups = panelGroups(this.runs[0].run, this.kind, this.metrics());
    const [first, ...charts] = groups.map(({ heading, metrics }) => this.group(heading, metrics));
    const own = this.kind === "agent" ? [this.neighbours("Incoming channels", "incoming"), this.neighbours("Outgoing channels", "outgoing")] : this.runs.some(({ run }) => run.seeds.length) ? [] : [this.messages()];
    const facts = this.runs.slice(0, this.beside ? 2 : 1).map((one) => this.facts(one));
    const numbers = this.numbers(groups.flatMap(({ metrics }) => metrics));
    const [why, compared] = [this.verdicts(), this.runs.length > 1];
    const rest = compared ? [numbers, why, first, ...charts, ...own] : [why, first, ...own, ...charts, numbers];
    const children = [this.header(), ...rest, ...facts];
    this.panel.append(el("div", { class: "ap-panel" }, ...children.filter(Boolean)));
    this.setMetric();
    this.loading = this.load(this.round);
    return this.loading;
  }

  /** Names of what was logged in any of the runs. */
  metrics() {
    return [...new Set(this.runs.flatMap(({ run }) => run.metrics(this.kind)))];
  }

  info(metric) {
    const { run } = this.runs.find((one) => one.run.metrics(this.kind).includes(metric)) ?? this.runs[0];
    return run.info(this.kind, metric);
  }

  header() {
    const close = iconButton("close", "Close (Esc)", this.actions.close, "close");
    const heading = el("div", { class: "ap-heading", text: this.kind === "channel" ? "Channel" : "Agent" });
    const titles = this.runs.slice(0, this.beside ? 2 : 1).flatMap((one) => this.title(one));
    return el("header", { class: "ap-panel-head" }, el("div", { class: "ap-panel-words" }, heading, ...titles, this.comparison()), close);
  }

  title({ run, item, name }) {
    const title = el("h2", { class: "ap-title ap-panel-title", testid: "panel-title", dir: "auto", title: name });
    const link = (end) => el("button", { class: "ap-link", type: "button", dir: "auto", text: end, on: { click: () => this.actions.select("agent", end) } });
    if (this.kind === "agent") {
      title.textContent = name;
      const clock = el("p", { class: "ap-says", testid: "clock" });
      this.clocks.push(() => setText(clock, panelClock(run, item, this.step)));
      this.clocks.at(-1)();
      return [title, clock];
    }
    const { sender, receiver, key } = panelChannel(run, item);
    title.append(panelPair(sender, receiver), key ? " (" : "", el("bdi", { text: key }), key ? ")" : "");
    const words = el("span", { class: "ap-panel-verdicts", testid: "panel-verdicts" });
    this.words.push(words);
    const ends = sender === receiver ? ["to itself"] : ["to ", link(receiver)];
    return [title, el("p", { class: "ap-says ap-panel-ends" }, "from ", link(sender), " ", ...ends, words)];
  }

  /** A list from which another item is put beside the first, as a click with Shift does. */
  comparison() {
    const { run } = this.runs[0];
    const others = run[`${this.kind}s`].filter(({ name }) => name !== this.name).map(({ name }) => el("option", { value: name, text: name }));
    const change = () => this.actions.select(this.kind, list.value || this.name, Boolean(list.value));
    const title = `Shift-click on another ${this.kind} does the same`;
    const list = el("select", { class: "ap-select", testid: "compare", title, on: { change } }, el("option", { value: "", text: this.beside ? "nothing" : "choose …" }), ...others);
    list.value = this.beside;
    return others.length ? el("label", { class: "ap-inline ap-says" }, "compare with", list) : null;
  }

  /** A place for what the verdicts on a channel mean, and why. */
  verdicts() {
    this.why = el("section", { class: "ap-panel-part", testid: "panel-why", hidden: true });
    return this.kind === "channel" ? this.why : null;
  }

  facts(one) {
    return panelFacts(Object.entries({ ...(this.beside && { [this.kind]: one.label }), ...this.settings(one) }));
  }

  /** What was set of a channel or an agent, by heading. */
  settings({ run, item }) {
    if (this.kind === "agent") {
      const { role, part, about: { ticks, learns, ...about } = {} } = run.agents[item]; // the sentence on its clock says both
      return { role, part: run.parts ? partName(run, part) : null, ...about };
    }
    const { coupling, size, state, about, from, to } = run.channels[item];
    const cut = run.isCut(item) ? `from ${partName(run, run.agents[from].part)} to ${partName(run, run.agents[to].part)}` : null;
    return { coupling, size, cut, ...(state && { carries: "its own state" }), ...about };
  }

  /** Rows for the settings in which two that are compared differ. */
  differing() {
    const more = ({ run, item }) => (this.kind === "agent" ? { clock: panelClock(run, item, NaN) } : { receiver: wayOf(run, item), sent: arrivalOf(run, item).join(", ") });
    const [first, second] = this.runs.map((one) => ({ ...this.settings(one), ...more(one) }));
    const names = Object.keys({ ...first, ...second }).filter((name) => panelText(first[name]) !== panelText(second[name]));
    const cells = (name) => [first, second].map((found) => el("td", { class: "ap-setting", dir: "auto", text: panelText(found[name]) || "–" }));
    return names.map((name) => el("tr", { testid: "differing" }, el("th", { scope: "row", text: name.replaceAll("_", " ") }), ...cells(name), el("td", { class: "ap-difference" }, el("small", { class: "ap-muted", text: "set" }))));
  }

  /** A table of metrics, in the order of the charts; of two that are compared with their difference. */
  numbers(metrics) {
    const head = el("tr", {}, el("th", { scope: "col", text: "Metric" }));
    this.heads = this.runs.map(({ label }, at) => el("th", { scope: "col", dir: "auto", title: label, testid: `head-${at}` }));
    const compared = this.runs.length === 2;
    head.append(...this.heads, ...(compared ? [el("th", { scope: "col", text: "difference" })] : []));
    const body = el("tbody", {}, ...(compared ? this.differing() : []));
    this.rows = metrics.map((metric) => {
      const info = this.info(metric);
      const choose = { class: "ap-link", type: "button", title: info.says, on: { click: () => this.actions.setMetric(this.kind, metric) } };
      const cells = this.runs.map((_, at) => el("td", { testid: `number-${at ? "beside-" : ""}${metric}`, data: { metric }, text: "–" }));
      const mean = el("small", { class: "ap-muted" });
      const name = el("th", { scope: "row" }, el("button", { ...choose, text: info.title }), mean);
      const difference = compared ? el("td", { class: "ap-difference", testid: `difference-${metric}` }) : null;
      const row = el("tr", { hidden: true }, name, ...cells, difference);
      body.append(row);
      return { metric, cells, row, difference, mean };
    });
    this.caption = el("div", { class: "ap-heading" });
    this.none = el("p", { class: "ap-says", text: "loading…" });
    return el("section", { class: "ap-panel-part" }, this.caption, el("table", { class: "ap-table ap-panel-numbers" }, el("thead", {}, head), body), this.none);
  }

  /** The channels of an agent, each with the number of the chosen metric. */
  neighbours(heading, way) {
    const { run, item } = this.runs[0];
    const channels = run[way](item);
    const list = el("ul", { class: "ap-rows" });
    for (const channel of channels.slice(0, PANEL_LISTED)) {
      const { sender, receiver, key } = panelChannel(run, channel);
      const other = way === "incoming" ? sender : receiver;
      const number = el("span", { class: "ap-muted" });
      const name = el("span", { class: "ap-row-name", dir: "auto", text: `${other === this.name ? "itself" : other}${key && ` (${key})`}` });
      const press = () => this.actions.select("channel", run.nameOf("channel", channel));
      const arrow = el("span", { class: "ap-muted", text: way === "incoming" ? "←" : "→" });
      list.append(el("li", {}, el("button", { class: "ap-row", type: "button", on: { click: press } }, arrow, name, number)));
      this.others.push({ channel, number });
    }
    const metric = el("span", { class: "ap-panel-metric" });
    const part = el("section", { class: "ap-panel-part" }, el("div", { class: "ap-heading ap-panel-split" }, `${heading} (${channels.length.toLocaleString("en-US")})`, metric), list);
    const more = channels.length - PANEL_LISTED;
    const none = way === "incoming" ? "No incoming channels." : "No outgoing channels.";
    if (more > 0 || !channels.length) part.append(el("p", { class: "ap-says", text: more > 0 ? `and ${more.toLocaleString("en-US")} more` : none }));
    this.metricNames.push(metric);
    return part;
  }

  /** A heading, a caution that all of its metrics share, and a place for each metric's chart. */
  group(heading, metrics) {
    const cautions = new Set(metrics.map((metric) => this.info(metric).caution));
    const shared = metrics.length > 1 && cautions.size === 1 ? [...cautions][0] : "";
    const caution = shared ? el("p", { class: "ap-caution", testid: "caution", text: shared }) : null;
    const node = el("section", { class: "ap-panel-part", hidden: true }, el("div", { class: "ap-heading", text: heading }), caution);
    if (metrics.includes("cosine")) node.append((this.entries = el("p", { class: "ap-says", testid: "entries", hidden: true })));
    for (const metric of metrics.filter((one) => !PANEL_LOSSES.slice(1).includes(one))) {
      const host = el("div", { class: "ap-panel-slot" });
      node.append(host);
      this.slots.push({ metric, host, node, caution: shared ? "" : this.info(metric).caution, chart: null });
    }
    return node;
  }

  /** A place for the scatter of a channel's messages. */
  messages() {
    this.cloudPlace = el("div", { class: "ap-panel-slot" });
    return el("section", { class: "ap-panel-part", hidden: true }, this.cloudPlace);
  }

  async load(round) {
    const stale = () => round !== this.round;
    for (const slot of this.slots) {
      try {
        await this.fill(slot, stale);
      } catch (error) {
        if (stale()) return;
        slot.node.hidden = false;
        clear(slot.host).append(el("p", { class: "ap-caution", testid: "error", text: `${slot.metric}: ${error.message}` }));
      }
      if (stale()) return;
      this.revealNumbers();
      this.writeNumbers();
    }
    this.none.hidden = this.rows.some(({ row }) => !row.hidden);
    this.none.textContent = `No metric of this ${this.kind} was logged.`;
    if (this.entries && this.runs.length === 1) await this.writeEntries(stale);
    if (this.cloudPlace && !stale()) await this.loadClouds(stale);
  }

  async fill(slot, stale) {
    const losses = slot.metric === PANEL_LOSSES[0];
    const parts = losses ? PANEL_LOSSES : [slot.metric, ...this.runs[0].run.boundsOf(this.kind, slot.metric)];
    const found = await Promise.all(this.runs.map(({ run }) => Promise.all(parts.map((metric) => run.series(this.kind, metric)))));
    if (stale()) return;
    const lines = [];
    if (losses) lines.push(...this.differences(found));
    else lines.push(...this.runs.map(({ run, label, item }) => ({ name: this.runs.length > 1 ? label : `this ${this.kind}`, steps: [], values: [], ...run.curve(this.kind, slot.metric, item) })));
    const only = panelConstant(lines.map((line) => line.values));
    slot.node.hidden &&= Number.isNaN(only);
    if (Number.isNaN(only)) return this.sayConstant(slot, this.noResult(slot));
    if (only !== null && !losses) return this.sayConstant(slot, `always ${formatNumber(only)}`);
    const once = panelOnce(lines, lines.length > 1);
    if (once) return this.sayConstant(slot, once);
    const alone = !losses && (this.runs.length === 1 || this.beside) && found[0][0];
    const ground = alone ? panelGround(this.runs[0].run.means(this.kind, slot.metric) ?? alone, alone.items) : null;
    if (ground) lines.push({ name: `all ${this.kind}s: median, middle half`, ...ground, ground: true });
    if (slot.chart) return slot.chart.setData(lines);
    clear(slot.host);
    const info = this.infoOf(slot);
    slot.chart = lineChart(slot.host, {
      title: info.title, says: info.says, positive: info.positive, caution: slot.caution, lines, step: this.step, theme: this.theme,
      onStep: (step) => this.actions.setStep(step), metric: slot.metric, span: () => this.span(),
    });
  }

  /** What the chart of a slot is called, and says. */
  infoOf({ metric }) {
    const says = "Where the value was measured: below 0 is better than no signal.";
    return metric === PANEL_LOSSES[0] ? { title: `loss ${this.runs.length > 1 ? "with its own signal " : ""}minus the loss with no signal`, says } : this.info(metric);
  }

  /** A line for each loss minus that with no signal; of two that are compared those with their own signal. */
  differences(found) {
    const several = this.runs.length > 1;
    return this.runs.flatMap(({ label, item }, at) => {
      const [none, ...others] = found[at].map((series) => series && columnOf(series, item));
      const line = (values, which) => ({ name: several ? label : which ? "with the true gradient" : "with its own signal", steps: found[at][0].steps, values: values.map((value, row) => value - none[row]) });
      return none ? others.slice(0, several ? 1 : 2).map(line) : [];
    });
  }

  /** Why a measure of worth has no number, where it was measured; "": it was not. */
  noResult({ metric, node }) {
    const texts = this.runs.flatMap(({ run, label, name }) => {
      const { reasons = {}, step } = (this.kind === "channel" && measuresOf(run).find((one) => one.metric === metric)) || {};
      return reasons[name] ? [`${this.runs.length > 1 ? `${label}: ` : ""}none at step ${formatStep(step)}: ${reasonOf(reasons[name])[0]}`] : [];
    });
    node.hidden &&= !texts.length;
    return texts.join("; ");
  }

  /** First and last step of all that was fetched. */
  span() {
    const spans = this.runs.map(({ run }) => run.span());
    return [Math.min(...spans.map(([first]) => first)), Math.max(...spans.map(([, last]) => last))];
  }

  /** One number for all steps, or one at a single step, needs no chart. */
  sayConstant(slot, text) {
    slot.chart?.destroy();
    slot.chart = null;
    clear(slot.host);
    if (!text) return;
    const info = this.infoOf(slot);
    const line = el("div", { class: "ap-panel-split" }, foldedTitle(info.title, info.says, slot.caution), el("div", { class: "ap-muted", text }));
    slot.host.append(el("div", { class: "ap-chart", data: { metric: slot.metric } }, line));
  }

  async writeEntries(stale) {
    const [{ run, item }] = this.runs;
    const timeline = await run.timeline().catch(() => null);
    if (stale()) return;
    setText(this.entries, panelEntries(run, item, timeline ?? {}));
    this.entries.parentElement.hidden &&= !this.entries.textContent;
  }

  async loadClouds(stale) {
    const place = this.cloudPlace;
    for (const [at, { run, item, label }] of this.runs.entries()) {
      let cloud = null;
      const all = `telemetry: {max: ${run.channels.length}}`;
      let trouble = `No messages of this channel were logged. To log all channels of at most 256 components, append to the scenario file: ${all}`;
      try {
        cloud = await run.cloud(item);
      } catch (error) {
        trouble = error.message;
      }
      if (stale()) return;
      const title = this.runs.length > 1 ? `Messages · ${label}` : "Messages";
      place.parentElement.hidden = false;
      const there = this.clouds.find((one) => one.at === at);
      if (there && cloud) there.plot.setCloud(cloud);
      else if (cloud) this.clouds.push({ at, plot: scatterPlot(place, { title, cloud, step: this.step, theme: this.theme }) });
      else if (!there && !place.childElementCount) place.append(el("p", { class: "ap-says", text: trouble }));
    }
  }

  /** Show another step; nothing is built anew. */
  setStep(step) {
    if (step === this.step) return;
    this.step = step;
    if (this.runs.length) this.write();
  }

  write() {
    this.writeNumbers();
    this.writeOthers();
    for (const { chart } of this.slots) chart?.setStep(this.step);
    for (const { plot } of this.clouds) plot.setStep(this.step);
  }

  /** Write the numbers of the step; of older ones the step stands in the heading, where it is not the usual one in the cell. */
  writeNumbers() {
    const shown = this.rows.map(({ metric }) => this.runs.map((one) => this.numberOf(one, metric)));
    const ahead = this.runs.length > 1 && !this.beside ? aheadOf(this.runs.map(({ run }) => run), this.step) : -1;
    const compared = (place) => betterOf(shown[place], this.rows[place].metric, this.info(this.rows[place].metric), ahead);
    this.runs.forEach(({ label }, at) => {
      const earlier = shown.map((found) => found[at].of).filter((of) => of !== this.step).sort((one, other) => one - other);
      const usual = earlier[earlier.length >> 1];
      shown.forEach((found, place) => {
        const [cell, { value, low, high, of }] = [this.rows[place].cells[at], found[at]];
        const { better, why } = compared(place);
        cell.title = why || this.runs[at].run.meanOf(found[at].count);
        const [number, interval] = formatInterval(value, low, high).split(" [");
        const ends = interval ? [" ", el("span", { class: "ap-interval", text: `[${interval}` })] : [];
        clear(cell).append((better === at ? "✓ " : "") + number, ...ends, of !== this.step && of !== usual ? ` (${formatStep(of)})` : "");
        cell.dataset.value = String(value);
        cell.classList.toggle("ap-unresolved", of !== this.step);
      });
      this.heads[at].textContent = (this.runs.length > 1 ? label : "Value") + (usual ? `, grey: as of step ${formatStep(usual)}${earlier[0] === earlier.at(-1) ? "" : " or (step)"}` : "");
    });
    const means = shown.map((found) => this.runs[0].run.meanOf(Math.max(...found.map(({ count }) => count))));
    const [usual] = means.filter((_, place) => !this.rows[place].row.hidden);
    const alike = usual && this.rows.every(({ row }, place) => row.hidden || means[place] === usual) ? `, each ${usual}` : "";
    for (const [place, { difference, metric, mean }] of this.rows.entries()) {
      setText(mean, alike ? "" : means[place] && ` ${means[place]}`);
      if (!difference) continue;
      const [{ better, short, why }, [one, other]] = [compared(place), shown[place]];
      difference.title = why;
      this.rows[place].rank = PANEL_RANKS.indexOf(one.of === other.of && (one.low > other.high || other.low > one.high) ? "apart" : short || (better < 0 ? "alike" : ""));
      clear(difference).append(formatNumber(one.value - other.value), el("small", { class: "ap-muted", text: metric === PANEL_LOSSES[1] ? " one fork for all" : short && ` ${short}` }));
    }
    // Those that differ for sure stand first.
    if (this.runs.length > 1) for (const { row } of [...this.rows].sort((one, other) => one.rank - other.rank)) row.parentElement.append(row);
    this.writeVerdicts();
    for (const write of this.clocks) write();
    const over = this.runs.every(({ run }) => run.seeds.length) ? "seeds" : "examples, not seeds";
    const legend = `: what differs first; ✓: better, never of the run whose score is worse; “overlap”: the intervals (over ${over}) do; “no interval”: the metric misleads without one`;
    this.caption.textContent = `Values at step ${formatStep(this.step)}${alike}${this.runs.length > 1 ? legend : ""}`;
  }

  /** The newest number of a metric, the ends of its interval, and its step: `of`. */
  numberOf({ run, item }, metric) {
    const found = run.numberAt(metric, item, this.step, this.kind);
    return Number.isNaN(found.value) ? { ...found, of: this.step } : found;
  }

  /** Mark what the verdicts on a channel are, and say why; of two each under its name. */
  writeVerdicts() {
    if (this.kind !== "channel") return;
    clear(this.why);
    this.runs.forEach(({ run, item, label }, at) => {
      const { verdicts, lead, chance, cause, rows, more, none, again } = this.model.verdictsOn(run, item, this.step, this.runs.length > 1);
      const chips = verdicts.flatMap(({ name, text, says, side }) => [el("span", { class: "ap-verdict", title: says, data: { verdict: name, side }, text }), " "]);
      if (this.words[at]) clear(this.words[at]).append(...chips);
      if (this.runs.length > 1 && (lead || more.length)) this.why.append(el("div", { class: "ap-heading", dir: "auto", text: label }));
      const cells = (row) => row.map((text) => el("td", { text }));
      const unfold = { open: this.unfolded, on: { toggle: ({ target }) => (this.unfolded = target.open) } };
      this.why.append(...[
        lead && el("p", { testid: "lead" }, el("strong", { text: lead[2] }), `: ${lead[0]}${lead[1] && ` ${lead[1]}`}`, chance && el("span", { class: "ap-muted", testid: "panel-chance", text: chance })),
        cause && el("p", { class: "ap-cause", testid: "cause" }, `Hint at the cause: ${cause.says}. `, cause.fix && el("strong", { text: `Try: ${cause.fix}.` })),
        rows.length && this.runs.length === 1 && el("table", { class: "ap-table ap-panel-means" }, ...rows.map((row) => el("tr", {}, ...cells(row)))),
        ...none.map((text) => el("p", { text })),
        again && el("code", { text: again }),
        more.length && el("details", unfold, el("summary", { class: "ap-says", text: "More" }), el("ul", {}, ...more.map((text) => el("li", { text })))),
      ].filter(Boolean));
    });
    this.why.hidden = !this.why.childElementCount;
  }

  /** Metrics that this channel or agent never has a number of are not listed. */
  revealNumbers() {
    for (const { metric, row } of this.rows) {
      if (!row.hidden) continue;
      row.hidden = !this.runs.some(({ run, item }) => {
        const series = run.peek(this.kind, metric);
        return series && columnOf(series, item).some((value) => !Number.isNaN(value));
      });
      if (!row.hidden) this.none.hidden = true;
    }
  }

  /** Another metric was chosen for the channels: an agent's list shows its numbers, a channel the verdicts by it. */
  setMetric() {
    if (!this.runs.length) return;
    this.chosen = this.model.metric.channel;
    const { title } = this.runs[0].run.info("channel", this.chosen);
    for (const node of this.metricNames) node.textContent = title;
    this.writeOthers();
    this.writeVerdicts();
  }

  writeOthers() {
    const { metric } = this.model.data(0, this.step, false) ?? {};
    for (const { channel, number } of this.others) number.textContent = resultText(metric, channel);
  }

  /** Take over rows that came since. */
  refresh() {
    if (this.runs.length) this.actions.track(this.renew(this.round));
  }

  async renew(round) {
    if (this.known !== this.metrics().join("/")) {
      const { scrollTop } = this.panel;
      this.takeDown();
      await this.build();
      this.panel.scrollTop = scrollTop;
      return;
    }
    await this.loading;
    if (round !== this.round) return;
    this.loading = this.load(round);
    await this.loading;
    if (round === this.round) this.write();
  }

  takeDown() {
    for (const { chart } of this.slots) chart?.destroy();
    for (const { plot } of this.clouds) plot.destroy();
    this.slots = [];
    this.clouds = [];
  }
}

/** Which of two numbers is `better`, 0 or 1; -1: neither, with a `short` word for it and `why`. Of what a caution is on, only intervals decide. */
function betterOf([one, other], metric, info, ahead) {
  const neither = (short, why) => ({ better: -1, short, why });
  if (!other || Number.isNaN(one.value + other.value)) return neither("", "");
  if (metric.endsWith("learning_rate") && one.value !== other.value) return neither("set", "");
  if (one.of !== other.of) return neither("other step", "Neither is better: they are numbers of steps that differ");
  if (one.low <= other.high && other.low <= one.high) return neither("overlap", "Neither is better: the intervals overlap");
  if (!info.good) return neither("", "Neither end is better");
  if (info.caution && !Number.isFinite(one.low + other.low)) return neither("no interval", info.caution);
  const [first, second] = [one, other].map(({ value }) => badnessOf(info, value));
  const better = first < second ? 0 : 1;
  if (first !== second && ahead === 1 - better) return neither("worse run", "The other run has the better score");
  return first === second ? neither("", "") : { better, short: "", why: "" };
}
