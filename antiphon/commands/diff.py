"""The verb `diff`: the first step, agent and tensor where two runs differ, and a summary in words."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from antiphon.commands.arguments import given_scenario
from antiphon.engine.compare.records import (
    MISSING,
    DigestComparison,
    FigureComparison,
    SettingDifference,
    compare_digests,
    compare_figures,
    compare_settings,
)
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.run_loop import stop_signals
from antiphon.errors import AntiphonError
from antiphon.files import finite
from antiphon.telemetry.csv_files import Column, Digests, read_digests
from antiphon.terminal.output import console, display_path, print_json, remark, show_table, some
from antiphon.terminal.progress import ProgressDisplay

if TYPE_CHECKING:
    from antiphon.engine.compare.differences import Difference
    from antiphon.engine.compare.replay import FirstDifference, Replay

__all__ = ["LABELS", "Comparison", "Runs", "column_names", "described", "diff", "summary"]

LABELS = ("A", "B")
"""Names of the two runs."""
Runs = tuple[RunDirectory, RunDirectory]


@dataclass(frozen=True)
class Comparison:
    """Comparison of two runs.

    Attributes:
        runs: Their directories.
        settings: Differences of their settings.
        not_recorded: Where in the scenario Python objects are, whose code cannot be compared.
        digests: First difference of their digests; None: a run has none.
        figures: First difference of their figures, without digests; None: a run has no figures either.
        replay: Replay of both; None: not needed, or not possible.
        why_not_replayed: Why a replay was not possible.
        checkpoints: The first difference of their checkpoints, where the replay gives none.
    """

    runs: Runs
    settings: Sequence[SettingDifference]
    not_recorded: Sequence[str]
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


_ROWS = 20
"""Most settings in a table; --json has all."""
_WIDEST = 48
"""Characters of a value in that table."""


def diff(first: Path, second: Path, *, python: str | None = None, json: bool) -> int:
    """Print the differences of two runs; return the exit code: 0 where all records of both are equal, else 1.

    `python` names what makes the scenario of those that hold Python objects (`--scenario`).

    Raises:
        RunError: One is no run directory, or is damaged.
    """
    found = compare_runs((RunDirectory.open(first), RunDirectory.open(second)), python)
    if json:
        print_json(finite(_plain(found)))
    else:
        _show(found)
    return 0 if found.same else 1


def compare_runs(runs: Runs, python: str | None = None) -> Comparison:
    """Return the comparison of two runs: by settings, digests and a replay, or by figures where a run has no digests."""
    not_recorded = list(dict.fromkeys(place for run in runs for place in run.not_recorded))
    found = Comparison(runs, compare_settings(*runs), not_recorded)
    first, second = (read_digests(run.verified("digests.csv")) for run in runs)
    if first is None or second is None:
        return replace(found, figures=compare_figures(*(run.verified("metrics.csv") for run in runs)))
    found = replace(found, digests=compare_digests(first, second))
    if found.same is not False:
        return found
    assert found.digests is not None
    try:
        found = replace(found, replay=_replayed(runs, (first, second), found.digests, python))
    except AntiphonError as error:
        found = replace(found, why_not_replayed=str(error))
    return found if found.exact else replace(found, checkpoints=_in_checkpoints(runs))


def _replayed(
    runs: Runs, records: tuple[Digests, Digests], digests: DigestComparison, python: str | None
) -> Replay:
    from antiphon.engine.compare.replay import replay_runs

    until = digests.first_different
    assert until is not None
    first, second = (given_scenario(run, python) if run.not_recorded else None for run in runs)
    remark(f"running both again, to step {until:,} (Ctrl-C leaves it at the rows)")
    with stop_signals() as stopped, ProgressDisplay(until, 0) as display:
        return replay_runs(
            runs,
            records,
            last_equal=digests.last_equal or 0,
            until=until,
            scenarios=(first, second),
            stopped=stopped,
            on_step=lambda step: display.update(step, dict),
        )


def _in_checkpoints(runs: Runs) -> FirstDifference | None:
    from antiphon.engine.compare.replay import compare_checkpoints

    try:
        return compare_checkpoints(*runs)
    except AntiphonError as error:
        remark(f"warning: {error}", "yellow")
        return None


# --- on the screen ----------------------------------------------------------------------------------------


def _show(found: Comparison) -> None:
    for label, run in zip(LABELS, found.runs, strict=True):
        facts = run.facts
        _say(
            f"{label}  {display_path(run.path)}  {facts.get('scenario')} · seed {facts['seed']} · {facts['step']:,} steps"
        )
    _say("")
    _show_settings(found.settings, found.not_recorded)
    if found.digests is not None:
        _show_digests(found.digests)
    else:
        without = [display_path(run.path) for run in found.runs if not (run.path / "digests.csv").exists()]
        _say(f"no digests.csv in {' and '.join(without)}: compared by metrics.csv")
    if found.why_not_replayed is not None:
        _say(f"not run again: {found.why_not_replayed}")
    if found.replay is not None:
        _show_replay(found.replay)
    _say("")
    _say(summary(found), "bold")


def _say(text: str, style: str = "") -> None:
    console().print(Text(text, style=style), soft_wrap=True)


def _show_settings(settings: Sequence[SettingDifference], not_recorded: Sequence[str]) -> None:
    """Print the settings that differ, agents and channels with the same difference in one row, and what cannot be compared."""
    if not_recorded:
        _say(
            f"not compared: the code of Python objects, which runs do not record: {some(not_recorded)}",
            "yellow",
        )
    if not settings and not_recorded:
        _say("settings: nothing else differs, in scenario, seed, device, backend, versions and commit")
        return
    if not settings:
        _say("settings: nothing differs in scenario, seed, device, backend, versions and commit")
        return
    names: dict[tuple[str, str, str, str], list[str]] = {}
    for each in settings:
        key = (each.part, each.key, _written(each.a), _written(each.b))
        names.setdefault(key, []).append(each.name)
    table = [[_where(part, some(who), key), one, other] for (part, key, one, other), who in names.items()]
    show_table(["setting", *LABELS], table[:_ROWS])
    if len(table) > _ROWS:
        _say(f"… and {len(table) - _ROWS} more; --json has all", "dim")


def _where(part: str, names: str, key: str) -> str:
    if part in ("agents", "channels"):
        return f"{part.removesuffix('s')} {names}" + (f": {key}" if key else "")
    return key if part == "scenario" else f"{key} (run.json)"


def _written(value: Any) -> str:
    if value is MISSING:
        return repr(value)
    text = value if isinstance(value, str) else json_text.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _show_digests(digests: DigestComparison) -> None:
    for label, alone in zip(LABELS, digests.only_in, strict=True):
        if alone:
            _say(f"only in {label}: {column_names(alone)}")
    if digests.first_different is not None:
        agree = "" if digests.last_equal is None else f"the same up to step {digests.last_equal:,}, "
        _say(
            f"digests: {agree}apart at step {digests.first_different:,} in {len(digests.different):,} of "
            f"{digests.columns:,}: {column_names(digests.different)}"
        )


def _show_replay(replay: Replay) -> None:
    line = f"run again from step {replay.start:,} to {replay.end:,}"
    if replay.stopped:
        line += ", where it was stopped"
    _say(line + ("; both are what they recorded" if replay.reproduces else ""))
    for label, broken, diverged in zip(LABELS, replay.not_reproducible, replay.diverged, strict=True):
        if broken is not None:
            other = f"at step {broken.step:,} something else has been learned than it recorded"
            _say(f"run {label} does not reproduce here: {other} ({column_names(broken.different)})")
        if diverged is not None:
            _say(f"run {label} diverges at step {replay.end + 1:,}: {diverged}")
    for first in sorted(replay.firsts, key=lambda first: first.step):
        when = f"step {first.step:,}" if first.step > replay.start else f"before step {first.step + 1:,}"
        others = f"; {first.others:,} more {first.difference.what}{'s' if first.others > 1 else ''}"
        _say(f"  {when}: {described(first.difference)}{others if first.others else ''}")
    if not replay.firsts and not replay.stopped and replay.diverged == [None, None]:
        _say("  run again here, both are the same to the last bit")


# --- as JSON ----------------------------------------------------------------------------------------------


def _plain(found: Comparison) -> dict[str, Any]:
    keys = ("scenario", "seed", "step", "exit")
    runs = [{"path": str(run.path), **{key: run.facts.get(key) for key in keys}} for run in found.runs]
    rest = {field.name: _data(getattr(found, field.name)) for field in fields(found) if field.name != "runs"}
    if found.replay is not None:
        rest["replay"]["first"] = _data(found.replay.first)
    return {"same": found.same, "summary": summary(found), "runs": runs, **rest}


def _data(value: Any) -> Any:
    """Return a comparison as plain data, fields by name; settings that a run does not have are left out."""
    if is_dataclass(value):
        return {field.name: _data(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        named = _data(value._asdict())
        return named | named.pop("difference", {})  # of a first difference, beside its step
    if isinstance(value, Mapping):
        return {key: _data(each) for key, each in value.items() if each is not MISSING}
    return [_data(each) for each in value] if isinstance(value, list | tuple) else value
