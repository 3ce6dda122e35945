"""Blank systems: built, with all their shapes, but without numbers, so that they take no memory, however large."""

from __future__ import annotations

import torch

from antiphon.engine.build import build
from antiphon.engine.system import System
from antiphon.engine.weights import without_weights
from antiphon.envs.signal import Description
from antiphon.scenarios.document import Scenario
from antiphon.scenarios.parts import NetworkSpec

__all__ = ["build_blank"]

_META = torch.device("meta")


def build_blank(scenario: Scenario, env: Description, dtype: torch.dtype = torch.float32) -> System:
    """Return the system of a scenario without numbers.

    Args:
        scenario: The scenario; pretrained weights are not looked for.
        env: What its environment shows.
        dtype: Of all floats.

    Raises:
        ScenarioError: Something does not fit; the line names the place.
    """
    scenario = without_weights(scenario)
    if any(not isinstance(agent.network, NetworkSpec) for agent in scenario.agents.values()):
        return build(
            scenario, env, seed=0, device=_META, dtype=dtype
        )  # a user's module has numbers of its own
    with _META:
        return build(scenario, env, seed=0, device=_META, dtype=dtype)
