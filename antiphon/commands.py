"""The commands: each is a function with its options, whose docstring's first line is its help.

What needs torch, or is slow to import, is imported where it runs, so that help is quick and a wrong name is told first.
"""

from __future__ import annotations

import fnmatch
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

import typer

import antiphon
from antiphon.base.errors import RunError, ScenarioError, suggest, with_count, write_error
from antiphon.base.files import display_path, finite, write_bytes, write_json
from antiphon.base.kinds import sections
from antiphon.base.problems import show_value
from antiphon.base.table import Table
from antiphon.distributed.settings import PartsSettings
from antiphon.jobs.job import Job
from antiphon.jobs.sources import (
    given_scenario,
    logdir_root,
    new_directory,
    scenario_template,
    simulation_at,
    study_of,
)
from antiphon.jobs.studies.plan import StudyOptions
from antiphon.running.callbacks import Outcome, RunProgress
from antiphon.running.directory import (
    EXIST,
    POPULATION,
    DirectoryLock,
    RunDirectory,
    check_exist,
    first_free,
    now,
)
from antiphon.running.templates import Request, scenario_names
from antiphon.scenarios import Template
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.yaml_text import find_document, read, read_file
from antiphon.telemetry.metrics import METRICS
from antiphon.telemetry.timeline_text import raster_lines
from antiphon.terminal.output import how_to_look, print_json, print_outcome, print_result, show_seeds
from antiphon.terminal.reference import kind_option_table, kind_table, library_tables

if TYPE_CHECKING:
    from antiphon.inspection.ablation import Ablation
    from antiphon.inspection.language import Languages
    from antiphon.jobs.populations.population_run import PopulationRun
    from antiphon.running.run import Run
    from antiphon.scenarios import Scenario
    from antiphon.telemetry.report import ReportRun

_ABLATED = 2000
"""Default number of examples of an ablation."""
_TAB = "#antiphon"
"""The part of TensorBoard's address that shows the Channels tab."""
_SAMPLES = "scalars=10000,images=100,text=100"
"""Points that TensorBoard keeps of each curve; its default drops most pictures."""


# --- options of several commands ---------------------------------------------------------------------------


def _text(metavar: str, about: str, *names: str) -> Any:
    """Return an option with a value; without names it is called as its parameter is."""
    return typer.Option(*names, metavar=metavar, help=about, show_default=False)


def _count(metavar: str, about: str, *names: str, least: int = 1, most: int | None = None) -> Any:
    """Return an option that is a whole number within bounds."""
    return typer.Option(*names, min=least, max=most, metavar=metavar, help=about, show_default=False)


ScenarioName = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="Name in the library, YAML file, or MODULE:FUNCTION.")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
PythonObjects = Annotated[
    str | None,
    _text("MODULE:FUNCTION", "Function that built a run with Python objects.", "--scenario"),
]
Variant = Annotated[str | None, _text("V", "Variant of the scenario.", "--variant", "-v")]
Settings = Annotated[list[str] | None, _text("NAME=VALUE", "Set a parameter (YAML); repeatable.", "--set")]
Seed = Annotated[int, _count("S", "Random seed (default: 0).", "--seed", "-s", least=0)]
Steps = Annotated[int | None, _count("N", "Training steps.")]
LogDir = Annotated[Path | None, _text("PARENT", "Parent of run directories (default: runs).", "--logdir")]
Device = Annotated[str, _text("D", "cpu (default), cuda, cuda:1, …")]
Backend = Annotated[str, _text("B", "cohort (default), or native: compiled if possible.")]
Parts = Annotated[list[str] | None, _text("N|AGENT=PART", "N parts, or the part of an agent; repeatable.")]
Ray = Annotated[str | None, _text("local|HOST:PORT", "Run each part in its own process on Ray.")]
Cluster = Annotated[str | None, _text("PROFILE", "Train in virtual time on a simulated cluster.")]
Exist = Annotated[str, _text("HOW", f"If the directory exists: {', '.join(EXIST)}.")]
Name = Annotated[str | None, _text("RUN", "Name of the run (default: scenario and time).")]
CheckpointEvery = Annotated[int | None, _count("N", "Steps between checkpoints.")]
Checkpoint = Annotated[str | None, _text("NAME", "A checkpoint, as best (default: the newest).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]


# --- what options stand for ---------------------------------------------------------------------------------


def values_of(settings: Iterable[str]) -> dict[str, Any]:
    """Read the `name=value` of `--set`; values are YAML."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ScenarioError(
                f"--set {show_value(setting)}: must be name=value, for example --set width=64"
            )
        data = read(f"value: {text}", f"--set '{setting}'").data
        if data.keys() != {"value"}:
            raise ScenarioError(f"--set '{setting}': the value must be one YAML value")
        values[name.strip()] = data["value"]
    return values


def run_directory(stem: str, name: str | None, logdir: Path | None, exist: str) -> Path:
    """Return the directory of `--name`, `--logdir` and `--exist`; without a name it begins with `stem`."""
    check_exist(exist)
    if exist != "number" and name is None:
        raise RunError(f"--exist {exist}: needs the name of the run; give it with --name")
    return new_directory(logdir, name, stem)


def parts_of(
    parts: Sequence[str] | None,
    agents: Iterable[str],
    ray: str | None,
    cluster: str | None = None,
    before: PartsSettings | None = None,
) -> PartsSettings | None:
    """Return the settings of a run in parts; None: as it was run, or of a new one without parts.

    Args:
        parts: The entries of `--parts`: a number of parts, or `AGENT=PART`, where `*` stands for any characters and the last
            entry counts.
        before: Of the run that is resumed. Where `--parts` is given, all else is as of a new run.
    """
    if not parts and before is not None:
        return None if ray is None else PartsSettings(**dict(before) | {"ray": ray})
    settings: dict[str, Any] = {"ray": ray, "cluster": cluster}
    if parts and len(parts) == 1 and parts[0].isdecimal():
        settings["count"] = int(parts[0])
    elif parts:
        settings["placement"] = {}
        for entry in parts:
            pattern, _, part = entry.rpartition("=")
            matching = fnmatch.filter(names := list(agents), pattern)
            if not pattern or not part.isdecimal():
                raise ScenarioError(f"--parts {entry}: must be a number of parts, or AGENT=PART")
            if not matching:
                raise ScenarioError(f"--parts {entry}: no agent '{pattern}'{suggest(pattern, names)}")
            settings["placement"] |= dict.fromkeys(matching, int(part))
    return PartsSettings(**settings) if any(value is not None for value in settings.values()) else None


# --- training -----------------------------------------------------------------------------------------------


def run(
    name_or_file: ScenarioName,
    variant: Variant = None,
    settings: Settings = None,
    steps: Steps = None,
    seed: Seed = 0,
    seeds: Annotated[
        int | None,
        _count("K", "Run K seeds from S on, stacked where possible."),
    ] = None,
    name: Name = None,
    exist: Exist = "number",
    logdir: LogDir = None,
    device: Device = "cpu",
    backend: Backend = "cohort",
    parts: Parts = None,
    ray: Ray = None,
    cluster: Cluster = None,
    checkpoint_every: CheckpointEvery = None,
    json: Json = False,
) -> int:
    """Train the agents of a scenario, and write a run directory."""
    template = scenario_template(name_or_file)  # before torch is loaded: a wrong name is told first
    request = Request(
        template=template,
        variant=variant,
        values=values_of(settings or ()),
        steps=steps,
        seed=seed,
        device=device,
        backend=backend,
        command=("antiphon", *sys.argv[1:]),
    )
    division = parts_of(parts, request.scenario.agents, ray, cluster)
    if division is not None:  # else the scenario of this request would be read again
        request = replace(request, division=division)
    stem = f"{request.scenario.scenario}-{variant or 'default'}"
    if seeds is not None:
        summary_dir = run_directory(f"{stem}-seeds", name and f"{name}-seeds", logdir, exist)
        return _run_seeds(request, seeds, name or stem, summary_dir, exist, checkpoint_every, json)
    path = run_directory(f"{stem}-s{seed}", name, logdir, exist)
    job = Job(request, path, exist=exist, checkpoint_every=checkpoint_every)
    if job.ended is not None and job.ended.status == "done":
        return print_outcome(job.ended, json)
    with template.placing():
        started = job.begin()
    return train(started, json)


def train(run: Run, json: bool) -> int:
    """Train a run to its end, showing progress; print its result and return the exit code."""
    from antiphon.running.loop import train_to_end

    assert run.directory is not None
    progress = RunProgress(run.running.until, run.running.now)
    (outcome,) = train_to_end([run], [progress])
    code = print_outcome(outcome, json)
    if code > 128:
        path = display_path(run.directory.path)
        write_error(f"stopped; antiphon resume {path} continues from its latest checkpoint")
    return code


def _run_seeds(
    request: Request,
    count: int,
    stem: str,
    summary_dir: Path,
    exist: str,
    checkpoint_every: int | None,
    json: bool,
) -> int:
    """Run a scenario with `count` seeds from that of the request on; names of run directories begin with `stem`."""
    from antiphon.jobs.scheduler import Scheduler

    if exist == "number":
        summary_dir, exist = first_free(summary_dir), "new"
    ending = summary_dir.name.removeprefix(f"{stem}-seeds")  # the time without a name, or a number
    requests = [replace(request, seed=seed) for seed in range(request.seed, request.seed + count)]
    paths = [summary_dir.with_name(f"{stem}-s{of_seed.seed}{ending}") for of_seed in requests]
    how: Any = {"exist": exist, "checkpoint_every": checkpoint_every}
    with request.template.placing():
        runs = Scheduler([Job(of_seed, path, **how) for of_seed, path in zip(requests, paths, strict=True)])
    if runs.sequential_reason is not None:
        write_error(f"the seeds run one after the other: {runs.sequential_reason}")
    with DirectoryLock(summary_dir):
        outcomes = runs.train(RunProgress(runs.until, runs.start, len(requests)))
        write_json(summary_dir / "seeds.json", outcomes.result)
    if json:
        print_json(outcomes.result)
    else:
        show_seeds(outcomes, summary_dir, summary_dir.parent)
    for seed, outcome in outcomes.by_seed.items():
        if outcome.error is not None:
            write_error(f"error: seed {seed}: {outcome.error}")
    if outcomes.exit_code > 128:
        write_error("stopped; the same command with --name and --exist resume continues")
    return outcomes.exit_code


def resume(
    path: RunPath,
    python: PythonObjects = None,
    steps: Annotated[int | None, _count("N", "Stop here; schedules are unchanged.")] = None,
    settings: Annotated[
        list[str] | None,
        _text(
            "NAME.KEY=VALUE",
            "Change eye.learning_rate or such; repeatable.",
            "--set",
        ),
    ] = None,
    parts: Parts = None,
    ray: Ray = None,
    checkpoint_every: CheckpointEvery = None,
    json: Json = False,
) -> int:
    """Continue a run or a population from its latest checkpoint, as if it had never stopped."""
    if (path / POPULATION).is_file():
        if any(option is not None for option in (parts, ray, settings)):
            raise RunError(f"{path}: is a population; leave out --parts, --ray and --set")
        from antiphon.jobs.populations.population_run import PopulationRun

        return train_population(
            PopulationRun.of_directory(path, python, until=steps, checkpoint_every=checkpoint_every), json
        )
    directory = RunDirectory.open(path)
    directory.check_no_member()
    from antiphon.running.start import resume_until

    agents = directory.values.get("agents", {})
    division = parts_of(parts, agents, ray, before=PartsSettings.of(directory.facts.get("parts")))
    scenario, changes = given_scenario(directory, python), values_of(settings or ())
    resumed = resume_until(path, steps, scenario, division, checkpoint_every, changes)
    if isinstance(resumed, Outcome):
        write_error(f"{path}: is done; --steps N continues to a later step")
        return print_outcome(resumed, json)
    return train(resumed, json)


def study(
    what: Annotated[
        str,
        typer.Argument(metavar="STUDY|SCENARIO", help="Name in the library, file, or MODULE:FUNCTION."),
    ],
    budget: Annotated[str | None, _text("B", "A budget of the study, as paper (default: its first).")] = None,
    variants: Annotated[
        list[str] | None,
        _text("V,…", "Variants (default: all), or couplings.", "--variant", "-v"),
    ] = None,
    settings: Settings = None,
    seeds: Annotated[int | None, _count("K", "Seeds of each line (default: the budget's).")] = None,
    steps: Steps = None,
    jobs: Annotated[
        int | None,
        _count("N", "Lines trained at a time (default: one per core).", "--jobs", "-j"),
    ] = None,
    logdir: Annotated[
        Path | None,
        _text("DIR", "The study's directory (default: a new one in runs)."),
    ] = None,
    device: Device = "cpu",
    commands: Annotated[
        bool,
        typer.Option("--list", help="Print each line's command, for an array job; run nothing."),
    ] = False,
    json: Json = False,
) -> int:
    """Run a study: compare variants over seeds in a table."""
    asked = StudyOptions(
        budget=budget,
        variants=[name for names in variants or () for name in names.split(",")],
        values=values_of(settings or ()),
        seeds=seeds,
        steps=steps,
        device=device,
        command=("antiphon", *sys.argv[1:]),
    )
    comparison = study_of(what, asked, logdir)
    from antiphon.studies import Table

    if commands:
        print(*map(comparison.command, comparison.plan.runs.values()), sep="\n")
        return 0
    table = Table(comparison.go(write_error, jobs or len(os.sched_getaffinity(0))), comparison.directory)
    print_result(table, json)
    if not json:
        how_to_look(comparison.directory)
    if table.exit_code:
        same = f"the same command with --logdir {display_path(comparison.directory)} continues"
        write_error(f"{'stopped' if table.exit_code > 128 else 'error: some runs failed'}; {same}")
    return table.exit_code


def population(
    name_or_file: Annotated[
        str, typer.Argument(metavar="POPULATION", help="Name in the library, or YAML file.")
    ],
    settings: Settings = None,
    steps: Steps = None,
    seed: Annotated[
        int | None, _count("S", "Seed of the first member (default: the file's).", least=0)
    ] = None,
    name: Name = None,
    logdir: LogDir = None,
    device: Device = "cpu",
    checkpoint_every: CheckpointEvery = None,
    json: Json = False,
) -> int:
    """Train a population, whose best members replace the worst."""
    if find_document(PopulationSpec, name_or_file) is None:
        raise RunError(
            f"{name_or_file}: is no population; known: {', '.join(PopulationSpec.library_names())}"
        )
    from antiphon.jobs.populations.population_run import PopulationRun
    from antiphon.populations import population_of

    spec, template = population_of(
        name_or_file, steps=steps, seed=seed, set=values_of(settings or ()) or None
    )
    path = new_directory(logdir, name, spec.population)
    how: Any = {"device": device, "command": ("antiphon", *sys.argv[1:])}
    run = PopulationRun(spec, template, path, checkpoint_every=checkpoint_every, **how)
    return train_population(run, json)


def train_population(run: PopulationRun, json: bool) -> int:
    """Train a population to its end, showing progress; print its table and return the exit code."""
    from antiphon.populations import trained

    if run.scheduler.sequential_reason is not None:
        write_error(f"the members run one after the other: {run.scheduler.sequential_reason}")
    members = trained(run, progress=True)
    print_result(members, json)
    if not json:
        how_to_look(run.directory)
    if members.exit_code > 128:
        path = display_path(run.directory)
        write_error(f"stopped; antiphon resume {path} continues from the latest checkpoints")
    return members.exit_code


# --- what there is, and what came out -----------------------------------------------------------------------


def check(
    name_or_file: Annotated[
        str, typer.Argument(metavar="SCENARIO|STUDY|POPULATION", help="Name, file, or MODULE:FUNCTION.")
    ],
    variant: Variant = None,
    settings: Settings = None,
    json: Json = False,
) -> int:
    """Check a scenario without running it: list the errors of its variants, or warnings if there are none."""
    from antiphon import checks

    findings = checks.check(name_or_file, variant=variant, values=values_of(settings or ()))
    if json or findings.ok:
        return print_result(findings, json)
    write_error(str(findings))
    return findings.exit_code


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|MODULE:FUNCTION|RUN|env",
            help="A scenario, a run, a study or population; or `env ID`.",
        ),
    ],
    which: Annotated[str | None, typer.Argument(metavar="[ID]", help="After `env`, an environment.")] = None,
    variant: Variant = None,
    settings: Settings = None,
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the file; with --set or --variant, the scenario it gives.")
    ] = False,
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="Print ticks, messages read, and how far back gradients reach."),
    ] = False,
    steps: Annotated[int | None, _count("N", "With --timeline: number of steps.")] = None,
) -> None:
    """Describe a scenario, a run or an environment, or print its file or timeline."""
    values = values_of(settings or ())
    if steps is not None and not timeline:
        raise ScenarioError("show: --steps has no effect here; use it with --timeline")
    document = None if what == "env" else _document(what)
    if (what == "env" or document is not None) and (variant or timeline):
        raise ScenarioError(f"show {what}: --variant and --timeline have no effect here; leave them out")
    if what == "env":
        _environment(which, values)
    elif which is not None:
        raise ScenarioError(f"show: {which!r}: one name at a time, or show env ID")
    elif document is not None:
        names = document.library_names()
        print(read_file(document.library / f"{what}.yaml" if what in names else Path(what)), end="")
    else:
        template = scenario_template(what)
        if yaml and isinstance(template, Template) and variant is None and not values:
            print(template.text, end="")
        elif yaml:
            print(template.resolve(variant, values).to_yaml(), end="")
        elif timeline:
            _timeline(template.resolve(variant, values), steps)
        else:
            from antiphon.terminal.explain import show_scenario

            show_scenario(what, template, variant, values)


def _document(name_or_file: str) -> PopulationSpec | StudySpec | None:
    """Return a population or study by its name or file; None where it is neither, or has the name of a scenario."""
    if name_or_file in scenario_names():
        return None
    return find_document(PopulationSpec, name_or_file) or find_document(StudySpec, name_or_file)


def _environment(named: str | None, values: Mapping[str, Any]) -> None:
    """Explain an environment, of whose id `antiphon/` may be left out."""
    from antiphon.envs import describe, ids
    from antiphon.terminal.explain import show_environment

    if named is None:
        raise ScenarioError(f"show env: give an environment, such as {ids()[0]}; antiphon list lists them")
    name = f"antiphon/{named}" if f"antiphon/{named}" in ids() else named
    show_environment(name, describe({"id": name, **values}))


def _timeline(scenario: Scenario, steps: int | None) -> None:
    """Print the timeline of the first steps (default: twice the longest window, 32 at most), without running it."""
    from antiphon.engine.metrics.timeline import span, timeline
    from antiphon.terminal.explain import built

    system = built(scenario)
    times = timeline(system, 0, span(system) if steps is None else steps)
    for line in raster_lines(times, get_terminal_size((120, 0)).columns):
        print(line)


def list_(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[studies|kinds]", help="The library's studies, or kinds of sections."),
    ] = None,
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECTION]", help="After `kinds`, a section of scenario files, as `gradient`."
        ),
    ] = None,
) -> None:
    """List the library, its studies, or the kinds of a section of scenario files."""
    if what is None:
        from antiphon.envs import ids

        tables = [*library_tables(), Table(["environment"], [[name] for name in ids()])]
    elif what == "studies":
        rows = [
            [name, " ".join(spec.description.split())] for name, spec in StudySpec.whole_library().items()
        ]
        tables = [Table(["study", ""], rows)]
    elif what != "kinds":
        raise ScenarioError(f"list: {what!r}; write nothing, studies or kinds")
    elif section is None:
        tables = [kind_table(name, name) for name in sections()]
    elif section not in sections():
        raise ScenarioError(f"list kinds: no section {section!r} has kinds{suggest(section, sections())}")
    else:
        tables = [kind_table(section), kind_option_table(section)]
    for table in tables:
        print(table, end="\n\n")


def evaluate(
    path: RunPath,
    python: PythonObjects = None,
    checkpoint: Checkpoint = None,
    split: Annotated[str, _text("S", "test (default), validation or train.")] = "test",
    links: Annotated[str, _text("L", "perfect (default), or as_run: lossy and noisy.")] = "perfect",
    drop: Annotated[float | None, _text("P", "With as_run: drop probability of all links.")] = None,
    episodes: Annotated[
        int | None,
        _count("K", "Whole episodes per environment (policies)."),
    ] = None,
    sampled: Annotated[
        bool,
        typer.Option("--sampled", help="Sample actions, not the most likely (policies)."),
    ] = False,
    ablate: Annotated[str | None, _text("KIND", "Rank channels by zero or resample.")] = None,
    language: Annotated[
        bool, typer.Option("--language", help="Measure the language of channels of symbols.")
    ] = False,
    examples: Annotated[int | None, _count("N", "Of --ablate (2000) and --language (1000).")] = None,
    json: Json = False,
) -> None:
    """Evaluate a run on unseen data; rank channels by how much the loss rises without them."""
    if examples is not None and ablate is None and not language:
        raise RunError("--examples: has no effect here; use it with --ablate or --language")
    directory = RunDirectory.open(path)
    from antiphon.engine.inference.rollout import Links
    from antiphon.inspection.ablation import ablate as ablation_of
    from antiphon.inspection.ablation import readouts_act
    from antiphon.inspection.language import language as language_of
    from antiphon.running.directory_writer import keep_measured

    over = Links(links, drop)
    of_policies: dict[str, Any] = {"episodes": episodes, "sampled": sampled}
    measured: dict[str, Ablation | Languages] = {}
    with simulation_at(directory, checkpoint, python) as simulation:
        evaluation = simulation.evaluate(split, over, **of_policies)
        if ablate is not None:
            acts = readouts_act(simulation.running)
            how: Any = of_policies if acts else {"examples": examples or _ABLATED}
            measured["ablation"] = ablation_of(simulation, ablate, split=split, links=over, **how)
        if language:
            counted: Any = {} if examples is None else {"examples": examples}
            measured["language"] = language_of(simulation, split=split, **counted)
        for found in measured.values():
            kept = {found.name: found.to_dict()}
            keep_measured(directory, simulation.running, kept, found.metrics())
    if not json:
        print(evaluation, *measured.values(), sep="\n\n")
        return
    scores = {
        "scenario": directory.facts["scenario"],
        "run_dir": str(path),
        "steps": simulation.now,
        "split": split,
        "links": links,
        "drop": drop,
        "examples": evaluation.examples,
        "scored": evaluation.scored,
        "episodes": None if evaluation.episodes is None else asdict(evaluation.episodes),
        **{metric: evaluation.score(metric) for metric in METRICS},
        "agents": evaluation.agents,
    }
    print_json(finite(scores | {name: found.to_dict() for name, found in measured.items()}))


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="Run directories, or folders of runs (a study, a log directory)."
        ),
    ],
    output: Annotated[
        Path, _text("FILE", "The HTML file; an existing one is replaced.", "--output", "-o")
    ] = Path("report.html"),
) -> None:
    """Write runs to one self-contained HTML file: results, training curves, rankings and the Channels tab."""
    from antiphon.telemetry.report import report as page_of

    files = [file.absolute() for path in paths for file in sorted(path.rglob("run.json"))]
    folders = [file.parent for file in dict.fromkeys(files)]
    if not folders:
        raise RunError(f"{', '.join(map(str, paths))}: contains no run (a run directory has a run.json)")
    alike = len({folder.name for folder in folders}) < len(folders)
    runs = [_report_run(folder, display_path(folder) if alike else folder.name) for folder in folders]
    content = page_of(runs, f"Made with antiphon {antiphon.__version__}, {now()}.").encode()
    write_bytes(output, content)
    size = f"{with_count(len(runs), 'run')}, {len(content) / 1e6:.1f} MB"
    print(f"written      {display_path(output)} ({size})")


def _report_run(folder: Path, name: str) -> ReportRun:
    from antiphon.telemetry.report import ReportRun
    from antiphon.telemetry.tab.reading import read_run

    directory = RunDirectory.open(folder)
    return ReportRun(
        name=name,
        facts=directory.facts,
        result=directory.result or {},
        document=directory.document,
        data=read_run(folder),
    )


def export(
    path: RunPath,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The suffix selects the format: .pt2 or .safetensors."),
    ],
    python: PythonObjects = None,
    checkpoint: Checkpoint = None,
    agents: Annotated[
        list[str] | None,
        _text(
            "NAME",
            "Agent to export: its outputs (default: readouts) or weights (default: all); may be repeated.",
            "--agent",
        ),
    ] = None,
) -> None:
    """Export a run's system or its weights to a file that can be read without antiphon."""
    with simulation_at(RunDirectory.open(path), checkpoint, python) as simulation:
        written = simulation.export(file, agents or None)
    print(f"written      {display_path(written)} ({written.stat().st_size:,} bytes)")


def tb(
    path: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A run, a study, or a folder of runs.")
    ] = None,
    port: Annotated[int | None, _count("P", "Port (default: 6006).", least=0, most=65_535)] = None,
) -> None:
    """Open TensorBoard on runs, with enough samples to show every step."""
    folder = logdir_root(path)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name a run directory or a folder of runs")
    arguments = ["--logdir", str(folder), "--samples_per_plugin", _SAMPLES]
    serve(arguments if port is None else [*arguments, "--port", str(port)])


def serve(arguments: Sequence[str]) -> None:
    """Serve TensorBoard with some arguments, print the address of the Channels tab, and wait for Ctrl-C."""
    from tensorboard.program import TensorBoard, TensorBoardServerException  # type: ignore[import-untyped]

    board = TensorBoard()
    board.configure(("tensorboard", *arguments))
    try:
        address = board.launch() + _TAB
    except TensorBoardServerException as error:
        raise RunError(f"tb: {' '.join(str(error).split())}; choose another --port") from None
    print(f"Channels tab  {address}", flush=True)
    print("Ctrl-C ends TensorBoard")
    threading.Event().wait()
