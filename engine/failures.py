"""Errors that a user's network, objective or gradient raises at a step, as one line that names where."""

from __future__ import annotations

import os
from traceback import walk_tb
from typing import NoReturn

import torch

from antiphon.agents.objectives import OwnObjective
from antiphon.base.call_errors import call_error
from antiphon.base.errors import CallError, RunError
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.system import System

_MOST_NAMES = 3
_AUTOGRAD = os.path.join(os.path.dirname(torch.autograd.__file__), "")
_BACKWARD = {
    "modified by an inplace operation": "changed its parameters, or something computed from them, in place before the window's "
    "end, or keeps a tensor with its graph from one window to the next; compute new tensors (w = self.weight.clamp(…)), keep its "
    "detach(), or set clock.unroll to 1",
    "backward through the graph a second time": "keeps a tensor with its graph from one window to the next; keep its detach(), "
    "or return it as the state (state_size)",
    "One of the differentiated Tensors does not require grad": "changes requires_grad of its parameters while it is trained; freeze them before the run, or use "
    "their detach() in forward",
}
"""What a network did, by a part of torch's error of a backward pass."""


def raise_named(error: Exception, step: int, system: System) -> NoReturn:
    """Raise an error of a user's code as a RunError, and another one, such as ours, as it is.

    Args:
        step: The step, from 0; errors count steps from 1, as logs do.
    """
    if isinstance(error, CallError):  # of a call that knew whose object it is
        raise RunError(f"step {step + 1}: {error}") from error.__cause__
    line = _line_of(error, system)
    if line is None:
        raise error
    raise RunError(f"step {step + 1}: {line}") from error


def _line_of(error: Exception, system: System) -> str | None:
    """Return the line of an error of a user's code; None if no code of theirs was called."""
    names = [name for name, agent in system.agents.items() if _has_users(agent)]
    place = name = ""
    if names and any(
        frame.f_code.co_filename.startswith(_AUTOGRAD) for frame, _ in walk_tb(error.__traceback__)
    ):
        of = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
        for excerpt, fault in _BACKWARD.items():
            if excerpt in str(error):
                return f"a network ({of}) {fault}"
        place, name = f"gradients of {of}", "the backward pass"  # one of all networks
    line = call_error(error, place, name)
    return None if line is None else str(line)


def _has_users(agent: Agent) -> bool:
    goals = () if agent.goal is None else agent.goal.terms
    return bool(agent.learner.network.modules()) or any(
        isinstance(goal.objective, OwnObjective) for goal in goals
    )
