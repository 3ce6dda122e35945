"""The verb `diff`: the first step, agent and tensor where two runs part."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from antiphon.commands.output import console, print_json, remark, show_table, shown
from antiphon.commands.parted import LABELS, Found, Runs, columns_named, summary, told
from antiphon.commands.progress import ProgressDisplay
from antiphon.commands.show import some
from antiphon.engine.compare.records import (
    MISSING,
    Asked,
    Figures,
    Rows,
    asked_apart,
    figures_apart,
    rows_apart,
)
from antiphon.engine.runs.directory import RunDirectory, finite
from antiphon.engine.runs.stopping import stop_signals
from antiphon.errors import AntiphonError
from antiphon.telemetry.digests_csv import Column, Digests, read_digests

if TYPE_CHECKING:
    from antiphon.engine.compare.replay import First, Replay

__all__ = ["diff"]

_ROWS = 20
"""Things asked for that a table shows; --json has all."""
_WIDEST = 48
"""Characters of a value in that table."""


def diff(first: Path, second: Path, *, json: bool) -> int:
    """Say where two runs part; return the exit code: 0 where nothing that both have recorded differs, else 1.

    Args:
        first: A run directory.
        second: Another.
        json: As one line of JSON.

    Raises:
        RunError: One is no run directory, or what is in it is damaged.
    """
    found = _compare((RunDirectory.open(first), RunDirectory.open(second)))
    if json:
        print_json(finite(_plain(found)))
    else:
        _show(found)
    return 0 if found.same else 1


def _compare(runs: Runs) -> Found:
    asked = asked_apart(*runs)
    first, second = (read_digests(run.path / "digests.csv") for run in runs)
    if first is None or second is None:
        figures = figures_apart(*(run.path / "metrics.csv" for run in runs))
        return Found(runs, asked, figures=figures)
    rows = rows_apart(first, second)
    if rows.apart is None:
        return Found(runs, asked, rows)
    again, why = _replayed(runs, (first, second), rows.equal, rows.apart)
    found = Found(runs, asked, rows, None, again, why)
    return found if found.exact else replace(found, saved=_saved(runs))


def _replayed(
    runs: Runs, records: tuple[Digests, Digests], equal: int, apart: int
) -> tuple[Replay | None, str | None]:
    """Run both again; return what came of it, or why it could not be done."""
    from antiphon.engine.compare.replay import replay

    remark(f"running both again, to step {apart:,} (Ctrl-C leaves it at the rows)")
    with stop_signals() as stopped, ProgressDisplay(apart, 0) as display:
        try:
            found = replay(
                runs,
                records,
                equal=equal,
                apart=apart,
                stopped=stopped,
                on_step=lambda step: display.update(step, dict),
            )
        except AntiphonError as error:
            return None, str(error)
    return found, None


def _saved(runs: Runs) -> First | None:
    from antiphon.engine.compare.replay import checkpoints_apart

    try:
        return checkpoints_apart(*runs)
    except AntiphonError as error:
        remark(f"warning: {error}", "yellow")
        return None


# --- on the screen ----------------------------------------------------------------------------------------


def _show(found: Found) -> None:
    for label, run in zip(LABELS, found.runs, strict=True):
        facts = run.facts
        _say(
            f"{label}  {shown(run.path)}  {facts.get('scenario')} · seed {facts['seed']} · {facts['step']:,} steps"
        )
    _say("")
    _show_asked(found.asked)
    if found.rows is not None:
        _show_rows(found.rows)
    else:
        without = [shown(run.path) for run in found.runs if not (run.path / "digests.csv").exists()]
        _say(f"no digests.csv in {' and '.join(without)}: compared by metrics.csv")
    if found.why is not None:
        _say(f"not run again: {found.why}")
    if found.replay is not None:
        _show_replay(found.replay)
    _say("")
    _say(summary(found), "bold")


def _say(text: str, style: str = "") -> None:
    console().print(Text(text, style=style), soft_wrap=True)


def _show_asked(asked: Sequence[Asked]) -> None:
    """Print what was asked, agents and channels with the same difference together."""
    if not asked:
        _say("asked: nothing differs in scenario, seed, device, backend, versions and commit")
        return
    names: dict[tuple[str, str, str, str], list[str]] = {}
    for each in asked:
        key = (each.part, each.key, _written(each.first), _written(each.second))
        names.setdefault(key, []).append(each.name)
    table = [[_where(part, some(who), key), one, other] for (part, key, one, other), who in names.items()]
    show_table(["asked", *LABELS], table[:_ROWS])
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


def _show_rows(rows: Rows) -> None:
    for label, alone in zip(LABELS, rows.alone, strict=True):
        if alone:
            _say(f"only in {label}: {columns_named(alone)}")
    if rows.apart is not None:
        agree = f"the same up to step {rows.equal:,}, " if rows.equal else ""
        _say(
            f"digests: {agree}apart at step {rows.apart:,} in {len(rows.parted):,} of {rows.columns:,}: "
            f"{columns_named(rows.parted)}"
        )


def _show_replay(replay: Replay) -> None:
    said = f"run again from step {replay.start:,} to {replay.end:,}"
    if replay.stopped:
        said += ", where it was stopped"
    _say(said + ("; both are what they recorded" if replay.reproduces else ""))
    for label, broken, diverged in zip(LABELS, replay.broken, replay.diverged, strict=True):
        if broken is not None:
            other = f"at step {broken.step:,} something else has been learned than it recorded"
            _say(f"run {label} does not reproduce here: {other} ({columns_named(broken.columns)})")
        if diverged is not None:
            _say(f"run {label} diverges at step {replay.end + 1:,}: {diverged}")
    for first in sorted(replay.firsts, key=lambda first: first.step):
        when = f"step {first.step:,}" if first.step > replay.start else f"before step {first.step + 1:,}"
        others = f"; {first.others:,} more {first.difference.what}{'s' if first.others > 1 else ''}"
        _say(f"  {when}: {told(first.difference)}{others if first.others else ''}")
    if not replay.firsts and not replay.stopped and replay.diverged == [None, None]:
        _say("  run again here, both are the same to the last bit")


# --- as JSON ----------------------------------------------------------------------------------------------


def _plain(found: Found) -> dict[str, Any]:
    rows, replay = found.rows, found.replay
    keys = ("scenario", "seed", "step", "exit")
    return {
        "same": found.same,
        "summary": summary(found),
        "runs": [{"path": str(run.path), **{key: run.facts.get(key) for key in keys}} for run in found.runs],
        "asked": [_plain_asked(each) for each in found.asked],
        "rows": None if rows is None else _plain_rows(rows),
        "figures": None if found.figures is None else _plain_figures(found.figures),
        "replay": None if replay is None else _plain_replay(replay),
        "why_not_replayed": found.why,
        "checkpoints": None if found.saved is None else _plain_first(found.saved),
    }


def _plain_asked(asked: Asked) -> dict[str, Any]:
    values = {"a": asked.first, "b": asked.second}
    there = {label: value for label, value in values.items() if value is not MISSING}
    return {"part": asked.part, "name": asked.name, "key": asked.key, **there}


def _plain_columns(columns: Iterable[Column]) -> list[dict[str, str]]:
    return [{"kind": kind, "name": name} for kind, name in columns]


def _plain_rows(rows: Rows) -> dict[str, Any]:
    return {
        "compared": list(rows.compared),
        "last_equal": rows.equal or None,
        "first_different": rows.apart,
        "parted": _plain_columns(rows.parted),
        "columns": rows.columns,
        "only_in": [_plain_columns(alone) for alone in rows.alone],
    }


def _plain_figures(figures: Figures) -> dict[str, Any]:
    apart = figures.apart
    return {
        "compared": list(figures.compared),
        "first_different": None
        if apart is None
        else {
            "step": apart.step,
            "kind": apart.kind,
            "name": apart.name,
            "metric": apart.metric,
            "a": apart.first,
            "b": apart.second,
        },
    }


def _plain_replay(replay: Replay) -> dict[str, Any]:
    return {
        "start": replay.start,
        "end": replay.end,
        "stopped": replay.stopped,
        "parted": replay.parted,
        "first": None if replay.learned is None else _plain_first(replay.learned),
        "firsts": [_plain_first(first) for first in replay.firsts],
        "reproduced": [broken is None for broken in replay.broken],
        "broken": [
            None if broken is None else {"step": broken.step, "parted": _plain_columns(broken.columns)}
            for broken in replay.broken
        ],
        "diverged": list(replay.diverged),
    }


def _plain_first(first: First) -> Mapping[str, Any]:
    return {"step": first.step, **first.difference._asdict(), "others": first.others}
