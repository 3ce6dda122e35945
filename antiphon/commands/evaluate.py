"""The command `evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from antiphon.commands import options

__all__ = ["evaluate"]


def evaluate(
    path: options.Run,
    python: options.PythonObjects = None,
    split: Annotated[
        str, typer.Option("--split", metavar="S", help="Split of the data: test, validation or train.")
    ] = "test",
    links: Annotated[
        str,
        typer.Option("--links", metavar="L", help="perfect, or as_run: lossy and noisy as in the run."),
    ] = "perfect",
    drop: Annotated[
        float | None,
        typer.Option(
            "--drop",
            parser=options.number,
            metavar="P",
            help="With --links as_run: drop probability of all links.",
        ),
    ] = None,
    inputs: Annotated[
        bool,
        typer.Option("--inputs/--no-inputs", help="With --links as_run: use synthetic inputs."),
    ] = True,
    episodes: Annotated[
        int | None,
        typer.Option(
            "--episodes",
            parser=options.whole(1),
            metavar="K",
            help="Where agents have policies: whole episodes of each environment (default: 1).",
        ),
    ] = None,
    sampled: Annotated[
        bool,
        typer.Option(
            "--sampled", help="Where agents have policies: sample actions instead of taking the most likely."
        ),
    ] = False,
    ablate: Annotated[
        str | None,
        typer.Option(
            "--ablate",
            metavar="KIND",
            help="Rank channels by the loss without their messages: zero, mean or resample.",
        ),
    ] = None,
    language: Annotated[
        bool,
        typer.Option(
            "--language",
            help="Measure channels of symbols: entropy, information about labels, topographic similarity, …",
        ),
    ] = False,
    value: Annotated[
        bool, typer.Option("--value", help="Measure the value of each channel's learning signal.")
    ] = False,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            "--channels", metavar="A->B", help="Only these channels; may be repeated (default: all)."
        ),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(
            "--examples",
            parser=options.whole(1),
            metavar="N",
            help="Examples for --ablate (default 2000) and --language (1000).",
        ),
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(
            "--horizon",
            parser=options.whole(1),
            metavar="H",
            help="With --value: number of training steps.",
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats", parser=options.whole(2), metavar="R", help="With --value: number of repeats."
        ),
    ] = None,
    json: options.Json = False,
) -> int:
    """Score the newest checkpoint of a run on a split, with optional measurements; return the exit code."""
    from antiphon.engine.inference.links import Links
    from antiphon.terminal.measurements import Measurements, evaluate_run

    measurements = Measurements(
        ablate=ablate,
        language=language,
        value=value,
        channels=channels or None,
        examples=examples,
        horizon=horizon,
        repeats=repeats,
    )
    return evaluate_run(
        path,
        python=python,
        split=split,
        links=Links(links, drop, inputs),
        episodes=episodes,
        sampled=sampled,
        measurements=measurements,
        json=json,
    )
