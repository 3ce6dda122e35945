"""The settings of agents, channels and systems that features obey, and not the step itself (feature_table.py has the features)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System


class FeatureSetting(StrEnum):
    """A setting that a feature obeys; its value is its name in errors."""

    SYNTHETIC_INPUT = "synthetic input"
    FIXED_FEEDBACK = "fixed weights of feedback"
    AGE = "age among its observations"
    NORMALISED_OBSERVATIONS = "normalised observations"
    CRITIC = "critic"
    FURTHER_PASSES = "further passes"
    TARGET_NETWORK = "target network"
    SENDING_ENDPOINTS = "endpoints as messages are sent"
    ACTIONS = "actions"
    FINAL_VALUES = "values of final observations"
    ENDPOINT_CONTEXT = "context of the channel's endpoints"
    STACK = "stack"
    SWEEP_ORDER = "sweep order"
    DELAYED_CHANNEL = "delayed channel"
    DIRECT_FEEDBACK = "direct feedback"
    AUXILIARY_TASK = "auxiliary task"
    RETURNED_LOSSES = "returned losses"
    RETURNED_ACTIONS = "returned actions"
    LAMBDA_RETURNS = "lambda-returns"
    GATE = "gate"
    CLIPPED_OUTLIERS = "clipped outliers"
    GROUP_CLIP = "clip of a learning group"
    TIED_PARAMETERS = "tied parameters"
    REWARDS = "rewards"
    OBSERVATION_STATISTICS = "statistics of observations"


def feature_settings(system: System) -> Iterator[tuple[FeatureSetting, str]]:
    """Yield the settings of a system that features obey, each with the place that has it."""
    by_place: dict[str, Mapping[FeatureSetting, object]] = {}
    by_place |= {f"agents.{name}": _of_agent(agent) for name, agent in system.agents.items()}
    by_place |= {f"channels.{name}": _of_channel(channel) for name, channel in system.channels.items()}
    for group in system.groups:
        clips = [system.agents[name].learner.optimiser.clip for name in group.agent_count_by_learner]
        by_place[f"the learning group of {', '.join(group.agent_names)}"] = {
            FeatureSetting.DELAYED_CHANNEL: group.waits,
            FeatureSetting.GROUP_CLIP: sum(clip is not None for clip in clips) > 1,
        }
    by_place["training"] = {FeatureSetting.SWEEP_ORDER: system.schedule.sweep}
    by_place["share"] = {FeatureSetting.TIED_PARAMETERS: system.tied_parameters}
    for place, settings in by_place.items():
        for setting, used in settings.items():
            if used:
                yield setting, place


def _of_agent(agent: Agent) -> dict[FeatureSetting, object]:
    inputs, policy = agent.inputs, agent.policy
    normalised = inputs.observed.normalised_indices or inputs.critic_observed.normalised_indices
    return {
        FeatureSetting.AGE: AGE in inputs.observed.signal_names,
        FeatureSetting.NORMALISED_OBSERVATIONS: normalised,
        FeatureSetting.OBSERVATION_STATISTICS: normalised,
        FeatureSetting.CRITIC: inputs.critic_observed.signal_names,
        FeatureSetting.TARGET_NETWORK: inputs.has_target_network,
        FeatureSetting.ACTIONS: agent.body.acts or policy is not None,
        FeatureSetting.REWARDS: policy is not None,
        FeatureSetting.FINAL_VALUES: policy is not None and policy.has_values,
        FeatureSetting.FURTHER_PASSES: policy is not None and policy.epochs > 1,
        FeatureSetting.STACK: agent.has_member_axis,
    }


def _of_channel(channel: Channel) -> dict[FeatureSetting, object]:
    synthetic_gradient, feedback = channel.synthetic_gradient, channel.feedback
    endpoint_values = synthetic_gradient.context.endpoint_values
    return {
        FeatureSetting.SYNTHETIC_INPUT: channel.synthetic_input.model is not None,
        FeatureSetting.FIXED_FEEDBACK: feedback.weights is not None,
        FeatureSetting.DIRECT_FEEDBACK: feedback.direct is not None,
        FeatureSetting.ENDPOINT_CONTEXT: endpoint_values,
        FeatureSetting.SENDING_ENDPOINTS: endpoint_values or channel.synthetic_input.context.endpoint_values,
        FeatureSetting.CLIPPED_OUTLIERS: synthetic_gradient.state_settings.outliers is not None,
        FeatureSetting.GATE: synthetic_gradient.gate is not None,
        FeatureSetting.AUXILIARY_TASK: synthetic_gradient.state_settings.auxiliary,
        FeatureSetting.LAMBDA_RETURNS: channel.has_lambda_returns,
        FeatureSetting.RETURNED_LOSSES: channel.needs_returned_loss,
        FeatureSetting.RETURNED_ACTIONS: synthetic_gradient.needs_actions,
    }
