"""Library scenarios made by `split`: `antiphon run gpt`, `antiphon run resnet`; an agent for every block of the model.

A function is a scenario's parameters; its attribute `variants` names some of their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antiphon.agents.models import GPT, ResNet
from antiphon.comms.couplings import DEFAULT, Detached, Locked, kind_predicts
from antiphon.envs import registry
from antiphon.nets.random import torch_seeded
from antiphon.scenarios import Scenario
from antiphon.splitting.split import split


def gpt(
    *,
    text: str = "embedded",
    length: int = 64,
    blocks: int = 4,
    width: int = 64,
    heads: int = 4,
    dropout: float = 0.0,
    tied: bool = False,
    coupling: str = DEFAULT,
    gradient: str | Mapping[str, Any] | None = None,
    delay: int = 0,
    batch: int = 16,
    lr: float = 0.006,
    sg_lr: float = 0.003,
    steps: int = 600,
) -> Scenario:
    """A small GPT predicts the next character of a text at every position of a window. Each block is an agent.

    Args:
        text: See `antiphon/TextWindows-v0`.
        length: Characters per window.
        blocks: Transformer blocks, each an agent.
        width: Features per token.
        heads: Heads of each attention.
        dropout: Dropout in training.
        tied: Whether the head's weight is tied to the embedding's, across both agents.
        coupling: Coupling of the blocks: locked, detached or decoupled.
        gradient: Kind of the synthetic gradients, or a gradient's keys; None: chosen by `split`.
        delay: Steps that a message takes to the next block; with 1, all work at the same time, each on another window.
        batch: Windows per step.
        lr: Learning rate of the blocks.
        sg_lr: Learning rate of the synthetic gradients.
        steps: Steps of training.
    """
    env = {"id": "antiphon/TextWindows-v0", "text": text, "length": length}
    classes = registry.describe(env).signals["tokens"].classes
    assert classes is not None
    with torch_seeded(0):  # the same weights for every seed of a run
        model = GPT(classes, length, blocks=blocks, width=width, heads=heads, dropout=dropout, tied=tied)
    return split(
        model,
        at=[f"blocks.{block}" for block in range(1, blocks)],
        env=env,
        inputs={"tokens": "tokens"},
        objective={"kind": "coding", "target": "following"},
        class_axis=-1,
        coupling=coupling,
        delay=delay,
        gradient=gradient,
        scenario="gpt",
        **_training(batch, steps, lr, sg_lr if kind_predicts(coupling) else None),
    )


def resnet(
    *,
    data: str = "digits",
    channels: int = 16,
    stages: tuple[int, ...] = (2, 2),
    coupling: str = DEFAULT,
    gradient: str | Mapping[str, Any] | None = None,
    delay: int = 0,
    batch: int = 64,
    lr: float = 0.003,
    sg_lr: float = 0.003,
    steps: int = 300,
) -> Scenario:
    """A small residual network classifies pictures. Each block is an agent.

    Args:
        data: digits, mnist, cifar10 or shapes.
        channels: Channels of the first stage; each later stage has twice as many.
        stages: Residual blocks per stage, each an agent.
        coupling: Coupling of the blocks: locked, detached or decoupled.
        gradient: Kind of the synthetic gradients, or a gradient's keys; None: local.
        delay: Steps that a message takes to the next block; with 1, all work at the same time, each on another picture.
        batch: Pictures per step.
        lr: Learning rate of the blocks.
        sg_lr: Learning rate of the synthetic gradients.
        steps: Steps of training.
    """
    env = {"id": "antiphon/Digits-v0", "data": data, "sampling": "with_replacement"}
    if gradient is None and kind_predicts(coupling) and sum(stages) > 1:
        gradient = "local"
    signals = registry.describe(env).signals
    classes = signals["label"].classes
    assert classes is not None
    with torch_seeded(0):  # the same weights for every seed of a run
        model = ResNet(signals["image"].shape[0], classes, channels=channels, stages=tuple(stages))
    return split(
        model,
        at=[f"blocks.{block}" for block in range(1, sum(stages))],
        env=env,
        objective={"kind": "classification", "target": "label"},
        coupling=coupling,
        delay=delay,
        gradient=gradient,
        scenario="resnet",
        **_training(batch, steps, lr, sg_lr if kind_predicts(coupling) else None),
    )


def _training(batch: int, steps: int, lr: float, sg_lr: float | None) -> dict[str, Any]:
    training: dict[str, Any] = {"batch": batch, "steps": steps, "optimiser": {"kind": "adam", "lr": lr}}
    return training if sg_lr is None else training | {"predictor": {"kind": "adam", "lr": sg_lr}}


_VARIANTS: dict[str, dict[str, Any]] = {
    Locked.name: {"coupling": Locked.name},
    Detached.name: {"coupling": Detached.name},
    "local": {"gradient": "local"},
    DEFAULT: {},
    "aug_local": {"gradient": {"kind": "aug_local", "layers": 1}},
}
gpt.variants = _VARIANTS  # type: ignore[attr-defined]
resnet.variants = _VARIANTS  # type: ignore[attr-defined]
