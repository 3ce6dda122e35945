// Fetching figures: the newest rows first, for a quick picture, then all of them; and knowing when all is there.

/** Fetches, and tells how far it is. */
export class Loading {
  #pending = new Set();
  #parts = [0, 0];
  #onProgress;

  /** @param {function(string): void} onProgress called with a short text, "" when all is there */
  constructor(onProgress) {
    this.#onProgress = onProgress;
  }

  /**
   * Fetch figures of a run.
   *
   * @param {Run} run
   * @param {string[][]} needed as [kind, metric]
   * @param {function(): void} onPart called when there is something new to show
   */
  async fetch(run, needed, onPart) {
    const fresh = needed.filter((names) => !run.peek(...names));
    if (fresh.length) await Promise.all(fresh.map(([kind, metric]) => run.newest(kind, metric)));
    onPart();
    const rest = needed.filter((names) => run.peek(...names)?.partial);
    this.#parts[1] += rest.length;
    this.#tell();
    try {
      for (const [kind, metric] of rest) {
        // A frame in between: what is there already is shown before the next figure is decoded.
        await new Promise((resolve) => setTimeout(resolve));
        await run.figure(kind, metric);
        this.#parts[0] += 1;
        this.#tell();
        onPart();
      }
    } finally {
      this.#parts = [0, 0];
      this.#tell();
    }
  }

  /** Remember work under way until it has ended, well or not. */
  track(work) {
    const tracked = work.finally(() => this.#pending.delete(tracked));
    this.#pending.add(tracked);
    return tracked;
  }

  /** Resolves when nothing is under way and what came is drawn. */
  async idle() {
    do {
      await Promise.allSettled([...this.#pending]);
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    } while (this.#pending.size);
  }

  #tell() {
    const [done, all] = this.#parts;
    this.#onProgress(all ? `fetching figures, ${done} of ${all}` : "");
  }
}
