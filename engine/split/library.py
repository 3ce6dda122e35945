"""Library scenarios made by `split`: `antiphon run gpt`, `antiphon run resnet`; an agent for every block of the model.

A function is a scenario's parameters; its attribute `variants` names some of their values.
"""

from __future__ import annotations

from typing import Any

from antiphon.agents.models import GPT, ResNet
from antiphon.engine.split.split import split
from antiphon.envs import registry
from antiphon.scenarios import Scenario

__all__ = ["gpt", "resnet"]


def gpt(
    *,
    text: str = "embedded",
    length: int = 64,
    blocks: int = 4,
    width: int = 64,
    heads: int = 4,
    dropout: float = 0.0,
    tied: bool = False,
    coupling: str = "decoupled",
    gradient: str = "sobolev_label",
    batch: int = 16,
    lr: float = 0.006,
    sg_lr: float = 0.003,
    steps: int = 600,
) -> Scenario:
    """A small GPT predicts the next character of a text at every place of a window. Each block is an agent.

    Args:
        text: As of `antiphon/TextWindows-v0`.
        length: Characters of a window.
        blocks: Transformer blocks, each an agent.
        width: Features of a token.
        heads: Of each attention.
        dropout: In training.
        tied: Whether the head's weight is the embedding's, kept equal in both agents.
        coupling: Of the blocks: locked, detached or decoupled.
        gradient: Kind of the synthetic gradients, each made for one token at a time.
        batch: Windows in a step.
        lr: Learning rate of the blocks.
        sg_lr: Learning rate of the synthetic gradients.
        steps: Of training.
    """
    env = {"id": "antiphon/TextWindows-v0", "text": text, "length": length}
    classes = registry.describe(env).signals["tokens"].classes
    assert classes is not None
    model = GPT(classes, length, blocks=blocks, width=width, heads=heads, dropout=dropout, tied=tied)
    return split(
        model,
        at=[f"blocks.{block}" for block in range(1, blocks)],
        env=env,
        inputs={"tokens": "tokens"},
        objective={"kind": "coding", "target": "following"},
        coupling=coupling,
        gradient=_gradient(gradient, "following"),
        tie="together" if tied else None,
        scenario="gpt",
        **_training(batch, steps, lr, sg_lr),
    )


def resnet(
    *,
    data: str = "digits",
    channels: int = 16,
    stages: tuple[int, ...] = (2, 2),
    coupling: str = "decoupled",
    gradient: str = "conv",
    batch: int = 64,
    lr: float = 0.003,
    sg_lr: float = 0.003,
    steps: int = 300,
) -> Scenario:
    """A small residual network classifies pictures. Each block is an agent.

    Args:
        data: digits, mnist, cifar10 or shapes.
        channels: Of the first stage; each further one has twice as many.
        stages: Residual blocks of each stage, each an agent.
        coupling: Of the blocks: locked, detached or decoupled.
        gradient: Kind of the synthetic gradients.
        batch: Pictures in a step.
        lr: Learning rate of the blocks.
        sg_lr: Learning rate of the synthetic gradients.
        steps: Of training.
    """
    env = {"id": "antiphon/Digits-v0", "data": data}
    signals = registry.describe(env).signals
    classes = signals["label"].classes
    assert classes is not None
    return split(
        ResNet(signals["image"].shape[0], classes, channels=channels, stages=tuple(stages)),
        at=[f"blocks.{block}" for block in range(1, sum(stages))],
        env=env,
        objective={"kind": "classification", "target": "label"},
        coupling=coupling,
        gradient=_gradient(gradient, "label"),
        scenario="resnet",
        **_training(batch, steps, lr, sg_lr),
    )


def _gradient(kind: str, target: str) -> dict[str, Any]:
    """A synthetic gradient that models the target, has layers of the model that do, or is conditioned on it."""
    if kind in ("lens", "aug_local"):
        return {"kind": kind}
    models_target = kind in ("local", "sobolev_label")
    return {"kind": kind, "target": target} if models_target else {"kind": kind, "context": [target]}


def _training(batch: int, steps: int, lr: float, sg_lr: float) -> dict[str, Any]:
    return {
        "batch": batch,
        "steps": steps,
        "optimiser": {"kind": "adam", "lr": lr},
        "predictor": {"kind": "adam", "lr": sg_lr},
    }


_COUPLINGS: dict[str, dict[str, Any]] = {
    "locked": {"coupling": "locked"},
    "detached": {"coupling": "detached"},
    "local": {"gradient": "local"},
    "decoupled": {},
}
gpt.variants = _COUPLINGS  # type: ignore[attr-defined]
resnet.variants = _COUPLINGS  # type: ignore[attr-defined]
