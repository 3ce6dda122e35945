"""Weights of an agent of another run."""

from __future__ import annotations

from typing import Any

from antiphon.agents.learner import Learner
from antiphon.base.errors import RunError, suggest
from antiphon.base.problems import DocumentError, Path
from antiphon.engine.state.checkpoint import latest, read
from antiphon.engine.state.compatibility import first_difference

_KINDS = ("parameters", "buffers")


def read_weights(learner: Learner, source: str, path: Path) -> None:
    """Fill a learner with the parameters, running statistics and module state of an agent of another run, `RUN:agent`.

    DocumentError where there is no such run or agent, or its shapes differ.
    """
    run, _, agent = source.rpartition(":")

    def learners_of(state: dict[str, Any]) -> dict[str, Any]:
        """By agent; of others the names alone, so that their tensors are not read."""
        learners = state["system"]["learners"].items()
        return {name: {key: saved[key] for key in _KINDS if name == agent} for name, saved in learners}

    try:
        _, learners = read(latest(run), select=learners_of)
    except RunError as error:
        raise DocumentError(path, str(error)) from None
    if agent not in learners:
        raise DocumentError(path, f"run {run} has no agent '{agent}'{suggest(agent, learners)}")
    saved, present = learners[agent], {key: getattr(learner, key) for key in _KINDS}
    shapes, own = (
        {key: {name: list(t.shape) for name, t in by_name.items()} for key, by_name in tensors.items()}
        for tensors in (saved, present)
    )
    if (difference := first_difference(shapes, own)) is not None:
        where, there, here = difference
        fix = "give both agents of one make"
        raise DocumentError(path, f"{'.'.join(where)} of '{agent}' is {there} there and {here} here; {fix}")
    for name, parameter in learner.parameters.items():
        parameter.data.copy_(saved["parameters"][name])
    learner.put_statistics(
        {name: buffer.to(learner.buffers[name]) for name, buffer in saved["buffers"].items()}
    )
