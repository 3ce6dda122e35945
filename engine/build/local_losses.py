"""Local losses of channels, as their gradients declare them: targets, heads, and whose layers a lens reads through. `local`, `aug_local` and `lens` of split models become such declarations in `splitting/credit.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError
from antiphon.comms.examples import ContextSpec
from antiphon.engine.heart.agent import Agent, Goal
from antiphon.nets.per_member import scaled
from antiphon.scenarios.channel_specs import ChannelSpec

_RESOLVED = ("target", "of", "parameters")
"""Options that name signals or agents."""


class LocalLoss:
    """The own loss of a channel's synthetic gradient, a `LabelGradient`.

    Args:
        readout: The agent whose objective a lens takes, unless it names one.
        signal: A signal of the environment as a predictor reads it, by name.

    Attributes:
        target: The signal it is on.

    Raises:
        DocumentError: The agent of a lens has no objective, or is not there.
    """

    def __init__(
        self,
        channel: ChannelSpec,
        readout: str,
        agents: Mapping[str, Agent],
        signal: Callable[[str], ContextSpec],
    ) -> None:
        self.channel, self.gradient, self.agents, self.signal = channel, channel.gradient, agents, signal
        self.reader = self.gradient.get("of") or readout
        self.lens = self.gradient.of_readout
        target = self._goal().target_signal_name if self.lens else self.gradient.own_target
        assert target is not None
        self.target = target

    def settings(self) -> dict[str, Any]:
        """Return the options of the predictor, names of signals and agents resolved."""
        options = {key: value for key, value in self.gradient.options.items() if key not in _RESOLVED}
        settings = {**options, "target": self.signal(self.target)}
        if self.lens:
            losses = self._goal().output_objective.loss
            settings["sources"], settings["mean"] = self._sources(), self._goal().mean_over_targets
            settings["losses"] = lambda out, *target: scaled(losses(out, *target), self._goal().weight)
        return settings

    def _error(self, key: str, message: str) -> DocumentError:
        return DocumentError(("channels", self.channel.name, "gradient", key), message)

    def _goal(self) -> Goal:
        name, agents = self.reader, self.agents
        if name not in agents:
            raise self._error("of", f"no agent '{name}'{suggest(name, agents)}")
        goal = agents[name].goal
        if goal is None or not (goal.target_signal_name or goal.summands):
            raise self._error(
                "of", f"agent '{name}' has no objective that a lens could read; name one that has"
            )
        if goal.summands:
            raise self._error("of", f"agent '{name}' has several objectives, and a lens reads one; use local")
        return goal

    def _sources(self) -> dict[str, Tensor]:
        """The tensors whose present values the lens' layers have."""
        source_names = self.gradient.get("parameters")
        reader = self.agents[self.reader].learner
        sources = {name.removeprefix("module."): p for name, p in reader.parameters.items()}
        for name, source_name in source_names.items():
            agent, _, parameter_name = source_name.partition(".")
            parameter_name = parameter_name.removeprefix("module.")
            if agent not in self.agents:
                raise self._error("parameters", f"no agent '{agent}'{suggest(agent, self.agents)}")
            parameters = self.agents[agent].learner.parameters
            parameters_by_name = {key.removeprefix("module."): p for key, p in parameters.items()}
            if parameter_name not in parameters_by_name:
                raise self._error(
                    "parameters",
                    f"agent '{agent}' has no parameter '{parameter_name}'{suggest(parameter_name, parameters_by_name)}",
                )
            sources[name] = parameters_by_name[parameter_name]
        return sources
