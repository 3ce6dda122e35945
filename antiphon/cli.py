"""The command line. Modules of a verb are imported when it is called, so that `--help` is quick."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import antiphon
from antiphon.errors import AntiphonError, EngineError, in_one_line

__all__ = ["EXAMPLES", "app", "main"]

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "run": (
        "antiphon run digits-mlp --steps 200 --name exp1",
        "antiphon run digits-mlp --variant locked --set width=64 --steps 200 --name exp2",
        "antiphon run digits-mlp --seeds 3 --steps 100 --name exp3 --json",
        "antiphon run digits-mlp --set delay=1 --steps 100 --cluster datacentre-100 --name exp4",
    ),
    "resume": ("antiphon resume runs/exp1", "antiphon resume runs/exp1 --steps 250"),
    "evaluate": (
        "antiphon evaluate runs/exp1 --split validation",
        "antiphon evaluate runs/exp1 --ablate zero --examples 200",
        "antiphon evaluate runs/exp1 --value --horizon 5 --repeats 2",
    ),
    "export": (
        "antiphon export runs/exp1 system.pt2",
        "antiphon export runs/exp1 weights.safetensors --agent n0",
        "antiphon run cartpole-team --steps 40 --name team",
        "antiphon export runs/team team.gif --episodes 2",
    ),
    "show": (
        "antiphon show",
        "antiphon show corporation --variant locked",
        "antiphon show digits-mlp --yaml",
        "antiphon show two-timescales --timeline --steps 12",
    ),
    "check": (
        "antiphon check digits-mlp",
        "antiphon check digits-mlp --set width=64 --json",
        "antiphon check ring-of-many --parts 2",
    ),
    "study": (
        "antiphon study",
        "antiphon study corporation --variant locked --variant decoupled --seeds 2 --steps 600",
    ),
    "plan": (
        "antiphon plan digits-mlp --variant locked",
        "antiphon plan digits-mlp --cluster datacentre-100 --target 80 --seeds 1",
        "antiphon plan digits-mlp --cluster continents-1000 --set width=32 --target 80 --budget 10 --json",
    ),
    "split": ("antiphon split train:model", "antiphon split train:model --at blocks.1,blocks.2"),
    "report": ("antiphon report runs/exp1 runs/exp2 --output report.html",),
    "diff": ("antiphon diff runs/exp1 runs/exp2",),
    "tb": ("antiphon tb runs",),
}
"""Examples in the help of each verb; they can be run in this order."""

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(verb: str) -> str:
    """Return the end of a verb's help; an empty line is a line break there."""
    return "\n\n".join(["Examples:", *EXAMPLES[verb]])


def _whole(least: int, most: int | None = None) -> Callable[[str | int], int]:
    """Return a parser of whole numbers within bounds."""

    def parse(text: str | int) -> int:
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        try:
            number = int(text)
        except ValueError:
            raise typer.BadParameter(f"must be a whole number, {bounds}, not '{text}'") from None
        if number < least or (most is not None and number > most):
            raise typer.BadParameter(f"must be {bounds}, not {number}")
        return number

    return parse


def _number(text: str | float) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a number, not '{text}'") from None


Scenario = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A library scenario or a YAML file.")]
OptionalScenario = Annotated[
    str | None, typer.Argument(metavar="[NAME|FILE]", help="A library scenario or a YAML file.")
]
Python = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="MODULE:FUNCTION",
        help="Python scenario: a function that returns one, importable from here; --set sets its parameters.",
    ),
]
PythonOfRun = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="MODULE:FUNCTION",
        help="The function that built the run's scenario, if that contains Python objects.",
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
Variant = Annotated[
    str | None, typer.Option("--variant", "-v", metavar="V", help="A variant of the scenario.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter (YAML); repeatable."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", parser=_whole(1), metavar="N", help="Number of training steps.")
]
LogDir = Annotated[
    Path | None,
    typer.Option("--logdir", metavar="DIR", help="Directory for runs (default: $ANTIPHON_LOGDIR or runs)."),
]
Device = Annotated[str, typer.Option("--device", metavar="D", help="cpu, cuda, cuda:1, …")]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="B",
        help="cohort (identical agents are stacked), native (likewise, by a compiled kernel where it can) "
        "or reference (the specification: one agent at a time, slow).",
    ),
]
PartsCount = Annotated[
    int | None,
    typer.Option(
        "--parts",
        parser=_whole(1),
        metavar="N",
        help="Divide the agents into N parts that compute it together.",
    ),
]
Place = Annotated[
    list[str] | None,
    typer.Option(
        "--place",
        metavar="FILE|AGENT=PART",
        help="The part of an agent, from 0, or a YAML file of them (default: equal work, little traffic); repeatable.",
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="M",
        help="Of parts: lockstep (default: the bits of one process) or free (parts never wait).",
    ),
]
ExchangeEvery = Annotated[
    int | None,
    typer.Option(
        "--every",
        parser=_whole(1),
        metavar="N",
        help="Steps between the exchanges of parts (default: half of what the cut channels allow).",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Each part in a process of its own, on Ray: of a cluster that is started on this machine for this run, or of "
        "the one at ADDRESS (HOST:PORT).",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="PROFILE",
        help="Run in virtual time on a cluster that is only described: two-cores, datacentre-100, continents-1000 or a YAML file.",
    ),
]
Checkpoints = Annotated[
    int | None,
    typer.Option(
        "--checkpoint-every",
        parser=_whole(1),
        metavar="N",
        help="Steps between checkpoints; the latest two are kept (default: ten per run).",
    ),
]
Language = Annotated[
    bool,
    typer.Option(
        "--language",
        help="Measure channels of symbols: entropy, information about labels, topographic similarity, …",
    ),
]
Examples = Annotated[
    int | None,
    typer.Option(
        "--examples",
        parser=_whole(1),
        metavar="N",
        help="Examples for --ablate (default 2000) and --language (1000).",
    ),
]
Drop = Annotated[
    float | None,
    typer.Option(
        "--drop", parser=_number, metavar="P", help="With --links as_run: drop probability of all links."
    ),
]
Episodes = Annotated[
    int | None,
    typer.Option(
        "--episodes",
        parser=_whole(1),
        metavar="K",
        help="Where agents have policies: whole episodes of each environment (default: 1).",
    ),
]
Sampled = Annotated[
    bool,
    typer.Option(
        "--sampled", help="Where agents have policies: sample actions instead of taking the most likely."
    ),
]
Ablate = Annotated[
    str | None,
    typer.Option(
        "--ablate",
        metavar="KIND",
        help="Rank channels by the loss without their messages: zero, mean, resample or delay=K.",
    ),
]
Channels = Annotated[
    list[str] | None,
    typer.Option("--channels", metavar="A->B", help="Only these channels; may be repeated (default: all)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"antiphon {antiphon.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    allowed: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-import",
            metavar="PACKAGE",
            help="Let documents name modules of an installed package (worlds); before the verb; repeatable.",
        ),
    ] = None,
) -> None:
    """Simulate independent networks that learn together."""
    from antiphon.extensions import allow_import

    for package in allowed or ():
        allow_import(package)


@app.command(epilog=_examples("run"))
def run(
    name_or_file: OptionalScenario = None,
    python: Python = None,
    variant: Variant = None,
    settings: Settings = None,
    steps: Steps = None,
    seed: Annotated[
        int, typer.Option("--seed", "-s", parser=_whole(0), metavar="S", help="Random seed.")
    ] = 0,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            parser=_whole(1),
            metavar="K",
            help="Run seeds S … S+K-1, in one process if possible, each with its own run directory. "
            "A seed that diverges stops alone (exit code 3 if all do).",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="RUN", help="Name of the run (default: scenario and time)."),
    ] = None,
    resume_if_exists: Annotated[
        bool,
        typer.Option("--resume-if-exists", help="Resume an existing run, or print its result."),
    ] = False,
    logdir: LogDir = None,
    device: Device = "cpu",
    backend: Backend = "cohort",
    parts: PartsCount = None,
    place: Place = None,
    mode: Mode = None,
    every: ExchangeEvery = None,
    ray: Ray = None,
    cluster: Cluster = None,
    checkpoint_every: Checkpoints = None,
    json: Json = False,
) -> None:
    """Train the agents of a scenario and write a run directory."""
    from antiphon.commands import run as verb
    from antiphon.commands.arguments import PartsOptions

    code = verb.run(
        name_or_file,
        python=python,
        variant=variant,
        settings=settings or [],
        steps=steps,
        seed=seed,
        seeds=seeds,
        name=name,
        resume_if_exists=resume_if_exists,
        logdir=logdir,
        device=device,
        backend=backend,
        parts=PartsOptions(parts, place or [], mode, every, ray),
        cluster=cluster,
        checkpoint_every=checkpoint_every,
        json=json,
    )
    raise typer.Exit(code)


@app.command(epilog=_examples("resume"))
def resume(
    path: RunPath,
    python: PythonOfRun = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            parser=_whole(1),
            metavar="N",
            help="The step at which to stop; schedules are unchanged.",
        ),
    ] = None,
    parts: PartsCount = None,
    place: Place = None,
    mode: Mode = None,
    every: ExchangeEvery = None,
    ray: Ray = None,
    checkpoint_every: Checkpoints = None,
    json: Json = False,
) -> None:
    """Continue a run from its latest checkpoint, as if it had never stopped, on any number of parts."""
    from antiphon.commands import run as verb
    from antiphon.commands.arguments import PartsOptions

    options = PartsOptions(parts, place or [], mode, every, ray)
    code = verb.resume(
        path,
        python=python,
        steps=steps,
        parts=options,
        checkpoint_every=checkpoint_every,
        json=json,
    )
    raise typer.Exit(code)


Horizon = Annotated[
    int | None,
    typer.Option("--horizon", parser=_whole(1), metavar="H", help="With --value: number of training steps."),
]
Repeats = Annotated[
    int | None,
    typer.Option("--repeats", parser=_whole(2), metavar="R", help="With --value: number of repeats."),
]


@app.command(epilog=_examples("evaluate"))
def evaluate(
    path: RunPath,
    python: PythonOfRun = None,
    split: Annotated[
        str, typer.Option("--split", metavar="S", help="Split of the data: test, validation or train.")
    ] = "test",
    links: Annotated[
        str,
        typer.Option("--links", metavar="L", help="perfect, or as_run: lossy and noisy as in the run."),
    ] = "perfect",
    drop: Drop = None,
    inputs: Annotated[
        bool,
        typer.Option("--inputs/--no-inputs", help="With --links as_run: use synthetic inputs."),
    ] = True,
    episodes: Episodes = None,
    sampled: Sampled = False,
    ablate: Ablate = None,
    language: Language = False,
    value: Annotated[
        bool, typer.Option("--value", help="Measure the value of each channel's learning signal.")
    ] = False,
    channels: Channels = None,
    examples: Examples = None,
    horizon: Horizon = None,
    repeats: Repeats = None,
    json: Json = False,
) -> None:
    """Evaluate a run on unseen data; rank and measure its channels."""
    from antiphon.commands import evaluate as verb
    from antiphon.engine.inference.links import Links

    measurements = verb.Measurements(
        ablate=ablate,
        language=language,
        value=value,
        channels=channels or None,
        examples=examples,
        horizon=horizon,
        repeats=repeats,
    )
    how = Links(links, drop, inputs)
    raise typer.Exit(
        verb.evaluate(
            path,
            python=python,
            split=split,
            links=how,
            episodes=episodes,
            sampled=sampled,
            measurements=measurements,
            json=json,
        )
    )


@app.command(epilog=_examples("export"))
def export(
    path: RunPath,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The suffix selects the format: .pt2, .onnx, .safetensors or .gif."
        ),
    ],
    python: PythonOfRun = None,
    agents: Annotated[
        list[str] | None,
        typer.Option(
            "--agent",
            metavar="NAME",
            help="Agent whose outputs (default: readouts), weights or messages (default: all) to write; may be repeated.",
        ),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(
            "--episodes", parser=_whole(1), metavar="K", help="Of a .gif: number of episodes (default: 1)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Export a run's system, its weights, or a film of episodes to a file that can be read without antiphon."""
    from antiphon.commands import export as verb

    verb.export(path, file, python=python, agents=agents or None, episodes=episodes, json=json)


@app.command(epilog=_examples("show"))
def show(
    what: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE|RUN|ENV]", help="A scenario, a run or an environment.")
    ] = None,
    python: Python = None,
    variant: Variant = None,
    settings: Settings = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the scenario's document as written.")] = False,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the resolved scenario as a document.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of documents.")] = False,
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="Print ticks, messages read, and how far back gradients reach."),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option("--steps", parser=_whole(1), metavar="N", help="With --timeline: number of steps."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a short run on every backend, on this machine.")
    ] = False,
    json: Json = False,
) -> None:
    """Describe a scenario, a run or an environment; without a name, list the library."""
    from antiphon.commands import show as verb

    verb.show(
        what,
        python=python,
        variant=variant,
        settings=settings or [],
        yaml=yaml,
        resolved=resolved,
        schema=schema,
        json=json,
        timeline=timeline,
        steps=steps,
        measure=measure,
    )


@app.command(epilog=_examples("check"))
def check(
    scenario: OptionalScenario = None,
    python: Python = None,
    variant: Variant = None,
    settings: Settings = None,
    parts: PartsCount = None,
    place: Place = None,
    json: Json = False,
) -> None:
    """Check a scenario or a study without running it: list all errors, or warnings if there are none."""
    from antiphon.commands import check as verb

    code = verb.check(
        scenario,
        python=python,
        variant=variant,
        settings=settings or [],
        parts=parts,
        place=place or [],
        json=json,
    )
    raise typer.Exit(code)


@app.command(epilog=_examples("plan"))
def plan(
    name_or_file: OptionalScenario = None,
    python: Python = None,
    variant: Variant = None,
    settings: Settings = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="PROFILE",
            help="Train the variants in virtual time on a cluster: two-cores, datacentre-100, continents-1000 or a YAML file.",
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            "--target",
            parser=_number,
            metavar="X",
            help="Score of the readouts on the test split; of accuracy in percent (default: 95).",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", parser=_whole(1), metavar="K", help="Runs of each variant (default: 2)."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", parser=_whole(1), metavar="N", help="Most steps of a run (default: the scenario's)."
        ),
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option(
            "--parts",
            parser=_whole(1),
            metavar="N",
            help="Most machines (default: one for each agent, 16 at most).",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            parser=_number,
            metavar="SECONDS",
            help="Seconds of wall clock after which training ends and what is known is printed (default: 120).",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show what a step costs in work and memory; with --cluster, the time that the variants take there to a target."""
    from antiphon.commands.cluster import plan as verb

    verb.plan(
        name_or_file,
        cluster,
        python=python,
        variant=variant,
        settings=settings or [],
        target=target,
        seeds=seeds,
        steps=steps,
        parts=parts,
        budget=budget,
        json=json,
    )


@app.command(epilog=_examples("split"))
def split(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="A function that returns a torch module and an example of its inputs, importable from here.",
        ),
    ],
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="NAMES|K",
            help="Submodules before which to cut, separated by commas, or a number of parts; may be repeated.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="KEY", help="Key or index of the prediction, if there are several outputs."
        ),
    ] = None,
    inside: Annotated[bool, typer.Option("--inside", help="List cuts inside blocks too.")] = False,
    json: Json = False,
) -> None:
    """List where a torch model can be cut, or with --at its parts and the tensors that cross."""
    from antiphon.commands import split as verb

    verb.split(source, at=at or [], output=output, inside=inside, json=json)


@app.command(epilog=_examples("report"))
def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="Run directories, or folders of runs (a study, a log directory)."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The HTML file; an existing one is replaced."),
    ] = Path("report.html"),
    json: Json = False,
) -> None:
    """Write runs to one self-contained HTML file: results, training curves, rankings, and the Channels tab's page."""
    from antiphon.commands import report as verb

    verb.report(paths, output, json=json)


@app.command(epilog=_examples("diff"))
def diff(
    first: RunPath,
    second: Annotated[Path, typer.Argument(metavar="RUN", help="A second run directory.")],
    json: Json = False,
) -> None:
    """Compare two runs: settings, the first row of metrics.csv and the first tensor that differ (exit code 1 if any does)."""
    from antiphon.commands import diff as verb

    raise typer.Exit(verb.diff(first, second, json=json))


@app.command(epilog=_examples("study"))
def study(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="A library study, a study document, or a scenario (with all its variants).",
        ),
    ] = None,
    python: Python = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="B", help="small or paper (default: the first budget of the study)."
        ),
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant", "-v", metavar="V", help="A variant to run; may be repeated (default: all)."
        ),
    ] = None,
    settings: Settings = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            parser=_whole(1),
            metavar="K",
            help="Run each line with seeds 0 … K-1 (default: set by the budget, or 3).",
        ),
    ] = None,
    steps: Steps = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            parser=_whole(1),
            metavar="N",
            help="Number of parallel processes (default: one per core).",
        ),
    ] = None,
    logdir: Annotated[
        Path | None,
        typer.Option(
            "--logdir",
            metavar="DIR",
            help="The study's directory (default: a new one in the directory for runs).",
        ),
    ] = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Run a study: compare variants over seeds in a table and a figure; without a name, list the library."""
    from antiphon.commands import study as verb

    code = verb.study(
        what,
        python=python,
        budget=budget,
        variants=variants or [],
        settings=settings or [],
        seeds=seeds,
        steps=steps,
        jobs=jobs,
        logdir=logdir,
        device=device,
        json=json,
    )
    raise typer.Exit(code)


@app.command(epilog=_examples("tb"))
def tb(
    path: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A run, a study, or a folder of runs.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", parser=_whole(0, 65_535), metavar="P", help="Port (default: 6006)."),
    ] = None,
    json: Json = False,
) -> None:
    """Open TensorBoard on runs, with enough samples to show every step."""
    from antiphon.commands import tensorboard as verb

    verb.tb(path, port=port, json=json)


_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Wrong usage of the command line: a class of click or of typer itself, by typer's version."""


def _usage_of(error: Any) -> str:
    """Return the message of a usage error as `--steps: must be at least 1, not 0`, or with the help that explains it."""
    message = " ".join(error.format_message().split()).rstrip(".").replace(". Did", "; did")
    found = re.fullmatch(r"Invalid value for '(?P<place>[^']*)'(?: / '[^']*')?: (?P<problem>.*)", message)
    if found is not None:
        return f"{found['place']}: {found['problem']}"
    command = "antiphon" if error.ctx is None else error.ctx.command_path
    return f"{message[:1].lower()}{message[1:]}; {command} --help explains the usage"


def _with_ray(words: Sequence[str]) -> list[str]:
    """Return words with `--ray local` for a `--ray` that no HOST:PORT follows: Typer has no option with an optional value."""
    found: list[str] = []
    for at, word in enumerate(words):
        alone = word == "--ray" and not re.fullmatch(r"local|.*:[0-9]+", "".join(words[at + 1 : at + 2]))
        found += [word, "local"] if alone else [word]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The words after `antiphon`; None: those of this process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(args=_with_ray(words) or ["--help"], prog_name="antiphon", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except _UsageError as error:
        print(f"error: {in_one_line(_usage_of(error))}", file=sys.stderr)
        return 2
    except EngineError:
        raise
    except AntiphonError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        line = in_one_line(f"{error.filename or 'file'}: {error.strerror or error}")
        print(f"error: {line}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        from antiphon.nets.memory import was_refused

        if not was_refused(error):
            raise
        print(
            "error: out of memory; lower training.batch, or the sizes of networks and messages",
            file=sys.stderr,
        )
        return 4
    return 0
