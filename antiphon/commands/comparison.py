"""Comparison of two runs, and its summary in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from antiphon.commands.show import some
from antiphon.engine.compare.records import DigestComparison, FigureComparison, SettingDifference
from antiphon.engine.runs.directory import RunDirectory
from antiphon.telemetry.digests_csv import Column

if TYPE_CHECKING:
    from antiphon.engine.compare.differences import Difference
    from antiphon.engine.compare.replay import FirstDifference, Replay

__all__ = ["LABELS", "Comparison", "Runs", "column_names", "described", "summary"]

LABELS = ("A", "B")
"""Names of the two runs."""
Runs = tuple[RunDirectory, RunDirectory]


@dataclass(frozen=True)
class Comparison:
    """Comparison of two runs.

    Attributes:
        runs: Their directories.
        settings: Differences of their settings.
        digests: First difference of their digests; None: a run has none.
        figures: First difference of their figures, without digests; None: a run has no figures either.
        replay: Replay of both; None: not needed, or not possible.
        why_not_replayed: Why a replay was not possible.
        checkpoints: The first difference of their checkpoints, where the replay gives none.
    """

    runs: Runs
    settings: Sequence[SettingDifference]
    digests: DigestComparison | None = None
    figures: FigureComparison | None = None
    replay: Replay | None = None
    why_not_replayed: str | None = None
    checkpoints: FirstDifference | None = None

    @property
    def same(self) -> bool | None:
        """Whether all records of both are equal; None: they have no comparable records."""
        record = self.digests if self.digests is not None else self.figures
        if record is None or not record.compared or (self.digests is not None and not self.digests.columns):
            return None
        return record.first_different is None

    @property
    def exact(self) -> bool:
        """Whether the replay gives the first difference."""
        return self.replay is not None and self.replay.reproduces and self.replay.first is not None


def summary(found: Comparison) -> str:
    """Return the result in one line."""
    digests = found.digests
    if digests is None:
        return _by_figures(found.figures)
    if not digests.compared:
        return "Nothing can be compared: the runs have no row of digests at the same step."
    if not digests.columns:
        return "Nothing can be compared: the runs have no agent or channel of the same name."
    if digests.first_different is None:
        both = f", in the {digests.columns} agents and channels that both have,"
        whose = "" if digests.only_in == ((), ()) else both
        return f"The runs are the same to the last bit{whose} in {_rows(digests.compared)}."
    if found.exact:
        return _exactly(found)
    text = f"The runs part {_between(digests)}: {column_names(digests.different)}."
    saved = found.checkpoints
    if saved is not None:
        text += f" In their checkpoints of step {saved.step:,}: {described(saved.difference)}."
    broken = found.replay.not_reproducible if found.replay is not None else (None, None)
    other = " and ".join(label for label, one in zip(LABELS, broken, strict=True) if one is not None)
    return f"{text} Run again here, {other} is not what it recorded." if other else text


def _by_figures(figures: FigureComparison | None) -> str:
    if figures is None or not figures.compared:
        return "Nothing can be compared: a run has no digests.csv, and there are no figures at the same step."
    first = figures.first_different
    if first is None:
        return f"The figures are the same in {_rows(figures.compared)}; a run has no digests.csv, which would tell more."
    values = " against ".join("no figure" if v is None else repr(v) for v in (first.a, first.b))
    whose = f" of {first.kind} '{first.name}'" if first.name else f" of the {first.kind}"
    return f"The figures part at step {first.step:,}: '{first.metric}'{whose} is {values} (a run has no digests.csv)."


def _exactly(found: Comparison) -> str:
    replay = found.replay
    assert replay is not None
    first, cause = replay.first, replay.cause
    assert first is not None
    assert cause is not None
    when = f"at step {first.step:,}" if first.step > 0 else "before the first step"
    text = f"The runs part {when}: {described(first.difference)}"
    if first.step == replay.start or cause.difference.what == first.difference.what:
        return f"{text}."
    earlier = "in that step" if cause.step == first.step else f"at step {cause.step:,}"
    return f"{text}; first of all, {earlier}, {described(cause.difference)}."


def _between(digests: DigestComparison) -> str:
    if digests.last_equal is None:
        return f"by step {digests.first_different:,}, their first row"
    return f"between steps {digests.last_equal:,} and {digests.first_different:,}"


def _rows(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"the one row that both have (step {steps[0]:,})"
    return f"all {len(steps):,} rows that both have (steps {steps[0]:,} to {steps[-1]:,})"


def column_names(columns: Iterable[Column]) -> str:
    """Format the agents and channels whose digests differ: `agents n0, n1, … (4) and channel n0->n1`."""
    by_kind: dict[str, list[str]] = {}
    for kind, name in columns:
        by_kind.setdefault(kind, []).append(name)
    words = [f"{kind}{'s' if len(names) > 1 else ''} {some(names)}" for kind, names in by_kind.items()]
    return " and ".join(words)


def described(difference: Difference) -> str:
    """Format a tensor and its difference: `agent 'eye', tensor '0.weight' (largest difference …)`."""
    return f"{_place(difference)} ({_size(difference)})"


def _place(difference: Difference) -> str:
    kind, name, tensor = difference.kind, difference.name, difference.tensor
    return {
        "signal": f"the environment's '{tensor}'",
        "episode end": "which episodes ended",
        "message": f"the message on channel '{name}'",
        "transmission": f"what channel '{name}' loses or adds on the way",
        "running statistic": f"{kind} '{name}', running statistic '{tensor}'",
        "gradient": f"the gradient of {kind} '{name}', tensor '{tensor}'",
        "moment": f"the optimiser of {kind} '{name}', '{tensor}'",
        "parameter": f"{kind} '{name}', tensor '{tensor}'",
    }[difference.what]


def _size(difference: Difference) -> str:
    if difference.note and difference.largest is None:
        return difference.note
    counted = f"{difference.different:,} of {difference.numbers:,} numbers"
    if difference.largest is None:
        return f"{counted}; not all are finite"
    note = f"{difference.note}; " if difference.note else ""
    return f"{note}largest difference {difference.largest:.2g}, {counted}"
