"""What `evaluate` measures of a run's newest checkpoint and prints: scores, ablations, languages, values.

A measurement is made by a function of its name; it is printed, and kept with the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError
from antiphon.base.files import finite
from antiphon.base.nearest_names import suggest
from antiphon.base.tools import by_key
from antiphon.engine.inference.evaluation import Evaluation
from antiphon.engine.inference.rollout_links import Links
from antiphon.inspection.ablation import (
    Ablation,
    Change,
    ablate,
    ablation_rows,
    check_measured,
    readouts_act,
)
from antiphon.inspection.language import Language, language, language_rows, spoken
from antiphon.inspection.truth import chosen_channels
from antiphon.inspection.value import COUPLING, Value, Values, value, value_rows
from antiphon.running.directory import RunDirectory
from antiphon.running.directory_writer import keep_measured, over
from antiphon.running.simulation import Simulation
from antiphon.telemetry.metrics import METRICS, SCORES, Metric
from antiphon.telemetry.statistics import worth
from antiphon.terminal.output import (
    console,
    decimal,
    episodes_in_words,
    percent,
    remark,
    scored,
    show_measured,
    show_table,
    write_line,
)

_ROWS = 20
"""Channels in a table."""
_ABLATED = 2000
"""Default number of examples of an ablation."""
_SPOKEN = 1000
"""Default number of messages of a language."""
_POSITIONS = 4
"""Positions of a message whose entropies are printed."""


@dataclass(frozen=True)
class Measured:
    """A measurement: its name and result as plain data, what is stored with the run (by name), metrics of channels, and how it is printed."""

    name: str
    result: dict[str, Any]
    stored: dict[str, Any]
    rows: Sequence[Metric]
    show: Callable[[], None]


def keep(directory: RunDirectory, simulation: Simulation, measured: Measured) -> None:
    """Store a measurement in the run directory, for the Channels tab and the report."""
    try:
        if not keep_measured(directory, simulation.running, measured.stored, measured.rows):
            remark("the run has not ended: its Channels tab will not show this (it is in measured.json)")
    except RunError as error:
        remark(f"not saved with the run: {error}")


def check_measurable(
    simulation: Simulation,
    *,
    kind: str | None,
    languages: bool,
    channels: Sequence[str] | None,
    examples: int | None,
    episodes: int | None,
    sampled: bool,
) -> None:
    """Check the options of measurements that would otherwise fail late."""
    system = simulation.running.system
    for name in channels or ():
        if name not in system.channels:
            raise RunError(f"--channels: no channel '{name}'{suggest(name, system.channels)}")
    if kind is not None:
        acting = readouts_act(simulation.running)
        limit = None if acting and languages else examples  # then they are the language's
        check_measured(
            simulation.running, kind, limit, episodes if acting else None, sampled=acting and sampled
        )
    if languages:
        chosen_channels(spoken(system), channels, "language: channel of symbols")


def result_of(
    directory: RunDirectory, path: Path, simulation: Simulation, evaluation: Evaluation
) -> dict[str, Any]:
    """Return the scores of a run as plain data."""
    readouts = list(evaluation.readout)
    return {
        "scenario": directory.facts["scenario"],
        "run_dir": str(path),
        "split": evaluation.split,
        "links": evaluation.links.kind,
        "drop": evaluation.links.drop,
        "inputs": evaluation.links.inputs,
        "examples": evaluation.examples,
        "scored": evaluation.scored,
        "episodes": None if evaluation.episodes is None else asdict(evaluation.episodes),
        "steps": simulation.now,
        "readout": readouts[0] if len(readouts) == 1 else readouts,
        **{metric: over(readouts, metric, evaluation.agents) for metric in METRICS},
        "agents": evaluation.agents,
    }


def show_scores(result: dict[str, Any], evaluation: Evaluation) -> None:
    scores = {metric for metrics in evaluation.agents.values() for metric in SCORES if metric in metrics}
    heading = scores.pop() if len(scores) == 1 else "metric"
    rows = [
        [name, scored(finite(metrics), named=bool(scores)), decimal(finite(metrics.get("loss")))]
        for name, metrics in evaluation.agents.items()
    ]
    links = "" if evaluation.links.kind == "perfect" else f" · {_links(evaluation.links)}"
    scored_on = f"{evaluation.split} split, {evaluation.examples:,} examples"
    if result["episodes"] is not None:
        scored_on = episodes_in_words(result["episodes"])
    title = f"{result['scenario']} after {result['steps']:,} steps · {scored_on}"
    show_measured(["agent", heading, "loss"], rows, title=title + links)
    for metric in SCORES:
        if finite(result[metric]) is not None:
            console().print(f"{metric:<9} {scored(finite({metric: result[metric]}))}")
    values = [value for metrics in evaluation.agents.values() for value in metrics.values()]
    if values and not any(map(isfinite, values)):
        why = "outputs are too large, as of a run that diverged, or none of its targets has a value"
        write_line(f"{title}{links}: no score is finite: {why}")


def _links(links: Links) -> str:
    lost = "" if links.drop is None else f", {percent(links.drop)} lost"
    return f"links as in the run{lost}{'' if links.inputs else ', no synthetic inputs'}"


# --- ablation ----------------------------------------------------------------------------------------------


def measured_ablation(
    simulation: Simulation,
    kind: str,
    split: str,
    channels: Sequence[str] | None,
    links: Links,
    limit: int | None,
    *,
    episodes: int | None,
    sampled: bool,
) -> Measured:
    """Rank channels by the loss, or the return, without their messages."""
    how: dict[str, Any] = {"examples": limit or _ABLATED}
    if readouts_act(simulation.running):
        how = {"episodes": episodes, "sampled": sampled}
    ablation = ablate(simulation, kind, split=split, channels=channels, links=links, **how)
    plain = _ablation(ablation)
    stored = {ablation.metric: {"split": split, **plain}}
    return Measured("ablation", plain, stored, ablation_rows(ablation), lambda: _show_ablation(ablation))


def _ablation(ablation: Ablation) -> dict[str, Any]:
    def plain(changes: dict[str, Change]) -> dict[str, dict[str, float | None]]:
        return {metric: {"change": c.value, "half": c.half} for metric, c in changes.items()}

    return {
        "kind": ablation.kind,
        "measure": ablation.measure,
        "links": ablation.links.in_words,
        "count": ablation.count,
        "intact": ablation.intact,
        "ranked": ablation.ranked(),
        "channels": {
            name: {
                "readouts": plain(ablation.readouts[name]),
                "agents": {agent: plain(changes) for agent, changes in ablation.channels[name].items()},
            }
            for name in ablation.ranked()
        },
    }


def _show_ablation(ablation: Ablation) -> None:
    metric = next((name for name in next(iter(ablation.readouts.values())) if name != ablation.measure), None)
    rows = []
    for name in ablation.ranked():
        changes, agents = ablation.readouts[name], ablation.channels[name]
        affects = {agent: abs(of[ablation.measure].cost.value) for agent, of in agents.items()}
        resolved = [agent for agent in agents if agents[agent][ablation.measure].verdict != "unresolved"]
        row = [name, *_change(ablation.change(name), 1, 4)]
        if metric is not None:
            row += _change(changes[metric], *((100, 2) if metric == "accuracy" else (1, 4)))
        affected = max(resolved, key=lambda agent: affects[agent], default="–")
        rows.append([*row, ablation.change(name).verdict, affected])
    heads = ["channel", ablation.measure, "±"]
    if metric is not None:
        heads += ["accuracy, points" if metric == "accuracy" else metric, "±"]
    intact_values = [ablation.intact[name][ablation.measure] for name in ablation.readout]
    intact = f"{ablation.measure} {sum(intact_values) / len(intact_values):.4g} with all channels"
    if ablation.measure == "return":  # the evaluation above plays others
        intact += " in these episodes"
    title = f"\nWithout each channel ({ablation.kind}): change over {ablation.pairs}, {ablation.links.in_words} ({intact}), 95 % interval"
    show_table([*heads, "the channel", "most affected"], rows, right=len(heads), title=title, most=_ROWS)


def _change(change: Change, factor: float, digits: int) -> list[str]:
    half = "–" if change.half is None else f"{factor * change.half:.{digits}f}"
    return [f"{factor * change.value:+.{digits}f}", half]


# --- language ----------------------------------------------------------------------------------------------


def measured_language(
    simulation: Simulation, split: str, channels: Sequence[str] | None, limit: int | None
) -> Measured:
    languages = language(simulation, split=split, channels=channels, examples=limit or _SPOKEN)
    plain = {name: measured.to_dict() for name, measured in languages.items()}
    stored = {"language": {"split": split, "channels": plain}}
    return Measured("language", plain, stored, language_rows(languages), lambda: _show_language(languages))


def _show_language(languages: Mapping[str, Language]) -> None:
    labels = list(dict.fromkeys(label for spoken in languages.values() for label in spoken.information))
    rows = [
        [
            name,
            f"{spoken.messages:,}",
            f"{spoken.different:,}",
            " ".join(decimal(bits, 2) for bits in spoken.entropy[:_POSITIONS])
            + ("" if len(spoken.entropy) <= _POSITIONS else " …"),
            decimal(spoken.message_entropy, 2),
            *(
                _with_share(spoken.information.get(label), spoken.information_share.get(label))
                for label in labels
            ),
            decimal(spoken.signalling, 2),
            decimal(spoken.listening, 2),
            decimal(spoken.topographic_similarity, 2),
        ]
        for name, spoken in languages.items()
    ]
    heads = [
        "channel",
        "messages",
        "different",
        "symbol entropy",
        "message entropy",
        *(f"about {label}" for label in labels),
    ]
    heads += ["signalling", "listening", "topographic"]
    title = "\nLanguage: entropies and information in bits (share: 0 as by chance, 1 as the signal itself)"
    show_table(heads, rows, right=len(heads) - 1, title=title, most=_ROWS)


def _with_share(bits: float | None, share: float | None) -> str:
    return decimal(bits, 2) if share is None else f"{decimal(bits, 2)} ({decimal(share, 2)})"


# --- value -------------------------------------------------------------------------------------------------


def measured_value(
    simulation: Simulation, channels: Sequence[str] | None, horizon: int | None, repeats: int | None
) -> Measured:
    remark("measuring the value of learning signals, in forks …")
    settings: dict[str, Any] = {"horizon": horizon, "repeats": repeats}
    given = {name: number for name, number in settings.items() if number is not None}
    values = value(simulation, channels=channels, **given)
    plain = values.to_dict()
    return Measured("value", plain, {"value": plain}, value_rows(values), partial(_show_value, values))


def _show_value(values: Values) -> None:
    rows = []
    for row in _best_first(values):
        interval = word = ""
        if row.low is not None and row.high is not None:
            interval, word = f"[{row.low:.2f}, {row.high:.2f}]", worth(row.low, row.high)
        losses = [decimal(finite(loss)) for loss in (row.zero, row.synthetic, row.true)]
        middle = "undefined" if row.value is None else f"{row.value:.2f}"
        rows.append([row.name, word, middle, interval, *losses])
    title = f"\nValue over {values.horizon} steps, {values.repeats} repeats, {values.seconds:.0f} s"
    heads = [
        "channel",
        "its signal",
        "value",
        "95 % interval",
        "loss: zero",
        "synthetic",
        "true",
    ]
    show_table(heads, rows, right=len(heads) - 2, title=title, most=_ROWS)
    for why, names in by_key((row.why, row.name) for row in values.rows[:_ROWS]).items():
        if why:
            console().print(f"{', '.join(names)}: {why}")


def _best_first(values: Values) -> list[Value]:
    """Return the rows: all channels together, then the channels by their value, those without one last."""
    return sorted(
        values.rows,
        key=lambda row: (row.name != COUPLING, row.value is None, -(row.value or 0.0)),
    )
