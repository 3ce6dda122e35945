// The strip of verdicts: how many channels matter, harm, whose signals are against the gradient, are stale or silent. Each is a filter; what is not measured says how.

import { clear, el, stepLink } from "../drawing/dom.js";
import { formatCount, formatStep } from "../drawing/format.js";
import { capital, reasonOf } from "../data/diagnosis.js";
import { chanceOf } from "../data/shown.js";

/** So many channels that another step or measure found bad are links. */
const LINKED = 3;
/** Characters of a command that stands in the strip itself. */
const SHORT = 80;

/** The strip above the stage. */
export class VerdictStrip {
  #actions;
  #drawn = "";
  #name;

  /** @param {Object} actions toggleVerdict(name, others): switches a filter on or off, and others off; setMetric(kind, metric); select(kind, name); setStep(step) */
  constructor(actions) {
    this.#actions = actions;
    this.common = el("p", { class: "ap-caution", testid: "common", hidden: true });
    this.node = el("section", { class: "ap-strip", testid: "verdicts", aria: { label: "Verdicts on channels" }, hidden: true });
  }

  /**
   * Show what holds at a step: what Model.verdicts `found` (null: no run), and which verdicts are `chosen`. Of it `at` is the step of the
   * measurement (0: none so far), `early` the later one, `finding` the measure that resolved more at the step that it `shown` first, `every`
   * the steps between the run's own measurements if none was made yet, and `due` whether one is being made.
   */
  update(found, chosen) {
    this.#say(found?.common.join(". ") ?? "", found?.as_run);
    const state = JSON.stringify([found, chosen]);
    if (state === this.#drawn || (found?.loading && found.loading === this.#name)) return;
    this.#drawn = state;
    this.#name = found?.name;
    if (found?.loading) {
      this.node.hidden = false;
      return void clear(this.node).append(el("span", { class: "ap-muted", text: "loading…" }));
    }
    this.node.hidden = !found || !found.words.length;
    if (this.node.hidden) return;
    const focused = document.activeElement?.closest?.("[data-verdict]")?.dataset.verdict;
    const judged = found.total - found.missing.length;
    const there = ({ name, count }) => count || chosen.includes(name);
    const worths = found.words.filter((word) => (word.flags[""] ? word.beside && word.count : judged && there(word)));
    const others = found.words.filter((word) => word.flags[""] && !word.beside).filter((word, place) => !place || there(word));
    const group = (words, total, exclusive) => words.map((word, place) => this.#chip(word, place ? "" : total, chosen.includes(word.name), exclusive));
    const told = found.measuring ? [el("span", { class: "ap-muted", testid: "measuring", text: `value of step ${formatStep(found.measuring.step)}: ${found.measuring.done} of ${found.measuring.of} measurements are done` })] : [];
    const worth = found.measure ? [this.#measure(found), ...this.#worth(found, group(worths, judged || "", worths.map(({ name }) => name)))] : missing(found);
    const open = Boolean(this.node.querySelector("details[open]"));
    clear(this.node).append(...worth, ...told, el("span", { class: "ap-strip-gap" }), ...group(others, found.total, []).flatMap((chip, place) => [chip, ...this.#worst(others[place], found.total)]));
    this.node.querySelector("details")?.toggleAttribute("open", open);
    if (focused) this.node.querySelector(`[data-verdict="${focused}"]`)?.focus();
  }

  /** Say what holds of the run, the command that is advised as a whole, to be copied. */
  #say(text, command) {
    const advice = /(?<!antiphon )evaluate --links as_run/g;
    if (this.common.textContent === (command ? text.replaceAll(advice, () => command) : text)) return;
    this.common.hidden = !text;
    const parts = command ? text.split(advice) : [text];
    clear(this.common).append(...parts.flatMap((part, at) => (at ? [el("code", { text: command }), part] : [part])));
  }

  /** Links to the channels of a bad verdict, or one with something to try, the worst first; of signals against the gradient how many are expected by chance: those of intervals on one side. */
  #worst({ name: verdict, side, names, count, fix }, total) {
    const chance = verdict === "against" && count ? [el("span", { class: "ap-muted", text: `expect ${chanceOf(total / 40)} by chance` })] : [];
    if (fix) chance.push(el("span", { class: "ap-muted", testid: "try", text: `try ${fix}` }));
    return side < 0 || fix ? names.slice(0, LINKED).map((name) => el("button", { class: "ap-link", type: "button", testid: "worst", text: name, on: { click: () => this.#actions.select("channel", name) } })).concat(chance) : [];
  }

  /** The measure that the verdicts of worth are by; a list where there are several. */
  #measure({ measure, measures, links }) {
    const measured = measures.filter((one) => one.measured);
    const named = ({ metric, title }) => title + (metric === measure && links ? `, ${links}` : "");
    if (measured.length === 1) return el("strong", { text: named(measured[0]) });
    const options = measured.map((one) => el("option", { value: one.metric, text: named(one) }));
    const on = { change: (event) => this.#actions.setMetric("channel", event.target.value) };
    const list = el("select", { class: "ap-select", testid: "measure", aria: { label: "Verdicts by" }, on }, ...options);
    list.value = measure;
    return list;
  }

  /** Close the list of channels without a result; whether it was open. */
  close() {
    const list = this.node.querySelector("details[open]");
    list?.removeAttribute("open");
    return Boolean(list);
  }

  #worth({ missing: left, words, total, measure, measures, few, says, step, at, early, finding, harmed, together }, chips) {
    if (early) return [stepLink("measured at step", early, this.#actions.setStep)];
    if (at !== step && left.length < total) chips.unshift(stepLink("of step", at, this.#actions.setStep));
    // Of an undefined value the brief reason, and what is resolved all the same; beside another measure within its link to the value, as there is no room for more.
    const linked = measure !== "value" && finding?.metric === "value" ? together : "";
    const short = together.replace(/^undefined: (\w+ than none);.*?(no signal − own [^\]]*\]).*/, linked ? "$1" : "$1, $2").replace(/(; | \().*/, "").replace(/-(?=\d)/g, "−");
    const whole = together && !linked ? [el("span", { class: "ap-muted ap-together", testid: "together", title: `All channels together: ${together}`, text: `${measure === "value" ? "" : "value: "}all together (no sum) ${short}` })] : [];
    const judged = total - left.length;
    const chance = chanceOf(judged / 20);
    if (judged) whole.push(el("span", { class: "ap-muted", testid: "chance", title: `Each interval is at 95 %: of ${formatCount(judged, "channel")} ${chance} is expected to lie wholly above or below 0 by chance alone.`, text: `expect ${chance} by chance${few && `; ${few}`}` }));
    const show = (name = "") => {
      if (finding) this.#actions.setStep(finding.shown);
      if (finding) this.#actions.setMetric("channel", finding.metric);
      if (name) this.#actions.select("channel", name);
    };
    const found = finding ? [stepLink(`${finding.metric === measure ? "" : `${finding.title}: `}${linked ? `all together ${short}` : finding.says} at step`, finding.shown, () => show())] : [];
    found.push(...harmed.slice(0, LINKED).map(({ name, word }) => el("button", { class: "ap-link", type: "button", testid: "harmed", text: `${name} ${word.one}`, on: { click: () => show(name) } })));
    if (finding && harmed.length > LINKED) found.push(el("button", { class: "ap-link", type: "button", text: `and ${harmed.length - LINKED} more`, on: { click: () => show() } }));
    if (!left.length) return [...chips, ...found, ...whole];
    // What a reason says of one channel alone stands in brackets at its end, "(-0.02, standard error 0.01)": a column for each number.
    const told = left.map(({ name, why }) => {
      const [reason, own = ""] = reasonOf(why);
      return { name, reason, own: own.split(/, (?![^[]*\])/).filter(Boolean).map((text) => /^(.*?) ?(\S+(?: \[.*\])?)$/.exec(text).slice(1)) };
    });
    const reasons = [...new Set(told.map(({ reason }) => reason))].sort();
    const lists = reasons.flatMap((reason) => [el("p", { class: "ap-says", text: reason }), this.#table(reason, told.filter((one) => one.reason === reason))]);
    const { again, instead, cost, step: newest } = measures.find(({ metric }) => metric === measure);
    // Advice is of the newest measurement.
    const how = at !== newest || !(instead || again) ? null : instead ? el("p", { text: `${capital(instead)}.` }) : el("p", {}, `To try again${cost && `, which takes ${cost}`}: `, el("code", { text: again }));
    const among = words.filter(({ beside, count }) => beside && count).map(({ name, count }) => `${count.toLocaleString("en-US")} ${name}`).join(", ");
    // A number of too few seeds is no undefined one.
    const [seeds] = /^\d+ of \d+ seeds/.exec(reasons.at(-1)) ?? [];
    const none = `${seeds ? `no interval over seeds, each is defined in at most ${seeds}` : "undefined"} at step ${formatStep(at)} (${left.length} of ${formatCount(total, "channel")})`;
    const head = el("summary", { class: "ap-chip", testid: "missing", title: reasons.join("\n"), text: (left.length < total ? `${left.length.toLocaleString("en-US")} without a result` : none) + (among && ` (${among})`) });
    return [...chips, ...found, el("details", { class: "ap-missing" }, head, el("div", { class: "ap-popup" }, ...[how, ...lists, el("p", { class: "ap-muted", text: says })].filter(Boolean))), ...whole];
  }

  /** The channels without a result for one reason, by the first of their numbers; a number without a name has the reason's last word. */
  #table(reason, told) {
    const number = ({ own: [[, text = ""] = []] }) => Number(text) || 0;
    const heads = ["channel", ...told[0].own.map(([name]) => name || reason.split(" ").at(-1))];
    const link = (name) => el("button", { class: "ap-link", type: "button", text: name, on: { click: () => this.#actions.select("channel", name) } });
    const row = ({ name, own }) => el("tr", {}, el("th", { scope: "row" }, link(name)), ...own.map(([, text]) => el("td", { class: "ap-number", text: text.replaceAll("-", "−") })));
    const rows = told.sort((one, other) => number(one) - number(other)).map(row);
    return el("table", { class: "ap-table" }, el("tr", {}, ...heads.map((text, at) => el("th", { scope: "col", class: at ? "ap-number" : null, text }))), ...rows);
  }

  #chip({ name, counted, one, says, count, names, older, side }, total, pressed, exclusive) {
    const data = { verdict: name, side, none: count ? "" : "none" };
    const props = { class: "ap-chip", type: "button", testid: `verdict-${name}`, title: `${says}\n${names.join(", ")}${count > names.length ? ", …" : ""}`, data, aria: { pressed: String(pressed) }, on: { click: () => this.#actions.toggleVerdict(name, exclusive) } };
    const word = ` ${(count === 1 && (total === "" || one === name) && one) || counted}${count && older ? ` (${older})` : ""}`;
    return el("button", props, el("strong", { text: count.toLocaleString("en-US") }), total === "" ? "" : ` of ${total.toLocaleString("en-US")}`, word);
  }
}

/** What is not measured, and the commands that measure it, where it takes long a quick one first; what is long is unfolded. */
function missing({ measures, by, takes, noFork, every, due, quick, quickly, short, together, single: [channel, cost, one] }) {
  const own = ` ${due ? "is being measured" : "not measured yet"}: the run does it every ${formatCount(every, "step")}`;
  const what = noFork ? ` cannot be measured (${noFork})` : every ? own : together ? ` all together (no sum) ${together}; of single channels not measured` : " not measured";
  const named = (...texts) => el("span", { class: "ap-muted", testid: "not-measured" }, el("strong", { text: measures[0].title }), what, ...texts);
  if (!by || every) return [named()];
  if (!quick && by.length < SHORT) return [named(": ", el("code", { text: by }))];
  const line = (text, command) => el("p", {}, text, el("code", { text: command }));
  const lines = quick ? [line(`loss by ablation in at least ${quickly}: `, quick), line(`value in at least ${takes}: `, by), line(`value over fewer steps, which may miss late effects, in at least ${short.takes}: `, short.by), line(`value of ${channel} alone in at least ${cost}: `, one)] : [line("", by)];
  const head = el("summary", { class: "ap-chip", testid: "how", text: quick ? `how: loss by ablation in ${quickly} or more` : "how" });
  return [named(), el("details", { class: "ap-missing" }, head, el("div", { class: "ap-popup" }, ...lines))];
}
