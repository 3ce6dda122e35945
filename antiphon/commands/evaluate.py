"""The command `evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from antiphon.commands import options

__all__ = ["evaluate"]


def evaluate(
    path: options.Run,
    python: options.PythonObjects = None,
    split: Annotated[str, options.text("S", "Split of the data: test, validation or train.")] = "test",
    links: Annotated[
        str, options.text("L", "perfect, or as_run: lossy and noisy as in the run.")
    ] = "perfect",
    drop: Annotated[
        float | None, options.real("P", "With --links as_run: drop probability of all links.")
    ] = None,
    inputs: Annotated[
        bool,
        typer.Option("--inputs/--no-inputs", help="With --links as_run: use synthetic inputs."),
    ] = True,
    episodes: Annotated[
        int | None,
        options.count("K", "Where agents have policies: whole episodes of each environment (default: 1)."),
    ] = None,
    sampled: Annotated[
        bool,
        typer.Option(
            "--sampled", help="Where agents have policies: sample actions instead of taking the most likely."
        ),
    ] = False,
    ablate: Annotated[
        str | None,
        options.text("KIND", "Rank channels by the loss without their messages: zero, mean or resample."),
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
        list[str] | None, options.text("A->B", "Only these channels; may be repeated (default: all).")
    ] = None,
    examples: Annotated[
        int | None, options.count("N", "Examples for --ablate (default 2000) and --language (1000).")
    ] = None,
    horizon: Annotated[int | None, options.count("H", "With --value: number of training steps.")] = None,
    repeats: Annotated[int | None, options.count("R", "With --value: number of repeats.", least=2)] = None,
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
