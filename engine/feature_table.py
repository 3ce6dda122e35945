"""The features of a system: a table of which setting needs which, and their installation.

A new feature is one file and one row of the table. What a scenario does not use is not even imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.feature import Feature, Features
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window_losses import ObjectiveEvaluator


class FeatureRow(NamedTuple):
    """A feature, and the setting that needs it."""

    setting: str
    of: type
    """What it is made for, and wherever there is one: a rollout has a forward pass and never learns, so it has no engine."""
    feature: str
    """Its class, below `antiphon.engine`."""
    is_needed_in: Callable[[System], bool]
    """Whether a system has the setting."""

    @property
    def kind(self) -> type[Feature]:
        module, _, name = self.feature.rpartition(".")
        kind: type[Feature] = getattr(import_module(f"antiphon.engine.{module}"), name)
        return kind


def any_agent(has_setting: Callable[[Agent], object]) -> Callable[[System], bool]:
    """Return the test of a system of which any agent has a setting."""
    return lambda system: any(map(has_setting, system.agents.values()))


def any_channel(has_setting: Callable[[Channel], object]) -> Callable[[System], bool]:
    """Return the test of a system of which any channel has a setting."""
    return lambda system: any(map(has_setting, system.channels.values()))


def _is_normalised(agent: Agent) -> bool:
    inputs = agent.inputs
    return bool(inputs.observed.normalised_indices or inputs.critic_observed.normalised_indices)


TABLE = (
    FeatureRow(
        "critic",
        ForwardPass,
        "policies.critics.Critics",
        any_agent(lambda agent: agent.inputs.critic_observed.signal_names),
    ),
    # before the policies, which find it, and before copies of what it moves
    FeatureRow(
        "further passes",
        Engine,
        "policies.passes.FurtherPasses",
        any_agent(lambda agent: agent.policy is not None and agent.policy.epochs > 1),
    ),
    FeatureRow(
        "target network",
        ForwardPass,
        "policies.target_networks.TargetNetworks",
        any_agent(lambda agent: agent.inputs.has_target_network),
    ),
    FeatureRow(
        "actions",
        ForwardPass,
        "policies.actions.Actions",
        any_agent(lambda agent: agent.body.acts or agent.policy is not None),
    ),
    FeatureRow(
        "values of final observations",
        ForwardPass,
        "policies.final_values.FinalValues",
        any_agent(lambda agent: agent.policy is not None and agent.policy.has_values),
    ),
    FeatureRow("stack", Engine, "features.reach.Reach", any_agent(lambda agent: agent.has_member_axis)),
    FeatureRow(
        "rewards",
        ObjectiveEvaluator,
        "policies.policy_evaluator.PolicyEvaluator",
        any_agent(lambda agent: agent.policy is not None),
    ),
)
"""Which setting needs which feature. Features with a point in common are called in this order."""


def install(engine: Engine, *, native: bool = False) -> None:
    """Install the features of an engine's system.

    Args:
        native: Whether the native kernel computes the stacks that it can.
    """
    system = engine.system
    made_for = {
        ForwardPass: engine.forward_pass,
        ObjectiveEvaluator: engine.objective_evaluator,
        Engine: engine,
    }
    _install(engine.features, made_for, system, engine.single_systems[0])
    if native:
        from antiphon.engine.native.networks import use_kernel

        use_kernel(system)
    if system.device.type == "cuda":
        engine.moving.check_later()


def install_in(part: ForwardPass | ObjectiveEvaluator) -> None:
    """Install the features of a part of the step that is used alone."""
    kinds = ForwardPass, ObjectiveEvaluator
    _install(part.features, {kind: part for kind in kinds if isinstance(part, kind)}, part.system)


def _install(features: Features, made_for: Mapping[type, Any], *systems: System) -> None:
    for row in TABLE:
        if row.of in made_for and any(map(row.is_needed_in, systems)):
            features.install(row.kind(made_for[row.of]))  # type: ignore[call-arg]
