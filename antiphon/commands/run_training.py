"""The training of a run on the command line: what `run` and `resume` print before, while and after it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from json import dumps
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from antiphon.base.errors import AntiphonError, RunError, with_count
from antiphon.base.files import display_path, finite
from antiphon.base.imports import with_imports
from antiphon.jobs.scenario_sources import scenario_template
from antiphon.running.library import scenario_names
from antiphon.running.observers import RunProgress
from antiphon.running.trainer import Outcome, Trainer
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.loading import MADE_IN_PYTHON
from antiphon.scenarios.scenario import COMPARED
from antiphon.telemetry.history import of_shut_gates, shut_gates
from antiphon.terminal.end_of_run import show_result
from antiphon.terminal.output import (
    decimal,
    print_json,
    remark,
    second_signal,
    some,
    steps_in_words,
    write_line,
)

if TYPE_CHECKING:
    from antiphon.running.run import Run


def train(run: Run, json: bool) -> int:
    """Train a run to its end, showing progress; print its result and return the exit code."""
    assert run.writer is not None
    running, start = run.running, run.running.now
    directory = run.writer.directory
    parts = directory.facts.get("parts") or {}
    chosen = []
    if delay := parts.get("delay"):
        chosen.append(f"a message is read {with_count(delay, 'step')} later in the next part (delay: auto)")
    if bits := parts.get("bits"):
        chosen.append(f"a component takes {bits} bits on its way (bits: auto)")
    if chosen:
        remark(f"parts: {parts['count']}; {', '.join(chosen)}")
    path = display_path(directory.path)

    def way_on() -> str:
        if (obstacle := running.executor.no_resume(running)) is not None:
            return f"it cannot be continued: {obstacle}"
        return f"{with_imports(f'antiphon resume {path}')} continues from its latest checkpoint"

    with second_signal(way_on()):
        (outcome,) = Trainer([run], [RunProgress(running.until, start)]).finish()
    code = print_outcome(outcome, json)
    if not json:
        show_decoupling(running.scenario, [outcome.result], directory.facts, running.until)
    if code > 128:
        remark(f"stopped; {way_on()}")
    return code


def show_decoupling(
    scenario: Scenario, results: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], until: int
) -> None:
    """Print what is known of what decoupled channels cost, and the command that compares them with locked ones.

    Args:
        results: Of one seed or several.
        facts: Those of one of the runs (run.json).
        until: The step that they were to reach.
    """
    from antiphon.terminal.explain import explain_verdicts

    names = [c.name for c in scenario.channels if c.coupling.predicts]
    channels = [pair for result in results for pair in result.get("channels", {}).items()]
    predicting = [channel for name, channel in channels if name in names]
    if not predicting:
        return
    folders = [Path(result["run_dir"]) for result in results]
    verdicts_by_folder = (
        {} if scenario.telemetry.value is None else {at: explain_verdicts(at) for at in folders}
    )
    lines = {
        at.name: verdicts["line"]
        for at, verdicts in verdicts_by_folder.items()
        if verdicts is not None and verdicts["measure"]
    }
    worth = [
        channel["value"] for channel in predicting if channel.get("value") is not None
    ]  # also without an event file
    value = f", mean value {decimal(sum(worth) / len(worth))}" if worth else ", value not measured"
    write_line(
        f"\ndecoupled    {some(names)}: mean cosine {_mean_cosine(predicting)}{'' if lines else value}"
    )
    for name, line in lines.items():
        write_line(f"channels     {f'{name}: ' if len(results) > 1 else ''}{line}")
    lost = [] if lines else list(_lost_signals(folders, results, names))
    for line in lost[:1]:
        write_line(f"signals      {line}{f' (and {len(lost) - 1} more)' if len(lost) > 1 else ''}")
    of_runs = [shut_gates(*pair) for pair in zip(folders, results, strict=True)]
    if shut := [name for name in names if all(name in of_run for of_run in of_runs)]:
        advice = of_shut_gates(len(shut), "")
        write_line(f"gate         {some(shut)}: {advice}")
    _show_comparison(facts, until)


def _lost_signals(
    folders: Sequence[Path], results: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Iterator[str]:
    """Yield for each run whose learning signals follow nothing what is known of them; of several with the run's name.

    Only of runs whose newest median cosine is poor the log entries are read.
    """
    from antiphon.telemetry.tab.judgements import lost_of
    from antiphon.telemetry.tab.reading import read_run
    from antiphon.telemetry.verdicts import FOLLOWS

    for folder, result in zip(folders, results, strict=True):
        channels = result.get("channels", {})
        cosines = [
            channels[name]["cosine"] for name in names if channels.get(name, {}).get("cosine") is not None
        ]
        if cosines and median(cosines) < FOLLOWS:
            with suppress(RunError):  # without an event file
                for sentence in lost_of(read_run(folder)):
                    yield f"{folder.name}: {sentence}" if len(results) > 1 else sentence


def _mean_cosine(channels: Sequence[Mapping[str, Any]]) -> str:
    measured = [channel for channel in channels if channel.get("cosine") is not None]
    if not measured:
        return "not measured"
    mean = decimal(sum(channel["cosine"] for channel in measured) / len(measured))
    earlier = [channel["earlier"]["cosine"] for channel in measured if "cosine" in channel.get("earlier", {})]
    return f"{mean} (at step {steps_in_words(earlier)})" if earlier else mean


def _show_comparison(facts: Mapping[str, Any], steps: int) -> None:
    """Print the command that compares a run's couplings, if its scenario can be loaded and has variants to compare."""
    with suppress(AntiphonError):  # a file that is gone
        source = str((facts.get("template") or {}).get("source"))
        source = source if Path(source).is_file() else source.removesuffix(".yaml")
        source = next((name for name, function in MADE_IN_PYTHON.items() if function == source), source)
        template = scenario_template(source)
        template = template.with_couplings() if isinstance(template, Template) else template
        variants = [name for name in COMPARED if name in template.variants]
        varied = {"steps", *(key for name in variants for key in template.variants[name])}
        defaults, values = finite(template.resolve_values()), facts.get("values") or {}
        changed = {k: v for k, v in values.items() if k not in varied and v != defaults.get(k)}
        unknown = changed or source not in scenario_names()  # those of the library are accepted as they are
        for name in variants if unknown else ():
            template.resolve(name, changed)
        settings = "".join(f" --set {shlex.quote(f'{k}={dumps(v)}')}" for k, v in changed.items())
        if len(variants) > 1:
            compared = f"antiphon study {shlex.quote(source)} --variant {','.join(variants)}{settings}"
            write_line(f"compare      {with_imports(compared)} --steps {steps}")


def print_outcome(outcome: Outcome, json: bool) -> int:
    """Print the result of a run, and return its exit code."""
    if json:
        print_json(outcome.result)
    else:
        show_result(outcome.result)
    if outcome.error is not None:
        remark(f"error: {outcome.error}")
    return outcome.exit_code
