// The step slider with play: moves over the logged steps.

import { el, clear, svgIcon } from "../drawing/dom.js";
import { formatStep } from "../drawing/format.js";
import { rowAt } from "../data/source.js";

/** Rows a second while playing, at least; many rows take some 20 s in all. */
const SLOWEST = 4;
const SECONDS = 20;

/** Slider, buttons and the number of the step. */
export class Player {
  #steps = new Float64Array(0);
  #index = 0;
  #onStep;
  #playing = 0;
  #owed = 0;
  #before = 0;
  #play = el("button", { class: "ap-button ap-icon", type: "button", testid: "play", on: { click: () => this.toggle() } });
  #slider = el("input", { class: "ap-slider", type: "range", min: "0", max: "0", step: "1", testid: "slider", aria: { label: "Step shown" } });
  #step = el("strong", { testid: "step" });
  #until = el("span");

  /** @param {function(number): void} onStep called with the step */
  constructor(onStep) {
    this.#onStep = onStep;
    this.#slider.addEventListener("input", () => this.#go(Number(this.#slider.value), false));
    const step = el("span", { class: "ap-step" }, "step ", this.#step, this.#until);
    this.node = el("div", { class: "ap-player", role: "group", aria: { label: "Step" } }, this.#play, this.#slider, step);
    this.#face();
  }

  get steps() {
    return this.#steps;
  }

  get step() {
    return this.#steps[this.#index] ?? 0;
  }

  /** Whether the newest step is shown. */
  get atEnd() {
    return this.#index >= this.#steps.length - 1;
  }

  /** Take other steps; the step shown stays, and the newest stays the newest. */
  setSteps(steps, until) {
    const kept = this.atEnd ? Infinity : this.step;
    this.#steps = steps;
    this.#slider.max = String(Math.max(steps.length - 1, 0));
    this.#slider.disabled = this.#play.disabled = steps.length < 2;
    this.#until.textContent = steps.length ? ` of ${formatStep(Math.max(until, steps.at(-1)))}` : "";
    this.#index = Math.max(rowAt({ steps }, kept), 0);
    this.#face();
  }

  /** Show the newest logged step at or before one. */
  setStep(step) {
    this.#go(rowAt({ steps: this.#steps }, step), false);
  }

  /** Move by rows. */
  move(by) {
    this.#go(this.#index + by, false);
  }

  toggle() {
    if (this.#playing) return this.#go(this.#index, false);
    if (this.#steps.length < 2) return;
    if (this.atEnd) this.#go(0, true);
    this.#owed = 0;
    this.#before = performance.now();
    this.#playing = requestAnimationFrame((now) => this.#tick(now));
    this.#face();
  }

  #pause() {
    cancelAnimationFrame(this.#playing);
    this.#playing = 0;
    this.#face();
  }

  #tick(now) {
    this.#owed += (Math.max(now - this.#before, 0) / 1000) * Math.max(SLOWEST, this.#steps.length / SECONDS);
    this.#before = now;
    const rows = Math.floor(this.#owed);
    this.#owed -= rows;
    if (rows) this.#go(this.#index + rows, true);
    if (this.atEnd) this.#go(this.#index, false);
    else this.#playing = requestAnimationFrame((next) => this.#tick(next));
  }

  #go(index, playing) {
    this.#index = Math.min(Math.max(index, 0), Math.max(this.#steps.length - 1, 0));
    if (playing) this.#face();
    else this.#pause();
    this.#onStep(this.step);
  }

  #face() {
    this.#slider.value = String(this.#index);
    this.#slider.setAttribute("aria-valuetext", `step ${formatStep(this.step)}`);
    this.#step.textContent = this.#steps.length ? formatStep(this.step) : "–";
    this.#step.dataset.step = String(this.step);
    const playing = Boolean(this.#playing);
    if (this.#play.dataset.playing === String(playing)) return;
    this.#play.dataset.playing = String(playing);
    this.#play.title = playing ? "Pause (space)" : "Play (space)";
    this.#play.setAttribute("aria-label", playing ? "Pause" : "Play");
    clear(this.#play).append(svgIcon(playing ? "pause" : "play"));
  }
}
