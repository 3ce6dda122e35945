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
from antiphon.engine.inference.evaluation import Evaluation
from antiphon.engine.inference.rollout_links import Links
from antiphon.engine.live_system import LiveSystem
from antiphon.inspection.ablation import (
    Ablation,
    Change,
    ablate,
    ablation_rows,
    check_measured,
    readouts_act,
)
from antiphon.inspection.ceiling import ceilings
from antiphon.inspection.language import Language, language, language_rows, spoken
from antiphon.inspection.signal_alignment import signal_alignment, signal_rows
from antiphon.inspection.truth import chosen_channels, predicted_channels
from antiphon.inspection.value import (
    COUPLING,
    Values,
    circumstances,
    rates_fallen,
    rates_left,
    value,
    value_rows,
    without_value,
)
from antiphon.running.directory import RunDirectory
from antiphon.running.directory_writer import keep_measured, over
from antiphon.running.simulation import Simulation
from antiphon.scenarios.training import selected_in_words
from antiphon.telemetry.causes import common_hints
from antiphon.telemetry.figures import METRICS, PROBED, SCORES, Figure
from antiphon.telemetry.tab.judgements import judgements
from antiphon.telemetry.verdicts import (
    LEFT_OUT,
    Undefined,
    worth,
    worths_in_words,
)
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
    """A measurement: its name and result as plain data, what is kept with the run (by name), figures of channels, how it is printed,
    and why channels have no result."""

    name: str
    result: dict[str, Any]
    kept: dict[str, Any]
    rows: Sequence[Figure]
    show: Callable[[], None]
    undefined: Undefined | None = None


def keep(directory: RunDirectory, simulation: Simulation, measured: Measured) -> bool:
    """Store a measurement in the run directory, for `report` and the Channels tab; return whether these show it."""
    try:
        if keep_measured(directory, simulation.running, measured.kept, measured.rows, measured.undefined):
            return True
        remark("the run has not ended: its Channels tab will not show this (it is in measured.json)")
    except RunError as error:
        remark(f"not saved with the run: {error}")
    return False


def keep_scores(directory: RunDirectory, simulation: Simulation, found: Evaluation) -> None:
    """Store the agents' scores for the Channels tab, unless the run's end has stored them; those of a run that goes on are not."""
    facts, now = directory.facts, simulation.now
    if found.links != Links() or (facts["exit"], facts["step"], found.split) == ("done", now, "test"):
        return
    rows = [
        Figure("agent", name, f"{found.split}_{metric}", figures[metric])
        for name, figures in found.agents.items()
        for metric in METRICS
        if metric in figures
    ]
    try:
        keep_measured(directory, simulation.running, {}, rows)
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
    """Check the options of measurements that would otherwise fail late.

    Raises:
        RunError: There is no such channel, or nothing that can be measured so.
    """
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
    directory: RunDirectory, path: Path, simulation: Simulation, found: Evaluation
) -> dict[str, Any]:
    """Return the scores of a run as plain data."""
    readouts = list(found.readout)
    return {
        "scenario": directory.facts["scenario"],
        "run_dir": str(path),
        "member": directory.as_member,
        "split": found.split,
        "links": found.links.kind,
        "drop": found.links.drop,
        "inputs": found.links.inputs,
        "examples": found.examples,
        "episodes": None if found.episodes is None else asdict(found.episodes),
        "steps": simulation.now,
        "readout": readouts[0] if len(readouts) == 1 else readouts,
        **({"selected_on_test": list(found.selected)} if found.selected else {}),
        **{metric: over(readouts, metric, found.agents) for metric in METRICS},
        "agents": found.agents,
    }


def show_scores(result: dict[str, Any], found: Evaluation) -> None:
    """Print the scores of a run."""
    metrics = {metric for figures in found.agents.values() for metric in SCORES if metric in figures}
    heading = metrics.pop() if len(metrics) == 1 else "metric"
    rows = [
        [name, scored(finite(figures), named=bool(metrics)), decimal(finite(figures.get("loss")))]
        for name, figures in found.agents.items()
    ]
    links = "" if found.links.kind == "perfect" else f" · {_links(found.links)}"
    scored_on = f"{found.split} split, {found.examples:,} examples"
    if result["episodes"] is not None:
        scored_on = episodes_in_words(result["episodes"])
    if found.selected:
        scored_on += f", {selected_in_words(found.selected)}"
    member = "" if result["member"] is None else f" · {result['member']}"
    title = f"{result['scenario']} after {result['steps']:,} steps{member} · {scored_on}"
    show_measured(["agent", heading, "loss"], rows, title=title + links)
    for metric in SCORES:
        if finite(result[metric]) is not None:
            console().print(f"{metric:<9} {scored(finite({metric: result[metric]}))}")
    values = [value for figures in found.agents.values() for value in figures.values()]
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
    found = ablate(simulation, kind, split=split, channels=channels, links=links, **how)
    plain = _ablation(found)
    kept = {found.metric: {"split": split, **plain}}
    reasons = dict.fromkeys(simulation.running.system.channels, LEFT_OUT)
    reasons |= {
        name: "" if found.change(name).interval else "a single example has no interval"
        for name in found.readouts
    }
    undefined = Undefined(found.metric, _given(reasons), ["--ablate", kind], links=found.links.in_words)
    rows = ablation_rows(found)
    return Measured("ablation", plain, kept, rows, lambda: _show_ablation(found), undefined)


def _given(reasons: Mapping[str, str]) -> dict[str, str]:
    return {name: why for name, why in reasons.items() if why}


def _ablation(found: Ablation) -> dict[str, Any]:
    def plain(changes: dict[str, Change]) -> dict[str, dict[str, float | None]]:
        return {metric: {"change": c.value, "half": c.half} for metric, c in changes.items()}

    return {
        "kind": found.kind,
        "measure": found.measure,
        "links": found.links.in_words,
        "count": found.count,
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
    metric = next((name for name in next(iter(found.readouts.values())) if name != found.measure), None)
    rows = []
    for name in found.ranked():
        changes, agents = found.readouts[name], found.channels[name]
        affects = {agent: abs(of[found.measure].cost.value) for agent, of in agents.items()}
        resolved = [agent for agent in agents if agents[agent][found.measure].verdict != "unresolved"]
        row = [name, *_change(found.change(name), 1, 4)]
        if metric is not None:
            row += _change(changes[metric], *((100, 2) if metric == "accuracy" else (1, 4)))
        affected = max(resolved, key=lambda agent: affects[agent], default="–")
        rows.append([*row, found.change(name).verdict, affected])
    heads = ["channel", found.measure, "±"]
    if metric is not None:
        heads += ["accuracy, points" if metric == "accuracy" else metric, "±"]
    own = [found.intact[name][found.measure] for name in found.readout]
    intact = f"{found.measure} {sum(own) / len(own):.4g} with all channels"
    title = f"\nWithout each channel ({found.kind}): change over {found.pairs}, {found.links.in_words} ({intact}), 95 % interval"
    show_table([*heads, "verdict", "most affected"], rows, right=len(heads), title=title, most=_ROWS)
    verdicts = [found.change(name).verdict for name in found.readouts]
    console().print(f"channels: {worths_in_words('ablation_zero', verdicts)}")


def _change(change: Change, factor: float, digits: int) -> list[str]:
    half = "–" if change.half is None else f"{factor * change.half:.{digits}f}"
    return [f"{factor * change.value:+.{digits}f}", half]


# --- language ----------------------------------------------------------------------------------------------


def measured_language(
    simulation: Simulation, split: str, channels: Sequence[str] | None, limit: int | None
) -> Measured:
    """Measure the languages of channels of symbols."""
    found = language(simulation, split=split, channels=channels, examples=limit or _SPOKEN)
    plain = {name: own.to_dict() for name, own in found.items()}
    kept = {"language": {"split": split, "channels": plain}}
    return Measured("language", plain, kept, language_rows(found), lambda: _show_language(found))


def _show_language(found: Mapping[str, Language]) -> None:
    labels = list(dict.fromkeys(label for own in found.values() for label in own.information))
    rows = [
        [
            name,
            f"{own.messages:,}",
            f"{own.different:,}",
            " ".join(decimal(bits, 2) for bits in own.entropy[:_POSITIONS])
            + ("" if len(own.entropy) <= _POSITIONS else " …"),
            decimal(own.message_entropy, 2),
            *(_with_share(own.information.get(label), own.information_share.get(label)) for label in labels),
            _with_share(own.signalling, own.signalling_share),
            _with_share(own.listening, own.listening_share),
            decimal(own.topographic_similarity, 2),
        ]
        for name, own in found.items()
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
    """Measure the value of the channels' learning signals."""
    remark("measuring the value of learning signals, in forks …")
    given: dict[str, Any] = {"horizon": horizon, "repeats": repeats}
    values = value(simulation, channels=channels, **{name: n for name, n in given.items() if n is not None})
    every = predicted_channels(simulation.running.system)
    predicted = [name for name in every if not channels or name in channels]
    signals = signal_alignment(simulation, channels=predicted)
    highest = ceilings(simulation, channels=predicted)
    # beside the value stands the alignment of the same channels with its ceiling, since alignment misleads
    alignments = {
        name: finite({key: number for own in found for key, number in own.to_dict().items()})
        for name in predicted
        if (found := [each[name] for each in (signals, highest) if name in each])
    }
    plain = values.to_dict() | {"alignment": alignments}
    rows = [*value_rows(values), *signal_rows(signals)]
    rows += [
        Figure("channel", name, metric, like[key])
        for name, like in alignments.items()
        for key, metric in zip(("cosine", "cosine_ceiling"), PROBED, strict=True)
        if name in highest and like[key] is not None
    ]
    undefined = without_value(
        values,
        list(simulation.running.system.channels),
        circumstances(simulation.running),
        fallen=rates_fallen(simulation.running, values.horizon),
    )
    by_chance = any(row.value is None and isfinite(row.gain) for row in values.rows)
    if by_chance and (instead := _during_a_run(simulation.running, values)):
        undefined = undefined._replace(instead=instead)
    samples = max((ceiling.samples for ceiling in highest.values()), default=0)
    show = partial(_show_value, values, alignments, undefined, samples)
    return Measured("value", plain, {"value": plain}, rows, show, undefined)


def _during_a_run(running: LiveSystem, found: Values) -> str:
    """Return the advice to measure earlier, where a longer horizon cannot help: learning rates have nearly fallen to 0."""
    if not rates_fallen(running, found.horizon):
        return ""
    left = rates_left(running, found.horizon)
    spec = f"telemetry: {{value: {{period: {max(running.now // 10, 1)}, horizon: {found.horizon}}}}}"
    fallen = f"the agents' learning rates have fallen to {percent(left)} of their first"
    own = running.scenario.telemetry.value is not None
    where = "see those of earlier steps" if own else f"measure during a run, with {spec} in the scenario"
    return f"{fallen}, so that no signal gains much: {where}"


def _show_value(
    found: Values, alignments: dict[str, dict[str, Any]], undefined: Undefined, samples: int
) -> None:
    rows = []
    for row in found.rows:
        interval = "" if row.low is None or row.high is None else f"[{row.low:.2f}, {row.high:.2f}]"
        losses = [decimal(finite(loss)) for loss in (row.zero, row.synthetic, row.true)]
        middle = "undefined" if row.value is None else f"{row.value:.2f}"
        like = alignments.get(row.name, {})
        cosines = [decimal(like.get(key)) for key in ("cosine", "cosine_ceiling", "parameter_cosine")]
        rows.append([row.name, middle, interval, *losses, *cosines])
    title = f"\nValue over {found.horizon} steps, {found.repeats} repeats, {found.seconds:.0f} s"
    heads = [
        "channel",
        "value",
        "95 % interval",
        "loss: zero",
        "synthetic",
        "true",
        "true cosine",
        "ceiling",
        "parameter cosine",
    ]
    show_table(heads, rows, right=len(heads) - 1, title=title, most=_ROWS)
    if samples:
        console().print(
            f"true cosine, ceiling: with the true gradient, up to {samples:,} samples a channel; cosine in the log is with the returned "
            "gradient of one batch"
        )
    verdicts = [worth("value", row.low, row.high) for row in found.rows if row.name != COUPLING]
    if any(verdicts):
        console().print(f"channels: {worths_in_words('value', verdicts)}")
    if undefined.instead:
        console().print(f"undefined: {undefined.instead}")
    elif undefined.cost:
        console().print(f"undefined: {' '.join(undefined.again)} takes {undefined.cost}")
    for row in found.rows[:_ROWS]:
        if row.why:
            console().print(f"{row.name}: {row.why}")


def show_causes(directory: RunDirectory, measured: Measured) -> None:
    """Print what may be the cause of a bad signal of each measured channel and what to try, as the Channels tab and the report have it;
    what most channels of the run have alike, once."""
    from antiphon.telemetry.tab.reading import read_run  # loads TensorBoard

    names = [figure.name for figure in measured.rows]
    data = read_run(directory.path)
    judged = [one for one in judgements(data) if one.cause and one.channel in names]
    for sentence in common_hints(data.graph).values():
        console().print(sentence)
    for one in judged[:_ROWS]:
        console().print(f"{one.channel}: {one.cause}" + (f"; try {one.fix}" if one.fix else ""))
