"""Pretrained agents: taking an agent's numbers out of another run."""

from __future__ import annotations

from antiphon.agents.learner import Learner
from antiphon.engine.state import checkpoint
from antiphon.errors import RunError, ScenarioError, suggest
from antiphon.scenarios import Scenario

__all__ = ["read_weights", "without_weights"]


def read_weights(learner: Learner, source: str, place: str) -> None:
    """Fill a learner with the parameters and running statistics of an agent of another run.

    Args:
        learner: Whom to fill.
        source: `RUN:agent`; RUN is a run directory or a checkpoint.
        place: Where the scenario says so, for errors.

    Raises:
        ScenarioError: There is no such run or agent, or its shapes differ.
    """
    run, _, name = source.rpartition(":")
    try:
        _, state = checkpoint.read(checkpoint.latest(run))
    except RunError as error:
        raise ScenarioError(f"{place}: {error}") from None
    learners = state["system"]["learners"]
    if name not in learners:
        raise ScenarioError(f"{place}: run {run} has no agent '{name}'{suggest(name, learners)}")
    saved = learners[name]
    for part, own in (("parameters", learner.parameters), ("buffers", learner.buffers)):
        have = {key: tuple(t.shape) for key, t in saved[part].items()}
        want = {key: tuple(t.shape) for key, t in own.items()}
        if have != want:
            key = next(k for k in [*want, *have] if have.get(k) != want.get(k))
            raise ScenarioError(
                f"{place}: '{name}' of {run} has {part} {key} {have.get(key)}, this agent needs {want.get(key)}; "
                "give both the same network and ports"
            )
    for key, parameter in learner.parameters.items():
        parameter.data.copy_(saved["parameters"][key])
    learner.buffers = {key: saved["buffers"][key].to(b) for key, b in learner.buffers.items()}


def without_weights(scenario: Scenario) -> Scenario:
    """Return a scenario in which no agent takes its numbers out of another run."""
    agents = {name: spec.model_copy(update={"weights": None}) for name, spec in scenario.agents.items()}
    return scenario.model_copy(update={"agents": agents})
