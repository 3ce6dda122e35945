"""Targets of which some are missing, and means over what is present: against loops in plain torch, whatever the data came in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from antiphon import Scenario, Simulation, envs
from tests.reference.backend import reference

ROWS, SITES, CLASSES, BATCH = 48, 5, 4, 8
RANDOM = torch.Generator().manual_seed(0)
X = torch.randn(ROWS, SITES, generator=RANDOM)
LABELS = torch.randint(CLASSES, (ROWS, SITES), generator=RANDOM)
NUMBERS = torch.randn(ROWS, SITES, generator=RANDOM)
MASK = torch.rand(ROWS, SITES, generator=RANDOM) > 0.4
MASK[::7] = False
IGNORED = LABELS.masked_fill(~MASK, -100)
TARGETS: dict[str, dict[str, Tensor]] = {
    "mask of sites": {"y": LABELS, "_y": MASK},
    "mask of rows": {"y": LABELS[:, 0], "_y": MASK[:, 0]},
    "-100 of sites": {"y": IGNORED},
    "-100 of rows": {"y": IGNORED[:, 0]},
    "mask and -100": {"y": IGNORED, "_y": MASK.roll(1, 1)},
    "mask of rows of sites": {"y": LABELS, "_y": MASK[:, 0]},
    "mask of numbers": {"y": NUMBERS, "_y": MASK},
    "mask of 0 and 1": {"y": LABELS, "_y": MASK.long()},
}


def batches(data: dict[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    return [{name: column[at : at + size] for name, column in data.items()} for at in range(0, ROWS, size)]


def sources(data: dict[str, Tensor]) -> dict[str, Callable[[], Any]]:
    """Every way by which a data set enters."""
    keys: dict[str, Any] = {"training_only": ["y"]}
    keys |= {"classes": {"y": CLASSES}} if not data["y"].is_floating_point() else {}
    no_splits = {"test": 0, "validation": 0}
    rows = [{name: column[row] for name, column in data.items()} for row in range(ROWS)]
    return {
        "tensors": lambda: envs.from_tensors(**data, **keys, **no_splits),
        "arrays": lambda: envs.from_tensors(**{n: c.numpy() for n, c in data.items()}, **keys, **no_splits),
        "dataset": lambda: envs.from_dataset(rows, list(data), **keys, **no_splits),
        "loader": lambda: envs.from_loader(batches(data, BATCH), list(data), **keys),
        "sequences": lambda: envs.from_sequences(
            **{name: [row[None] for row in column] for name, column in data.items()}, **keys, **no_splits
        ),
    }


def scenario(
    env: Any, objective: dict[str, Any], channel: dict[str, Any] | None = None, **training: Any
) -> Scenario:
    eye = {"observes": ["x"], "network": {"kind": "mlp", "hidden": [6], "norm": "none"}}
    agents: dict[str, Any] = {"mind": eye | {"objective": objective}}
    channels = []
    if channel is not None:
        agents = {
            "eye": eye,
            "mind": {"objective": objective, "network": {"kind": "mlp", "hidden": [6], "norm": "none"}},
        }
        channels = [{"from": "eye", "to": "mind", "size": 4, "norm": "none", **channel}]
    keys = {"batch": BATCH, "steps": 6, "optimiser": {"kind": "sgd", "lr": 0.5}} | training
    return Scenario(scenario="s", env=env, agents=agents, channels=channels, training=keys)


def by_hand(output: Tensor, target: Tensor, mask: Tensor, reduction: str) -> Tensor:
    """Return the loss of torch."""
    mask = mask.view(mask.shape + (1,) * (target.dim() - mask.dim())).expand(target.shape)
    if target.is_floating_point():
        errors = (output.view(target.shape) - target).square()
    else:
        logits = output.reshape(-1, CLASSES)
        ignored = target.masked_fill(~mask, -100).flatten()
        if reduction == "mean":
            return cross_entropy(logits, ignored)
        errors = cross_entropy(logits, ignored, reduction="none").view(target.shape)
    errors, weights = (
        (errors * mask).flatten(1) if errors.dim() > 1 else (errors * mask)[:, None],
        mask.double(),
    )
    weights = weights.flatten(1) if weights.dim() > 1 else weights[:, None]
    if reduction == "mean":
        return errors.sum() / weights.sum()
    return (errors.sum(1) / weights.sum(1).clamp(min=1)).sum() / BATCH


@pytest.mark.cases(2)
@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
@pytest.mark.parametrize("kind", TARGETS)
def test_every_source_gives_the_losses_and_gradients_of_torch(kind: str, reduction: str) -> None:
    data = {"x": X, **TARGETS[kind]}
    floats = data["y"].is_floating_point()
    objective = {"kind": "regression" if floats else "classification", "target": "y", "reduction": reduction}
    for name, source in sources(data).items():
        with Simulation(scenario(source(), objective), dtype=torch.float64) as run:
            for _ in range(3):
                signals = {key: value.clone() for key, value in run.signals.items()}
                assert not {key for key in signals if key[0] == "_"} - {"_x", "_y"}
                mask = signals.get("_y", torch.ones(BATCH, dtype=torch.bool))
                mask = mask.view(signals["y"].shape) if mask.numel() == signals["y"].numel() else mask
                leaves = [value.clone().requires_grad_() for value in run.agents["mind"].parameters.values()]
                w, b, v, c = leaves
                hidden = torch.relu(signals["x"].double() @ w.T + b)
                right = by_hand(hidden @ v.T + c, signals["y"], mask, reduction)
                slopes = torch.autograd.grad(right, leaves)
                loss = float(run.step()["losses"]["mind"])
                assert loss == pytest.approx(right.item(), rel=1e-12), name
                after = run.agents["mind"].parameters.values()
                for leaf, slope, value in zip(leaves, slopes, after, strict=True):
                    torch.testing.assert_close(value, leaf.data - 0.5 * slope, rtol=0, atol=1e-12, msg=name)


def test_a_mean_over_sequences_of_11_and_101_tokens_is_that_of_torch() -> None:
    lengths = [11, 101]
    xs, ys = [torch.randn(n, 4) for n in lengths], [torch.randint(3, (n,)) for n in lengths]
    ys[1][::3] = -100
    env = envs.from_sequences(x=xs, y=ys, _y=[y >= 0 for y in ys], training_only=["y"], test=0, validation=0)
    network = nn.Linear(4, 3).double()
    for backend in ("cohort", reference):
        objective = {"kind": "classification", "target": "y", "reduction": "mean"}
        agents = {
            "p": {
                "observes": ["x"],
                "network": network,
                "objective": objective,
                "clock": {"unroll": "episode"},
            }
        }
        training = {"batch": 2, "steps": 101, "optimiser": {"kind": "sgd", "lr": 1.0}}
        made = Scenario(scenario="s", env=env, agents=agents, training=training)
        with Simulation(made, dtype=torch.float64, backend=backend) as run:
            for _ in range(101):
                run.step()
            weight = next(v for k, v in run.agents["p"].parameters.items() if k.endswith("weight"))
            metrics = run.running.train_means.means()["p"]
        logits = network(torch.cat(xs).double())
        right = cross_entropy(logits, torch.cat(ys))
        (slope,) = torch.autograd.grad(right, network.weight)
        torch.testing.assert_close(weight, network.weight.data - slope, rtol=0, atol=1e-12)
        assert metrics["loss"] == pytest.approx(right.item(), rel=1e-12)
        hits = (logits.argmax(1) == torch.cat(ys)).sum() / (torch.cat(ys) >= 0).sum()
        assert metrics["accuracy"] == pytest.approx(float(hits), rel=1e-6)


@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
@pytest.mark.parametrize("kind", ["mask of sites", "mask of rows"])
def test_evaluation_averages_over_what_is_present(kind: str, reduction: str) -> None:
    mask = TARGETS[kind]["_y"]
    y = TARGETS[kind]["y"].masked_fill(~mask, -100)
    data = {"x": X, "y": y, "_y": mask}
    env = envs.from_tensors(**data, training_only=["y"], test=data, validation=0)
    objective = {"kind": "classification", "target": "y", "reduction": reduction}
    with Simulation(scenario(env, objective), dtype=torch.float64) as run:
        found = run.evaluate("test").agents["mind"]
        w, b, v, c = run.agents["mind"].parameters.values()
    logits = (torch.relu(X.double() @ w.T + b) @ v.T + c).view(*y.shape, CLASSES)
    losses = cross_entropy(logits.reshape(-1, CLASSES), y.flatten(), reduction="none").view(y.shape)
    hits, present = (logits.argmax(-1) == y).double(), (y >= 0).double()
    if reduction == "mean" or y.dim() == 1:
        right = losses.sum() / present.sum(), hits.sum() / present.sum()
    else:
        count, rows = present.sum(1).clamp(min=1), (present.sum(1) > 0).sum()
        right = (losses.sum(1) / count).sum() / rows, (hits.sum(1) / count).sum() / rows
    assert list(found.values()) == pytest.approx([one.item() for one in right], rel=1e-9)
