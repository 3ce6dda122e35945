"""Scenarios as data: scenario files, templates, networkx graphs, and the library."""

from antiphon.base.problems import DocumentError
from antiphon.scenarios.agent_specs import AgentSpec, ClockSpec, NetworkSpec, ObjectiveSpec
from antiphon.scenarios.channel_specs import ChannelSpec, GradientSpec, LinkSpec
from antiphon.scenarios.loading import catalogue, library_names, load
from antiphon.scenarios.parameters import ParameterSpec
from antiphon.scenarios.scenario import EnvSpec, Scenario, Template
from antiphon.scenarios.training import OptimiserSpec, ScheduleSpec, TelemetrySpec, TrainingSpec
from antiphon.scenarios.warnings import warnings

__all__ = [
    "AgentSpec",
    "ChannelSpec",
    "ClockSpec",
    "DocumentError",
    "EnvSpec",
    "GradientSpec",
    "LinkSpec",
    "NetworkSpec",
    "ObjectiveSpec",
    "OptimiserSpec",
    "ParameterSpec",
    "Scenario",
    "ScheduleSpec",
    "TelemetrySpec",
    "Template",
    "TrainingSpec",
    "catalogue",
    "library_names",
    "load",
    "warnings",
]
