"""Evaluation: the composed system on a split it has not learned from (semantics 24)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from antiphon.engine.compose import compose, observed
from antiphon.engine.system import System
from antiphon.envs.base import TorchVectorEnv
from antiphon.errors import ScenarioError

__all__ = ["Evaluation", "evaluate"]

_ROWS = 1000


@dataclass(frozen=True)
class Evaluation:
    """What a system scored on a split.

    Attributes:
        split: The split.
        examples: How many examples it has; each was shown once.
        readout: The agents whose metric, averaged, is the scenario's.
        agents: By agent with an objective: `loss` and the metric of its objective (`accuracy` or `error`).
    """

    split: str
    examples: int
    readout: tuple[str, ...]
    agents: dict[str, dict[str, float]]

    def _mean(self, metric: str) -> float:
        values = [self.agents[name][metric] for name in self.readout if metric in self.agents[name]]
        return sum(values) / len(values) if values else float("nan")

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the readouts in [0, 1]; NaN where none classifies."""
        return self._mean("accuracy")

    @property
    def loss(self) -> float:
        """Mean loss of the readouts."""
        return self._mean("loss")

    def __str__(self) -> str:
        lines = [f"{self.split}: {self.examples:,} examples"]
        for name, figures in self.agents.items():
            mark = " (readout)" if name in self.readout else ""
            shown = ", ".join(
                f"accuracy {100 * v:.2f} %" if k == "accuracy" else f"{k} {v:.4f}" for k, v in figures.items()
            )
            lines.append(f"  {name}{mark}: {shown}")
        return "\n".join(lines)


@torch.no_grad()
def evaluate(system: System, env: TorchVectorEnv, readout: tuple[str, ...], split: str) -> Evaluation:
    """Show every example of a split once to the composed system, from silence, and score its last outputs.

    Delays are kept; nothing is dropped; no training-only signal reaches an agent.

    Raises:
        ScenarioError: The environment is no stream of examples, or has no such split.
    """
    if not env.is_stream:
        raise ScenarioError(
            "evaluate: the environment is no stream of examples and has no splits to evaluate on"
        )
    goals = {name: agent.goal for name, agent in system.agents.items() if agent.goal is not None}
    composed = compose(system, list(goals))
    seen = observed(system)
    sums: dict[str, dict[str, float]] = {}
    for name, goal in goals.items():
        sums[name] = {"loss": 0.0, goal.objective.metric: 0.0}
    examples = 0
    for batch in env.batches(split, _ROWS):
        outputs = composed(*(batch[name].to(system.dtype) for name in seen))
        rows = len(batch[seen[0]])
        examples += rows
        for name, goal in goals.items():
            target = batch[goal.target]
            sums[name]["loss"] += goal.objective.loss(outputs[name], target).sum().item()
            sums[name][goal.objective.metric] += goal.objective.score(outputs[name], target).sum().item()
    agents = {name: {k: v / examples for k, v in found.items()} for name, found in sums.items()}
    return Evaluation(split, examples, readout, agents)
