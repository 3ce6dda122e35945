// Fetching metrics one after the other; and knowing when all is there.

/** Fetches, and tells how far it is. */
export class Loading {
  #pending = new Set();
  #onProgress;

  /** @param {function(string): void} onProgress called with a short text, "" when all is there */
  constructor(onProgress) {
    this.#onProgress = onProgress;
  }

  /** Fetch metrics of a run, as [kind, metric]; `onPart` is called when there is something new to show. */
  async fetch(run, needed, onPart) {
    const missing = needed.filter((names) => !run.peek(...names));
    if (!missing.length) onPart();
    try {
      for (const [at, names] of missing.entries()) {
        this.#onProgress(`fetching metrics, ${at} of ${missing.length}`);
        // A frame in between: what is there already is shown before the next metric is decoded.
        await new Promise((resolve) => setTimeout(resolve));
        await run.series(...names);
        onPart();
      }
    } finally {
      this.#onProgress("");
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
}
