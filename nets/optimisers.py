"""Optimisers as functions of (parameters, gradients, state), equal to torch's, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Optimiser", "Rate", "Schedule", "fused_adam", "laid_out_as", "step_all"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Schedule of a learning rate over a run, as a factor of its base value."""

    kind: str = "constant"
    at: tuple[float, ...] = ()
    """Fractions of the run after which the rate is multiplied by `factor` (`steps`)."""
    factor: float = 0.1
    """The multiplier (`steps`), or the factor reached at the end (`cosine`, `linear`)."""
    warmup: float = 0.0
    """Fraction of the run over which the rate rises linearly from zero."""

    def __call__(self, progress: float) -> float:
        """Return the factor at `progress`, the fraction of the run done; beyond 1 the last value holds."""
        progress = min(max(progress, 0.0), 1.0)
        rise = min(1.0, progress / self.warmup) if self.warmup > 0 else 1.0
        if self.kind == "steps":
            return rise * self.factor ** sum(progress >= at for at in self.at)
        if self.kind == "cosine":
            return rise * (self.factor + (1 - self.factor) * 0.5 * (1 + math.cos(math.pi * progress)))
        if self.kind == "linear":
            return rise * (1 + (self.factor - 1) * progress)
        return rise


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A learning rate over a run of `horizon` steps."""

    base: float
    horizon: int
    schedule: Schedule = Schedule()

    def __call__(self, step: int) -> float:
        """Return the rate used at `step`."""
        return self.base * self.schedule(step / max(self.horizon, 1))


_Settings = tuple[str, tuple[float, float], float, float, torch.device]
"""Kind, betas, weight decay, rate and device: the key of a kernel call."""


@torch.no_grad()
def step_all(steps: Sequence[tuple[Optimiser, Sequence[Tensor], float]]) -> None:
    """Take a step of many optimisers, those of one kind and rate in one call of torch's fused kernel.

    Args:
        steps: Optimiser, gradients (one per parameter, in order) and learning rate.
    """
    groups: dict[_Settings, list[tuple[Optimiser, Sequence[Tensor]]]] = {}
    for optimiser, gradients, rate in steps:
        if not optimiser.parameters:
            continue
        optimiser.allocate()
        if optimiser.clip is not None:
            gradients = _clipped(gradients, optimiser.clip)
        if optimiser.kind == "sgd":
            optimiser._sgd(gradients, rate)
            continue
        settings = (
            optimiser.kind,
            optimiser.betas,
            optimiser.weight_decay,
            rate,
            optimiser.parameters[0].device,
        )
        groups.setdefault(settings, []).append((optimiser, gradients))
    for (kind, _, decay, rate, _), members in groups.items():
        first = members[0][0]
        for optimiser, _ in members:
            optimiser.state["steps"][0].add_(1)
        fused_adam(
            kind,
            [p for optimiser, _ in members for p in optimiser.parameters],
            [
                laid_out_as(p, g)
                for optimiser, gradients in members
                for p, g in zip(optimiser.parameters, gradients, strict=True)
            ],
            [m for optimiser, _ in members for m in optimiser.state["mean"]],
            [v for optimiser, _ in members for v in optimiser.state["square"]],
            [optimiser.state["steps"][0] for optimiser, _ in members for _ in optimiser.parameters],
            rate=rate,
            betas=first.betas,
            weight_decay=decay,
        )


def fused_adam(
    kind: str,
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps: list[Tensor],
    *,
    rate: float | Tensor,
    betas: tuple[float, float],
    weight_decay: float,
    found_inf: Tensor | None = None,
) -> None:
    """Call the kernel of torch.optim.Adam(fused=True), or AdamW's, without torch's bookkeeping.

    Args:
        kind: `adam` or `adamw`.
        parameters: The tensors to update; all lists have one entry for each of them.
        gradients: Of the parameters, with the same strides (`laid_out_as`).
        means: First moments.
        squares: Second moments.
        steps: Counts, float32 [], this step included.
        rate: The learning rate; as a tensor [] (float32 on a GPU) it is read on the device.
        betas: Decay rates of the moments.
        weight_decay: L2 (`adam`) or decoupled (`adamw`).
        found_inf: Float32 []; if it is 1, no parameter is updated.
    """
    fused = torch.ops.aten._fused_adamw_ if kind == "adamw" else torch.ops.aten._fused_adam_
    call = fused.tensor_lr if isinstance(rate, Tensor) else fused.default
    call(
        parameters,
        gradients,
        means,
        squares,
        [],
        steps,
        lr=rate,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=weight_decay,
        eps=Optimiser.EPSILON,
        amsgrad=False,
        maximize=False,
        found_inf=found_inf,
    )


def _clipped(gradients: Sequence[Tensor], largest: float) -> Sequence[Tensor]:
    """Clip gradients to a joint norm of `largest`, without synchronising host and device.

    It is torch.nn.utils.clip_grad_norm_ without the 1e-6 that it adds to the norm: a larger norm becomes
    `largest`, and other gradients are unchanged to the bit.
    """
    norm = torch.stack(torch._foreach_norm(list(gradients))).norm()
    return torch._foreach_mul(list(gradients), (largest / norm).clamp(max=1.0))


def laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Return `gradient` with the strides of `parameter`: fused kernels read memory in order."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class Optimiser:
    """SGD, Adam or AdamW on a list of tensors; its state is data, so that a run can be forked and saved.

    Args:
        kind: `sgd`, `adam` or `adamw`.
        parameters: The tensors, changed in place.
        momentum: SGD's.
        betas: Adam's decay rates of the first and second moment.
        weight_decay: L2 (`sgd`, `adam`) or decoupled (`adamw`).
        clip: The largest joint norm of the gradients; None: no limit.
    """

    EPSILON = 1e-8

    def __init__(
        self,
        kind: str,
        parameters: Sequence[Tensor],
        *,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        clip: float | None = None,
    ) -> None:
        self.kind = kind
        self.parameters = list(parameters)
        self.momentum = momentum
        self.betas = betas
        self.weight_decay = weight_decay
        self.clip = clip
        moments = {
            "sgd": ["momentum"] if momentum else [],
            "adam": ["mean", "square"],
            "adamw": ["mean", "square"],
        }
        # Zeros without memory, for optimisers that are about to be stacked (`allocate`).
        self.state: dict[str, list[Tensor]] = {
            name: [p.new_zeros(()).expand(p.shape) for p in self.parameters] for name in moments[kind]
        }
        self.lazy = bool(moments[kind])
        if kind != "sgd":  # one count for all: every step updates every parameter
            device = self.parameters[0].device if self.parameters else "cpu"
            self.state["steps"] = [torch.zeros((), dtype=torch.float32, device=device)]

    def allocate(self) -> None:
        """Allocate the moments, if not done yet, before they are first written."""
        if self.lazy:
            for name in self.state:
                if name != "steps":
                    self.state[name] = [torch.zeros_like(p) for p in self.parameters]
            self.lazy = False

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Update the parameters along `-gradients` (one per parameter, in order) at learning rate `rate`."""
        step_all([(self, gradients, rate)])

    def _sgd(self, gradients: Sequence[Tensor], rate: float) -> None:
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            if self.weight_decay:
                g = g.add(p, alpha=self.weight_decay)
            if self.momentum:
                g = self.state["momentum"][i].mul_(self.momentum).add_(g)
            p.add_(g, alpha=-rate)
