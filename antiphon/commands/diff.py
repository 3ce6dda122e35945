"""The verb `diff`: the first step, agent and tensor where two runs differ."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from antiphon.commands.comparison import LABELS, Comparison, Runs, column_names, described, summary
from antiphon.commands.output import console, display_path, print_json, remark, show_table
from antiphon.commands.progress import ProgressDisplay
from antiphon.commands.show import some
from antiphon.engine.compare.records import (
    MISSING,
    DigestComparison,
    SettingDifference,
    compare_digests,
    compare_figures,
    compare_settings,
)
from antiphon.engine.runs.directory import RunDirectory, finite
from antiphon.engine.runs.stopping import stop_signals
from antiphon.errors import AntiphonError
from antiphon.telemetry.digests_csv import Digests, read_digests

if TYPE_CHECKING:
    from antiphon.engine.compare.replay import FirstDifference, Replay

__all__ = ["diff"]

_ROWS = 20
"""Most settings in a table; --json has all."""
_WIDEST = 48
"""Characters of a value in that table."""


def diff(first: Path, second: Path, *, json: bool) -> int:
    """Print the differences of two runs; return the exit code: 0 where all records of both are equal, else 1.

    Args:
        first: A run directory.
        second: Another.
        json: As one line of JSON.

    Raises:
        RunError: One is no run directory, or is damaged.
    """
    found = compare_runs((RunDirectory.open(first), RunDirectory.open(second)))
    if json:
        print_json(finite(_plain(found)))
    else:
        _show(found)
    return 0 if found.same else 1


def compare_runs(runs: Runs) -> Comparison:
    """Return the comparison of two runs: by settings, digests and a replay, or by figures where a run has no digests."""
    found = Comparison(runs, compare_settings(*runs))
    first, second = (read_digests(run.path / "digests.csv") for run in runs)
    if first is None or second is None:
        return replace(found, figures=compare_figures(*(run.path / "metrics.csv" for run in runs)))
    found = replace(found, digests=compare_digests(first, second))
    if found.same is not False:
        return found
    assert found.digests is not None
    try:
        found = replace(found, replay=_replayed(runs, (first, second), found.digests))
    except AntiphonError as error:
        found = replace(found, why_not_replayed=str(error))
    return found if found.exact else replace(found, checkpoints=_in_checkpoints(runs))


def _replayed(runs: Runs, records: tuple[Digests, Digests], digests: DigestComparison) -> Replay:
    from antiphon.engine.compare.replay import replay_runs

    until = digests.first_different
    assert until is not None
    remark(f"running both again, to step {until:,} (Ctrl-C leaves it at the rows)")
    with stop_signals() as stopped, ProgressDisplay(until, 0) as display:
        return replay_runs(
            runs,
            records,
            last_equal=digests.last_equal or 0,
            until=until,
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
    _show_settings(found.settings)
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


def _show_settings(settings: Sequence[SettingDifference]) -> None:
    """Print the settings that differ, agents and channels with the same difference in one row."""
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
    said = f"run again from step {replay.start:,} to {replay.end:,}"
    if replay.stopped:
        said += ", where it was stopped"
    _say(said + ("; both are what they recorded" if replay.reproduces else ""))
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
