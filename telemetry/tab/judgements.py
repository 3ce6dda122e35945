"""What is known of each of a run's channels: verdicts, worth, the best hint at the cause and what to try. For reports and the terminal."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from antiphon.telemetry.causes import (
    BAD,
    FAST_IF_POOR,
    common_hints,
    culprits,
    hints_if_poor,
    hints_of,
    hints_of_run,
)
from antiphon.telemetry.tab.seeds import agreement
from antiphon.telemetry.tab.series import RunData, Series
from antiphon.telemetry.tab.tags import LOST_SIGNALS, MEAN, REASONS
from antiphon.telemetry.tab.tags import VERDICTS as VERDICT_FLAGS
from antiphon.telemetry.tab.verdict_series import derived_series
from antiphon.telemetry.verdicts import (
    ALIGNMENT_GRADES,
    DOUBTS,
    FLAGS,
    LEARNED,
    MEANS,
    MEASURES,
    SLIGHT,
    UNFOUND,
    VERDICTS,
    Hint,
    Measure,
    Verdict,
    bounds,
    doubt,
    fullest_first,
    lost_signals_texts,
    most_by_chance,
    newest_row,
    worth,
)

_OVER_OWN_LINKS = "evaluate --links as_run"
_PLACE = re.compile(r"\{(1/)?(\w+)( median)?\}")


class Worth(NamedTuple):
    """A channel's result of a measure of worth, at the step that the tab shows first: the number, its interval, the verdict, what each
    of several seeds finds by itself (`agreement`), and why the verdict is doubted (`doubt`).
    """

    value: float
    low: float
    high: float
    verdict: Verdict | None
    seeds: str = ""
    doubt: str = ""


class Judgement(NamedTuple):
    """What is known of a channel.

    Attributes:
        verdicts: The words of its verdicts, that of the first measure first.
        worth: By measure, if it has a result.
        cause: The best hint at the cause if it is bad, or learns too fast; empty: there is none, or it is the run's.
        fix: What to try; may be empty.
        bad: Whether a verdict is bad, and not one that may be chance.
        of_run: The best hint, where that is said of the run (`run_sentences`); None: it is not.
        named: Whether what is said of the run names it.
        doubtful: Whether a verdict is bad, though it may be chance.
        cosine: The mean over the newest log entries, as the tab has it; nan: there is none.
        lowest: Of a signal that points against the gradient its lowest alignment, by which the tab orders them; nan: of others.
    """

    channel: str
    verdicts: list[str]
    worth: Mapping[Measure, Worth]
    cause: str = ""
    fix: str = ""
    bad: bool = False
    of_run: Hint | None = None
    named: bool = False
    doubtful: bool = False
    cosine: float = math.nan
    lowest: float = math.nan


def judgements(data: RunData) -> list[Judgement]:
    """Return what is known of a run's channels, in order; empty if no metric allows a verdict."""
    channels = data.graph["channels"]
    if (flagged := _derived(data, VERDICT_FLAGS)) is None:
        return []
    worths, at = _worths(data)
    flags, reasons = (
        np.nan_to_num(_row(series, at, len(channels))) for series in (flagged, _derived(data, REASONS))
    )
    metrics = {metric: _row(data.read("channel", metric), at, len(channels)) for _, metric in data.metrics}
    for metric in MEANS:
        if (series := _derived(data, (MEAN, metric))) is not None:
            metrics[metric] = _row(series, at, 3 * len(channels))[: len(channels)]
    known = data.known_graph
    hints, common, early = hints_of(known), common_hints(known), known.get("early", "")
    faulty = culprits(known)
    zero, true = (_row(data.read("channel", name), at, len(channels)) for name in ("loss_zero", "loss_true"))
    gained = zero > true
    chance = {measure: _by_chance(results) for measure, results in worths.items()}
    judged = []
    for index, channel in enumerate(channels):
        channel_flags = int(flags[index])
        channel_worths = {
            measure: _doubted(measure, results[index], channel_flags, chance[measure])
            for measure, results in worths.items()
            if np.isfinite(results[index].value)
        }
        besides = [name for name, bit in FLAGS[""].items() if channel_flags & bit]
        told = [(result.verdict, result.doubt) for result in channel_worths.values() if result.verdict]
        told += [
            (name, (early if name in LEARNED else "") or doubt(channel_flags, name, by_chance=False))
            for name in besides
        ]
        names = [name for name, _ in told]
        words = [f"{VERDICTS[name].one or name}{f' ({why})' if why else ''}" for name, why in told]
        bad, reason = _is_bad(names, gained=bool(gained[index])), int(np.nan_to_num(reasons[index]))
        asked = [
            (cause, texts[index])
            for cause, texts in hints
            if texts[index]
            and ((bad and not cause.alone) or cause.always or any(name in cause.also for name in names))
            and (not cause.flag or reason & cause.flag)
        ]
        best, hint = next(iter(asked), (None, None))
        # Another one beside the run's would be a second advice.
        of_run, hint = (hint, None) if best is FAST_IF_POOR or hint in common else (None, hint)
        cause, fix = ("", "") if hint is None else (_filled(clause, index, metrics) for clause in hint)
        ill = any(VERDICTS[name].side < 0 and not why for name, why in told)
        doubtful = any(VERDICTS[name].side < 0 for name, _ in told)
        cosine = float(metrics["cosine"][index]) if "cosine" in metrics else math.nan
        of_channel = channel["name"], words, channel_worths, cause, fix, ill, of_run, index in faulty
        below = [
            float(metrics[signal.metric][index])
            for signal in ALIGNMENT_GRADES
            if "against" in names and signal.metric in metrics
        ]
        lowest = min((value for value in below if value < 0), default=math.nan)
        judged.append(Judgement(*of_channel, doubtful=doubtful, cosine=cosine, lowest=lowest))
    return judged


def run_sentences(data: RunData) -> list[str]:
    """Return what is said once of a run: that its signals follow nothing (`lost_signals`), `hints_of_run`, and `hints_if_poor` where the median
    cosine is poor; last that it is not resolved whether they follow."""
    flags = _row(_derived(data, REASONS), np.inf, len(data.graph["channels"]))
    quick = (
        hints_if_poor(data.graph)
        if any(int(flag) & FAST_IF_POOR.flag for flag in np.nan_to_num(flags))
        else []
    )
    known = data.known_graph
    told, lost = [*hints_of_run(known), *quick], lost_of(data)
    # What agents whose steps are too long return is not worth following.
    first = len(told) if _medians(data)[6] == 1 else int("overshooting" in known)
    return [*told[:first], *lost, *told[first:]]


def with_command(data: RunData, text: str) -> str:
    """Return what is said of a run with its command in full where it advises to score the run over its own links."""
    if _OVER_OWN_LINKS not in text:
        return text
    command = data.catalogue()["verdicts"]["as_run"]
    return text.replace(_OVER_OWN_LINKS, command) if command else text


def lost_of(data: RunData) -> list[str]:
    """Return the sentence on learning signals that do not follow the returned gradients at the newest step, or may not; none: they do, or it is not known."""
    numbers = _medians(data)
    if not np.isfinite(numbers[6]):
        return []
    rounded = numbers.round(4) + 0.0  # rounding alone is no number, nor is −0
    texts = [
        f"{value:.3g} [{low:.3g}, {high:.3g}]".replace("-", "−")
        for value, low, high in rounded[:6].reshape(2, 3)
    ]
    return [lost_signals_texts(data.graph)[int(numbers[6])].format(cosine=texts[0], r2=texts[1])]


def median_cosine(data: RunData) -> float:
    """Return the median cosine of a run's learning signals at the step of `judgements`, as the tab says it there; nan: there is none."""
    return float(_row(data.metrics.get(LOST_SIGNALS), _worths(data)[1], 7)[0])


def _medians(data: RunData) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the newest entry of `lost_signals`; nan where there is none."""
    return _row(data.metrics.get(LOST_SIGNALS), np.inf, 7)


def _by_chance(results: Collection[Worth]) -> set[Verdict]:
    """Return the verdicts of a measure that no more channels have than intervals of 95 % lie on one side of 0 by chance."""
    counts = Counter(result.verdict for result in results if result.verdict is not None)
    return {
        name
        for name, count in counts.items()
        if VERDICTS[name].side and count <= most_by_chance(counts.total())
    }


def _doubted(measure: Measure, result: Worth, flags: int, chance: Collection[Verdict]) -> Worth:
    """Return a result with why its verdict is doubted, or a value of one of several seeds; `chance`: verdicts that no more channels have than by
    chance."""
    if result.verdict is None:
        return result._replace(doubt=DOUBTS["slight"] if measure == "value" and flags & SLIGHT else "")
    by_chance = result.verdict in chance or re.search(UNFOUND, result.seeds) is not None
    return result._replace(doubt=doubt(flags, result.verdict, by_chance=by_chance))


def _is_bad(names: Collection[Verdict], *, gained: bool) -> bool:
    """Return whether verdicts ask for a fix: worse than no signal only where the true gradient would gain (`gained`)."""
    return any(name in BAD and (gained or name != "worse") for name in names)


def _derived(data: RunData, key: tuple[str, str]) -> Series | None:
    """Return a metric that follows from others (`derived_series`), of a run or of seeds."""
    pooled = partial(data.read, MEAN) if data.graph.get("seeds") else None
    return derived_series(partial(data.read, "channel"), data.graph, key, pooled)


def _worths(data: RunData) -> tuple[dict[Measure, list[Worth]], float]:
    """Return the results of all channels by measure, and the step that the tab opens at (`fullest_first`); the last one where there is none."""
    worths: dict[Measure, list[Worth]] = {}
    for measure in MEASURES:
        series = [data.read("channel", metric) for metric in (measure, *bounds(measure))]
        if any(entries is None for entries in series):
            continue
        middle, low, high = (entries for entries in series if entries is not None)
        row = newest_row(low.values, high.values)
        numbers = [entries.values[row].astype(float).tolist() for entries in (middle, low, high)]
        seeds = agreement(data, measure, float(low.steps[row])) or [""] * low.values.shape[1]
        worths[measure] = [
            Worth(value, least, most, worth(measure, least, most), by)
            for value, least, most, by in zip(*numbers, seeds, strict=True)
        ]
    opens = next(iter(fullest_first(data.results)), None)
    return worths, np.inf if opens is None else data.results[opens].step


def _row(series: Series | None, step: float, items: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the newest values at a step; nan where there are none."""
    rows = 0 if series is None else int(np.searchsorted(series.steps, step, side="right"))
    return np.full(items, np.nan) if series is None or not rows else series.values[rows - 1].astype(float)


def _filled(
    clause: str,
    index: int,
    metrics: Mapping[str, np.ndarray[tuple[int], np.dtype[np.float64]]],
) -> str:
    """Put a channel's numbers into a clause of a `Hint`."""

    def text(match: re.Match[str]) -> str:
        inverse, name, median = match.groups()
        values = metrics.get(name, np.full(index + 1, np.nan))
        value = float(np.nanmedian(values)) if median else float(values[index])
        return f"{1 / value:.1g}" if inverse else f"{value:.3g}".replace("-", "−")

    return _PLACE.sub(text, clause)
