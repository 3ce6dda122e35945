"""The command `run`, with one seed or several; and what it shares with `resume`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from antiphon.base.errors import AntiphonError, RunError
from antiphon.base.extensions import with_imports
from antiphon.base.files import display_path, finite, write_json
from antiphon.base.memory import uncollected
from antiphon.commands import options
from antiphon.commands.arguments import (
    cluster_of,
    logdir_root,
    new_directory,
    parts_of,
    scenario_template,
    values_of,
)
from antiphon.engine.planning.advice import advice
from antiphon.running.directory import EXIST, RunDirectory, is_free
from antiphon.running.library import MADE_IN_PYTHON, scenario_names
from antiphon.running.observers import RunProgress
from antiphon.running.request import Request, check_alone
from antiphon.running.trainer import Outcome, Trainer
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.document import COMPARED
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.yaml_text import find_document
from antiphon.telemetry.history import of_shut_gates, shut_gates
from antiphon.terminal.end_of_run import show_result, show_seeds
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


def run(
    name_or_file: options.Scenario,
    variant: options.Variant = None,
    settings: options.Settings = None,
    steps: options.Steps = None,
    epochs: Annotated[
        float | None, options.real("E", "Number of training steps, in epochs of the examples.")
    ] = None,
    seed: Annotated[
        int | None, options.count("S", "Random seed (default: 0).", "--seed", "-s", least=0)
    ] = None,
    seeds: Annotated[
        int | None,
        options.count(
            "K",
            "Run seeds S … S+K-1, in one process if possible, each with its own run directory. "
            "A seed that diverges stops, and the others continue (exit code 3 if all diverge).",
        ),
    ] = None,
    name: Annotated[str | None, options.text("RUN", "Name of the run (default: scenario and time).")] = None,
    exist: Annotated[
        str,
        options.text(
            "|".join(EXIST),
            "If the run exists: write to RUN-2 (default), remove it, resume it (or print its result), or stop.",
        ),
    ] = "number",
    logdir: options.LogDir = None,
    device: options.Device = "cpu",
    backend: options.Backend = "cohort",
    capture: options.Capture = False,
    parts: options.Parts = None,
    mode: options.Mode = None,
    ray: options.Ray = None,
    jobs: options.Jobs = None,
    cluster: options.Cluster = None,
    checkpoint_every: options.CheckpointEvery = None,
    json: options.Json = False,
) -> int:
    """Run a scenario, with one seed or several, or a population; return the exit code."""
    with uncollected(kept=True):  # 0.96 times the processor time of a run of one step, in eight paired turns
        from antiphon.running.begin import begin_request

    if steps is not None and epochs is not None:
        raise RunError("--epochs: --steps is given as well; leave out one of them")
    if epochs is not None and not epochs > 0:
        raise RunError(f"--epochs: must be above 0, not {epochs:g}")
    if exist in ("resume", "overwrite") and name is None:
        raise RunError(f"--exist {exist}: needs the name of the run; give it with --name")
    if (population := find_document(PopulationSpec, name_or_file)) is not None:
        refused = {"--variant": variant, "--epochs": epochs, "--seeds": seeds, "--parts": parts}
        refused |= {"--mode": mode, "--cluster": cluster, "--capture": capture or None}
        for option, given in refused.items():
            if given is not None:
                raise RunError(f"{option}: {name_or_file} is a population; leave it out")
        from antiphon.commands.run_population import run_population

        changed = {
            "steps": steps,
            "seed": seed,
            "set": {**population.set, **values_of(settings or ())} or None,
        }
        population = population.with_keys(**{k: value for k, value in changed.items() if value is not None})
        of_processes: dict[str, Any] = {"device": device, "backend": backend, "jobs": jobs, "ray": ray}
        of_processes["checkpoint_every"] = checkpoint_every
        directory = new_directory(logdir, name, population.population)
        return run_population(population, directory, exist, json, **of_processes)
    if jobs is not None:
        raise RunError(f"--jobs: {name_or_file} is no population; leave it out")
    seed = seed or 0
    request = Request(
        template=scenario_template(name_or_file),
        variant=variant,
        values=values_of(settings or ()),
        steps=steps,
        seed=seed,
        device=device,
        backend=backend,
        capture=capture,
        command=("antiphon", *sys.argv[1:]),
    )
    with request.template.placing(variant, request.values):
        check_alone(request.scenario)
    if epochs is not None:
        from antiphon.engine.environment import steps_for_epochs

        request = replace(request, steps=steps_for_epochs(request.scenario, seed, epochs))
    agents, of_parts = request.scenario.agents, {"ray": ray, "mode": mode}
    on_cluster = cluster is not None and cluster_of(cluster, parts, agents, backend, of_parts)
    division = on_cluster or parts_of(parts, agents, of_parts)
    if division is not None:  # else the scenario of this request would be read again
        request = replace(request, division=division)
    if capture and cluster is not None:
        raise RunError("--capture: cannot be combined with --cluster; leave out one of them")
    if seeds is not None:
        return _run_seeds(request, seeds, name, logdir, checkpoint_every, exist, json)
    stem = f"{request.scenario.scenario}-{variant or 'default'}-s{seed}"
    path = new_directory(logdir, name, stem)
    there = request.existing(path) if exist == "resume" else None
    outcome = None if there is None else request.outcome(there, request.scenario.training.steps)
    if outcome is not None and outcome.status == "done":
        return print_outcome(outcome, json)
    with request.template.placing(variant, request.values):
        started = begin_request(
            request, path, exist=exist, checkpoint_every=checkpoint_every, directory=there
        )
    return train(started, json)


def train(run: Run, json: bool) -> int:
    """Train a run to its end, showing progress; print its result and return the exit code."""
    assert run.writer is not None
    directory = run.writer.directory
    _warn(directory.facts["warnings"])
    parts = directory.facts.get("parts") or {}
    chosen = []
    if delay := parts.get("delay"):
        chosen.append(
            f"a message is read {delay} step{'s' * (delay > 1)} later in the next part (delay: auto)"
        )
    if bits := parts.get("bits"):
        chosen.append(f"a component takes {bits} bits on its way (bits: auto)")
    if chosen:
        remark(f"parts: {parts['count']}; {', '.join(chosen)}")
    path = display_path(directory.path)
    with second_signal(f"{with_imports(f'antiphon resume {path}')} continues from its latest checkpoint"):
        (outcome,) = Trainer([run], [RunProgress(run.running.until, run.running.now)]).finish()
    code = print_outcome(outcome, json)
    if not json:
        _show_decoupling(run.running.scenario, [outcome.result], directory.facts)
    return code


def _show_decoupling(
    scenario: Scenario, results: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> None:
    """Print what is known of what decoupled channels cost, and the command that compares them with locked ones.

    Args:
        scenario: The scenario.
        results: Of one seed or several.
        facts: Those of one of the runs (run.json).
    """
    names = [c.name for c in scenario.channels if c.made_coupling.predicts]
    channels = [pair for result in results for pair in result.get("channels", {}).items()]
    figures = [channel for name, channel in channels if name in names]
    if not figures:
        return
    known = []
    for metric in ("cosine", "value"):
        measured = [one for one in figures if one.get(metric) is not None]
        mean = sum(one[metric] for one in measured) / len(measured) if measured else None
        known.append(f"{metric} {'not measured' if mean is None else decimal(mean)}")
        if earlier := [one["earlier"][metric] for one in measured if metric in one.get("earlier", {})]:
            known[-1] += f" (at step {steps_in_words(earlier)})"
    write_line(f"\ndecoupled    {some(names)}: mean {', '.join(known)}")
    of_runs = [shut_gates(Path(result["run_dir"]), result) for result in results]
    if shut := [name for name in names if all(name in of_run for of_run in of_runs)]:
        write_line(f"gate         {some(shut)}: {of_shut_gates(len(shut))}")
    with suppress(AntiphonError):  # a file that is gone
        source = str((facts.get("template") or {}).get("source"))
        source = source if Path(source).is_file() else source.removesuffix(".yaml")
        source = next((name for name, place in MADE_IN_PYTHON.items() if place == source), source)
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
            write_line(f"compare      {with_imports(compared)} --steps {results[0]['steps']}")


def print_outcome(outcome: Outcome, json: bool) -> int:
    """Print the result of a run, and return its exit code."""
    if json:
        print_json(outcome.result)
    else:
        show_result(outcome.result)
    if outcome.error is not None:
        remark(f"error: {outcome.error}")
    return outcome.exit_code


# --- several seeds -----------------------------------------------------------------------------------------


def _run_seeds(
    request: Request,
    count: int,
    name: str | None,
    logdir: Path | None,
    checkpoint_every: int | None,
    exist: str,
    json: bool,
) -> int:
    """Run a scenario with seeds from that of the request on; `name` begins the run directories' names."""
    from antiphon.jobs.job import Job
    from antiphon.jobs.scheduler import Scheduler
    from antiphon.running.lock import DirectoryLock

    requests = [replace(request, seed=seed) for seed in range(request.seed, request.seed + count)]
    paths, summary_dir = _directories(requests, name, logdir, exist)
    how: Any = {"exist": "error" if exist == "number" else exist, "checkpoint_every": checkpoint_every}
    with request.template.placing(request.variant, request.values):
        runs = Scheduler([Job(one, path, **how) for one, path in zip(requests, paths, strict=True)])
    _warn(advice(request.scenario, request.variants))
    if runs.sequential_reason is not None:
        remark(f"the seeds run one after the other: {runs.sequential_reason}")
    same = "the same command with --exist resume continues"
    remedy = same if name else f"{with_imports('antiphon resume')} continues each run that has started"
    with second_signal(remedy), DirectoryLock(summary_dir):
        outcomes = runs.train(RunProgress(runs.until, runs.start, len(requests)))
        write_json(summary_dir / "seeds.json", outcomes.result)
    if json:
        print_json(outcomes.result)
    else:
        show_seeds(outcomes, summary_dir, logdir_root(logdir))
    if not json and outcomes.exit_code == 0:
        results = [one.result for one in outcomes.by_seed.values()]
        _show_decoupling(request.scenario, results, RunDirectory.open(paths[0]).facts)
    for seed, one in outcomes.by_seed.items():
        if one.error is not None:
            remark(f"error: seed {seed}: {one.error}")
    if outcomes.exit_code > 128:
        remark(f"stopped; {remedy}")
    return outcomes.exit_code


def _warn(lines: Sequence[str]) -> None:
    """Print the warnings about a scenario."""
    for line in lines:
        remark(f"warning: {line}", "yellow")


def _directories(
    requests: Sequence[Request], name: str | None, logdir: Path | None, exist: str
) -> tuple[list[Path], Path]:
    """Return the directory of each run, and that of the summary over seeds."""
    first = requests[0]
    stem = name or f"{first.scenario.scenario}-{first.variant or 'default'}"
    summary_dir = new_directory(logdir, name and f"{stem}-seeds", f"{stem}-seeds")
    ending = summary_dir.name.removeprefix(f"{stem}-seeds")  # the time, without a name
    for number in count(1):
        numbered = stem if number == 1 else f"{stem}-{number}"
        summary_dir = summary_dir.with_name(f"{numbered}-seeds{ending}")
        paths = [summary_dir.with_name(f"{numbered}-s{one.seed}{ending}") for one in requests]
        if exist != "number" or all(map(is_free, (*paths, summary_dir))):
            break
    if numbered != stem:
        remark(f"{stem} already exists: these runs are called {numbered}")
    return paths, summary_dir
