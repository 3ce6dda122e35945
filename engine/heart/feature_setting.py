"""The settings of agents, channels and systems that features obey, and not the step itself."""

from __future__ import annotations

from enum import StrEnum


class FeatureSetting(StrEnum):
    """A setting that a feature obeys (engine/installed.py says which); its value is its name in errors."""

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
