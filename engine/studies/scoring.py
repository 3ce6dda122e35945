"""How the finished runs of a study are scored, and where that is kept: evaluations.json beside result.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.errors import ScenarioError
from antiphon.extensions import name_of
from antiphon.files import fitting
from antiphon.manifests import read_cache, write_checked
from antiphon.scenarios.training import OF_AGENTS

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation
    from antiphon.scenarios import Scenario

__all__ = ["Scoring", "add_scores", "figures", "kept_scores", "least_loss", "mean_of"]

_FILE = "evaluations.json"


@dataclass(frozen=True)
class Scoring:
    """A way to score the composed system."""

    split: str = "test"
    """`test`, `validation` or `train`."""
    links: str = "perfect"
    """`perfect` or `as_run`."""
    drop: float | None = None
    """With `as_run`: the probability that a message is lost; None: as in the training."""
    excess: bool = False
    """Whether `excess_loss` is found too: by how much the loss is more than the least of a linear model."""

    @property
    def plain(self) -> bool:
        """Whether every run is scored so anyway."""
        return self == Scoring()

    @property
    def name(self) -> str:
        """What evaluations.json calls it."""
        words = [self.split, *([self.links] if self.links != "perfect" else [])]
        words += [f"drop {self.drop}"] if self.drop is not None else []
        return ", ".join([*words, *(["excess"] if self.excess else [])])


def figures(
    readouts: str | Sequence[str],
    agents: Mapping[str, Mapping[str, Any]],
    env: Mapping[str, float | None] | None = None,
) -> dict[str, float]:
    """Return what a study may tabulate, by its name there.

    The means over the readouts of `accuracy`, `error`, `bits` and `loss`, of what each has; the same of every agent
    (`A.accuracy`); what the environment says, where the readouts have nothing of that name. The error of who
    classifies is the complement of the accuracy.
    """
    names = [readouts] if isinstance(readouts, str) else readouts
    means = {metric: mean_of([agents[name].get(metric) for name in names]) for metric in OF_AGENTS}
    every = {
        f"{name}.{metric}": value
        for name, own in agents.items()
        for metric, value in _with_error({metric: own.get(metric) for metric in OF_AGENTS}).items()
    }
    of_env = {name: value for name, value in (env or {}).items() if value is not None}
    return of_env | every | _with_error(means)


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of figures; None where one is missing."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None


def _with_error(values: Mapping[str, float | None]) -> dict[str, float]:
    found = {name: value for name, value in values.items() if value is not None}
    return {**found, "error": 1 - found["accuracy"]} if "accuracy" in found else found


def kept_scores(path: Path, steps: int) -> dict[str, dict[str, float]]:
    """Return what a finished run has been scored, by `Scoring.name`; scores after another number of steps are of no use."""
    kept = read_cache(path / _FILE)
    with fitting(path / _FILE):
        return dict(kept["scores"]) if kept.get("steps") == steps else {}


def add_scores(
    path: Path, steps: int, wanted: Sequence[Scoring], scenario: Scenario | None = None
) -> dict[str, dict[str, float]]:
    """Score a finished run in all ways that are wanted and not kept from before, and return all that it has been scored.

    `scenario` is needed where it holds Python objects.

    Raises:
        ScenarioError: It cannot be scored so.
        RunError: The directory cannot be read or written.
    """
    from antiphon.engine.simulation import Simulation

    kept = kept_scores(path, steps)
    missing = [scoring for scoring in wanted if scoring.name not in kept]
    if not missing:
        return kept
    with Simulation.load(path, scenario) as simulation:
        for scoring in missing:
            kept[scoring.name] = _score(simulation, scoring)
    write_checked(path / _FILE, {"steps": steps, "scores": kept})
    return kept


def _score(simulation: Simulation, scoring: Scoring) -> dict[str, float]:
    from antiphon.engine.inference.links import Links

    found = simulation.evaluate(scoring.split, Links(scoring.links, scoring.drop))
    score = figures(found.readout, found.agents) | {"examples": found.examples}
    if scoring.excess:
        score["excess_loss"] = score["loss"] - least_loss(simulation, scoring.split)
    return {name: value for name, value in score.items() if math.isfinite(value)}


def least_loss(simulation: Simulation, split: str) -> float:
    """Return the least mean loss on a split of a linear map from all that is observed to the readout's target.

    ScenarioError where there are several readouts.
    """
    import torch

    from antiphon.engine.inference.evaluation import examples
    from antiphon.engine.inference.export import observed
    from antiphon.nets.optimum import optimum

    readouts = simulation.scenario.readouts
    if len(readouts) > 1:
        raise ScenarioError(
            f"excess_loss: is of one readout, not of {len(readouts)}; name one in the scenario"
        )
    objective = simulation.scenario.agents[readouts[0]].objective
    assert objective is not None
    if objective.own or objective.target is None:
        raise ScenarioError(
            f"excess_loss: the least loss of {name_of(objective.kind)} is not known; use loss"
        )
    batches = list(examples(simulation.world.env, split))
    system = simulation.system
    entering = {(name, a.categories): None for a in system.agents.values() for name in a.observes}
    read = set(observed(system))
    observations = [
        system.network_input(name, torch.cat([batch[name] for batch in batches]), categories)
        for name, categories in entering
        if name in read
    ]
    targets = torch.cat([batch[objective.target] for batch in batches])
    columns = [value.reshape(len(targets), -1) for value in observations]
    return optimum(torch.cat(columns, 1), targets, str(objective.kind))
