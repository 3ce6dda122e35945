// Where the numbers come from: a TensorBoard server, or data inside the page. Both answer alike.

/** Read a packed metric: rows, items (uint32), steps (float64), values (float32), little endian. */
export function decodeSeries(buffer) {
  const head = new DataView(buffer);
  const [rows, items] = [0, 4].map((at) => head.getUint32(at, true));
  return { steps: new Float64Array(buffer, 8, rows), values: new Float32Array(buffer, 8 + 8 * rows, rows * items), items };
}

/** Read a packed cloud of messages: rows, samples (uint32), shares explained (2 float32), steps (float64), points, labels. */
export function decodeCloud(buffer) {
  const head = new DataView(buffer);
  const [rows, samples] = [0, 4].map((at) => head.getUint32(at, true));
  const points = 16 + 8 * rows;
  return {
    steps: new Float64Array(buffer, 16, rows),
    samples,
    explained: [head.getFloat32(8, true), head.getFloat32(12, true)],
    points: new Float32Array(buffer, points, rows * samples * 2),
    labels: new Float32Array(buffer, points + 8 * rows * samples, rows * samples),
  };
}

/** Return the index of the newest row at or before a step, or -1. */
export function rowAt(series, step) {
  let low = 0;
  let high = series.steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (series.steps[middle] <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Return the row of values that holds at a step, or null where nothing was logged until then. */
export function valuesAt(series, step) {
  const row = rowAt(series, step);
  return row < 0 ? null : series.values.subarray(row * series.items, (row + 1) * series.items);
}

/** Return the number of one item at a step; NaN where there is none, or no series. */
export function itemAt(series, step, item) {
  return (series && valuesAt(series, step))?.[item] ?? NaN;
}

/** Return the numbers of one item, one per row. */
export function columnOf(series, item) {
  const column = new Float32Array(series.steps.length);
  for (let row = 0; row < column.length; row++) column[row] = series.values[row * series.items + item];
  return column;
}

/** The plugin's routes, relative to the page. */
export class HttpSource {
  /** There may be more to fetch later. */
  live = true;

  async runs() {
    return (await this.#get("runs", {})).json();
  }

  /** A document as JSON: the graph, the catalog, the timeline of the first steps, or where the parts are computed. */
  async document(run, name) {
    return (await this.#get(name, { run })).json();
  }

  /** All rows of a metric. */
  async series(run, kind, metric) {
    return decodeSeries(await (await this.#get("metric", { run, kind, metric })).arrayBuffer());
  }

  async cloud(run, channel) {
    return decodeCloud(await (await this.#get("cloud", { run, channel })).arrayBuffer());
  }

  async #get(route, query) {
    const text = new URLSearchParams(query).toString();
    const response = await fetch(`./${route}${text && `?${text}`}`).catch(() => null);
    if (!response) throw new Error("TensorBoard does not answer; is it still running?");
    if (response.ok) return response;
    // Of what is not one of our own errors the status is all there is to say.
    const told = await response.json().catch(() => null);
    throw new Error(`${route}: ${told?.error || `the server returned ${response.status}`}`);
  }
}

/** Data that came with the page: documents, and packed arrays, compressed (zlib) and as base64. */
export class EmbeddedSource {
  /** All there is came with the page. */
  live = false;

  /** @param {{runs: Object[]}} data items as RunData.embedded() writes them */
  constructor(data) {
    this.items = new Map(data.runs.map((item) => [item.run, item]));
  }

  async runs() {
    return [...this.items.keys()];
  }

  async document(run, name) {
    return this.#item(run)[name] ?? null;
  }

  async series(run, kind, metric) {
    return decodeSeries(await this.#bytes(run, "metrics", `${kind}/${metric}`));
  }

  async cloud(run, channel) {
    return decodeCloud(await this.#bytes(run, "clouds", String(channel)));
  }

  #item(run) {
    const item = this.items.get(run);
    if (!item) throw new Error(`this page has no run ${run}`);
    return item;
  }

  async #bytes(run, part, key) {
    const text = this.#item(run)[part][key];
    if (text === undefined) throw new Error(`this page has no ${key} of run ${run}`);
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  }
}
