"""The table of a study: as cells for a terminal, as table.md and as table.csv."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from antiphon.engine.studies.plan import worded
from antiphon.engine.studies.summary import DETACHED, LOCKED
from antiphon.files import write_csv, write_text
from antiphon.scenarios.training import OF_TRAINING, RETURN, less_is_better, split_metric

__all__ = [
    "cells",
    "columns",
    "common_remarks",
    "heading",
    "is_share",
    "metric_name",
    "named",
    "remarks",
    "rows",
    "views",
    "write_tables",
]

_INTERVAL = "95 % interval"
_RECOVERED = "recovered [95 %]"
_IQM = "IQM [95 %]"
_METRICS = {"train_loss": "Loss", "excess_loss": "Loss, less the least that a linear model can have,"}
"""What a metric is called in a sentence, where that is not its name."""
_LOCKED_STEPS = "steps to locked"
Cell = Callable[[Mapping[str, Any]], str]
"""Writes one column of a line."""


def columns(study: Mapping[str, Any]) -> list[str]:
    """Return the headings: of what tells lines apart, then of numbers (from `named` on)."""
    return [heading for heading, _ in _columns(study)]


def cells(study: Mapping[str, Any]) -> list[list[str]]:
    """Return a row of text for each line, in the order of `columns`."""
    found = _columns(study)
    return [[cell(line) for _, cell in found] for line in study["lines"]]


def _columns(study: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """Return heading and cell of every column; some are there only where a line has something of the kind."""
    curves = _curves(study)
    found: list[tuple[str, Cell]] = [
        *_name_columns(study),
        (metric_name(study), partial(_mean, study)),
        (_INTERVAL, lambda line: _range(line["ours"], *_digits(study, interval=True))),
    ]
    if _has(study, "iqm"):
        found.append((_IQM, partial(_iqm, study)))
    if _has(study, "paper"):
        found.append(("paper", partial(_paper, study)))
    found.append(("n", lambda line: str(line["n"])))
    if study["bound"] is not None:
        found.append((_bound(study), lambda line: f"{line['within']} of {len(line['runs'])}"))
    if _has(study, "contrast"):
        found.append((_RECOVERED, _recovered))
    if curves:
        found.append((_LOCKED_STEPS, lambda line: _steps(curves.get(_place(line)))))
    return [*found, ("seconds", _seconds)]


def _name_columns(study: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    """Yield the columns that tell lines apart."""

    def value(kind: str, name: str) -> Cell:
        return lambda line: worded(line[kind][name]) if name in line[kind] else ""

    def variant(line: Mapping[str, Any]) -> str:
        return f"{line['variant']}" + (f" ({line['diverged']} diverged)" if line["diverged"] else "")

    if study["several"]:
        yield "scenario", itemgetter("row")
    yield from ((axis, value("point", axis)) for axis in study["axes"])
    yield "variant", variant
    yield from ((name, value("tuned", name)) for name in study["tuned"])


def views(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a study as one of a single metric, for each of its metrics."""
    return [study, *({**study, **other} for other in study["further"])]


def metric_name(study: Mapping[str, Any]) -> str:
    """Return what a figure of the table is, with its unit."""
    return f"{study['metric'].replace('_', ' ')}{' %' if is_share(study) else ''}"


def is_share(study: Mapping[str, Any]) -> bool:
    """Return whether its figures are shares of examples, written in per cent."""
    return all(line["share"] for line in study["lines"])


def named(study: Mapping[str, Any]) -> int:
    """Return how many columns tell lines apart."""
    return len(list(_name_columns(study)))


def heading(study: Mapping[str, Any]) -> str:
    """Return what stands above the table: name, budget, steps and seeds."""
    budget = "" if study["budget"] == "default" else f", budget {study['budget']}"
    steps = " – ".join(f"{count:,}" for count in dict.fromkeys([min(study["steps"]), max(study["steps"])]))
    seeds = f"{study['seeds']} seed" + ("s" if study["seeds"] != 1 else "")
    return f"{study['study']}{budget}: {steps} steps, {seeds}"


def remarks(study: Mapping[str, Any]) -> list[str]:
    """Return the lines under the table of a metric: what its numbers are."""
    lines = [_of_metric(study), _of_recovered(study)]
    if study["bound"] is not None:
        lines.append(f"{_bound(study)}: how many seeds came to the end and keep to it.")
    if _has(study, "iqm"):
        lines.append("IQM: the mean of the middle half of the seeds; interval: bootstrap over seeds.")
    if _curves(study):
        lines.append(
            f"{_LOCKED_STEPS.capitalize()}: where the curve in training, its mean over seeds smoothed over a twentieth"
            f" of its length, is first as good as that of {LOCKED} in the end."
        )
    return lines


def common_remarks(study: Mapping[str, Any]) -> list[str]:
    """Return the lines under the last table: what goes for all."""
    lines = []
    for name, values in study["tuned"].items():
        listed = ", ".join(worded(value) for value in values)
        lines.append(f"{name}: of {listed}, for each line the one that was best on the validation split.")
    for name in study["fixed"]:
        lines.append(f"{name}: fixed here; it was not chosen on the validation split.")
    if not study["tuned"] and not study["fixed"]:
        lines.append("Learning rates are as the scenario gives them: none was tuned for a variant.")
    sources = dict.fromkeys(line["paper"]["source"] for line in study["lines"] if line["paper"])
    if sources:
        lines.append("Paper, at its own budget: " + "; ".join(sources) + ".")
    for name, error in study["failed"].items():
        lines.append(f"{name}: missing, {error}.")
    return lines


def write_tables(directory: Path, study: Mapping[str, Any]) -> None:
    """Write table.csv and table.md; RunError where they cannot be written."""
    write_csv(directory / "table.csv", rows(study))
    lines = [f"# {heading(study)}"]
    for view in views(study):
        names = columns(view)
        rules = ["---"] * named(view) + ["---:"] * (len(names) - named(view))
        lines += ["", _line(names), _line(rules), *(_line(row) for row in cells(view))]
        lines += [text for remark in remarks(view) for text in ("", remark)]
    lines += [text for remark in common_remarks(study) for text in ("", remark)]
    write_text(directory / "table.md", "\n".join(lines) + "\n")


def rows(study: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Yield the headings, and a row of numbers, unrounded, for every line of every table."""
    tuned = list(study["tuned"])
    middle = ("value", "low", "high") if any(_has(view, "iqm") for view in views(study)) else ()
    yield [
        *("row", *study["axes"], "variant", *tuned, "n", "diverged"),
        *("metric", "mean", "sd", "low", "high", "bound", "within", "paper", "paper_sure"),
        *("recovered", "recovered_low", "recovered_high", "steps_to_locked", "seconds"),
        *("iqm" if key == "value" else f"iqm_{key}" for key in middle),
    ]
    for view, line in ((one, line) for one in views(study) for line in one["lines"]):
        ours, share, paper = line["ours"] or {}, line["recovered"] or {}, line["paper"] or {}
        undefined = "undefined" if _unresolved(line) else None
        yield [
            line["row"],
            *(line["point"].get(axis) for axis in study["axes"]),
            line["variant"],
            *(line["tuned"].get(name) for name in tuned),
            *(line["n"], line["diverged"], view["metric"]),
            *(ours.get(key) for key in ("value", "sd", "low", "high")),
            *(view["bound"], line["within"]),
            *(paper.get(key) for key in ("value", "sure")),
            *(share.get("value", undefined), share.get("low"), share.get("high")),
            _curves(view).get(_place(line), {}).get("steps_to_locked"),
            None if line["seconds"] is None else round(line["seconds"], 3),
            *((line["iqm"] or {}).get(key) for key in middle),
        ]


def _has(study: Mapping[str, Any], key: str) -> bool:
    return any(line[key] is not None for line in study["lines"])


def _of_metric(study: Mapping[str, Any]) -> str:
    what = split_metric(study["metric"])[1]
    metric = _METRICS.get(what, what.replace("_", " ").capitalize())
    split = "training" if what in OF_TRAINING else "test"
    whose = "the readout" if study["of"] == "readout" else study["of"]
    where = f"of {whose} on the {split} split"
    if what == RETURN:
        where = f"of {whose} over whole episodes, greedy"
    if study["of"] == "environment":
        where = "as the environment says at the end of the training"
    one_seed = "Wilson's, of the split (one seed)" if is_share(study) else "none (one seed)"
    several = max((line["n"] for line in study["lines"]), default=0) > 1
    interval = "Student's t over seeds" if several else one_seed
    return f"{metric} {where}; interval: {interval}. Seconds: mean per run."


def _bound(study: Mapping[str, Any]) -> str:
    """Return the heading of what keeps to the bound: `≤ 40 %`."""
    factor = 100 if is_share(study) else 1
    sign = "≤" if less_is_better(study["metric"]) else "≥"
    return f"{sign} {factor * study['bound']:.6g}{' %' if is_share(study) else ''}"


def _place(of: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what tells a line, or a curve, from others."""
    return of["row"], str(of["point"]), of["variant"]


def _curves(study: Mapping[str, Any]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Return the curves that belong to the table by line: of its metric, or else of the agent that it is of.

    None where no line is called locked: there is nothing to come up to.
    """
    if not any(line["variant"] == LOCKED for line in study["lines"]):
        return {}
    curves, what = study["curves"], split_metric(study["metric"])[1]
    own = [c for c in curves if c["metric"] in (study["metric"], f"{study['agent']}.{what}")]
    near = [
        curve for curve in curves if study["agent"] and split_metric(curve["metric"])[0] == study["agent"]
    ]
    first = (own or near)[:1]
    return {_place(curve): curve for curve in curves if first and curve["metric"] == first[0]["metric"]}


def _steps(curve: Mapping[str, Any] | None) -> str:
    if curve is None:
        return "–"
    return "never" if curve["steps_to_locked"] is None else f"{curve['steps_to_locked']:,}"


def _of_recovered(study: Mapping[str, Any]) -> str:
    gaps = {(line["row"], str(line["point"])): line["contrast"] for line in study["lines"]}
    found = [gap for gap in gaps.values() if gap is not None]
    if not found:
        return f"Recovered needs the variants {LOCKED} and {DETACHED}."
    margin = f"{LOCKED} - {DETACHED}"
    several = any(line["n"] > 1 for line in study["lines"])
    formula = f"Recovered: (variant - {DETACHED}) / ({margin})"
    over = "; interval: bootstrap over seeds, paired" if several else ""
    if len(gaps) > 1:
        return f"{formula} of the same line but for the variant{over}; undefined where {margin} is within three standard errors."
    size = _margin(study, found[0])
    if not found[0]["resolved"]:
        return f"Recovered is undefined: {margin} is within three standard errors ({size})."
    return f"{formula}{over}. {margin}: {size}."


def _margin(study: Mapping[str, Any], gap: Mapping[str, Any]) -> str:
    if is_share(study):
        return f"{100 * gap['difference']:.1f} points, standard error {100 * gap['error']:.2f}"
    return f"{gap['difference']:.4g}, standard error {gap['error']:.2g}"


def _unresolved(line: Mapping[str, Any]) -> bool:
    return line["contrast"] is not None and not line["contrast"]["resolved"]


def _recovered(line: Mapping[str, Any]) -> str:
    if line["recovered"] is None:
        return "undefined" if _unresolved(line) else "–"
    interval = "" if line["variant"] in (LOCKED, DETACHED) else _range(line["recovered"], 1, 2)
    return _number(line["recovered"]["value"], 2) + (f" [{interval}]" if interval else "")


def _number(value: float, digits: int) -> str:
    """Write a number with some digits after the point; a zero has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _digits(study: Mapping[str, Any], *, interval: bool = False) -> tuple[float, int]:
    """Return what a figure is multiplied by, and how many digits follow the point."""
    if is_share(study):
        return 100, 1 if interval else 2
    return 1, 2 if study["of"] == "environment" or split_metric(study["metric"])[1] == RETURN else 5


def _mean(study: Mapping[str, Any], line: Mapping[str, Any]) -> str:
    estimate = line["ours"]
    if estimate is None:
        return "–"
    factor, digits = _digits(study)
    deviation = "" if estimate["sd"] is None else f" ± {factor * estimate['sd']:.{digits}f}"
    return _number(factor * estimate["value"], digits) + deviation


def _iqm(study: Mapping[str, Any], line: Mapping[str, Any]) -> str:
    if line["iqm"] is None:
        return "–"
    factor, digits = _digits(study)
    value = _number(factor * line["iqm"]["value"], digits)
    return f"{value} [{_range(line['iqm'], *_digits(study, interval=True))}]"


def _paper(study: Mapping[str, Any], line: Mapping[str, Any]) -> str:
    if line["paper"] is None:
        return ""
    value = line["paper"]["value"]
    figure = f"{100 * value:.10g}" if is_share(study) else _number(value, _digits(study)[1])
    return f"{figure} ({line['paper']['sure']})"


def _range(estimate: Mapping[str, Any] | None, factor: float, digits: int) -> str:
    if estimate is None or estimate["low"] is None:
        return ""
    return " – ".join(_number(factor * estimate[end], digits) for end in ("low", "high"))


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"


def _seconds(line: Mapping[str, Any]) -> str:
    seconds = line["seconds"]
    return "–" if seconds is None else f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
