// The page for tests and scripts, as `root.antiphon`.

import { colourOf } from "./colours.js";

/** What can be asked of the page and done with it, by numbers instead of by hand. Sides: 0, and 1 for the run beside. */
export class Remote {
  #parts;

  constructor(parts) {
    this.#parts = parts;
    /** Resolves when the page is filled for the first time. */
    this.ready = parts.ready;
    /** firstFrameMs (since the page began to load), frames, frameMs (of the newest). */
    this.stats = parts.stats;
  }

  /** The step shown. */
  step() {
    return this.#parts.layout.player.step;
  }

  /** All steps the slider can stand at. */
  steps() {
    return [...this.#parts.layout.player.steps];
  }

  /** Show the newest logged step at or before one. */
  setStep(step) {
    this.#parts.layout.player.setStep(step);
  }

  /** Select an item of the first run by its number; without a kind nothing is selected. */
  select(kind, index) {
    this.#parts.choose(kind ?? null, kind ? this.#parts.model.runs[0].nameOf(kind, index) : undefined);
  }

  /** The item selected as {kind, index}, or null. */
  selection(side = 0) {
    return this.#parts.model.chosen(side);
  }

  /** Whether an item is found. */
  matches(kind, index, side = 0) {
    const masks = this.#parts.model.masks(side, this.step());
    return !masks || masks[kind][index] === 1;
  }

  /** How many agents and channels a run has. */
  counts(side = 0) {
    const run = this.#parts.model.runs[side];
    return { agents: run ? run.agents.length : 0, channels: run ? run.channels.length : 0 };
  }

  /** The scale of the lines' colours: {scale, low, high}. */
  scale() {
    const { scale, low, high } = this.#parts.model.data(0, this.step(), false).metric;
    return { scale, low, high };
  }

  /** The view on a stage. */
  view(side = 0) {
    return this.#parts.layout.stages[side].view;
  }

  /** The colour a channel is drawn in. */
  channelColour(index, side = 0) {
    return this.view(side).channelColour?.(index) ?? this.#colour("metric", index, side);
  }

  /** The colour of an agent's ring. */
  agentRing(index, side = 0) {
    return this.view(side).agentRing?.(index) ?? this.#colour("ring", index, side);
  }

  /** A point on a channel's line, in px of the page. */
  edgePoint(index, side = 0) {
    return this.view(side).pointOf("channel", index);
  }

  /** The middle of an agent's disc, in px of the page. */
  agentPoint(index, side = 0) {
    return this.view(side).pointOf("agent", index);
  }

  /** The middle of a channel's cell in the matrix, in px of the page. */
  cellPoint(index, side = 0) {
    return this.view(side).cellPoint(index);
  }

  refresh() {
    return this.#parts.refresh();
  }

  /** Resolves when all that was asked for is fetched and drawn. */
  idle() {
    return this.#parts.loading.idle();
  }

  /** Take the page down. */
  destroy() {
    this.#parts.destroy();
  }

  #colour(part, index, side) {
    const { values, scale, low, high } = this.#parts.model.data(side, this.step(), false)[part];
    return colourOf(scale, values ? values[index] : NaN, low, high, this.#parts.theme());
  }
}
