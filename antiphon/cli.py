"""The command line. Modules of a verb are imported when it is called, so that `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from antiphon.errors import AntiphonError, EngineError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Independent networks that learn to work together.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Scenario = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A library scenario or a YAML file.")]
OptionalScenario = Annotated[
    str | None, typer.Argument(metavar="[NAME|FILE]", help="A library scenario or a YAML file.")
]
Python = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="MODULE:FUNCTION",
        help="A Python scenario: a function that returns one, imported from here; --set gives its parameters.",
    ),
]
PythonOfRun = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="MODULE:FUNCTION",
        help="The Python objects of the run's scenario: the function that made it.",
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
Variant = Annotated[
    str | None, typer.Option("--variant", "-v", metavar="V", help="A variant of the scenario.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter; YAML; may be repeated.")
]
Steps = Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="Steps of training.")]
LogDir = Annotated[
    Path | None,
    typer.Option(
        "--logdir", metavar="DIR", help="Where runs are written (default: $ANTIPHON_LOGDIR or runs)."
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="D", help="cpu, cuda, cuda:1, …")]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="B",
        help="cohort (agents of one kind computed as one) or reference (the specification: one agent at a time, slow).",
    ),
]
Checkpoints = Annotated[
    int | None,
    typer.Option(
        "--checkpoint-every",
        min=1,
        metavar="N",
        help="Steps between checkpoints; the newest two are kept (default: ten in a run).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]


@app.command()
def run(
    name_or_file: OptionalScenario = None,
    python: Python = None,
    variant: Variant = None,
    settings: Settings = None,
    steps: Steps = None,
    seed: Annotated[int, typer.Option("--seed", "-s", min=0, metavar="S", help="Of all that is drawn.")] = 0,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            metavar="K",
            help="Seeds S … S+K-1, in one program where that is possible; a run directory each. "
            "One that diverges ends by itself (exit code 3 if all do).",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="RUN", help="Of the run directory (default: from scenario and time)."),
    ] = None,
    resume_if_exists: Annotated[
        bool,
        typer.Option("--resume-if-exists", help="Go on with the run that is there, or print its result."),
    ] = False,
    logdir: LogDir = None,
    device: Device = "cpu",
    backend: Backend = "cohort",
    checkpoint_every: Checkpoints = None,
    json: Json = False,
) -> None:
    """Run a scenario: its agents learn, its run directory keeps everything."""
    from antiphon.commands import run as verb

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
        checkpoint_every=checkpoint_every,
        json=json,
    )
    raise typer.Exit(code)


@app.command()
def resume(
    path: RunPath,
    python: PythonOfRun = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, metavar="N", help="The step to stop at; schedules stay as they are."),
    ] = None,
    checkpoint_every: Checkpoints = None,
    json: Json = False,
) -> None:
    """Go on with a run from its newest checkpoint, as if it had never stopped."""
    from antiphon.commands import run as verb

    raise typer.Exit(
        verb.resume(path, python=python, steps=steps, checkpoint_every=checkpoint_every, json=json)
    )


@app.command()
def evaluate(
    path: RunPath,
    python: PythonOfRun = None,
    split: Annotated[
        str, typer.Option("--split", metavar="S", help="The part of the data: test, validation or train.")
    ] = "test",
    links: Annotated[
        str,
        typer.Option(
            "--links", metavar="L", help="perfect, or as_run: losing and adding what they do in the run."
        ),
    ] = "perfect",
    drop: Annotated[
        float | None,
        typer.Option("--drop", metavar="P", help="With --links as_run: what every link loses (0 to 1)."),
    ] = None,
    inputs: Annotated[
        bool, typer.Option("--inputs/--no-inputs", help="Whether synthetic inputs stand in (as_run).")
    ] = True,
    ablate: Annotated[
        str | None,
        typer.Option(
            "--ablate",
            metavar="KIND",
            help="Rank channels by what is lost without them: zero, mean, resample or delay=K.",
        ),
    ] = None,
    value: Annotated[
        bool, typer.Option("--value", help="Measure what each channel's learning signal is worth.")
    ] = False,
    represent: Annotated[
        Path | None,
        typer.Option("--represent", metavar="DIR", help="Write pictures and numbers of representations."),
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            "--channels", metavar="A->B", help="Only these channels; may be repeated (default: all)."
        ),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option("--examples", min=1, metavar="N", help="Of --ablate (2000) and --represent (400)."),
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option("--horizon", min=1, metavar="H", help="With --value: steps of learning."),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=2, metavar="R", help="With --value: of the measurement.")
    ] = None,
    json: Json = False,
) -> None:
    """Score a run on data it has not learned from; rank its channels, measure them, look inside its agents."""
    from antiphon.commands import evaluate as verb
    from antiphon.engine.inference.links import Links

    measurements = verb.Measurements(
        ablate=ablate,
        represent=represent,
        value=value,
        channels=channels or None,
        examples=examples,
        horizon=horizon,
        repeats=repeats,
    )
    how = Links(links, drop, inputs)
    raise typer.Exit(
        verb.evaluate(path, python=python, split=split, links=how, measurements=measurements, json=json)
    )


@app.command()
def export(
    path: RunPath,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Its suffix is the format: .pt2, .onnx or .safetensors.")
    ],
    agents: Annotated[
        list[str] | None,
        typer.Option(
            "--agent",
            metavar="NAME",
            help="Whose outputs (default: the readouts') or weights (default: all); may be repeated.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a run's system, or its weights, to a file that is read without antiphon."""
    from antiphon.commands import export as verb

    verb.export(path, file, agents=agents or None, json=json)


@app.command()
def show(
    what: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE|RUN|ENV]", help="A scenario, a run or an environment.")
    ] = None,
    python: Python = None,
    variant: Variant = None,
    settings: Settings = None,
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the scenario's document as it is written.")
    ] = False,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the explicit scenario as a document.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of documents.")] = False,
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="Print who ticks when, what is read, how far back credit reaches."),
    ] = False,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, metavar="N", help="With --timeline: how many.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a short run on every backend, on this machine.")
    ] = False,
    json: Json = False,
) -> None:
    """Explain a scenario, a run or an environment; without a name, list what there is."""
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


@app.command()
def check(scenario: Scenario, variant: Variant = None, settings: Settings = None, json: Json = False) -> None:
    """Check a scenario without running it, and say what is probably not meant."""
    from antiphon.commands import show as verb

    verb.check(scenario, variant=variant, settings=settings or [], json=json)


@app.command()
def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="Run directories, or folders that hold runs (a study, a log directory)."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page; one that is there is replaced.")
    ] = Path("report.html"),
    json: Json = False,
) -> None:
    """Put runs into one HTML file that needs no network: graph, values, curves, timeline, differences, provenance."""
    from antiphon.commands import report as verb

    verb.report(paths, output, json=json)


@app.command()
def diff(
    first: RunPath,
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another.")],
    json: Json = False,
) -> None:
    """Name the first step, agent and tensor where two runs part (exit code 1 where they do)."""
    from antiphon.commands import diff as verb

    raise typer.Exit(verb.diff(first, second, json=json))


@app.command()
def study(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="A library study, a study's document, or a scenario: all its variants.",
        ),
    ] = None,
    python: Python = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="B", help="small or paper (default: the study's first, small)."),
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", "-v", metavar="V", help="May be repeated (default: all of the study's)."),
    ] = None,
    settings: Settings = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            metavar="K",
            help="Each line runs with seeds 0 … K-1 (default: the budget's, or 3).",
        ),
    ] = None,
    steps: Steps = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, metavar="N", help="Runs at a time (default: one per core)."),
    ] = None,
    logdir: Annotated[
        Path | None,
        typer.Option(
            "--logdir", metavar="DIR", help="The study's directory (default: new, where runs are written)."
        ),
    ] = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Run a study: variants side by side over seeds, in a table and a figure; without a name, list what there is."""
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


@app.command()
def tb(
    path: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A run, a study, or a folder of runs.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, metavar="P", help="(default: 6006)")
    ] = None,
    json: Json = False,
) -> None:
    """Open TensorBoard on runs, with enough samples to see every step."""
    from antiphon.commands import tensorboard as verb

    verb.tb(path, port=port, json=json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The words after `antiphon`; None: those of this process.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="antiphon")
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except EngineError:
        raise
    except AntiphonError as error:
        line = str(error).replace("\n", "\\n")
        print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
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
