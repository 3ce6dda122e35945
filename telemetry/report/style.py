"""Style sheet of the report: on a screen, light and dark, and in print."""

from __future__ import annotations

from antiphon.telemetry.pictures import LABEL_COLOURS

__all__ = ["STYLE"]

_LIGHT = (
    "--r-paper: #ffffff; --r-raised: #f6f8fa; --r-ink: #1c2733; --r-muted: #566472; --r-line: #d5dce3; "
    "--r-grid: #e6ebf0; --r-bar: #c46816; --r-less: #2f6db5; --r-whisker: #1c2733; --r-accent: #005a9c; --r-warn: #7a4a00; "
    "--r-warn-paper: #fff6e5; --r-c0: #0072b2; --r-c1: #d55e00; --r-c2: #009e73; --r-c3: #b8549a; --r-c4: #c48400; "
    "--r-c5: #3f9bd1; --r-c6: #1c2733; --r-c7: #7f7f7f; --r-tick: #0072b2; --r-end: #d55e00; "
    "--r-s0: #d6dde3; --r-s1: #b3c2cf; --r-s2: #86a2bd; --r-s3: #5a80a8; --r-s4: #325a8c; --r-s5: #0b2f66;"
)
_DARK = (
    "--r-paper: #12171d; --r-raised: #1a2129; --r-ink: #e4e9ee; --r-muted: #9aa8b5; --r-line: #35404b; "
    "--r-grid: #262f38; --r-bar: #de913c; --r-less: #548ecd; --r-whisker: #e4e9ee; --r-accent: #74b4ea; --r-warn: #f0c277; "
    "--r-warn-paper: #2b2315; --r-c0: #56a8e0; --r-c1: #f08a45; --r-c2: #2fc49a; --r-c3: #df8cc4; --r-c4: #e6b44a; "
    "--r-c5: #8cc9f0; --r-c6: #e4e9ee; --r-c7: #9d9d9d; --r-tick: #56a8e0; --r-end: #f08a45; "
    "--r-s0: #323c46; --r-s1: #46586a; --r-s2: #5b7994; --r-s3: #7a9dbd; --r-s4: #a3c3de; --r-s5: #dcecf8;"
)
_DASHES = ("none", "7 3", "2 3", "9 3 2 3", "none", "5 2", "1.5 2", "12 4")
_PAGE = """
body { background: var(--r-paper); color: var(--r-ink); font: 15px/1.45 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
.report { box-sizing: border-box; max-width: 1180px; margin: 0 auto; padding: 0 24px; }
.report header { padding: 20px 0 4px; }
.report h1 { margin: 0; font-size: 28px; line-height: 1.25; letter-spacing: -0.01em; overflow-wrap: anywhere; }
.report h2 { margin: 24px 0 2px; padding-top: 8px; border-top: 1px solid var(--r-line); font-size: 20px; }
.report h3 { margin: 12px 0 4px; font-size: 15px; overflow-wrap: anywhere; }
.report h4 { margin: 12px 0 4px; font-size: 13px; font-weight: 600; color: var(--r-muted); }
.report p { margin: 4px 0; max-width: 150ch; }
.report .lede { font-size: 16px; margin: 6px 0 2px; }
.report .says, .report .made, .report .notes { color: var(--r-muted); font-size: 13px; }
.report .caution { color: var(--r-warn); background: var(--r-warn-paper); border-left: 3px solid currentColor; padding: 5px 10px; font-size: 13px; max-width: 100ch; box-sizing: border-box; }
.report .empty { color: var(--r-muted); font-size: 13px; padding: 8px 12px; border: 1px dashed var(--r-line); border-radius: 6px; max-width: none; }
.report .empty code { overflow-wrap: anywhere; color: var(--r-ink); }
.report code, .report pre { font: 12px/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
.report nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 14px 0 0; padding: 0; list-style: none; font-size: 13px; }
.report a { color: var(--r-accent); text-decoration: none; }
.report a:hover { text-decoration: underline; }
.report .scroll { overflow-x: auto; margin: 6px 0; }
.report table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
.report th, .report td { padding: 2px 22px 2px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--r-grid); unicode-bidi: isolate; }
.report th:last-child, .report td:last-child { padding-right: 0; }
.report thead th { color: var(--r-muted); font-weight: 600; border-bottom: 1px solid var(--r-line); vertical-align: bottom; }
.report tbody th { font-weight: 500; white-space: nowrap; max-width: 34em; overflow: hidden; text-overflow: ellipsis; }
.report td { overflow-wrap: break-word; max-width: 34em; }
.report .number { text-align: right; white-space: nowrap; }
.report #parts th, .report #parts td { padding-right: 12px; min-width: 0; }
.report td:not(.number) { min-width: 7em; }
.report .differences td + td { min-width: 26em; }
.report .differences td { max-width: 48em; font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 12px; }
.report figure { margin: 6px 0; overflow-x: auto; }
.report figcaption { font-size: 13px; font-weight: 600; margin-bottom: 4px; overflow-wrap: anywhere; }
.report .charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); gap: 4px 28px; }
.report .charts .says { font-size: 12px; line-height: 1.35; }
.report .clouds { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); gap: 0 28px; }
.report .charts img { max-width: 100%; max-height: 340px; background: #ffffff; border-radius: 4px; }
.report .columns th, .report .columns td { padding-right: 12px; }
.report .columns { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(500px, 100%), 1fr)); gap: 0 36px; align-items: start; }
.report .columns > div { min-width: 0; }
.report .columns thead .number { white-space: normal; }
.report .empty ul { margin: 4px 0 0; padding-left: 20px; }
.report .legend { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 10px 0; padding: 0; list-style: none; font-size: 13px; }
.report .legend svg { margin-right: 7px; vertical-align: middle; }
.report details { margin: 8px 0; }
.report summary { cursor: pointer; overflow-wrap: anywhere; }
.report summary h3 { display: inline; }
.report pre { margin: 8px 0; padding: 12px 14px; background: var(--r-raised); border: 1px solid var(--r-line); border-radius: 6px; overflow-x: auto; max-height: 560px; }
.report .facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 18px; margin: 6px 0; font-size: 12.5px; }
@media (min-width: 900px) { .report .facts { grid-template-columns: max-content minmax(0, 1fr) max-content minmax(0, 1fr); } }
.report .facts dt { color: var(--r-muted); }
.report .facts dd { margin: 0; overflow-wrap: anywhere; }
.report footer { margin: 24px 0 20px; padding-top: 12px; border-top: 1px solid var(--r-line); color: var(--r-muted); font-size: 12px; }
@media (max-width: 560px) { .report { padding: 0 12px; } .report .chart.sized { max-width: none; } }
.paper-only { display: none; }
#antiphon { height: min(640px, 92vh); max-width: 1560px; margin: 10px auto; border-top: 1px solid var(--r-line); border-bottom: 1px solid var(--r-line); }
.antiphon-note { max-width: 1132px; margin: 0 auto; color: var(--r-muted); }
"""
_CHARTS = """
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart.sized { width: auto; max-width: 100%; }
.chart text { font: 11px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--r-muted); }
.chart .head { font-weight: 600; font-size: 12px; }
.chart .small { font-size: 9.5px; }
.grid { fill: none; stroke: var(--r-grid); stroke-width: 1; }
.axis { fill: none; stroke: var(--r-muted); stroke-width: 1; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.dot { fill: none; stroke-width: 5; stroke-linecap: round; }
.band { stroke: none; opacity: 0.2; }
.bar { fill: var(--r-bar); }
.bar.less { fill: var(--r-less); }
.bar.weak { opacity: 0.4; }
.whisker { fill: none; stroke: var(--r-whisker); stroke-width: 1.3; }
.chart .tick { fill: var(--r-tick); }
.end { fill: none; stroke: var(--r-end); stroke-width: 3; }
.episode { fill: none; stroke: var(--r-ink); stroke-width: 1.2; stroke-dasharray: 5 3; }
.unread { fill: none; stroke: var(--r-ink); stroke-width: 1.1; }
.age { stroke: var(--r-line); stroke-width: 0.7; }
.age.a0 { fill: var(--r-paper); } .age.a1 { fill: var(--r-s0); } .age.a2 { fill: var(--r-s1); } .age.a3 { fill: var(--r-s2); }
.chart .in { fill: var(--r-ink); }
.base { fill: none; stroke: var(--r-line); stroke-width: 2; }
.plane { fill: none; stroke: var(--r-line); }
.point { fill: none; stroke-width: 4; stroke-linecap: round; stroke-opacity: 0.8; }
.point.none { stroke: var(--r-muted); }
.edge { fill: none; stroke-width: 1.6; } .edge.none { stroke: var(--r-line); }
.edge.late { stroke-dasharray: 5 3; }
.node { fill: var(--r-paper); stroke: var(--r-ink); stroke-width: 1.6; } .node.readout { fill: var(--r-raised); } .node.frozen { stroke-dasharray: 2 2; } .node.placed { stroke-width: 3.5; }
"""
_PAPER = """
@page { margin: 16mm 14mm; }
@media print {
  body { font-size: 10.5pt; }
  .report { max-width: none; padding: 0; }
  .report header { padding-top: 0; }
  .report nav, #antiphon, .antiphon-note, .screen-only { display: none; }
  .paper-only { display: block; }
  .report h2 { margin-top: 22pt; }
  .report h2, .report h3, .report h4, .report figcaption { break-after: avoid; }
  .report figure, .report tr, .report .empty, .report .caution { break-inside: avoid; }
  .report .scroll, .report figure { overflow: visible; }
  .report td { overflow-wrap: anywhere; }
  .report table { font-size: 8.5pt; }
  .report th, .report td { padding-right: 10pt; }
  .report .charts, .report .clouds { grid-template-columns: 1fr 1fr; gap: 4pt 18pt; }
  .report .columns { grid-template-columns: minmax(0, 1fr); }
  .report .columns figure .chart { max-width: 14cm; }
  .report .says, .report .notes, .report .empty, .report .caution { font-size: 8.5pt; }
  details::details-content { content-visibility: visible; }
  .report pre { max-height: none; overflow: visible; white-space: pre-wrap; }
  .bar, .band, .age, .chart .tick, .caution { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def _style() -> str:
    lines = "".join(
        f".c{n} {{ stroke: var(--r-c{n}); }} .f{n} {{ fill: var(--r-c{n}); }} .d{n} {{ stroke-dasharray: {dash}; }}\n"
        for n, dash in enumerate(_DASHES)
    )
    points = "".join(f".k{n} {{ stroke: {colour}; }}\n" for n, colour in enumerate(LABEL_COLOURS))
    shades = "".join(f".s{n} {{ stroke: var(--r-s{n}); }}\n" for n in range(6))
    themes = (
        f":root {{ {_LIGHT} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} .point {{ stroke-opacity: 0.95; }} }}\n"
    )
    return themes + _PAGE + _CHARTS + lines + points + shades + _PAPER


STYLE = _style()
"""CSS of the report; that of the live graph has other names."""
