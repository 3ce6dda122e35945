// The side panel: everything about one channel or one agent.

import { clear, el, iconButton, setText } from "../drawing/dom.js";
import { formatInterval, formatNumber, formatStep } from "../drawing/format.js";
import { lineChart } from "../drawing/chart.js";
import { channelEnds, factList, pairOf, panelGroups } from "./facts.js";
import { scatterPlot } from "../drawing/scatter.js";

/** The panel on the right, with curves, messages, numbers at the shown step, facts. */
export class SidePanel {
  /** Takes its element, the model, and actions: select(kind, name), setStep(step), setMetric(kind, metric), theme(), track(promise). */
  constructor(panel, model, actions) {
    Object.assign(this, { panel, model, actions, step: 0, round: 0, item: -1, slots: [], cloud: null });
  }

  /** Show what is chosen; nothing chosen: nothing shown. */
  show() {
    this.round += 1;
    const { scrollTop } = this.panel;
    this.takeDown();
    clear(this.panel);
    const { run, chosen } = this.model;
    this.item = chosen?.index ?? -1;
    if (!chosen) return;
    const name = run.nameOf(chosen.kind, chosen.index);
    // Another item begins at its top.
    this.scrolled = name === this.name ? scrollTop : 0;
    Object.assign(this, { run, kind: chosen.kind, name, theme: this.actions.theme() });
    this.build();
    this.actions.track(this.load(this.round));
  }

  build() {
    Object.assign(this, { others: [], metricNames: [], cloudPlace: null });
    const groups = panelGroups(this.run, this.kind);
    const [first, ...charts] = groups.map(({ heading, metrics }) => this.group(heading, metrics));
    const own = this.kind === "agent" ? [this.neighbours("Incoming channels", "incoming"), this.neighbours("Outgoing channels", "outgoing")] : [this.messages()];
    const numbers = this.numbers(groups.flatMap(({ metrics }) => metrics));
    const children = [this.header(), first, ...own, ...charts, numbers, factList(Object.entries(this.settings()))];
    this.panel.append(el("div", { class: "ap-panel" }, ...children.filter(Boolean)));
    this.setMetric();
    this.write();
  }

  header() {
    const close = iconButton("close", "Close (Esc)", () => this.actions.select(null), "close");
    const heading = el("div", { class: "ap-heading", text: this.kind === "channel" ? "Channel" : "Agent" });
    const title = el("h2", { class: "ap-title ap-panel-title", testid: "panel-title", dir: "auto", title: this.name });
    const about = el("p", { class: "ap-says", testid: "about" });
    if (this.kind === "agent") {
      const { ticks, learns } = this.run.agents[this.item].about ?? {};
      title.textContent = this.name;
      about.textContent = ticks ? `ticks ${ticks}; learns ${learns}` : "";
    } else {
      const { sender, receiver, key } = channelEnds(this.run, this.item);
      const link = (end) => el("button", { class: "ap-link", type: "button", dir: "auto", text: end, on: { click: () => this.actions.select("agent", end) } });
      title.append(pairOf(sender, receiver), key && ` (${key})`);
      about.append("from ", link(sender), " to ", link(receiver));
    }
    return el("header", { class: "ap-panel-head" }, el("div", { class: "ap-panel-words" }, heading, title, about), close);
  }

  info(metric) {
    return this.run.info(this.kind, metric);
  }

  numberAt(metric) {
    return this.run.numberAt(this.kind, metric, this.item, this.step);
  }

  /** What was set of the channel or agent, by heading. */
  settings() {
    const { run, item } = this;
    if (this.kind === "agent") {
      const { role, part, about: { ticks, learns, ...about } = {} } = run.agents[item]; // the sentence on its clock says both
      return { role, ...(run.parts && { part }), ...about };
    }
    const { coupling, size, state, about, from, to } = run.channels[item];
    const cut = run.isCut(item) ? `from part ${run.agents[from].part} to part ${run.agents[to].part}` : null;
    return { coupling, size, cut, ...(state && { carries: "its own state" }), ...about };
  }

  /** A table of the numbers at the step, in the order of the charts. */
  numbers(metrics) {
    const body = el("tbody");
    this.rows = metrics.map((metric) => {
      const { title, says } = this.info(metric);
      const choose = el("button", { class: "ap-link", type: "button", title: says, text: title, on: { click: () => this.actions.setMetric(this.kind, metric) } });
      const cell = el("td", { testid: `number-${metric}`, text: "–" });
      const row = el("tr", { hidden: true }, el("th", { scope: "row" }, choose), cell);
      body.append(row);
      return { metric, cell, row };
    });
    this.caption = el("div", { class: "ap-heading" });
    this.none = el("p", { class: "ap-says", text: "loading…" });
    return el("section", { class: "ap-panel-part" }, this.caption, el("table", { class: "ap-table ap-panel-numbers" }, body), this.none);
  }

  /** The channels of an agent, each with the number of the chosen metric. */
  neighbours(heading, way) {
    const channels = this.run[way](this.item);
    const rows = channels.map((channel) => {
      const { sender, receiver, key } = channelEnds(this.run, channel);
      const other = way === "incoming" ? sender : receiver;
      const number = el("span", { class: "ap-muted" });
      this.others.push({ channel, number });
      const name = el("span", { class: "ap-row-name", dir: "auto", text: `${other === this.name ? "itself" : other}${key && ` (${key})`}` });
      const press = () => this.actions.select("channel", this.run.nameOf("channel", channel));
      const arrow = el("span", { class: "ap-muted", text: way === "incoming" ? "←" : "→" });
      return el("li", {}, el("button", { class: "ap-row", type: "button", on: { click: press } }, arrow, name, number));
    });
    const metric = el("span", { class: "ap-panel-metric" });
    this.metricNames.push(metric);
    const head = el("div", { class: "ap-heading ap-panel-split" }, `${heading} (${channels.length.toLocaleString("en-US")})`, metric);
    return el("section", { class: "ap-panel-part" }, head, el("ul", { class: "ap-rows" }, ...rows));
  }

  /** A heading, and a place for each metric's chart. */
  group(heading, metrics) {
    const node = el("section", { class: "ap-panel-part", hidden: true }, el("div", { class: "ap-heading", text: heading }));
    for (const metric of metrics) {
      const host = el("div", { class: "ap-panel-slot" });
      node.append(host);
      this.slots.push({ metric, host, node, chart: null });
    }
    return node;
  }

  /** A place for the scatter of a channel's messages. */
  messages() {
    this.cloudPlace = el("div", { class: "ap-panel-slot" });
    return el("section", { class: "ap-panel-part", hidden: true }, this.cloudPlace);
  }

  async load(round) {
    for (const slot of this.slots) {
      await Promise.all([slot.metric, ...this.run.boundsOf(this.kind, slot.metric)].map((metric) => this.run.series(this.kind, metric)));
      if (round !== this.round) return;
      this.fill(slot);
      this.write();
    }
    this.none.hidden = this.rows.some(({ row }) => !row.hidden);
    this.none.textContent = `No metric of this ${this.kind} was logged.`;
    if (this.cloudPlace) await this.loadCloud(round);
    this.panel.scrollTop = this.scrolled;
  }

  /** Draw the curve of a metric. */
  fill(slot) {
    const line = this.run.curve(this.kind, slot.metric, this.item);
    if (!line.values.some(Number.isFinite)) return;
    slot.node.hidden = false;
    this.rows.find(({ metric }) => metric === slot.metric).row.hidden = false;
    slot.chart = lineChart(slot.host, {
      ...this.info(slot.metric), line, step: this.step, theme: this.theme,
      onStep: (step) => this.actions.setStep(step), metric: slot.metric, span: () => this.run.span(),
    });
  }

  async loadCloud(round) {
    const cloud = await this.run.cloud(this.item);
    if (round !== this.round) return;
    this.cloudPlace.parentElement.hidden = false;
    const all = `telemetry: {max: ${this.run.channels.length}}`;
    if (cloud) this.cloud = scatterPlot(this.cloudPlace, { title: "Messages", cloud, step: this.step, theme: this.theme });
    else setText(this.cloudPlace, `No messages of this channel were logged. To log all channels of at most 256 components, append to the scenario file: ${all}`);
  }

  /** Show another step; nothing is built anew. */
  setStep(step) {
    this.step = step;
    if (this.item < 0) return;
    this.write();
    for (const { chart } of this.slots) chart?.setStep(step);
    this.cloud?.setStep(step);
  }

  /** Write the numbers of the step; of an older one its step stands beside it. */
  write() {
    for (const { metric, cell } of this.rows) {
      const { value, low, high, word, of } = this.numberAt(metric);
      const earlier = of !== this.step && !Number.isNaN(value);
      cell.textContent = `${formatInterval(value, low, high)} ${word}${earlier ? ` (step ${formatStep(of)})` : ""}`.trim();
      cell.dataset.value = String(value);
      cell.classList.toggle("ap-earlier", earlier);
    }
    this.caption.textContent = `Values at step ${formatStep(this.step)}`;
    this.writeOthers();
  }

  /** Another metric was chosen for the channels: an agent's list shows its numbers. */
  setMetric() {
    if (this.item < 0) return;
    const { title } = this.run.info("channel", this.model.metric.channel);
    for (const node of this.metricNames) node.textContent = title;
    this.writeOthers();
  }

  writeOthers() {
    for (const { channel, number } of this.others) {
      const { value, low, high } = this.run.numberAt("channel", this.model.metric.channel, channel, this.step);
      number.textContent = Number.isNaN(low) ? formatNumber(value) : formatInterval(value, low, high);
    }
  }

  takeDown() {
    for (const { chart } of this.slots) chart?.destroy();
    this.cloud?.destroy();
    Object.assign(this, { slots: [], cloud: null });
  }
}
