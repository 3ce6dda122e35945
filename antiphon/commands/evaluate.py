"""The command `evaluate`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from antiphon.base.errors import RunError
from antiphon.base.files import finite
from antiphon.commands import options
from antiphon.jobs.sources import simulation_at
from antiphon.running.directory import RunDirectory
from antiphon.telemetry.metrics import METRICS
from antiphon.terminal.output import print_json

if TYPE_CHECKING:
    from antiphon.inspection.ablation import Ablation
    from antiphon.inspection.language import Languages

_ABLATED = 2000
"""Default number of examples of an ablation."""


def evaluate(
    path: options.Run,
    python: options.PythonObjects = None,
    checkpoint: options.Checkpoint = None,
    split: Annotated[str, options.text("S", "test (default), validation or train.")] = "test",
    links: Annotated[str, options.text("L", "perfect (default), or as_run: lossy and noisy.")] = "perfect",
    drop: Annotated[float | None, options.text("P", "With as_run: drop probability of all links.")] = None,
    episodes: Annotated[
        int | None,
        options.count("K", "Whole episodes per environment (policies)."),
    ] = None,
    sampled: Annotated[
        bool,
        typer.Option("--sampled", help="Sample actions, not the most likely (policies)."),
    ] = False,
    ablate: Annotated[str | None, options.text("KIND", "Rank channels by zero or resample.")] = None,
    language: Annotated[
        bool, typer.Option("--language", help="Measure the language of channels of symbols.")
    ] = False,
    examples: Annotated[int | None, options.count("N", "Of --ablate (2000) and --language (1000).")] = None,
    json: options.Json = False,
) -> None:
    """Evaluate a run on unseen data; rank channels by how much the loss rises without them."""
    if examples is not None and ablate is None and not language:
        raise RunError("--examples: has no effect here; use it with --ablate or --language")
    directory = RunDirectory.open(path)
    # these load torch: a wrong path is told before
    from antiphon.engine.inference.rollout_links import Links
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
