"""The request for a run, and its comparison with a run on disk. Loads without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.base.files import finite
from antiphon.distributed.settings import PartsSettings
from antiphon.running.directory import RunDirectory, holds_objects, is_free
from antiphon.running.python_template import PythonTemplate
from antiphon.scenarios import Scenario, Template

if TYPE_CHECKING:
    from antiphon.engine.live_system import Settings


@dataclass(frozen=True, kw_only=True)
class Request:
    """Scenario, seed and settings of a run.

    Raises:
        ScenarioError: From `scenario` and `resolved_values`: something that the template does not accept.
    """

    template: Template | PythonTemplate
    variant: str | None = None
    """A variant of the template; None: the template's defaults."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that are set."""
    steps: int | None = None
    """`training.steps`; None: the template's."""
    seed: int = 0
    device: str = "cpu"
    backend: str = "cohort"
    division: PartsSettings | None = None
    """The parts that compute it; None: it is not divided."""
    command: tuple[str, ...] = ()
    """The command line, for the record."""

    @cached_property
    def resolved_values(self) -> dict[str, Any]:
        """The value of every parameter, as plain data; a parameter called `steps` follows `steps`."""
        values: dict[str, Any] = finite(self.template.resolve_values(self.variant, self.values))
        if self.steps is not None and "steps" in values:
            values["steps"] = self.steps
        return values

    @cached_property
    def scenario(self) -> Scenario:
        if isinstance(self.template, PythonTemplate):
            return self.template.resolve(self.variant, self.values, self.steps, self.seed)
        return self.template.resolve(self.variant, self.values, self.steps)

    @property
    def given_scenario(self) -> Scenario | None:
        """The scenario, if it holds Python objects: then its checkpoints are loaded with it; else None."""
        python = isinstance(self.template, PythonTemplate) and holds_objects(self.scenario)
        return self.scenario if python else None

    @property
    def settings(self) -> Settings:
        """How it is computed; ScenarioError where there is no such device or backend."""
        from antiphon.engine.live_system import Settings  # torch

        return Settings.of(seed=self.seed, device=self.device, backend=self.backend)

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json has of the request, beside what it has of the simulation."""
        return {
            "template": {"source": self.template.source, "text": self.template.text},
            "variant": self.variant,
            "values": self.resolved_values,
            "command": list(self.command),
        }

    def existing(self, path: Path) -> RunDirectory | None:
        """Return the run that is at `path`, or None; RunError where it is not this one, with a line that names what differs."""
        if is_free(path):
            return None
        directory = RunDirectory.open(path)
        directory.check_same(self.scenario, self.settings.facts)
        return directory
