// The line charts of a report, above the page of its runs.

import { applyTheme, categoryColour } from "./drawing/colours.js";
import { lineChart } from "./drawing/chart.js";
import { clear } from "./drawing/dom.js";

/** Draw charts (title, says, lines; of a line the name, its place among the colours, steps, values, a band) side by side, in the page's theme. */
export function mountCharts(host, charts, page) {
  let drawn = [];
  const draw = () => {
    const { theme } = page.dataset;
    applyTheme(document.documentElement, theme);
    drawn.forEach((chart) => chart.destroy());
    clear(host);
    drawn = charts.map(({ title, says, positive, lines }) => {
      const step = Math.max(...lines.map(({ steps }) => steps.at(-1)));
      const coloured = lines.map((line) => ({ ...line, colour: categoryColour(line.place, theme) }));
      return lineChart(host, { title, says, positive, lines: coloured, step, theme });
    });
  };
  new MutationObserver(draw).observe(page, { attributes: true, attributeFilter: ["data-theme"] });
  draw();
}
