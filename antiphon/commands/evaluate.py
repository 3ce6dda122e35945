"""The verb `evaluate`: scores of a run's newest checkpoint, with optional measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from antiphon.commands.output import (
    METRICS,
    console,
    decimal,
    percent,
    print_json,
    remark,
    remarks,
    scored,
    show_table,
)
from antiphon.commands.represent import represent, show_representations
from antiphon.engine.inference.evaluation import Evaluation
from antiphon.engine.inference.links import Links
from antiphon.engine.probes.ablation import Ablation, Change, Kind, ablate
from antiphon.engine.probes.ceiling import ceilings
from antiphon.engine.probes.value import Values, value, value_rows
from antiphon.engine.runs.directory import RunDirectory, finite
from antiphon.engine.runs.run_writer import keep_measured, over
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError, suggest
from antiphon.telemetry.figures import Figure
from antiphon.telemetry.names import writing

__all__ = ["Measurements", "evaluate"]

_ROWS = 20
"""Channels in a table."""
_ABLATED = 2000
"""Default number of examples of an ablation."""
_REPRESENTED = 400


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Measurements requested beside the score.

    Attributes:
        ablate: Replacement of messages, channel by channel; None: no ablation.
        represent: Folder for pictures and numbers of representations; None: none are made.
        value: Whether the channels' values are measured.
        channels: Which channels; None: all.
        examples: Limit; None: each measurement's default.
        horizon: Steps over which a value is measured; None: the default.
        repeats: Of the measurement of a value; None: the default.

    Raises:
        RunError: An option without effect on the requested measurements.
    """

    ablate: str | None = None
    represent: Path | None = None
    value: bool = False
    channels: Sequence[str] | None = None
    examples: int | None = None
    horizon: int | None = None
    repeats: int | None = None

    def __post_init__(self) -> None:
        users = {
            "--examples": (self.examples, bool(self.ablate or self.represent), "--ablate or --represent"),
            "--channels": (
                self.channels,
                bool(self.ablate or self.value or self.represent),
                "--ablate, --value or --represent",
            ),
            "--horizon": (self.horizon, self.value, "--value"),
            "--repeats": (self.repeats, self.value, "--value"),
        }
        for option, (given, used, users_of_it) in users.items():
            if given is not None and not used:
                raise RunError(f"{option}: has no effect here; it goes with {users_of_it}")


def evaluate(path: Path, *, split: str, links: Links, measurements: Measurements, json: bool) -> int:
    """Score the newest checkpoint of a run on a split, with optional measurements; return the exit code."""
    kind = None if measurements.ablate is None else Kind.read(measurements.ablate)
    directory = RunDirectory.open(path)
    with Simulation.load(path, threads=directory.facts["threads"]) as simulation:
        _check(simulation, measurements)
        found = simulation.evaluate(split, links)
        result = _result(directory, path, simulation, found)
        if not json:
            _show(result, found)
        if kind is not None:
            ablated = _ablate(simulation, kind, split, links, measurements)
            result["ablation"] = _ablation(ablated)
            _keep(directory, simulation, {"ablation": {"split": split, **result["ablation"]}}, _lost(ablated))
            if not json:
                _show_ablation(ablated)
        if measurements.value:
            valued, alignments = (
                _value(simulation, measurements),
                _alignments(simulation, measurements.channels),
            )
            result["value"] = valued.to_dict() | {"alignment": alignments}
            _keep(directory, simulation, {"value": result["value"]}, value_rows(valued))
            if not json:
                _show_value(valued, alignments)
        if measurements.represent is not None:
            shown = represent(
                simulation,
                measurements.represent,
                split,
                measurements.examples or _REPRESENTED,
                measurements.channels,
            )
            result["representations"] = shown
            if not json:
                show_representations(shown)
    if json:
        print_json(finite(result))
    return 0


def _keep(
    directory: RunDirectory, simulation: Simulation, found: dict[str, Any], rows: Sequence[Figure]
) -> None:
    """Store measurements in the run directory, for `report` and the Channels tab."""
    try:
        if not keep_measured(directory, simulation, found, rows):
            remark("the run is going on: its Channels tab will not show this (measured.json has it)")
    except RunError as error:
        remark(f"not kept with the run: {error}")


def _lost(found: Ablation) -> list[Figure]:
    return [
        Figure("channel", name, "ablation", changes["loss"].value) for name, changes in found.readouts.items()
    ]


def _check(simulation: Simulation, measurements: Measurements) -> None:
    """Check the options that would otherwise fail late."""
    for name in measurements.channels or ():
        if name not in simulation.system.channels:
            raise RunError(f"--channels: no channel '{name}'{suggest(name, simulation.system.channels)}")
    for option, wanted in (("--ablate", measurements.ablate), ("--represent", measurements.represent)):
        if wanted is not None and not simulation.system.description.is_stream:
            raise RunError(
                f"{option}: looks at examples one by one, and the environment shows no such; evaluate without it"
            )
    if measurements.represent is not None:
        with writing(measurements.represent):
            measurements.represent.mkdir(parents=True, exist_ok=True)


def _result(directory: RunDirectory, path: Path, simulation: Simulation, found: Evaluation) -> dict[str, Any]:
    readouts = list(found.readout)
    return {
        "scenario": directory.facts["scenario"],
        "run_dir": str(path),
        "split": found.split,
        "links": found.links.kind,
        "drop": found.links.drop,
        "inputs": found.links.inputs,
        "examples": found.examples,
        "steps": simulation.now,
        "readout": readouts[0] if len(readouts) == 1 else readouts,
        **{metric: over(readouts, metric, found.agents) for metric in (*METRICS, "loss")},
        "agents": found.agents,
    }


def _show(result: dict[str, Any], found: Evaluation) -> None:
    metrics = {metric for figures in found.agents.values() for metric in METRICS if metric in figures}
    heading = metrics.pop() if len(metrics) == 1 else "metric"
    rows = [
        [name, scored(finite(figures), named=bool(metrics)), decimal(finite(figures["loss"]))]
        for name, figures in found.agents.items()
    ]
    links = "" if found.links.kind == "perfect" else f" · {_links(found.links)}"
    title = f"{result['scenario']} after {result['steps']:,} steps · {found.split} split, {found.examples:,} examples"
    show_table(["agent", heading, "loss"], rows, right=2, title=title + links)
    for metric in METRICS:
        if finite(result[metric]) is not None:
            console().print(f"{metric:<9} {scored(finite({metric: result[metric]}))}")


def _links(links: Links) -> str:
    lost = "" if links.drop is None else f", losing {percent(links.drop)}"
    return f"links as run{lost}{'' if links.inputs else ', no synthetic inputs'}"


# --- ablation ----------------------------------------------------------------------------------------------


def _ablate(
    simulation: Simulation, kind: Kind, split: str, links: Links, measurements: Measurements
) -> Ablation:
    with _progress("rollouts") as watch:
        return ablate(
            simulation,
            kind,
            split=split,
            channels=measurements.channels,
            links=links,
            limit=measurements.examples or _ABLATED,
            watch=watch,
        )


def _ablation(found: Ablation) -> dict[str, Any]:
    def plain(changes: dict[str, Change]) -> dict[str, dict[str, float | None]]:
        return {metric: {"change": c.value, "half": c.half} for metric, c in changes.items()}

    return {
        "kind": str(found.kind),
        "examples": found.examples,
        "intact": found.intact,
        "ranked": found.ranked(),
        "channels": {
            name: {
                "readouts": plain(found.readouts[name]),
                "agents": {agent: plain(changes) for agent, changes in found.channels[name].items()},
            }
            for name in found.ranked()
        },
    }


def _show_ablation(found: Ablation) -> None:
    metric = next((name for name in next(iter(found.readouts.values())) if name != "loss"), None)
    rows = []
    for name in found.ranked()[:_ROWS]:
        changes = found.readouts[name]
        agents = found.channels[name]
        most = max(agents, key=lambda agent: agents[agent]["loss"].value)
        row = [name, *_change(changes["loss"], 1, 4)]
        if metric is not None:
            row += _change(changes[metric], *((100, 2) if metric == "accuracy" else (1, 4)))
        rows.append([*row, most if agents[most]["loss"].resolved else "–"])
    heads = ["channel", "loss", "±"]
    if metric is not None:
        heads += ["accuracy, points" if metric == "accuracy" else metric, "±"]
    title = f"\nWithout each channel ({found.kind}): change over {found.examples:,} examples, 95 % interval"
    show_table([*heads, "most for"], rows, right=len(heads), title=title)
    _left_out(len(found.channels))


def _change(change: Change, factor: float, digits: int) -> list[str]:
    half = "–" if change.half is None else f"{factor * change.half:.{digits}f}"
    return [f"{factor * change.value:+.{digits}f}", half]


def _left_out(count: int) -> None:
    if count > _ROWS:
        console().print(f"… and {count - _ROWS} more; --json has all\n")


# --- value -------------------------------------------------------------------------------------------------


def _value(simulation: Simulation, measurements: Measurements) -> Values:
    given = {"horizon": measurements.horizon, "repeats": measurements.repeats}
    remark("measuring what learning signals are worth, in forks …")
    return value(
        simulation, channels=measurements.channels, **{name: n for name, n in given.items() if n is not None}
    )


def _alignments(simulation: Simulation, channels: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Alignment of the same channels with its ceiling, displayed beside the value, since alignment misleads."""
    predicted = [
        name
        for name, channel in simulation.system.channels.items()
        if channel.predictor is not None and (not channels or name in channels)
    ]
    return {name: finite(found.to_dict()) for name, found in ceilings(simulation, channels=predicted).items()}


def _show_value(found: Values, alignments: dict[str, dict[str, Any]]) -> None:
    rows = []
    for row in found.rows[:_ROWS]:
        interval = "" if row.low is None or row.high is None else f"[{row.low:.2f}, {row.high:.2f}]"
        losses = [decimal(finite(loss)) for loss in (row.zero, row.synthetic, row.true)]
        worth = "undefined" if row.value is None else f"{row.value:.2f}"
        like = alignments.get(row.name, {})
        cosines = [decimal(like.get(key)) for key in ("cosine", "cosine_ceiling")]
        rows.append([row.name, worth, interval, *losses, *cosines])
    title = f"\nValue over {found.horizon} steps, {found.repeats} repeats, {found.seconds:.0f} s"
    heads = ["channel", "value", "95 % interval", "loss zero", "synthetic", "true", "cosine", "its ceiling"]
    show_table(heads, rows, right=len(heads) - 1, title=title)
    _left_out(len(found.rows))
    for row in found.rows[:_ROWS]:
        if row.why:
            console().print(f"{row.name}: {row.why}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Display the progress of a long measurement on stderr: a bar on a terminal, else a line every quarter."""
    screen = remarks()
    if screen.is_terminal:
        columns = (BarColumn(bar_width=40), MofNCompleteColumn(), TextColumn(what), TimeRemainingColumn())
        with Progress(*columns, console=screen, transient=True) as bar:
            task = bar.add_task("")
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return

    def line(done: int, total: int) -> None:
        if 4 * done // total > 4 * (done - 1) // total:
            remark(f"{done:,}/{total:,} {what}")

    yield line
