// The line charts of a report, above the page of its runs.

import { applyTheme, categoryColour } from "./drawing/colours.js";
import { lineChart } from "./drawing/chart.js";
import { clear } from "./drawing/dom.js";

/**
 * Draw charts side by side, in the theme of the page below them.
 *
 * @param {HTMLElement} host
 * @param {Object[]} charts title, says, lines; a line: name, place among the colours, steps,
 *   values (null: a gap), low and high where it has a band
 * @param {HTMLElement} page whose theme is followed
 */
export function mountCharts(host, charts, page) {
  let drawn = [];
  const draw = () => {
    const { theme } = page.dataset;
    applyTheme(document.documentElement, theme);
    drawn.forEach((chart) => chart.destroy());
    clear(host);
    drawn = charts.map(({ title, says, lines }) => {
      const step = Math.max(...lines.map(({ steps }) => steps.at(-1)));
      const coloured = lines.map((line) => ({ ...line, colour: categoryColour(line.place, theme) }));
      return lineChart(host, { title, says, lines: coloured, step, theme });
    });
  };
  new MutationObserver(draw).observe(page, { attributes: true, attributeFilter: ["data-theme"] });
  draw();
}
