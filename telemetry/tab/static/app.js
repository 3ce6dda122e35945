// The whole page: what is chosen, what is fetched, what is shown.

import { applyTheme, themeColours } from "./drawing/colours.js";
import { Run } from "./data/run.js";
import { Choices } from "./data/choices.js";
import { Loading } from "./data/loading.js";
import { Layout } from "./page/layout.js";
import { SidePanel } from "./panel/details.js";
import { followTheme, surroundingTheme } from "./drawing/theme.js";
import { listenToKeys } from "./page/keys.js";

const NO_RUNS = ["No run has channels yet.", "Start one with “antiphon run corporation”, point TensorBoard at its log directory, then refresh (R)."];
const NOT_READ = ["The runs could not be read.", "The line above names the reason. Fix it, then refresh (R)."];

/** Holds the parts together: whatever one of them reports becomes a choice in the model, and is shown by all. */
class ChannelsApp {
  #root;
  #source;
  #refreshing = null;
  model = new Choices();

  constructor(root, source, whole) {
    this.#root = root;
    this.#source = source;
    this.theme = surroundingTheme();
    this.loading = new Loading((text) => this.layout.setProgress(text));
    const actions = this.#actions();
    this.layout = new Layout(actions, this.#context());
    this.panel = new SidePanel(this.layout.panel, this.model, { ...actions, theme: () => this.theme, track: (work) => this.loading.track(work) });
    root.classList.add("ap");
    applyTheme(root, this.theme);
    this.layout.toolbar.refresh.hidden = !source.live;
    root.append(...this.layout.nodes);
    this.layout.watch(root);
    followTheme((theme) => this.#setTheme(theme));
    listenToKeys(whole ? document : root, this.#keys(actions));
    this.ready = this.loading.track(this.#start());
  }

  /** Resolves when all that was asked for is fetched and drawn. */
  idle() {
    return this.loading.idle();
  }

  async #start() {
    await this.#attempt(async () => {
      this.model.names = await this.#source.runs();
      if (this.model.names.length) await this.#open(this.model.names[0]);
    });
    this.#show();
  }

  /** Do what may fail: a failure is one line on the page, which stays usable. */
  async #attempt(work) {
    try {
      await work();
      this.layout.setError("");
    } catch (error) {
      this.layout.setError(error.message);
      this.#show();
    }
  }

  /** Show a run; `first`: metrics, as [kind, metric], that are fetched before it is shown. */
  async #open(name, first = []) {
    const run = await Run.open(name, this.#source);
    await Promise.all(first.map((names) => run.series(...names)));
    this.model.setRun(run);
    this.#showPanel();
    await this.#fetch();
  }

  /** Fetch what the page needs, and show each part as it comes. */
  #fetch() {
    return this.loading.fetch(this.model.run, this.model.needed(), () => this.#changed());
  }

  /** Other data, or another choice: steps, and all that is shown, are made anew. */
  #changed() {
    this.layout.player.setSteps(this.model.steps(), this.model.run.graph.until);
    this.model.step = this.layout.player.step;
    this.#show();
  }

  /** Show what is chosen; the column is gone where the run has it not. */
  #showPanel() {
    this.panel.show();
    this.layout.setPanel(Boolean(this.model.chosen));
  }

  #show() {
    const { model, layout } = this;
    layout.toolbar.update(model.names, model.run?.name, model.view);
    layout.setEmpty(model.run ? null : layout.hasError ? NOT_READ : NO_RUNS);
    if (!model.run) return layout.stage.hide();
    const data = model.data();
    layout.finder.update(model.run, data.found);
    layout.headline.update(model.run, model.step, model.counts(), data.metric);
    layout.stage.show(model.view, data, noteOf(model.run, layout.player.steps));
    layout.rail.update(data, { theme: this.theme, chosen: model.chosen, view: model.view });
    this.panel.setStep(model.step);
  }

  #context() {
    return {
      colours: () => themeColours(this.theme),
      theme: () => this.theme,
      selection: () => this.model.chosen,
      columns: () => this.model.columns(),
      select: (kind, index) => this.#choose(kind, kind && this.model.run.nameOf(kind, index)),
      track: (work) => this.loading.track(work),
    };
  }

  #choose(kind, name) {
    this.model.select(kind, name);
    this.#showPanel();
    this.#show();
    const { chosen } = this.model;
    if (chosen) this.layout.stage.view.reveal?.(chosen.kind, chosen.index);
  }

  #setTheme(theme) {
    if (theme === this.theme) return;
    this.theme = theme;
    applyTheme(this.#root, theme);
    this.#show();
    this.panel.show();
  }

  /** Change what is chosen, and fetch what that needs. */
  #change(choice) {
    choice();
    this.#show();
    return this.loading.track(this.#attempt(() => this.#fetch()));
  }

  /** Fetch all anew. Selection and step are kept; the newest step stays the newest. */
  refresh() {
    this.#refreshing ??= this.loading.track(this.#attempt(() => this.#renew())).then(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  async #renew() {
    const { model } = this;
    model.names = await this.#source.runs();
    const name = model.names.includes(model.run?.name) ? model.run.name : model.names[0];
    if (name) await this.#open(name, model.needed());
  }

  #actions() {
    return {
      onStep: (step) => {
        this.model.step = step;
        this.#show();
      },
      setView: (view) => this.#change(() => this.model.setView(view)),
      setRun: (name) => this.loading.track(this.#attempt(() => this.#open(name))),
      setMetric: (kind, metric) => this.#change(() => {
        this.model.setMetric(kind, metric);
        this.panel.setMetric();
      }),
      filter: (text) => this.#change(() => this.model.setFilter(text)),
      find: (word) => this.layout.finder.setText(word),
      select: (kind, name) => this.#choose(kind, name),
      selectFound: () => {
        const found = this.model.firstFound();
        if (found) this.#choose(found.kind, found.name);
      },
      setStep: (step) => this.layout.player.setStep(step),
      refresh: () => this.refresh(),
      help: () => this.layout.help(),
    };
  }

  #keys(actions) {
    return {
      ...actions,
      play: () => this.layout.player.toggle(),
      move: (by) => this.layout.player.move(by),
      fit: () => this.layout.stage.view?.fit?.(),
      search: () => this.layout.finder.field.focus(),
      escape: () => this.#escape(),
    };
  }

  /** Undo the last thing that is in the way: what is being asked, the selection, what was asked. */
  #escape() {
    const { finder } = this.layout;
    if (document.activeElement === finder.field && !finder.field.value) finder.field.blur();
    else if (this.model.selection && document.activeElement !== finder.field) this.#choose(null);
    else if (finder.field.value) finder.setText("");
  }
}

function noteOf(run, steps) {
  if (!steps.length) return "Nothing is logged yet. Refresh in a moment.";
  return run.catalog.sampled ? "TensorBoard keeps only some of the log entries. For all of them: --samples_per_plugin antiphon=0" : "";
}

/** Put the app into an element with a size of its own, and return it, also as `root.antiphon`; `whole`: the page is ours, keys work everywhere. */
export function mount(root, source, whole = false) {
  root.dataset.antiphon = "";
  root.antiphon = new ChannelsApp(root, source, whole);
  return root.antiphon;
}
