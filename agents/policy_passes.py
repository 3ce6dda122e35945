"""What the passes of a policy over a window compute: their losses, the constants of further ones, how far the policy has changed.

Shapes: T ticks of the window, rows = members x environments, N members of a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.advantages import Advantages, MemberMeans
from antiphon.nets.per_member import PerMember, scaled


@dataclass(frozen=True, slots=True, eq=False)
class PolicyPorts:
    """What a policy is at the ticks of a window, or at some rows of them, with its graph."""

    outputs: Tensor | None
    """[T, rows, parameters]; None if only messages are sampled."""
    values: Tensor | None
    """[T, rows]; None where there are none."""
    messages: Sequence[tuple[Tensor, Tensor]] = ()
    """Log-probability and entropy, [T, rows] each, of every sampled message."""
    member_count: int = 1
    """N, side by side in the rows."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyLosses:
    """The losses of one pass over a window."""

    losses: Tensor
    """[T, rows], zero where not valid: a member's sum over ticks and environments, divided by its B, is the mean over its
    valid ones."""
    log_prob: Tensor | None
    """[T, rows], a constant: log-probability of the actions and sampled messages, of which later passes of `ppo` use the first
    pass's; None: no later pass needs it."""
    metrics: dict[str, Tensor]
    """[N] by name, means over the valid ticks: `policy_loss`, `entropy`; with values `value_loss` and `explained_variance`
    (NaN if all returns are the same). NaN for a member without valid ticks."""
    change: PolicyChange | None = None
    """Of `ppo`: how far the policy is from itself, which is the metric where no further pass has changed it."""


@dataclass(frozen=True, slots=True, eq=False)
class PassConstants:
    """Constants of a further pass over some rows of a window, [T, rows] each."""

    actions: Tensor | None
    """[T, rows, …]: sampled actions; None if only messages are."""
    log_prob: Tensor | None
    """Log-probabilities of the first pass; None: they are not needed."""
    valid: Tensor
    """bool: the ticks that are trained on."""
    targets: Tensor
    """Targets of the values."""
    share: Tensor
    """What a tick counts in what its member learns, zero where not valid."""
    cost: Tensor
    """Minus the advantages, times the share."""

    @classmethod
    def of_parts(
        cls,
        actions: Tensor | None,
        log_prob: Tensor | None,
        advantages: Advantages,
        weight: PerMember,
        member_count: int,
        parts: Sequence[Tensor],
    ) -> list[PassConstants]:
        """Return the constants of passes over some rows each, `parts`, as many of each member; those of as many rows are made at once.

        Args:
            weight: Of what a member learns, the mean over its valid ticks.
            member_count: N.
        """
        found: dict[int, PassConstants] = {}
        for length in dict.fromkeys(map(len, parts)):
            places = [place for place, rows in enumerate(parts) if len(rows) == length]
            rows = torch.stack([parts[place] for place in places])
            columns = actions, log_prob, advantages.valid, advantages.targets, advantages.advantages
            *kept, gain = (None if values is None else _in_parts(values, rows) for values in columns)
            means = MemberMeans(_in_parts(advantages.valid, rows), member_count)
            share = scaled(means.weights(advantages.advantages.dtype), weight / means.batch, 2)
            assert gain is not None
            of_passes = (
                [None] * len(places) if values is None else values.unbind()
                for values in (*kept, share, gain * -share)
            )
            found |= zip(places, map(cls, *of_passes), strict=True)
        return [found[place] for place in range(len(parts))]


def _in_parts(values: Tensor, rows: Tensor) -> Tensor:
    """[T, all rows, …] at the rows of P parts, [P, n], as [P, T, n, …]."""
    selected = values.index_select(1, rows.flatten())
    return selected.view(len(values), *rows.shape, *values.shape[2:]).transpose(0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class PolicyChange:
    """How far a policy is from that of the first pass, over the rows of a later one."""

    log_ratio: Tensor
    """[T, rows], a constant: the change of the actions' log-probabilities, zero where not valid."""
    clip: Any
    """Largest deviation of the probability ratio from 1, of all rows or [rows]."""
    valid: Tensor
    """[T, rows] bool: the ticks that are trained on."""
    member_count: int
    """N."""

    @staticmethod
    def metrics(changes: Sequence[PolicyChange]) -> dict[str, Tensor]:
        """Return `approx_kl` and `clip_fraction` of each member, [N], means over passes with valid ticks; of as many rows they are computed as one."""
        approx_kl, clip_fraction, has_valid = list[Tensor](), list[Tensor](), list[Tensor]()
        by_row_count: dict[int, list[PolicyChange]] = {}
        for change in changes:
            by_row_count.setdefault(change.log_ratio.shape[1], []).append(change)
        for equal in by_row_count.values():
            log_ratio = torch.stack([change.log_ratio for change in equal])
            valid = torch.stack([change.valid for change in equal])
            means, deviation = MemberMeans(valid, equal[0].member_count), log_ratio.exp() - 1
            # Schulman 2020, "Approximating KL divergence"
            has_valid.append(means.count > 0)
            approx_kl.append(means.of_zeroed(deviation - log_ratio))
            clip_fraction.append(means.of_zeroed((deviation.abs() > equal[0].clip).to(log_ratio.dtype)))
        counted = torch.cat(has_valid)
        share = counted.to(approx_kl[0].dtype).mean(0)
        return {
            name: torch.cat(values).where(counted, 0.0).mean(0) / share
            for name, values in (("approx_kl", approx_kl), ("clip_fraction", clip_fraction))
        }
