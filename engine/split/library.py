"""Library scenarios made by `split`: `antiphon run gpt`, `antiphon run resnet`; an agent for every block of the model.

A function is a scenario's parameters; its attribute `variants` names some of their values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from antiphon.agents.models import GPT, MapDecoder, MapHead, ResNet
from antiphon.engine.split.credit import SiteHead
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
    gradient: str | Mapping[str, Any] | None = None,
    delay: int = 0,
    batch: int = 16,
    lr: float = 0.006,
    sg_lr: float = 0.003,
    steps: int = 600,
    schedule: str = "constant",
    initial: int = 0,
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
        gradient: Kind of the synthetic gradients, each made for one token at a time; `infopro`, local losses that also
            reconstruct the tokens; or a gradient's keys; None: as `split` chooses.
        delay: Steps that a message takes to the next block; with 1, all work at the same time, each on another window.
        batch: Windows in a step.
        lr: Learning rate of the blocks.
        sg_lr: Learning rate of the synthetic gradients.
        steps: Of training.
        schedule: Of the learning rates: constant, or cosine, which ends at zero after `steps`.
        initial: Seed of the model's initial parameters, which a run's seed does not change.
    """
    env = {"id": "antiphon/TextWindows-v0", "text": text, "length": length}
    classes = registry.describe(env).signals["tokens"].classes
    assert classes is not None
    with _seeded(initial):
        model = GPT(classes, length, blocks=blocks, width=width, heads=heads, dropout=dropout, tied=tied)
    return split(
        model,
        at=[f"blocks.{block}" for block in range(1, blocks)],
        env=env,
        inputs={"tokens": "tokens"},
        objective={"kind": "coding", "target": "following"},
        coupling=coupling,
        delay=delay,
        gradient=None if gradient is None else _gradient(gradient, "following", _OF_TOKENS),
        tie="together" if tied else None,
        scenario="gpt",
        **_training(batch, steps, lr, sg_lr, schedule),
    )


def resnet(
    *,
    data: str = "digits",
    channels: int = 16,
    stages: tuple[int, ...] = (2, 2),
    coupling: str = "decoupled",
    gradient: str | Mapping[str, Any] = "local",
    delay: int = 0,
    batch: int = 64,
    lr: float = 0.003,
    sg_lr: float = 0.003,
    steps: int = 300,
    schedule: str = "constant",
    initial: int = 0,
) -> Scenario:
    """A small residual network classifies pictures. Each block is an agent.

    Args:
        data: digits, mnist, cluttered_mnist, cifar10 or shapes.
        channels: Of the first stage; each further one has twice as many.
        stages: Residual blocks of each stage, each an agent.
        coupling: Of the blocks: locked, detached or decoupled.
        gradient: Kind of the synthetic gradients; `sobolev_conv`, with a convolutional head, as `local` has; `infopro`, local
            losses that also reconstruct the picture; `aug_local`, through copies of later blocks; or a gradient's keys.
        delay: Steps that a message takes to the next block; with 1, all work at the same time, each on another picture.
        batch: Pictures in a step.
        lr: Learning rate of the blocks.
        sg_lr: Learning rate of the synthetic gradients.
        steps: Of training.
        schedule: Of the learning rates: constant, or cosine, which ends at zero after `steps`.
        initial: Seed of the model's initial parameters, which a run's seed does not change.
    """
    env = {"id": "antiphon/Digits-v0", "data": data}
    signals = registry.describe(env).signals
    classes = signals["label"].classes
    assert classes is not None
    with _seeded(initial):
        model = ResNet(signals["image"].shape[0], classes, channels=channels, stages=tuple(stages))
    return split(
        model,
        at=[f"blocks.{block}" for block in range(1, sum(stages))],
        env=env,
        objective={"kind": "classification", "target": "label"},
        coupling=coupling,
        delay=delay,
        gradient=_gradient(gradient, "label", _OF_PICTURES),
        scenario="resnet",
        **_training(batch, steps, lr, sg_lr, schedule),
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _gradient(
    given: str | Mapping[str, Any], target: str, more: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    """A synthetic gradient that models the target, or is conditioned on it; in words, or as it is given.

    Args:
        given: The `gradient` of a scenario.
        target: Of the objective.
        more: Gradients of the scenario's own, by their words.
    """
    if not isinstance(given, str):
        return given
    if given in more:
        return {"kind": "local", "target": target, **more[given]}
    if given in ("lens", "aug_local"):
        return {"kind": given}
    models_target = given in ("local", "sobolev_label")
    return {"kind": given, "target": target} if models_target else {"kind": given, "context": [target]}


def _training(batch: int, steps: int, lr: float, sg_lr: float, schedule: str) -> dict[str, Any]:
    adam: dict[str, Any] = {"kind": "adam"}
    if schedule != "constant":
        adam["schedule"] = {"kind": schedule, "scale": 0.0}
    return {
        "batch": batch,
        "steps": steps,
        "optimiser": {**adam, "lr": lr},
        "predictor": {**adam, "lr": sg_lr},
    }


_OF_TOKENS: dict[str, dict[str, Any]] = {
    "infopro": {"reconstruct": {"target": "tokens", "network": SiteHead}}
}
_OF_PICTURES: dict[str, dict[str, Any]] = {
    "sobolev_conv": {"kind": "sobolev_label", "network": MapHead},
    "infopro": {"reconstruct": {"target": "image", "network": MapDecoder}},
}
_COUPLINGS: dict[str, dict[str, Any]] = {
    "locked": {"coupling": "locked"},
    "detached": {"coupling": "detached"},
    "local": {"gradient": "local"},
    "decoupled": {},
}
_AT_THE_NORM = {"context": ["following"], "normalise": "layer"}
gpt.variants = {  # type: ignore[attr-defined]
    **_COUPLINGS,
    **{kind: {"gradient": kind} for kind in ("lens", "sobolev_label", "infopro")},
    "aug_local": {"gradient": {"kind": "aug_local", "layers": 1}},
    "linear": {"gradient": {"kind": "linear", **_AT_THE_NORM}},
    "mlp": {"gradient": {"kind": "mlp", "hidden": [64], "residual": True, **_AT_THE_NORM}},
}
resnet.variants = {  # type: ignore[attr-defined]
    **_COUPLINGS,
    "local_linear": {"gradient": {"kind": "local", "target": "label", "pool": "mean"}},
    **{kind: {"gradient": kind} for kind in ("sobolev_conv", "infopro")},
    "aug_local": {"gradient": {"kind": "aug_local", "layers": 1}},
    "aug_local_2": {"gradient": {"kind": "aug_local", "layers": 2}},
    "conv": {"gradient": {"kind": "conv", "hidden": [16], "context": ["label"]}},
    "linear": {"gradient": {"kind": "linear", "sites": True, "context": ["label"]}},
}
