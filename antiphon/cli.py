"""The command line. What a verb needs is imported when it is called, so that `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
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


class Split(StrEnum):
    """The parts of a data set."""

    test = "test"
    validation = "validation"
    train = "train"


@app.command()
def run(
    scenario: Scenario,
    variant: Variant = None,
    settings: Settings = None,
    steps: Steps = None,
    seed: Annotated[int, typer.Option("--seed", "-s", min=0, metavar="S", help="Of all that is drawn.")] = 0,
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
    checkpoint_every: Checkpoints = None,
    json: Json = False,
) -> None:
    """Run a scenario: its agents learn, its run directory keeps everything."""
    from antiphon.commands import run as verb

    code = verb.run(
        scenario,
        variant=variant,
        settings=settings or [],
        steps=steps,
        seed=seed,
        name=name,
        resume_if_exists=resume_if_exists,
        logdir=logdir,
        device=device,
        checkpoint_every=checkpoint_every,
        json=json,
    )
    raise typer.Exit(code)


@app.command()
def resume(
    path: RunPath,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, metavar="N", help="The step to stop at; schedules stay as they are."),
    ] = None,
    checkpoint_every: Checkpoints = None,
    json: Json = False,
) -> None:
    """Go on with a run from its newest checkpoint, as if it had never stopped."""
    from antiphon.commands import run as verb

    raise typer.Exit(verb.resume(path, steps=steps, checkpoint_every=checkpoint_every, json=json))


@app.command()
def evaluate(
    path: RunPath,
    split: Annotated[Split, typer.Option("--split", help="The part of the data to score.")] = Split.test,
    json: Json = False,
) -> None:
    """Score the composed system of a run on data it has not learned from."""
    from antiphon.commands import run as verb

    raise typer.Exit(verb.evaluate(path, split=split.value, json=json))


@app.command()
def show(
    what: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE|RUN|ENV]", help="A scenario, a run or an environment.")
    ] = None,
    variant: Variant = None,
    settings: Settings = None,
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the scenario's document as it is written.")
    ] = False,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the explicit scenario as a document.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of documents.")] = False,
    json: Json = False,
) -> None:
    """Explain a scenario, a run or an environment; without a name, list what there is."""
    from antiphon.commands import show as verb

    verb.show(
        what, variant=variant, settings=settings or [], yaml=yaml, resolved=resolved, schema=schema, json=json
    )


@app.command()
def check(scenario: Scenario, variant: Variant = None, settings: Settings = None, json: Json = False) -> None:
    """Check a scenario without running it, and say what is probably not meant."""
    from antiphon.commands import show as verb

    verb.check(scenario, variant=variant, settings=settings or [], json=json)


@app.command()
def study(
    scenario: Scenario,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant", "-v", metavar="V", help="May be repeated (default: all of the scenario's)."
        ),
    ] = None,
    settings: Settings = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="K", help="Each variant runs with seeds 0 … K-1.")
    ] = 3,
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
    """Run the variants of a scenario side by side over seeds, and compare them in a table."""
    from antiphon.commands import study as verb

    code = verb.study(
        scenario,
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


_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "DefaultCPUAllocator")


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
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _OUT_OF_MEMORY):
            raise
        print(
            "error: out of memory; lower training.batch, or the sizes of networks and messages",
            file=sys.stderr,
        )
        return 4
    return 0
