"""Verdicts on channels: one-word summaries of their metrics; and cautions on metrics that mislead.

Their thresholds and words are defined here alone, for the Channels tab, the report and the commands.

Verdicts of worth follow from the 95 % interval of a measure (`MEASURES`). By its value (semantics 36) a learning signal *helps* or
*harms*; by the loss by ablation, what the readouts lose without them, messages *matter* or *mislead*. An interval
that contains 0 is evidence of neither: *unresolved*. *against*, *stale*, *silent* and *faint* follow from the metrics that every run logs.

Pure functions of numbers, without torch; `graph` is everywhere the graph of the Channels tab.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import gcd
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from antiphon.base.by_key import by_key
from antiphon.base.imports import with_imports
from antiphon.telemetry.statistics import FEWEST, student_t

Verdict: TypeAlias = Literal[
    "helps",
    "harms",
    "worse",
    "better",
    "matters",
    "misleads",
    "unresolved",
    "against",
    "broken",
    "misguessed",
    "stale",
    "silent",
    "faint",
]
Measure: TypeAlias = Literal["value", "ablation_zero", "ablation_mean", "ablation_resample", "ablation_step"]
Values: TypeAlias = NDArray[np.floating[Any]]

ABLATION_METRICS: dict[Measure, str] = {
    "ablation_zero": "ablation (zero)",
    "ablation_mean": "ablation (mean)",
    "ablation_resample": "ablation (resample)",
    "ablation_step": "ablation (step)",
}
"""The loss by ablation, by what messages are replaced with, and its name: removals first, as messages of another step have all
that holds throughout an episode."""
MEASURES: dict[Measure, str] = {"value": "value", **ABLATION_METRICS}
"""Metrics that measure a channel's worth, each with an interval (`bounds`), and their names."""
OWN_GAIN = "own_gain"
"""The loss with no signal minus that with the channel's own, with an interval: it tells of channels without a value."""
_STALE = 4
"""The least age of a stale message, in ticks of its sender."""
_LATER = 2
"""The least ratio of a stale message's age to the median channel's without losses: if all links are long, that is the system's timing."""
_SILENT = 0.01
"""Share of the median energy below which a message carries nothing."""
_CONSTANT = 1e-6
"""Share of a message's energy below which its spread is rounding."""
FEW_ENTRIES = 4
"""Log entries of one batch each whose mean counts, at least."""
MEANS = ("cosine", "r2", "norm_ratio")
"""Metrics of one batch, whose mean over the newest log entries counts (`spanning`)."""
_ONE_SIDED = 40
"""Channels of whose intervals of 95 % one lies on one side of 0 by chance."""
_ABSURD = 10.0
"""Times of the returned gradient from which a prediction has nothing to do with it, if R² is at most"""
_UNFIT = -100.0
"""this."""
_SLIGHT = 0.001
"""Share of the loss with no signal below which a gain is too small to rank channels by."""
DOUBTS = {"chance": "may be chance", "slight": "gain unresolved or tiny", "broken": "its predictor is broken"}
"""Why a verdict of worth is doubted (`doubt`), in words behind it."""
LEARNED: tuple[Verdict, ...] = ("broken", "against", "faint")
"""Verdicts on what a predictor has learned, which are doubted where it is `early` in a run."""
UNFOUND = r"^[\d,]+ unresolved$"
"""What `agreement` says of a channel that no seed judges by itself: its verdict over seeds is doubted. For Python's and JavaScript's `RegExp`."""
_RARE = ("worse", "better", "broken", "misguessed", "against", "faint")
"""Verdicts that are not counted where no channel has them."""
LOSSY = 0.25
"""Share of lost messages from which what is read in their place is a hint."""
_MISGUESSED = 0.5
"""Share of the loss of zeros from which a synthetic input hardly knows the message."""
_FAINT = 0.05
"""Share of the norm of the returned gradient below which hardly anything of it is injected."""
_VANISHED = 0.01
"""Share of the median channel's returned gradient below which hardly anything returns."""
_SAME = 0.01
"""Entropy in bits below which a symbol is always the same one."""


class Definition(NamedTuple):
    """Definition of a verdict.

    Attributes:
        counted: The word after a number of channels: "3 harm".
        says: Its meaning, in one sentence.
        one: What stands there after 1; empty: the same.
        side: 1: good, -1: bad, 0: neither.
    """

    counted: str
    says: str
    one: str = ""
    side: Literal[-1, 0, 1] = 0


VERDICTS: dict[Verdict, Definition] = {
    "helps": Definition(
        "help", "Its learning signal: the whole 95 % interval of the value lies above 0.", "helps", 1
    ),
    "harms": Definition(
        "harm", "Its learning signal: the whole 95 % interval of the value lies below 0.", "harms", -1
    ),
    "worse": Definition(
        "worse than none",
        "It has no value, but the whole 95 % interval of its own gain (the loss with no signal minus that with its own) lies below 0.",
        "worse than none",
        -1,
    ),
    "better": Definition(
        "better than none",
        "It has no value, but the whole 95 % interval of its own gain (the loss with no signal minus that with its own) lies above 0.",
        "better than none",
        1,
    ),
    "matters": Definition("matter", "Its messages: the whole 95 % interval lies above 0.", "matters", 1),
    "misleads": Definition("mislead", "Its messages: the whole 95 % interval lies below 0.", "misleads", -1),
    "unresolved": Definition("unresolved", "The 95 % interval contains 0: the channel may help or harm."),
    "against": Definition(
        "against the gradient",
        "Its learning signal points against the gradient that it predicts: the 95 % interval of its parameter cosine (over batches) or of "
        "its cosine (over the newest log entries that cover all steps of an example) lies below 0.",
        "against the gradient",
        -1,
    ),
    "broken": Definition(
        "with a broken predictor",
        f"Its learning signal has nothing to do with the gradient that it predicts: over the newest log entries it is at least {_ABSURD:g} times as "
        f"large on average, and R² at most {_UNFIT:g}. What its value says of it is doubted.".replace(
            "-", "−"
        ),
        "broken predictor",
        -1,
    ),
    "misguessed": Definition(
        "with a poor stand-in",
        f"Over the newest log entries its synthetic input's loss is at least {100 * _MISGUESSED:g} % of what zeros in its place would lose, and it replaces "
        f"at least {100 * LOSSY:g} % of the messages; without it, the last one that arrived is read.",
        "poor stand-in",
        -1,
    ),
    "stale": Definition(
        "stale",
        f"Its sender has ticked at least {_STALE} times since it sent the newest message that can be read, and at least "
        f"{_LATER} times as often as the median channel's without losses; the link's average losses are included.",
    ),
    "silent": Definition(
        "silent",
        f"Its messages carry nothing: they have less than {100 * _SILENT:g} % of the median channel's energy, or never change.",
    ),
    "faint": Definition(
        "with hardly any signal",
        "Its sender gets hardly any learning signal: its gate is 0, and has been at most log entries so far; or the gradient that is injected has less "
        f"than {100 * _FAINT:g} % of the norm of the returned one; or that has less than {100 * _VANISHED:g} % of the median channel's. Adam divides "
        "by the gradient's size, and so makes up for it down to its eps.",
        "hardly any signal",
    ),
}
"""Definitions, in order of display."""
FLAGS: dict[Measure | Literal[""], dict[Verdict, int]] = {
    "value": {"helps": 1, "harms": 2, "unresolved": 4},
    "ablation_zero": {"matters": 8, "misleads": 16, "unresolved": 32},
    "": {
        "better": 1 << 19,
        "worse": 1 << 20,
        "broken": 1 << 21,
        "misguessed": 1 << 23,
        "against": 1 << 18,
        "stale": 64,
        "silent": 128,
        "faint": 256,
    },
    "ablation_mean": {"matters": 512, "misleads": 1024, "unresolved": 2048},
    "ablation_resample": {"matters": 4096, "misleads": 8192, "unresolved": 16384},
    "ablation_step": {"matters": 32768, "misleads": 65536, "unresolved": 131072},
}
"""The bit of each verdict (`verdict_flags`), by measure: of its interval above 0, below 0, and around it; of those that need none
under the empty name."""
SLIGHT = 1 << 22
"""The bit beside them of a channel whose own gain is not resolved, or slight: what its value says is doubted. Their sum is exact in float32."""


class ChannelTraits(NamedTuple):
    """Properties of a run's channels that verdicts need beside the metrics.

    Attributes:
        periods: [channels]: periods of their senders, in steps.
        resends: [channels]: messages that the link loses, on average, for each one that arrives.
        sizes: [channels]: components of a message; 0: unknown.
        scales: [channels]: `gradient.scale`; 1: of no predictor.
        arriving: [channels]: share of messages that arrive on average.
        replaced: [channels]: share of messages in whose place a synthetic input is read.
        batch: Number of environments; 0: unknown.
        span: Log entries over which `MEANS` are taken.
    """

    periods: NDArray[np.float64]
    resends: NDArray[np.float64]
    sizes: NDArray[np.float64]
    scales: NDArray[np.float64]
    arriving: NDArray[np.float64]
    replaced: NDArray[np.float64]
    batch: int
    span: int

    @classmethod
    def of(cls, graph: Mapping[str, Any]) -> ChannelTraits:
        agents, channels = graph["agents"], graph["channels"]
        periods = [agents[channel["from"]].get("period", 1) for channel in channels]
        drops = [channel.get("drop", 0.0) for channel in channels]
        covered = ["input" in channel.get("about", ()) for channel in channels]
        resends = [
            0.0 if stands_in else np.inf if drop == 1 else drop / (1 - drop)
            for drop, stands_in in zip(drops, covered, strict=True)
        ]
        sizes = [channel.get("size") if isinstance(channel.get("size"), int) else 0 for channel in channels]
        return cls(
            np.array(periods, dtype=np.float64),
            np.array(resends, dtype=np.float64),
            np.array(sizes, dtype=np.float64),
            np.array([channel.get("predictor", {}).get("scale", 1.0) for channel in channels]),
            1 - np.array(drops, dtype=np.float64),
            np.array(
                [
                    stands_in * (1.0 if channel.get("replaces_messages") else drop)
                    for channel, drop, stands_in in zip(channels, drops, covered, strict=True)
                ]
            ),
            graph.get("batch") or 0,
            graph.get("span", FEW_ENTRIES),
        )


def spanning(hold: int, every: int) -> int:
    """Return how many log entries cover all steps of an example that they fall on, each as often: at least four.

    Args:
        hold: Steps for which an environment shows an example.
        every: Steps between two log entries.
    """
    phases = hold // gcd(hold, every)
    return phases * -(-FEW_ENTRIES // phases)


def newest_mean(values: Values, traits: ChannelTraits, *, cosines: bool) -> tuple[Values, Values, Values]:
    """Return the mean of the newest `span` log entries at each entry, nan left out, half its 95 % interval, and of how many entries it is;
    [entries, channels] each.

    The interval is Student's t over the entries, that of `cosines` no smaller than chance leaves so many of samples (two standard
    errors); nan for a single entry.
    """
    finite = np.isfinite(values)
    numbers = np.where(finite, values, 0.0).astype(np.float64)
    rows = [slice(max(0, row + 1 - traits.span), row + 1) for row in range(len(values))]
    counts = np.array([finite[entries].sum(0) for entries in rows])
    several = np.maximum(counts - 1, 1)
    means = np.array([numbers[entries].sum(0) for entries in rows]) / np.maximum(counts, 1)
    squares = np.array([(numbers[entries] ** 2).sum(0) for entries in rows])
    spread = np.sqrt(np.maximum(squares - counts * means**2, 0.0) / several / np.maximum(counts, 1))
    least = by_chance(counts, traits) if cosines else 0.0
    halves = np.maximum(np.array(quantiles(traits.span))[several - 1] * spread, least)
    averages: Values = np.where(counts > 0, means, np.nan).astype(np.float32)
    return averages, np.where(counts > 1, halves, np.nan).astype(np.float32), counts.astype(np.float32)


def by_chance(counts: Values, traits: ChannelTraits) -> Values:
    """Return half the interval that chance leaves cosines of the samples of so many log entries; 0: it is not known; [..., channels]."""
    samples = counts * traits.sizes * traits.batch
    return np.where(samples > 0, 2 / np.sqrt(np.maximum(samples, 1)), 0.0)


def quantiles(span: int) -> list[float]:
    """Return Student's t of 95 % intervals of means of 2, 3, … up to `span` log entries."""
    return [student_t(freedom) for freedom in range(1, max(span, 2))]


def bounds(measure: str) -> tuple[str, str]:
    """Return the names of the metrics of an interval's ends."""
    return f"{measure}_low", f"{measure}_high"


class Results(NamedTuple):
    """Results of a measure of worth.

    Attributes:
        step: The step that is shown first (`newest_row`).
        counts: How many channels have each verdict there.
        newest: The step of the newest measurement.
        telling: The newest step with an interval off 0; where there is none `step`.
        told: How many channels have each verdict there.
    """

    step: int
    counts: Mapping[Verdict, int]
    newest: int
    telling: int
    told: Mapping[Verdict, int]

    @property
    def channels(self) -> int:
        """How many channels have an interval at the step."""
        return sum(self.counts.values())


class Undefined(NamedTuple):
    """Why channels have no result of a measure of worth.

    Attributes:
        reasons: By channel.
        again: Options of `antiphon evaluate` that may give them one.
        instead: What does, where measuring again cannot; may be empty.
        cost: How long measuring `again` takes, and what it may give; empty: not known.
        links: The links that were measured over, where a run's own may be others; empty: the run's own.
    """

    measure: str
    reasons: Mapping[str, str]
    again: Sequence[str]
    instead: str = ""
    cost: str = ""
    links: str = ""


LEFT_OUT = "not measured: it is not among --channels"
"""The reason of a channel that a measurement left out."""


def fullest_first(results: Mapping[Measure, Results]) -> list[Measure]:
    """Return measures of worth, the one of most channels first; of equals `value`, then the one measured last."""
    order = list(MEASURES)

    def rank(measure: Measure) -> tuple[int, bool, int, int]:
        result = results[measure]
        return -result.channels, measure != "value", -result.step, order.index(measure)

    return sorted(results, key=rank)


def worth(measure: Measure, low: float | None, high: float | None) -> Verdict | None:
    """Return the verdict of a 95 % interval of a measure; None without an interval."""
    if low is None or high is None or not low <= high:
        return None
    above, below, around = FLAGS[measure]
    return above if low > 0 else below if high < 0 else around


def newest_row(low: Values, high: Values) -> int:
    """Return which log entry of a measure is shown first: the newest with an interval, else the newest.

    Args:
        low, high: The ends of its intervals, [entries, channels].
    """
    rows = np.flatnonzero((low <= high).any(1))
    return int(rows[-1]) if len(rows) else len(low) - 1


def most_by_chance(judged: int) -> int:
    """Return how many of so many channels have an interval on one side of 0 by chance, rounded: verdicts of no more of them are doubted."""
    return math.floor(judged / _ONE_SIDED + 0.5)


def telling_row(low: Values, high: Values) -> int:
    """Return the newest log entry of a measure with an interval off 0; where there is none `newest_row`; `low`, `high`: as there."""
    rows = np.flatnonzero(((low > 0) | (high < 0)).any(1))
    return int(rows[-1]) if len(rows) else newest_row(low, high)


def verdict_flags(metrics: Mapping[str, Values], traits: ChannelTraits) -> NDArray[np.uint32]:
    """Return the verdicts on channels as the sum of `FLAGS`, [..., channels].

    Args:
        metrics: Values by metric, [..., channels] each, nan where a channel has no value: the intervals of `MEASURES` and of
            `own_gain`, itself and `loss_zero`, `norm_ratio` and `r2`, `si_loss` (a mean over the newest log entries), `age` (steps), `message_energy`, `message_std`, `symbol_entropy` (bits), `shut` (of `shut_so_far`), `injection_norm`, `returned_norm`, the upper
            ends of the intervals of `ALIGNMENT_GRADES`. A verdict is left out if its metric is missing.
    """
    shape = np.broadcast_shapes(traits.periods.shape, *(values.shape for values in metrics.values()))
    flags = np.zeros(shape, dtype=np.uint32)
    for measure in MEASURES:
        low, high = (metrics.get(bound) for bound in bounds(measure))
        if low is None or high is None:
            continue
        (above, below, around), sound = FLAGS[measure].values(), low <= high
        flags[sound & (low > 0)] += above
        flags[sound & (high < 0)] += below
        flags[sound & (low <= 0) & (high >= 0)] += around
    low, high = (metrics.get(bound) for bound in bounds(OWN_GAIN))
    if low is not None and high is not None:
        valued = flags & sum(FLAGS["value"].values()) > 0
        flags[~valued & (low > 0)] += FLAGS[""]["better"]
        flags[~valued & (high < 0)] += FLAGS[""]["worse"]
        flags[_slight(metrics, low, high)] += SLIGHT
    if (ratio := metrics.get("norm_ratio")) is not None:
        is_unfit = metrics["r2"] <= _UNFIT if "r2" in metrics else True
        flags[np.broadcast_to((ratio * traits.scales >= _ABSURD) & is_unfit, shape)] += FLAGS[""]["broken"]
    if (loss := metrics.get("si_loss")) is not None and (energy := metrics.get("message_energy")) is not None:
        of_zeros = traits.sizes * traits.arriving * energy**2  # summed over components; what is lost counts 0
        is_poor = (of_zeros > 0) & (loss >= _MISGUESSED * of_zeros) & (traits.replaced >= LOSSY)
        flags[np.broadcast_to(is_poor, shape)] += FLAGS[""]["misguessed"]
    age = metrics.get("age")
    if age is not None:
        ticks = np.floor(age / traits.periods) + traits.resends
        # without losses, which are no timing of the system's
        typical = median(np.floor(age / traits.periods))
        flags[(ticks >= _STALE) & (ticks >= _LATER * typical)] += FLAGS[""]["stale"]
    flags[np.broadcast_to(_silent(metrics, traits), shape)] += FLAGS[""]["silent"]
    flags[np.broadcast_to(_faint(metrics), shape)] += FLAGS[""]["faint"]
    for signal in ALIGNMENT_GRADES:
        if (highest := metrics.get(bounds(signal.metric)[1])) is not None:
            flags[np.broadcast_to(highest < 0, shape)] |= FLAGS[""]["against"]
    return flags


def remark_flags(metrics: Mapping[str, Values], channels: int) -> NDArray[np.uint32]:
    """Return which of `REMARKS` are made on channels as the sum of their flags, [..., channels]; `metrics`: see `verdict_flags`."""
    shape = np.broadcast_shapes((channels,), *(values.shape for values in metrics.values()))
    flags = np.zeros(shape, dtype=np.uint32)
    for remark in REMARKS:
        if all(metric in metrics for metric in remark.metrics):
            holds = remark.holds(*(metrics[metric] for metric in remark.metrics))
            flags[np.broadcast_to(holds, shape)] |= remark.flag
    return flags


def shut_so_far(gates: Values) -> NDArray[np.bool_]:
    """Return whether gates are 0 at a log entry and were at more than half of the entries until then, [entries, channels].

    Gates that begin open (semantics 9a) can be shut as well.

    Args:
        gates: The metric `gate`, nan where there is none, [entries, channels].
    """
    closed = gates <= 0
    return closed & (2 * closed.cumsum(0) > np.isfinite(gates).cumsum(0))


def to_open(setting: str) -> str:
    """Return what to try where a gate is shut; `setting`: what may open it; empty: none is known."""
    return f"{f'{setting} or ' if setting else ''}coupling: locked, or train longer"


def _slight(metrics: Mapping[str, Values], low: Values, high: Values) -> NDArray[np.bool_]:
    """Return whether own gains, with the ends of their intervals, have 0 in these or are slight, [..., channels]."""
    gain, loss = metrics.get(OWN_GAIN), metrics.get("loss_zero")
    is_unresolved: NDArray[np.bool_] = (low <= 0) & (high >= 0)
    return (
        is_unresolved
        if gain is None or loss is None
        else is_unresolved | (np.abs(gain) < _SLIGHT * np.abs(loss))
    )


def doubt(flags: int, verdict: Verdict, *, by_chance: bool) -> str:
    """Return why a verdict of worth is doubted (`DOUBTS`); empty: it is not.

    Args:
        by_chance: Whether no more channels have it than by chance, or no seed finds it by itself.
    """
    side, of_signal = VERDICTS[verdict].side, verdict in (*FLAGS["value"], "better", "worse")
    if of_signal and side > 0 and flags & FLAGS[""]["broken"]:
        return DOUBTS["broken"]
    if of_signal and side and flags & SLIGHT:
        return DOUBTS["slight"]
    return DOUBTS["chance"] if side and by_chance else ""


def _silent(metrics: Mapping[str, Values], traits: ChannelTraits) -> NDArray[np.bool_]:
    """Return which messages carry nothing, [..., channels].

    One environment's message has no spread and no entropy over environments, and a single component none of its own.
    """
    silent = np.zeros(traits.periods.shape, dtype=np.bool_)
    energy, spread, entropy = (
        metrics.get(metric) for metric in ("message_energy", "message_std", "symbol_entropy")
    )
    if energy is not None:
        carrying = np.where(np.isfinite(energy) & (energy > 0), energy, np.nan)
        silent = silent | (energy <= _SILENT * median(carrying))
        if spread is not None:
            several = (traits.sizes > 1) | (traits.batch > 1)
            silent = silent | (several & (spread <= _CONSTANT * energy))
    if entropy is not None and traits.batch > 1:
        silent = silent | (entropy <= _SAME)
    return silent


def _faint(metrics: Mapping[str, Values]) -> NDArray[np.bool_]:
    """Return which channels give their sender hardly any learning signal, [..., channels].

    A predictor that begins at 0 and has not learned yet injects 0, which is no sign of anything.
    """
    faint = np.equal(metrics.get("shut", np.nan), 1)
    if (returned := metrics.get("returned_norm")) is not None:
        returning = np.where(returned > 0, returned, np.nan)
        faint = faint | (returned < _VANISHED * median(returning))
        if (injected := metrics.get("injection_norm")) is not None:
            faint = faint | ((injected > 0) & (injected < _FAINT * returned))
    return faint


def median(values: Values) -> Values:
    """Return the median over channels, nan left out, [..., 1]; 0 where there is no number."""
    empty = np.isnan(values).all(axis=-1, keepdims=True)
    medians: Values = np.nanmedian(np.where(empty, 0.0, values), axis=-1, keepdims=True)
    return medians


def counts(flags: Iterable[float], measure: Measure | None) -> dict[Verdict, int]:
    """Return how many channels have each verdict, in order of display. Those of `_RARE` are left out where none is.

    Args:
        measure: The measure whose verdicts of worth are counted; None: none.
    """
    bits = np.fromiter((int(flag) for flag in flags), dtype=np.int64)
    bits_by_verdict = {**(FLAGS[measure] if measure is not None else {}), **FLAGS[""]}
    count_by_verdict = {
        verdict: int(np.count_nonzero(bits & bits_by_verdict[verdict]))
        for verdict in VERDICTS
        if verdict in bits_by_verdict
    }
    return {verdict: count for verdict, count in count_by_verdict.items() if count or verdict not in _RARE}


def in_words(verdict_counts: Mapping[Verdict, int]) -> str:
    """Return counts of verdicts (`counts`) in one line: "5 matter, 3 mislead, 56 unresolved, 2 silent"."""
    return ", ".join(
        f"{count} {(count == 1 and VERDICTS[verdict].one) or VERDICTS[verdict].counted}"
        for verdict, count in verdict_counts.items()
    )


def worths_in_words(measure: Measure, verdicts: Iterable[Verdict | None]) -> str:
    """Return how many channels have each verdict of a measure, in one line; None does not count."""
    judged = [verdict for verdict in verdicts if verdict is not None]
    return f"{in_words({verdict: judged.count(verdict) for verdict in FLAGS[measure]})} of {len(judged)}"


def more_seeds(verdict_counts: Mapping[Verdict, int], seeds: int) -> str:
    """Return what resolves more, where few seeds leave most channels unresolved; "": they do not.

    Args:
        verdict_counts: How many channels have each verdict of a measure over seeds.
        seeds: How many.
    """
    most = 2 * verdict_counts.get("unresolved", 0) > sum(verdict_counts.values())
    return f"try --seeds {FEWEST}" if most and 1 < seeds < FEWEST else ""


_HORIZON, _SHORT = 50, 10
"""Steps of a fork by default, and where the value is measured in less time."""
_FORKED = 15 * _HORIZON
"""Steps that measuring a channel's value takes: five repeats of three forks,"""
_SECONDS = 0.003
"""and seconds of such a step per agent, on one core: agents of a fork are not stacked."""
_PATIENCE = 300.0
"""Seconds from which a duration is worth a warning,"""
_LONGEST = 6 * 3600.0
"""and beyond which the value of a few channels is measured instead of all:"""
_FEW = 3
"""so many, the nearest to a readout."""
_QUICK_EXAMPLES = 100
"""Examples of a quick ablation, of which each channel and agent takes `_SECONDS`,"""
_STARTING = 3.0
"""and the seconds until it begins."""


def measuring_command(path: str, graph: Mapping[str, Any], measure: Sequence[str] = ()) -> str:
    """Return the command that measures the worth of a run's channels, by value, or by ablation where it cannot be forked.

    Args:
        graph: The graph of the Channels tab. If it `has_objects`, the command needs the function that returns the scenario;
            `imports` are the packages that the run was allowed to import; of several `seeds` each is measured.
    """
    if not measure:
        few = measured_first(graph)
        by_value = [*_only(few), "--value"]
        measure = ["--ablate", "zero"] if graph.get("no_fork") else by_value
    scenario = ["--scenario", "MODULE:FUNCTION"] if graph.get("has_objects") else []
    if seeds := graph.get("seeds"):
        measuring = with_imports(
            shlex.join(["antiphon", "evaluate", *measure, *scenario]), graph.get("imports", ())
        )
        return f'for run in {shlex.join(seeds.values())}; do {measuring} "$run"; done'
    command = shlex.join(["antiphon", "evaluate", path, *measure, *scenario])
    return with_imports(command, graph.get("imports", ()))


def quick_command(path: str, graph: Mapping[str, Any]) -> str:
    """Return the command that measures the loss by ablation of a run's channels in little time (`quick_time`); `path`, `graph`:
    see `measuring_command`."""
    channels = len(graph["channels"])
    few = _nearest(graph) if _seconds(graph, channels, quick=True) > _PATIENCE else []
    options = ["--ablate", "zero", "--examples", str(_QUICK_EXAMPLES), *_only(few)]
    return measuring_command(path, graph, options)


def quick_time(graph: Mapping[str, Any]) -> str:
    """Return roughly how long `quick_command` takes: "6 seconds"."""
    seconds = _seconds(graph, len(graph["channels"]), quick=True)
    return duration(seconds if seconds <= _PATIENCE else _seconds(graph, _FEW, quick=True))


def short_command(path: str, graph: Mapping[str, Any]) -> str:
    """Return the command that measures value over fewer steps (`short_time`); `path`, `graph`: see `measuring_command`."""
    options = [*_only(measured_first(graph)), "--value", "--horizon", str(_SHORT)]
    return measuring_command(path, graph, options)


def short_time(graph: Mapping[str, Any]) -> str:
    """Return roughly how long `short_command` takes: "6 minutes"."""
    return duration(measuring_seconds(graph) * _SHORT / _HORIZON)


def _only(channels: Iterable[str]) -> list[str]:
    """Return the options that measure these channels alone."""
    return [option for channel in channels for option in ("--channels", channel)]


def measured_first(graph: Mapping[str, Any]) -> list[str]:
    """Return the channels whose value to measure first, where all take too long; none: all."""
    channels = graph.get("channels", ())
    if len(channels) <= _FEW or _seconds(graph, len(channels)) <= _LONGEST:
        return []
    return _nearest(graph)


def _nearest(graph: Mapping[str, Any]) -> list[str]:
    channels = graph["channels"]
    hops = [len(channels) if distance is None else distance for distance in hops_to_readout(graph)]
    return [channel["name"] for channel in sorted(channels, key=lambda channel: hops[channel["to"]])[:_FEW]]


def measuring_seconds(graph: Mapping[str, Any], channels: int = 0) -> float:
    """Return roughly how long measuring the value of so many channels takes; 0: of all, or of those measured first."""
    return _seconds(graph, channels or len(measured_first(graph)) or len(graph["channels"]))


def _seconds(graph: Mapping[str, Any], channels: int, *, quick: bool = False) -> float:
    """Return roughly how long measuring so many channels takes, and all together; `quick`: by `quick_command`, without forks."""
    starting, of_agent = (_STARTING, _SECONDS) if quick else (0.0, _SECONDS * _FORKED)
    seconds = starting + of_agent * len(graph["agents"]) * (1 + channels)
    return seconds * len(graph.get("seeds") or [graph])


def measuring_time(graph: Mapping[str, Any]) -> str:
    """Return the same in words, "40 minutes"; "" where it is short."""
    seconds = measuring_seconds(graph)
    return "" if seconds < _PATIENCE else duration(seconds)


def duration(seconds: float) -> str:
    """Return roughly how long something takes: "40 minutes"; the unit counts at least two, but for a second."""
    units = {"day": 86_400.0, "hour": 3_600.0, "minute": 60.0, "second": 1.0}
    unit, length = next(
        (unit, length) for unit, length in units.items() if seconds >= 2 * length or length == 1
    )
    count = max(round(seconds / length), 1)
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


# --- remarks -------------------------------------------------------------------------------------------------------


def _misdirected(cosine: Any, cosine_low: Any, parameter_cosine: Any, low: Any, high: Any) -> Any:
    """Whether a signal follows the gradient message by message, but moves the parameters elsewhere; both by their intervals."""
    apart = (cosine - parameter_cosine >= _APART) & (high < _SHARE * cosine)
    return (cosine >= FOLLOWS) & (cosine_low > 0) & apart & ((low > 0) | (high < 0))


def _against(highest: Any) -> Any:
    return highest < 0


def _differ_in_sign(
    cosine: Any, cosine_low: Any, cosine_high: Any, parameter_cosine: Any, low: Any, high: Any
) -> Any:
    apart = ((cosine_low > 0) & (high < 0)) | ((cosine_high < 0) & (low > 0))
    return apart & ~_misdirected(cosine, cosine_low, parameter_cosine, low, high)


FOLLOWS = 0.1
"""Cosine of single messages from which a prediction follows the gradient."""
_APART = 0.25
"""Difference of the cosine of the parameter gradient from which it contradicts that of single messages,"""
_SHARE = 0.5
"""if it is also less than this share of it."""


class Remark(NamedTuple):
    """Remark on a channel: what some of its metrics mean, and what it means that they seem to contradict each other.

    Attributes:
        flag: Its bit beside those of `FLAGS`; remarks `beside` different measures share one.
        metrics: The metrics, and ends of their intervals,
        holds: whether their values call for it.
        says: A sentence, with each value as its metric's name in braces.
        beside: Measures of worth: it is made only where the interval of one of these lies above 0; empty: always.
    """

    flag: int
    metrics: tuple[str, ...]
    holds: Callable[..., Any]
    says: str
    beside: Sequence[Measure] = ()


MISDIRECTED = Remark(
    1 << 21,
    ("cosine", "cosine_low", "parameter_cosine", *bounds("parameter_cosine")),
    _misdirected,
    "Its signal matches the gradient of single messages (cosine {cosine}), but moves the sender's parameters far less along "
    "the true gradient (cosine {parameter_cosine}): use local, or more context.",
)
WORSE_THAN_MEAN = Remark(
    1 << 14,
    ("r2", bounds("r2")[1], "norm_ratio"),
    lambda r2, highest, norm_ratio: highest < 0,
    "That it matters says nothing of its learning signal, which predicts worse than the mean of the returned gradients (R² {r2}, "
    "{norm_ratio} times as large): the value measures what it is worth.",
    tuple(ABLATION_METRICS),
)
REMARKS = (
    Remark(
        1 << 19,
        ("skill",),
        lambda skill: skill < 2.5,
        "That its prediction follows the returned gradient may be chance (skill {skill}).",
    ),
    MISDIRECTED,
    WORSE_THAN_MEAN,
    Remark(
        1 << 23,
        ("cosine", *bounds("cosine"), "parameter_cosine", *bounds("parameter_cosine")),
        _differ_in_sign,
        "Both signs can be so: the cosine ({cosine}) compares single messages with the gradient that the receiver "
        "returned, the parameter cosine ({parameter_cosine}) what many batches do to the sender's parameters with what the true "
        "gradient would do; the sender moves by the latter.",
    ),
    Remark(
        1 << 22,
        ("cosine_high",),
        _against,
        "That it helps all the same is no contradiction: the cosine is of single messages, the value of many steps "
        "of learning; the value decides.",
        ("value",),
    ),
    Remark(
        1 << 22,
        ("cosine_high",),
        _against,
        "That it matters all the same is no contradiction: the readouts need its messages, while the cosine is of the signal "
        "from which its sender learns; the value measures what that is worth.",
        tuple(ABLATION_METRICS),
    ),
)
"""Remarks, in order of display. A sum of all flags is exact in float32."""


class AlignmentGrades(NamedTuple):
    """What a measure of alignment says of a channel's learning signal, in a few words.

    Attributes:
        grades: From which number on it says what, ascending.
        unclear: What it says if its 95 % interval contains 0, or it has none.
        single: What to know where a message has one component; may be empty.
    """

    metric: str
    grades: tuple[tuple[float, str], ...]
    unclear: str
    single: str = ""


ALIGNMENT_GRADES = (
    AlignmentGrades(
        "parameter_cosine",
        (
            (-1.0, "moves the sender against the true gradient"),
            (0.0, "hardly moves the sender along the true gradient"),
            (FOLLOWS, "moves the sender partly along the true gradient"),
            (_SHARE, "moves the sender along the true gradient"),
        ),
        "not resolved",
    ),
    AlignmentGrades(
        "cosine",
        (
            (-1.0, "points against the returned gradient"),
            (0.0, "does not follow the returned gradient"),
            (FOLLOWS, "partly follows the returned gradient"),
            (_SHARE, "follows the returned gradient"),
        ),
        "not resolved",
        "Its messages have one component: the cosine of each is 1 or −1, so that the mean of a few environments jumps.",
    ),
)
"""Of a channel's measures of alignment, that which says most first."""


class Hint(NamedTuple):
    """What may be the cause of a signal, and what to try.

    Attributes:
        says: A clause, with each number as its metric's name in braces.
        fix: What to try, with the same in braces; empty: nothing is known.
    """

    says: str
    fix: str = ""


CONCLUSION_INPUTS = "true_cosine", "cosine_ceiling"
"""Metrics that say something of a predictor (`conclusion_flags`)."""
LACKING, UNLEARNED, RETURNED = 1 << 16, 1 << 18, 1 << 20
CONCLUSIONS = {
    LACKING: Hint(
        "message and context tell little of the true gradient: the best linear prediction from them has a true cosine of only "
        "{cosine_ceiling}, its own {true_cosine}",
        "more context (gradient.context), or local",
    ),
    UNLEARNED: Hint(
        "its predictor has not learned yet what message and context tell: true cosine {true_cosine}, of the best linear prediction "
        "{cosine_ceiling}",
        "more steps, or another rate of learning (training.predictor.lr)",
    ),
    RETURNED: Hint(
        "its predictor has learned what the receiver returns, which is not the true gradient: true cosine {true_cosine}, of the best "
        "linear prediction {cosine_ceiling}",
        "better signals of the receiver's own channels, or local",
    ),
}
"""What a true cosine and its ceiling say of a predictor, by the bit beside those of `REMARKS` and of causes."""


def lost_signals_texts(graph: Mapping[str, Any]) -> list[str]:
    """Return the sentences on a run whose learning signals do not follow the returned gradients, and on one where that is not resolved, with
    their medians and the ends of these intervals as "{cosine}" and "{r2}"; `graph`: the graph of the Channels tab."""
    sizes = [
        channel.get("size") for channel in graph["channels"] if "target" not in channel.get("predictor", ())
    ]
    learning = len(sizes)
    # Of a single component R² is of the few samples whose gradient is not 0.
    medians = "{cosine} (signs of one component)" if set(sizes) == {1} else "{cosine}, R² {r2}"
    seeds = len(graph.get("seeds", ()))
    over = f"{learning:,} channel{'s' * (learning != 1)}{f' and {seeds} seeds' if seeds else ''}"
    span = graph.get("span", FEW_ENTRIES)
    entries = f" (means over {span} log entries)" if span > 1 else ""
    subject = (
        f"medians of {over}{entries} are"
        if learning > 1 or seeds
        else f"the channel's mean{f' over {span} log entries' if span > 1 else ''} is"
    )
    verdicts = (
        "the learning signals do not follow the returned gradients",
        "whether the learning signals follow the returned gradients is not resolved",
    )
    return [f"{verdict}: {subject} cosine {medians}; ablations do not measure this" for verdict in verdicts]


def conclusion_flags(
    true_cosine: Values, ceiling: Values, *, cosine: Values | None = None
) -> NDArray[np.uint32]:
    """Return which of `CONCLUSIONS` holds of channels as its flag, 0 where none does or a number is unknown; [..., channels] each.

    The lower end of the interval of `cosine` tells whether a predictor has learned what is returned; None: it is unknown.
    """
    returned = False if cosine is None else cosine >= np.maximum(_SHARE * ceiling, FOLLOWS)
    learned = np.where(true_cosine >= _SHARE * ceiling, 0, np.where(returned, RETURNED, UNLEARNED))
    conclusions = np.where(ceiling < FOLLOWS, LACKING, learned)
    return np.where(np.isfinite(true_cosine + ceiling), conclusions, 0).astype(np.uint32)


def hops_to_readout(graph: Mapping[str, Any]) -> list[int | None]:
    """Return over how many channels at least each agent's messages reach a readout: 0 of readouts; None: they reach none."""
    senders = by_key((int(channel["to"]), int(channel["from"])) for channel in graph["channels"])
    hops_by_agent: list[int | None] = [
        0 if agent.get("role") == "readout" else None for agent in graph["agents"]
    ]
    reached = [agent for agent, hops in enumerate(hops_by_agent) if hops == 0]
    for hops in range(1, len(hops_by_agent)):
        reached = list(
            dict.fromkeys(s for agent in reached for s in senders.get(agent, ()) if hops_by_agent[s] is None)
        )
        for agent in reached:
            hops_by_agent[agent] = hops
    return hops_by_agent
