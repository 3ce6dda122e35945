// What the export menu does.

import { differenceOf } from "./difference.js";
import { download, fileName, figureCsv, stepJson } from "./export.js";

/**
 * Hand what is shown to the browser as files, one per run; figures and pictures of a difference as one.
 *
 * @param {string} what "csv-channel", "csv-agent", "json" or "svg"
 * @param {Model} model
 * @param {Layout} layout
 */
export async function exportShown(what, model, layout) {
  const { step } = layout.player;
  for (const side of [0, 1]) {
    const run = model.runs[side];
    if (!run) continue;
    if (what === "svg") {
      const picture = layout.stages[side].view?.toSVG?.();
      if (picture) download(fileName([run.name, model.view, `step ${step}`], "svg"), "image/svg+xml", picture);
    } else if (what === "json") {
      await Promise.all(model.needed(run).map(([kind, metric]) => run.figure(kind, metric)));
      download(fileName([run.name, `step ${step}`], "json"), "application/json", stepJson(run, step, run.loaded()));
    } else {
      const kind = what.slice("csv-".length);
      const metric = model.metric[kind];
      if (side && model.differing) continue;
      const both = model.differing ? model.runs : [run];
      const [series] = await Promise.all(both.map((one) => one.figure(kind, metric)));
      const found = model.differing ? differenceOf(...both, kind, metric).series : series;
      if (!found) throw new Error(`export: run ${run.name} has no ${metric || "such figure"}`);
      const name = both.map((one) => one.name).join(" minus ");
      download(fileName([name, kind, metric], "csv"), "text/csv", figureCsv(run, kind, metric, found));
    }
  }
}
