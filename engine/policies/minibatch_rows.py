"""Rows of minibatches: those of some environments, as many of each member, at several ticks; in order of (member, tick, environment)."""

from __future__ import annotations

import torch
from torch import Tensor


def by_member(values: Tensor, members: int, rows: Tensor | None = None) -> Tensor:
    """[T, N * b, …], or some rows of it, as rows of the members, [N * T * b, …]."""
    if len(values) == 1:  # in order
        return values[0] if rows is None else values[0].index_select(0, rows)
    values = values if rows is None else values.index_select(1, rows)
    if members == 1:
        return values.flatten(0, 1)
    of_members = values.view(len(values), members, values.shape[1] // members, *values.shape[2:])
    return of_members.transpose(0, 1).flatten(0, 2)


def rows_through(rows: Tensor, index: Tensor | None, members: int, batch: int) -> Tensor:
    """Return the rows of channels in the environments of some rows of the agents at one end, as many of each.

    Args:
        rows: Of the agents, member by member.
        index: [K]: the agent of each channel; None: each in turn.
        members: N, the agents.
        batch: B.
    """
    environments = rows.view(members, -1) % batch
    if index is not None:
        environments = environments.index_select(0, index)
    first_rows = torch.arange(len(environments), device=rows.device).unsqueeze(1) * batch
    return (environments + first_rows).flatten()
