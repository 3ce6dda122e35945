// The whole page: what is chosen, what is fetched, what is shown.

import { applyTheme, themeColours } from "./drawing/colours.js";
import { Run } from "./data/run.js";
import { Model } from "./data/model.js";
import { Loading } from "./data/loading.js";
import { Layout } from "./page/layout.js";
import { remote } from "./remote.js";
import { SidePanel } from "./panel/details.js";
import { followTheme, surroundingTheme } from "./drawing/theme.js";
import { listenToKeys } from "./page/keys.js";
import { partsNote } from "./panel/parts.js";
import { headlineAt } from "./data/shown.js";

const NO_RUNS = ["No run has channels yet.", "Start one with “antiphon run corporation”, point TensorBoard at its log directory, then refresh (R)."];
const NOT_READ = ["The runs could not be read.", "The line above names the reason. Fix it, then refresh (R)."];

/** Holds the parts together: whatever one of them reports becomes a choice in the model, and is shown by all. */
class ChannelsApp {
  #root;
  #source;
  #options;
  #model = new Model();
  #loading;
  #layout;
  #panel;
  #theme;
  #ownTheme = false;
  #refreshing = null;
  #again = false;

  constructor(root, source, options) {
    this.#root = root;
    this.#source = source;
    this.#options = options;
    this.#theme = options.theme ?? surroundingTheme();
    this.#loading = new Loading((text) => this.#layout.setProgress(text));
    this.#layout = new Layout(this.#actions(), [0, 1].map((side) => this.#context(side)));
    this.#panel = new SidePanel(this.#layout.panel, this.#model, {
      ...this.#actions(),
      close: () => this.#choose(null),
      theme: () => this.#theme,
      track: (work) => this.#loading.track(work),
    });
    this.#mount();
    this.ready = this.#loading.track(this.#start());
  }

  /** What tests and scripts may do with the page. */
  remote() {
    return remote({
      model: this.#model, layout: this.#layout, loading: this.#loading, ready: this.ready,
      choose: (kind, name, also) => this.#choose(kind, name, also), refresh: () => this.refresh(), theme: () => this.#theme,
    });
  }

  #mount() {
    const { whole = false } = this.#options;
    this.#root.classList.add("ap");
    this.#root.dataset.antiphon = "";
    applyTheme(this.#root, this.#theme);
    this.#layout.toolbar.refresh.hidden = !this.#source.live;
    this.#root.append(...this.#layout.nodes);
    this.#layout.watch(this.#root);
    followTheme((theme) => this.#ownTheme || this.#setTheme(theme));
    listenToKeys(whole ? document : this.#root, this.#keys());
  }

  async #start() {
    await this.#attempt(async () => {
      this.#model.names = await this.#source.runs();
      if (this.#model.names.length) await this.#open(0, this.#options.run ?? this.#model.names[0]);
    });
    this.#show(false);
  }

  /** Do what may fail: a failure is one line on the page, which stays usable. */
  async #attempt(work) {
    try {
      await work();
      return true;
    } catch (error) {
      this.#layout.setError(error instanceof Error ? error.message : String(error));
      return false;
    }
  }

  async #open(side, name) {
    const run = name === null ? null : await Run.open(name, this.#source);
    if (side) this.#layout.player.toNewest();
    this.#model.setRun(side, run);
    this.#showPanel();
    // A second run is shown once it is whole, in the colour that tells them apart.
    await this.#fetch(Boolean(side));
    if (!run) return;
    const { player } = this.#layout;
    const near = this.#model.near(player.step);
    if (!side && near !== player.step) player.setStep(near);
  }

  /** Fetch what the picture needs of the runs shown, and show each part as it comes, or `whole` at once. */
  async #fetch(whole = false) {
    const runs = this.#model.shown();
    const work = runs.map((run) => this.#loading.fetch(run, [...this.#model.needed(run), ...this.#model.asked(run)], () => whole || this.#changed()));
    await Promise.all(work);
    if (whole) this.#changed();
    if (!this.#model.settle(this.#layout.player.step)) return;
    this.#panel.setMetric();
    await this.#fetch();
  }

  /** Other data, or another choice: steps, masks and all that is shown are made anew. */
  #changed() {
    this.#model.forget();
    const until = Math.max(0, ...this.#model.shown().map((run) => run.graph.until ?? 0));
    this.#layout.player.setSteps(this.#model.steps(), until, this.#model.opens);
    this.#show(false);
  }

  /** Show what is chosen; the column is gone where no run shown has it. */
  #showPanel() {
    this.#panel.show();
    this.#layout.setPanel([0, 1].some((side) => this.#model.chosen(side)));
  }

  #show(playing) {
    const { player, stages, rail, toolbar } = this.#layout;
    if (this.#root.ariaBusy === "true") this.#setBusy("");
    const model = this.#model;
    const { step } = player;
    toolbar.update(model.names, model.runs.map((run) => run && run.name), model.view, model.shown().some((run) => run.parts));
    this.#layout.setEmpty(model.runs[0] ? null : model.names.length || this.#layout.hasError ? NOT_READ : NO_RUNS);
    const masks = model.masks(0, step);
    this.#layout.strip.update(model.verdicts(0, step), model.askedVerdicts);
    this.#layout.finder.update(model.runs[0], masks, model.filterError || masks?.error || "");
    this.#layout.headline.update(headlineAt(model.runs[0], step, model.shown()), step);
    this.#root.classList.toggle("ap-lineage", Boolean(model.runs[0]?.graph.lineage));
    const data = [];
    stages.forEach((stage, side) => {
      const run = model.runs[side];
      if (!run) return stage.hide();
      const found = model.data(side, step, playing);
      data.push(found);
      const note = [noteOf(run, player.steps), partsNote(run, found.parts)].filter(Boolean).join(" ");
      stage.show(run.graph.lineage ? "lineage" : model.view, found, model.runs[1] ? model.heading(side, step) : "", note);
    });
    if (!data.length) return;
    rail.update(model.shown(), data, { theme: this.#theme, mask: masks && masks.channel, chosen: model.chosen(0), view: model.view });
    this.#panel.setStep(step);
  }

  /** Show the table of all channels, with the numbers that their hints name. */
  async #table() {
    const [run] = this.#model.runs;
    await this.#loading.fetch(run, this.#model.hinted(run), () => {});
    this.#layout.table(this.#model, (kind, name) => this.#choose(kind, name));
  }

  #redraw() {
    this.#show(false);
    for (const stage of this.#layout.stages) stage.view?.redraw?.();
  }

  #context(side) {
    return {
      testid: side ? "stage-beside" : "stage",
      side,
      colours: () => themeColours(this.#theme),
      theme: () => this.#theme,
      selection: () => this.#model.chosen(side),
      filtering: () => this.#model.filtering,
      matches: (kind, index) => {
        const masks = this.#model.masks(side);
        return !masks || masks[kind][index] === 1;
      },
      select: (kind, index, also) => this.#choose(kind, kind && this.#model.runs[side].nameOf(kind, index), also),
      onStep: (step) => this.#layout.player.setStep(step),
      track: (work) => this.#loading.track(work),
    };
  }

  #choose(kind, name, also = false) {
    this.#model.select(kind, name, also);
    this.#showPanel();
    this.#redraw();
    if (!kind) return;
    this.#layout.stages.forEach((stage, side) => {
      const chosen = this.#model.chosen(side);
      if (chosen) stage.view?.reveal?.(chosen.kind, chosen.index);
    });
  }

  #setMetric(kind, metric) {
    this.#model.setMetric(kind, metric);
    this.#panel.setMetric();
    return this.#loading.track(this.#attempt(() => this.#fetch()));
  }

  #setRun(side, name) {
    this.#layout.setError("");
    this.#setBusy("loading…");
    return this.#loading.track(this.#attempt(() => this.#open(side, name))).then((good) => good || this.#show(false));
  }

  /** Grey what is of the run before, until that which is chosen is shown; "": it is. */
  #setBusy(text) {
    this.#root.setAttribute("aria-busy", String(Boolean(text)));
    this.#layout.setProgress(text);
  }

  #setTheme(theme) {
    if (theme === this.#theme) return;
    this.#theme = theme;
    applyTheme(this.#root, theme);
    this.#show(false);
    this.#panel.show();
  }

  #setView(view) {
    if (view === "parts" && !this.#model.shown().some((run) => run.parts)) return;
    this.#model.setView(view);
    this.#layout.strip.close();
    this.#show(false);
    if (view === "parts") this.#loading.track(this.#attempt(() => this.#fetch()));
  }

  /** Fetch what is new: runs, rows, another graph. Selection and step are kept; the newest step stays the newest. */
  refresh() {
    if (this.#refreshing) {
      this.#again = true;
      return this.#refreshing;
    }
    this.#layout.toolbar.refresh.setAttribute("aria-busy", "true");
    this.#refreshing = this.#loading.track(this.#attempt(() => this.#renew())).then((good) => {
      if (good) this.#layout.setError("");
      this.#refreshing = null;
      this.#layout.toolbar.refresh.setAttribute("aria-busy", "false");
      if (!this.#again) return undefined;
      this.#again = false;
      return this.refresh();
    });
    return this.#refreshing;
  }

  async #renew() {
    const model = this.#model;
    const before = [...model.runs];
    model.names = await this.#source.runs();
    for (const side of [0, 1]) {
      const run = model.runs[side];
      if (run && !model.names.includes(run.name)) model.setRun(side, null);
      else if (run) model.setRun(side, await run.refresh());
    }
    if (!model.runs[0]) model.setRun(1, null);
    if (!model.runs[0] && model.names.length) await this.#open(0, model.names[0]);
    else await this.#fetch();
    this.#changed();
    if (model.runs.every((run, side) => run === before[side])) this.#panel.refresh();
    else this.#showPanel();
  }

  #actions() {
    return {
      onStep: (step, playing) => {
        this.#model.moved();
        this.#show(playing);
      },
      setView: (view) => this.#setView(view),
      setRun: (side, name) => this.#setRun(side, name),
      setMetric: (kind, metric) => this.#setMetric(kind, metric),
      find: (word) => this.#layout.finder.toggleWord(word, []),
      toggleVerdict: (name, others) => this.#layout.finder.toggleWord(`verdict:${name}`, others.map((other) => `verdict:${other}`)),
      filter: (text) => {
        this.#model.setFilter(text);
        this.#redraw();
        if (this.#model.shown().some((run) => this.#model.asked(run).length)) this.#loading.track(this.#attempt(() => this.#fetch()));
      },
      select: (kind, name, also) => this.#choose(kind, name, also),
      setStep: (step) => this.#layout.player.setStep(step),
      selectFound: () => {
        const found = this.#model.firstFound();
        if (found) this.#choose(found.kind, found.name);
      },
      toggleTheme: () => {
        this.#ownTheme = true;
        this.#setTheme(this.#theme === "dark" ? "light" : "dark");
      },
      refresh: () => this.refresh(),
      table: () => this.#loading.track(this.#attempt(() => this.#table())),
      help: () => this.#layout.help(this.#model.runs[0]),
    };
  }

  #keys() {
    const { player } = this.#layout;
    return {
      ...this.#actions(),
      play: () => player.toggle(),
      move: (by) => player.move(by),
      fit: () => this.#layout.stages.forEach((stage) => stage.view?.fit?.()),
      search: () => this.#layout.finder.field.focus(),
      cycle: (kind, by) => {
        const name = this.#model.next(kind, by);
        if (name) this.#choose(kind, name);
      },
      escape: () => this.#escape(),
    };
  }

  /** Undo the last thing that is in the way: the list that is open, what is being asked, the selection, what was asked. */
  #escape() {
    const { finder, strip } = this.#layout;
    if (strip.close()) return;
    if (document.activeElement === finder.field) {
      if (finder.field.value) finder.setText("");
      else finder.field.blur();
    } else if (this.#model.selection) this.#choose(null);
    else if (finder.field.value) finder.setText("");
  }
}

function noteOf(run, steps) {
  if (run.graph.lineage) return "A line for each member, from orange (worst score) to blue (best); it branches where a member is copied.";
  if (!steps.length) return "Nothing is logged yet. Refresh in a moment.";
  return run.catalog.sampled ? "TensorBoard keeps only some of the log entries. For all of them: --samples_per_plugin antiphon=0" : "";
}

/** Put the app into an element with a size of its own; options: whole (the page is ours, keys work everywhere), theme, run. Return its Remote, also as `root.antiphon`. */
export function mount(root, source, options = {}) {
  root.antiphon = new ChannelsApp(root, source, options).remote();
  return root.antiphon;
}
