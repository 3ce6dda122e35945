// The line charts and tables of a report, above the page of its runs.

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
    drawn = charts.map(({ title, says, lines }) => {
      const step = Math.max(...lines.map(({ steps }) => steps.at(-1)));
      const coloured = lines.map((line) => ({ ...line, colour: categoryColour(line.place, theme) }));
      return lineChart(host, { title, says, lines: coloured, step, theme });
    });
  };
  new MutationObserver(draw).observe(page, { attributes: true, attributeFilter: ["data-theme"] });
  draw();
}

/** Let a click on a column's heading sort its table, by numbers before texts; another click turns the order. */
export function sortTables(root) {
  const sort = ({ target: head }) => {
    const [{ rows: [...rows] }] = head.closest("table").tBodies;
    const turn = head.ariaSort === "ascending" ? -1 : 1;
    const text = (row) => row.cells[head.cellIndex].textContent.replaceAll("−", "-");
    const number = (row) => (/^-?[\d.]/.test(text(row)) ? parseFloat(text(row)) : Infinity);
    const sorted = rows.sort((one, other) => turn * (number(one) - number(other) || text(one).localeCompare(text(other))));
    for (const one of head.parentElement.cells) one.ariaSort = null;
    head.ariaSort = turn > 0 ? "ascending" : "descending";
    head.closest("table").tBodies[0].append(...sorted);
  };
  for (const head of root.querySelectorAll(".ap-report-table th[scope=col]")) head.addEventListener("click", sort);
}
