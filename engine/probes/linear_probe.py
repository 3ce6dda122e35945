"""Linear probes: how much of a label, or of one at every site, a linear map can read from what an agent makes of an example."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.probes.representation import represent
from antiphon.errors import ScenarioError

__all__ = ["ProbeScore", "linear_probe", "ridge_accuracy"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ProbeScore:
    """What a linear classifier of one agent's representation scores.

    Attributes:
        train: Accuracy on the examples it was fitted to, in [0, 1].
        test: Accuracy on the others.
    """

    train: float
    test: float


def linear_probe(
    simulation: BaseSimulation,
    examples: int = 1000,
    split: str = "test",
    penalty: float = 1e-3,
) -> dict[str, ProbeScore]:
    """Fit a linear classifier to each agent's representation of training examples, and score it on others.

    Args:
        simulation: What to look at; no bit of it changes.
        examples: At most so many of each split, spread evenly over it.
        split: What the others are from.
        penalty: Of the ridge regression, as a share of a feature's variance.

    Raises:
        ScenarioError: No objective has a categorical target, or the environment has no splits.
    """
    fitted = represent(simulation, examples, "train")
    if fitted.target is None:
        raise ScenarioError("linear_probe: no agent classifies, so there is no label to read")
    held_out = represent(simulation, examples, split)
    classes = simulation._system.description.signals[fitted.target].classes
    assert classes is not None
    return {
        name: ridge_accuracy(
            fitted.agents[name], fitted.labels, held_out.agents[name], held_out.labels, classes, penalty
        )
        for name in fitted.agents
    }


def ridge_accuracy(
    train: Array,
    train_labels: NDArray[np.int64],
    test: Array,
    test_labels: NDArray[np.int64],
    classes: int,
    penalty: float = 1e-3,
) -> ProbeScore:
    """Regress one-hot labels on standardised features in closed form, and score the largest output.

    Args:
        train: [examples, features].
        train_labels: [examples], or [examples, …] with a label at every site, over which the accuracy is a mean.
        test: [others, features].
        test_labels: Likewise, of the others.
        classes: Number of labels.
        penalty: Times the number of examples, what is added to the diagonal.
    """
    mean, std = train.mean(0), train.std(0)
    std = np.where(std > 1e-12 * (1.0 + np.abs(mean)), std, np.inf)  # a constant feature has no weight
    x, z = (train - mean) / std, (test - mean) / std
    y = np.eye(classes)[train_labels].reshape(len(train), -1)
    bias = y.mean(0)
    rows, features = x.shape
    ridge = penalty * rows
    if features <= rows:
        weights = np.linalg.solve(x.T @ x + ridge * np.eye(features), x.T @ (y - bias))
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + ridge * np.eye(rows), y - bias)

    def accuracy(inputs: Array, labels: NDArray[np.int64]) -> float:
        outputs = (inputs @ weights + bias).reshape(*labels.shape, classes)
        return float((outputs.argmax(-1) == labels).mean())

    return ProbeScore(accuracy(x, train_labels), accuracy(z, test_labels))
