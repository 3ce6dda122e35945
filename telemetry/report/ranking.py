"""Section that ranks channels by ablation loss and by the value of their learning signals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from antiphon.telemetry.channels.explanations import EXPLANATIONS
from antiphon.telemetry.report.chart import Bar, bars
from antiphon.telemetry.report.html import Html, element, figure, interval, number, section, signed, table
from antiphon.telemetry.report.run import ReportRun
from antiphon.telemetry.verdicts import (
    VERDICTS,
    Measure,
    Verdict,
    in_words,
    measuring_command,
    signal_caution,
    worth,
)

__all__ = ["Measurement", "ablation_of", "ranking", "value_of"]

_MOST = 20
"""Channels in a chart and a table."""
_COMMANDS = 4
"""Commands, at most."""
_ALIGNMENT = ("cosine", "cosine_ceiling", "parameter_cosine")
"""Figures of alignment beside a value."""


class Measurement(NamedTuple):
    """Measurement of a run's channels.

    Attributes:
        bars: Of channels, in their order.
        about: How it was measured.
        headings: Of the table's further columns.
        cells: The table's further cells, by channel.
        notes: On some of the channels.
    """

    bars: Sequence[Bar]
    about: str
    headings: Sequence[str] = ()
    cells: Mapping[str, Sequence[str]] = {}
    notes: Sequence[str] = ()


def ranking(runs: Sequence[ReportRun]) -> Html:
    """Return the rankings of measured runs, and the commands that measure the others."""
    talking = [run for run in runs if _has_channels(run)]
    found = [(run, ablation_of(run), value_of(run)) for run in talking]
    blocks = []
    for run, ablation, value in found:
        parts = [
            _measured(metric, measurement)
            for metric, measurement in (("ablation", ablation), ("value", value))
            if measurement is not None
        ]
        if parts:
            head = element("h3", run.name) if len(talking) > 1 else None
            blocks.append(element("div", head, *parts[:1]))
            blocks += [element("div", part) for part in parts[1:]]
    missing: list[tuple[ReportRun, Measure]] = [
        (run, "ablation") for run, ablation, _ in found if ablation is None
    ]
    whole = [
        run for run in talking if run.facts.get("exit") != "diverged"
    ]  # a fork of a run with channels has them too
    missing += [(run, "value") for run, _, value in found if value is None and run in whole]
    if missing:
        blocks.append(_commands(missing))
    if not talking:
        blocks.append(element("p", "No run has channels.", class_="empty"))
    says = (
        "Which channels matter. Loss by ablation: by how much the readouts' loss rises when a channel's messages are "
        "taken away. Value: what its learning signal is worth, 1 as much as the true gradient, 0 nothing, below 0 harm. "
        f"{VERDICTS['matters'].counted.capitalize()}: {_lower(VERDICTS['matters'].says)} "
        f"{VERDICTS['harms'].counted.capitalize()}: {_lower(VERDICTS['harms'].says)} Pale: {_lower(VERDICTS['unresolved'].says)}"
    )
    return section("ranking", "Value and ablation", says, element("div", *blocks, class_="columns"))


def ablation_of(run: ReportRun) -> Measurement | None:
    """Return the losses by ablation of a run's channels, most needed first; None: not measured."""
    measured = run.measured.get("ablation")
    found = {}
    metrics: dict[str, dict[str, str]] = {}
    for name, changes in _ablated(measured):
        loss = _Change.of(changes.get("loss"))
        if loss is not None:
            found[name] = loss.bar(name)
            metrics[name] = {str(m): _worded(m, _Change.of(changes[m])) for m in changes if m != "loss"}
    if not found:
        return _from_table(run, "ablation", "Newest figures of metrics.csv.")
    others = list(dict.fromkeys(metric for changes in metrics.values() for metric in changes))
    headings = [f"{metric}, points" if metric == "accuracy" else metric for metric in others]
    cells = {name: [changes.get(metric, "–") for metric in others] for name, changes in metrics.items()}
    assert isinstance(measured, Mapping)
    about = f"Messages replaced by {measured.get('kind', 'something')}, {measured.get('split', 'test')} split"
    about += _at(measured) + ", 95 % interval over examples."
    return Measurement(_ordered(found.values()), about, headings, cells)


def value_of(run: ReportRun) -> Measurement | None:
    """Return the values of a run's channels, largest first, that of all together on top; None: not measured."""
    measured = run.measured.get("value")
    rows = measured.get("rows") if isinstance(measured, Mapping) else None
    alignment = measured.get("alignment") if isinstance(measured, Mapping) else None
    alignment = alignment if isinstance(alignment, Mapping) else {}
    found, cells, notes = {}, {}, []
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, Mapping) or not isinstance(row.get("name"), str):
            continue
        name = row["name"]
        found[name] = _bar(name, *(_finite(row.get(key)) for key in ("value", "low", "high")))
        like = alignment.get(name)
        like = like if isinstance(like, Mapping) else {}
        cells[name] = [number(_finite(row.get(key))) for key in ("zero", "synthetic", "true")]
        cells[name] += [number(_finite(like.get(key))) for key in _ALIGNMENT]
        caution = signal_caution(*(_finite(like.get(key)) for key in ("cosine", "parameter_cosine")))
        if caution is not None:
            notes.append(f"{name}: {caution}")
        if row.get("why"):
            notes.append(f"{name}: {row['why']}")
    if not found:
        return _from_table(run, "value", "Newest figures of metrics.csv.")
    assert isinstance(measured, Mapping)
    first = next(iter(found))
    total = [found.pop(first)] if first not in _channels(run) and len(found) > 1 else []
    about = f"Measured in forks over {measured.get('horizon', '?')} steps{_at(measured)}, 95 % interval over repeats."
    headings = ["loss, no signal", "loss, its own", "loss, true", "cosine", "its ceiling", "of parameters"]
    return Measurement([*total, *_ordered(found.values())], about, headings, cells, notes)


# --- reading ------------------------------------------------------------------------------------------------


def _ablated(measured: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the changes of the readouts by channel."""
    channels = measured.get("channels") if isinstance(measured, Mapping) else None
    found = []
    for name, changes in channels.items() if isinstance(channels, Mapping) else ():
        readouts = changes.get("readouts") if isinstance(changes, Mapping) else None
        if isinstance(readouts, Mapping):
            found.append((str(name), readouts))
    return found


class _Change(NamedTuple):
    """A mean change, and half the width of its interval."""

    middle: float
    half: float | None

    @classmethod
    def of(cls, measured: Any) -> _Change | None:
        """Read a change; None where there is none."""
        middle = _finite(measured.get("change")) if isinstance(measured, Mapping) else None
        return None if middle is None else cls(middle, _finite(measured.get("half")))

    def bar(self, name: str) -> Bar:
        """Return the change as a bar."""
        if self.half is None:
            return _bar(name, self.middle, None, None)
        return _bar(name, self.middle, self.middle - self.half, self.middle + self.half)


def _worded(metric: str, change: _Change | None) -> str:
    """Format a change of a metric with half of its interval; of an accuracy in points."""
    if change is None:
        return "–"
    factor = 100 if metric == "accuracy" else 1
    half = "" if change.half is None else f" ± {number(factor * change.half, 2)}"
    return signed(factor * change.middle) + half


def _from_table(run: ReportRun, metric: str, about: str) -> Measurement | None:
    """Return the measurement logged in the run's metrics.csv."""
    found, steps = [], set()
    for name, figures in run.table.measured.items():
        if metric not in figures:
            continue
        steps.add(figures[metric][0])
        ends = [figures[end][1] if end in figures else None for end in (f"{metric}_low", f"{metric}_high")]
        found.append(_bar(name, *(_finite(number_) for number_ in (figures[metric][1], *ends))))
    if not found:
        return None
    when = (
        f"step {max(steps):,}"
        if len(steps) == 1
        else f"each channel's own, steps {min(steps):,} to {max(steps):,}"
    )
    return Measurement(_ordered(found), f"{about[:-1]}, {when}.")


def _bar(name: str, middle: float | None, low: float | None, high: float | None) -> Bar:
    return Bar(name, middle, low, high, worth(low, high) == "unresolved")


def _ordered(rows: Any) -> list[Bar]:
    return sorted(rows, key=lambda row: -math.inf if row.value is None else row.value, reverse=True)


def _finite(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _channels(run: ReportRun) -> set[str]:
    measured = run.result.get("channels")
    names = set(measured) if isinstance(measured, Mapping) else set()
    return names | (
        set() if run.data is None else {channel["name"] for channel in run.data.graph["channels"]}
    )


def _has_channels(run: ReportRun) -> bool:
    return bool(_channels(run) or run.measured or run.table.measured or run.table.channels)


def _at(measured: Mapping[str, Any]) -> str:
    step = measured.get("step")
    return f", after {step:,} steps" if isinstance(step, int) else ""


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


# --- drawing ------------------------------------------------------------------------------------------------


def _measured(metric: str, found: Measurement) -> Html:
    """Return chart and table of one measurement."""
    info = EXPLANATIONS["channel"][metric]
    chosen = found.bars[:_MOST]
    marks = (0.0, 1.0) if metric == "value" else (0.0,)
    drawing = bars(chosen, across=info.title, title=f"{info.title}, by channel", marks=marks)
    more = len(found.bars) - len(chosen)
    about = found.about + (f" {more:,} more channels are not shown." if more else "")
    notes = [element("li", note) for note in found.notes[:_MOST]]
    return element(
        "div",
        figure(drawing, f"{info.title.capitalize()}{_verdicts(found.bars)}", about, info.caution),
        _numbers(info.title, chosen, found) if found.headings else None,
        element("ul", *notes, class_="notes") if notes else None,
    )


def _verdicts(rows: Sequence[Bar]) -> str:
    """Return how many channels matter and harm; nothing where no interval tells."""
    found: dict[Verdict, int] = dict.fromkeys(("matters", "harms", "unresolved"), 0)
    for row in rows:
        verdict = worth(row.low, row.high)
        if verdict is not None:
            found[verdict] += 1
    return f": {in_words(found, len(rows))}" if any(found.values()) else ""


def _numbers(title: str, chosen: Sequence[Bar], found: Measurement) -> Html:
    """Return the table behind a chart, folded: what the chart has no room for."""
    headings = ["channel", title, "95 % interval", *found.headings]
    rows = [[bar.name, _middle(bar), _interval(bar), *found.cells.get(bar.name, ())] for bar in chosen]
    numbers = table(headings, rows, numbers=range(1, len(headings)))
    return element("details", element("summary", f"Numbers: {', '.join(found.headings)}"), numbers)


def _commands(missing: Sequence[tuple[ReportRun, Measure]]) -> Html:
    """Return the missing measurements, and their commands, by run."""
    wanted: dict[str, list[Measure]] = {}
    for run, measure in missing:
        wanted.setdefault(run.path, []).append(measure)
    what = " and ".join(dict.fromkeys(EXPLANATIONS["channel"][measure].title for _, measure in missing))
    lines = [
        element("li", element("code", measuring_command(path, measures)))
        for path, measures in list(wanted.items())[:_COMMANDS]
    ]
    more = len(wanted) - len(lines)
    if more > 0:
        lines.append(element("li", f"and so for {more} more runs"))
    text = f"Not measured in {len(wanted)} run{'s' * (len(wanted) > 1)}: {what}. This measures it:"
    return element("div", text, element("ul", *lines), class_="empty")


def _middle(bar: Bar) -> str:
    return "undefined" if bar.value is None else number(bar.value)


def _interval(bar: Bar) -> str:
    return "–" if bar.low is None or bar.high is None else interval(bar.low, bar.high)
