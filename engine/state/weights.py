"""Weights of an agent of another run."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from antiphon.engine.state.checkpoint import latest, read

Tensors = dict[str, dict[str, Tensor]]


def read_learners(source: str, agent: str) -> dict[str, Tensors]:
    """Return the learners of a checkpoint, or of a run directory's newest, by agent: `parameters` and `buffers` of one, others empty.

    Raises:
        RunError: There is no checkpoint, or it is damaged.
    """

    def learners_of(state: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {key: learner[key] for key in ("parameters", "buffers") if name == agent}
            for name, learner in state["system"]["learners"].items()
        }

    return read(latest(source), select=learners_of)[1]
