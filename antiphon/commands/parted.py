"""What `diff` has found out about two runs, and how that is said in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from antiphon.commands.show import some
from antiphon.engine.compare.records import Asked, Figures, Rows
from antiphon.engine.runs.directory import RunDirectory
from antiphon.telemetry.digests_csv import Column

if TYPE_CHECKING:
    from antiphon.engine.compare.differences import Difference
    from antiphon.engine.compare.replay import First, Replay

__all__ = ["LABELS", "Found", "Runs", "columns_named", "summary", "told"]

LABELS = ("A", "B")
"""What the two runs are called."""
Runs = tuple[RunDirectory, RunDirectory]


@dataclass(frozen=True)
class Found:
    """All that was found out about two runs.

    Attributes:
        runs: Their directories.
        asked: In what they were asked to be different.
        rows: Where their digests part; None: a run has none.
        figures: Where their figures part, where there are no digests; None: a run has no figures either.
        replay: What came of running both again; None: there was no need, or it could not be done.
        why: Why it could not be done.
        saved: The first number in which checkpoints differ, where the replay does not tell.
    """

    runs: Runs
    asked: Sequence[Asked]
    rows: Rows | None = None
    figures: Figures | None = None
    replay: Replay | None = None
    why: str | None = None
    saved: First | None = None

    @property
    def same(self) -> bool | None:
        """Whether nothing that both have recorded differs; None: they have recorded nothing that can be compared."""
        record = self.rows if self.rows is not None else self.figures
        if record is None or not record.compared or (self.rows is not None and not self.rows.columns):
            return None
        return record.apart is None

    @property
    def exact(self) -> bool:
        """Whether the replay says where they part."""
        return self.replay is not None and self.replay.reproduces and self.replay.learned is not None


def summary(found: Found) -> str:
    """Return the answer in one line."""
    rows = found.rows
    if rows is None:
        return _by_figures(found.figures)
    if not rows.compared:
        return "Nothing can be compared: the runs have no row of digests at the same step."
    if not rows.columns:
        return "Nothing can be compared: the runs have no agent or channel of the same name."
    if rows.apart is None:
        both = f", in the {rows.columns} agents and channels that both have,"
        whose = "" if rows.alone == ((), ()) else both
        return f"The runs are the same to the last bit{whose} in {_rows(rows.compared)}."
    if found.exact:
        return _exactly(found)
    parted = f"The runs part {_between(rows)}: {columns_named(rows.parted)}."
    saved = found.saved
    if saved is not None:
        parted += f" In their checkpoints of step {saved.step:,}: {told(saved.difference)}."
    broken = found.replay.broken if found.replay is not None else (None, None)
    other = " and ".join(label for label, one in zip(LABELS, broken, strict=True) if one is not None)
    return f"{parted} Run again here, {other} is not what it recorded." if other else parted


def _by_figures(figures: Figures | None) -> str:
    if figures is None or not figures.compared:
        return "Nothing can be compared: a run has no digests.csv, and there are no figures at the same step."
    apart = figures.apart
    if apart is None:
        return f"The figures are the same in {_rows(figures.compared)}; a run has no digests.csv, which would tell more."
    values = " against ".join("no figure" if v is None else repr(v) for v in (apart.first, apart.second))
    whose = f" of {apart.kind} '{apart.name}'" if apart.name else f" of the {apart.kind}"
    return f"The figures part at step {apart.step:,}: '{apart.metric}'{whose} is {values} (a run has no digests.csv)."


def _exactly(found: Found) -> str:
    replay = found.replay
    assert replay is not None
    first, cause = replay.learned, replay.cause
    assert first is not None
    assert cause is not None
    when = f"at step {first.step:,}" if first.step > 0 else "before the first step"
    text = f"The runs part {when}: {told(first.difference)}"
    if first.step == replay.start or cause.difference.what == first.difference.what:
        return f"{text}."
    earlier = "in that step" if cause.step == first.step else f"at step {cause.step:,}"
    return f"{text}; first of all, {earlier}, {told(cause.difference)}."


def _between(rows: Rows) -> str:
    assert rows.apart is not None
    if not rows.equal:
        return f"by step {rows.apart:,}, their first row"
    return f"between steps {rows.equal:,} and {rows.apart:,}"


def _rows(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"the one row that both have (step {steps[0]:,})"
    return f"all {len(steps):,} rows that both have (steps {steps[0]:,} to {steps[-1]:,})"


def columns_named(columns: Iterable[Column]) -> str:
    """Name whose digests differ: `agents n0, n1, … (4) and channel n0->n1`."""
    by_kind: dict[str, list[str]] = {}
    for kind, name in columns:
        by_kind.setdefault(kind, []).append(name)
    words = [f"{kind}{'s' if len(names) > 1 else ''} {some(names)}" for kind, names in by_kind.items()]
    return " and ".join(words)


def told(difference: Difference) -> str:
    """Name a tensor and how much of it differs: `agent 'eye', tensor '0.weight' (largest difference …)`."""
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
