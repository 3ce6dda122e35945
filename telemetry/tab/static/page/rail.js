// The rail on the left: how to read the picture. Metrics are chosen here, and explained in plain words.

import { el, clear, setText, stepLink, svgPicture } from "../drawing/dom.js";
import { formatCount, formatEnds, formatNumber, formatStep } from "../drawing/format.js";
import { CATEGORY_COUNT, categoryColour, isDiverging, isWarped, levelOf, paletteOf, themeColours, valueAt } from "../drawing/colours.js";
import { DASHES, WIDTHS, dashOf } from "../graph/paint.js";
import { Extremes } from "../panel/extremes.js";
import { apartIn, looksMislead, metricsOf, misleads, scoresApart, settingsApart } from "../data/shown.js";
import { definedSteps } from "../data/source.js";

const ROLE_TITLES = { agent: "learns", readout: "its metrics are the run's result", frozen: "does not learn", other: "has another role" };

/** How many channels that differ between two runs are listed. */
const APART = 3;

/** Build a sentence of which one line is shown until it is clicked. */
const folded = (text, props) => el("p", { class: "ap-says ap-cut", tabindex: "0", text, ...props });

/** Chooses and explains the metric of the lines or of the rings. */
class MetricCard {
  #select;
  #bar = el("div", { class: "ap-bar" });
  #ends = [0, 1, 2].map(() => el("span"));
  #scale = el("div", {}, this.#bar, el("div", { class: "ap-ends" }, ...this.#ends));
  #says;
  #caution;
  #as = folded("", { hidden: true });
  #choices = "";

  constructor(kind, heading, testid, { setMetric, setStep }, marks) {
    Object.assign(this, { kind, setStep });
    this.#select = el("select", { class: "ap-select", testid, aria: { label: heading }, on: { change: () => setMetric(kind, this.#select.value) } });
    this.#says = folded("", { testid: marks ? "says" : "says-ring" });
    this.#caution = folded("", { class: "ap-caution ap-cut", testid: marks ? "caution" : "caution-ring", hidden: true });
    const parts = [el("h2", { class: "ap-heading", text: heading }), this.#select, this.#scale, this.#as, this.#says, this.#caution];
    this.node = el("section", { class: `ap-rail-part ap-rail-${kind}` }, ...parts);
  }

  /** Show the metrics of all stages; the first one explains. */
  update(runs, metrics, theme, step) {
    const [metric] = metrics;
    this.#choose(runs, metric.name);
    const { info, scale, low, high, below, above, only } = metric;
    const palette = paletteOf(scale, theme);
    const [least, most] = formatEnds(low, high);
    const middle = isDiverging(scale) ? "0" : isWarped(scale) ? formatNumber(valueAt(scale, 0.5, low, high)) : "";
    this.#bar.style.background = only === null ? `linear-gradient(to right, ${palette.join(", ")})` : palette[levelOf(scale, only, low, high)];
    const texts = only === null ? [(below ? "≤ " : "") + least, middle + (isWarped(scale) ? " (log)" : ""), (above ? "≥ " : "") + most] : ["", `all ${formatNumber(only)}`, ""];
    this.#ends.forEach((node, at) => (node.textContent = texts[at]));
    this.#scale.hidden = !metric.name || !metrics.some(({ values }) => values);
    setText(this.#says, info.says);
    setText(this.#caution, info.caution);
    const there = metric.values?.filter((value) => !Number.isNaN(value)) ?? [];
    const mean = metric.counts ? runs[0].meanOf(Math.max(...metric.counts)) : "";
    const late = (metric.at === step ? "" : `, as of step ${formatStep(metric.at)}`) + (mean && `, ${mean}`);
    const alike = new Set(there).size === 1 ? `${there.length > 1 ? ", all" : ":"} ${formatNumber(there[0])}` : "";
    const besides = metric.words?.filter((word) => word?.beside && word.side && !word.idle).map(({ counted, first }) => (first ? " Coloured by their signals: " : " Coloured without one: ") + counted) ?? [];
    const heads = [...new Set(besides)].map((word) => word.replace(/: /, `: ${besides.filter((one) => one === word).length} `));
    const instead = heads.map((word, at) => (at && heads[at - 1].split(":")[0] === word.split(":")[0] ? `, ${word.split(": ")[1]}` : `${at ? "." : ""}${word}`)).join("") + (heads.length ? "." : "");
    setText(this.#as, metric.name && (there.length ? `Values of ${there.length.toLocaleString("en-US")} of ${formatCount(metric.values.length, this.kind)}${late}${alike}.` : metric.series ? "No values at this step." : "loading…") + instead + (metric.instead ? ` ${metric.instead}` : ""));
    const later = there.length || !metric.series ? 0 : definedSteps(metric.series).find((at) => at > step);
    if (later) this.#as.append(" ", stepLink("First at step", later, this.setStep));
  }

  #choose(runs, metric) {
    const found = metricsOf(runs, this.kind);
    const choices = JSON.stringify(found);
    if (choices !== this.#choices) {
      this.#choices = choices;
      clear(this.#select).append(...found.map((item) => el("option", { value: item.metric, text: item.title })));
      if (!found.length) this.#select.append(el("option", { value: "", text: "nothing logged" }));
    }
    this.#select.value = metric;
    this.#select.disabled = !found.length;
  }
}

/** The rail: metrics of lines and rings, and what widths, dashes and discs mean. */
export class Rail {
  #lines;
  #rings;
  #key = el("section", { class: "ap-rail-part ap-key" });
  #apart = el("section", { class: "ap-rail-part", testid: "apart", hidden: true });
  #ends;
  #actions;
  #drawn = "";

  /** @param {Object} actions setMetric(kind, metric), select(kind, name), setStep(step) */
  constructor(actions) {
    this.#actions = actions;
    this.#ends = new Extremes(actions.select, actions.table);
    this.#lines = new MetricCard("channel", "Channels: colour", "metric", actions, true);
    this.#rings = new MetricCard("agent", "Agents: ring", "ring", actions, false);
    const parts = [this.#lines.node, this.#ends.node, this.#apart, this.#rings.node, this.#key];
    this.node = el("aside", { class: "ap-rail", testid: "legend", aria: { label: "How to read the picture" } }, ...parts);
  }

  /** Explain `data`, what the stages show of each run; mask: channels of the first that are found; chosen: its kind and index; in some views there are no rings and lines. */
  update(runs, data, { theme, mask, chosen, view }) {
    this.node.dataset.view = view;
    const { step } = data[0];
    this.#lines.update(runs, data.map((item) => item.metric), theme, step);
    this.#rings.update(runs, data.map((item) => item.ring), theme, step);
    this.#explain(runs, data, theme);
    this.#compare(runs, data);
    this.#ends.update(data[0], theme, mask, chosen);
  }

  /** Of two runs the settings that differ, how far their scores are apart, and the channels that differ most in the most telling metric, those whose intervals do not overlap first. */
  #compare(runs, data) {
    this.#apart.hidden = runs.length < 2;
    if (runs.length < 2) return;
    const every = settingsApart(runs);
    const [alone, both] = [true, false].map((only) => every.filter(({ first, second, count }) => (!count && (first === "none" || second === "none")) === only).map(({ name, first, second, count, names, more }) => `${count ? name.replaceAll("_", " ") : name}: ${first} | ${second}${count ? ` (${count > APART ? count : names.join(", ")}${more ? `; ${more} more` : ""})` : ""}`));
    const [{ step, metric: shown }] = data;
    const { metric, rows: differences, says } = apartIn(runs, step, shown.name);
    const changed = new Set(every.filter(({ count }) => 2 * count < differences.length).flatMap(({ names }) => names));
    const most = differences.filter(({ by, name }) => by || changed.has(name)).sort((one, other) => changed.has(other.name) - changed.has(one.name) || other.apart - one.apart || Math.abs(other.by) - Math.abs(one.by));
    const heading = (text) => el("h2", { class: "ap-heading", text });
    const said = (text) => el("p", { class: "ap-says", dir: "auto", text });
    const lines = (every.length ? both : ["none that is known; antiphon diff compares the whole scenarios"]).map(said);
    const fewer = alone.length ? [el("details", { class: "ap-says" }, el("summary", { text: `${formatCount(alone.length, "setting")} of one run alone` }), ...alone.map(said))] : [];
    const loading = data.some((one) => one.loading);
    const rows = loading ? [] : most.slice(0, APART).map(({ name, apart, text }) => el("li", { class: apart ? null : "ap-unresolved" }, el("button", { class: "ap-row", type: "button", on: { click: () => this.#actions.select("channel", name) } }, el("span", { class: "ap-row-name", text: name }), el("span", { class: "ap-muted", text }))));
    const title = `Most different ${runs[0].info("channel", metric).title}${most.some(({ bounded }) => bounded) ? `: ${most.filter(({ apart }) => apart).length} beyond the intervals (over ${runs.every(({ seeds }) => seeds.length) ? "seeds" : "examples, not seeds"})` : ""}`;
    const told = loading ? [said("loading…")] : [...[scoresApart(runs, step), looksMislead(runs, data, step)].filter(Boolean).map(said), says && said(says)].filter(Boolean);
    const telling = el("div", { testid: "most-apart" }, ...told);
    if (!loading && metric !== shown.name) telling.append(" ", el("button", { class: "ap-link", type: "button", testid: "colour-apart", text: `Colour by ${runs[0].info("channel", metric).title}`, on: { click: () => this.#actions.setMetric("channel", metric) } }));
    clear(this.#apart).append(heading("Settings that differ"), ...lines, telling, ...fewer, ...(rows.length ? [heading(title), el("ol", { class: "ap-rows ap-extremes" }, ...rows)] : []));
  }

  #explain(runs, data, theme) {
    const most = data[0].width ? data[0].width.high : null;
    const { delays } = data[0];
    const dashes = [...new Set(runs.flatMap((run) => run.channels.map((channel) => dashOf(channel, delays))))].sort();
    const roles = [...new Set(runs.flatMap((run) => run.agents.map((agent) => (agent.role in ROLE_TITLES ? agent.role : "other"))))].sort();
    const parts = Math.max(...runs.map((run) => run.parts));
    const gone = data.some((item, at) => item.parts && runs[at].agents.some(({ part }) => item.parts.gone(part)));
    const hollow = data.some(({ metric }) => metric.unresolved?.includes(1));
    const misled = data.some(({ metric: { words, faults, values } }) => words?.some(misleads) || [...faults.keys()].some((channel) => Number.isNaN(values?.[channel] ?? NaN)));
    const state = JSON.stringify([most, delays, dashes, roles, theme, parts, gone, hollow, misled]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    const colours = themeColours(theme);
    const disc = (radius, stroke, fill = "none", more = {}) => ["circle", { cx: 16, cy: 9, r: radius, stroke, fill, "stroke-width": 2, ...more }];
    const line = (stroke, width, more = {}) => ["path", { d: "M1 9H31", stroke, "stroke-width": width, fill: "none", ...more }];
    const rows = [];
    if (most !== null) {
      const [thin, thick] = [WIDTHS[0], WIDTHS[WIDTHS.length - 1]];
      const wedge = ["path", { d: `M1 ${9 - thin / 2}L31 ${9 - thick / 2}V${9 + thick / 2}L1 ${9 + thin / 2}Z`, fill: colours.muted }];
      rows.push([[wedge], `message energy 0 – ${formatNumber(most)}`, "Width of a line", "ap-wide"]);
    }
    for (const dash of dashes) {
      const dashed = { "stroke-dasharray": DASHES[dash].join(" "), "stroke-linecap": DASHES[dash][0] < 1 ? "round" : "butt" };
      rows.push([[line(colours.muted, 2, dashed)], dashText(dash, delays), "Dashes of a line; in a dense graph only after zooming in"]);
    }
    rows.push([[line(colours.none, 2)], "no value", "The metric has no value here"]);
    if (hollow) rows.push([[line(colours.gain, 4.5), line(colours.paper, 2.5)], "hollow: the interval contains 0", "The channel may help or harm", "ap-wide"]);
    if (misled) rows.push([[line(colours.misleads, 2)], "misleads, or at fault without a number", "The whole 95 % interval of its loss by ablation lies below 0; or it is among the worst, and this metric has no number of it", "ap-wide"]);
    for (const role of roles) rows.push([[disc(7.5, colours.none), disc(5.2, "none", colours.roles[role])], role, ROLE_TITLES[role]]);
    rows.push([[disc(5, colours.none), disc(8, colours.faint, "none", { "stroke-width": 1 })], "ticks now", "The agent ticks at the step shown"]);
    for (let part = 0; part < Math.min(parts, CATEGORY_COUNT); part++) {
      const text = part === CATEGORY_COUNT - 1 && parts > CATEGORY_COUNT ? `part ${part}; colours repeat for more` : `part ${part}`;
      const plate = disc(8.5, "none", categoryColour(part, theme), { "fill-opacity": 0.38 });
      rows.push([[plate, disc(5, colours.none, colours.paper)], text, "The part that runs the agent"]);
    }
    if (gone) rows.push([[disc(8, colours.warn, "none", { "stroke-dasharray": "4 3" }), disc(5, colours.none, colours.paper)], "gone", "Its part is not running"]);
    const cut = [["path", { d: "M1 9H14M18 9H31", stroke: colours.muted, "stroke-width": 2 }], ["path", { d: "M14 4V14M18 4V14", stroke: colours.ink, "stroke-width": 1.4 }]];
    if (parts) rows.push([cut, "cut", "Sender and receiver are in different parts"]);
    const list = rows.map(([shapes, text, title, wide]) => el("li", { title, class: `ap-inline ${wide ?? ""}` }, svgPicture(32, 18, shapes), text));
    clear(this.#key).append(el("h2", { class: "ap-heading", text: "Legend" }), el("ul", { class: "ap-key-rows" }, ...list));
  }
}

function dashText(dash, delays) {
  if (dash === DASHES.length - 1) return "drops";
  const more = dash === DASHES.length - 2 && delays.length > dash + 1 ? "+" : "";
  return delays[dash] === 0 && !more ? "no delay" : `delay ${delays[dash]}${more}`;
}
