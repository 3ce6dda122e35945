"""What is asked for by a name, a file or a Python object: templates of scenarios, and the request for a run. Loads without torch."""

from __future__ import annotations

import inspect
import operator
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from antiphon.base.errors import ScenarioError, named, suggest
from antiphon.base.files import finite
from antiphon.base.imports import import_beside, is_importable
from antiphon.base.problems import DocumentError
from antiphon.base.spec import frozen_data
from antiphon.distributed.settings import PartsSettings
from antiphon.scenarios import Scenario, Template, library_names, load
from antiphon.scenarios.loading import MADE_IN_PYTHON
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.scenario import values_of_variant, with_coupling
from antiphon.scenarios.study_spec import StudySpec

if TYPE_CHECKING:
    from antiphon.engine.live_system import Settings

Buildable = Scenario | Callable[..., Scenario]
"""A scenario, or a function that makes one of the values of its parameters."""


@dataclass(frozen=True, kw_only=True)
class PythonTemplate:
    """A scenario made in Python. A function is called with torch's random state at the run's seed, so that modules which it makes
    begin otherwise in each run; its environment is that of seed 0. In every process it makes the same.

    Raises:
        ScenarioError: From its methods: no such variant or parameter, or a function that returns something else.
    """

    base: Buildable
    source: str
    """What errors and run.json call it: MODULE:FUNCTION, if it can be imported under this name."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Values of parameters of the base, by name."""
    text: ClassVar[str] = ""
    """There is no YAML file."""
    _scenarios: dict[str, tuple[Mapping[str, Any], Scenario]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def of(cls, base: Buildable) -> PythonTemplate:
        """Return the template of an object that is at hand; ScenarioError where it is no scenario or function."""
        if not isinstance(base, Scenario) and not callable(base):
            line = "must be a scenario, a template, a name or a function"
            raise ScenarioError(f"scenario: {line}, not {type(base).__name__}")
        # of the main program, or of a notebook, others can import nothing
        spec = getattr(sys.modules.get(base.__module__), "__spec__", None)
        if spec is not None and spec.name == base.__module__ and is_importable(base):
            return cls(base=base, source=f"{spec.name}:{getattr(base, '__qualname__', '')}")
        subject = f"scenario {base.scenario}" if isinstance(base, Scenario) else f"Python {_word(base)}"
        return cls(base=base, source=f"the {subject}")

    @property
    def name(self) -> str:
        """The scenario's name, or the function's."""
        return self.base.scenario if isinstance(self.base, Scenario) else _word(self.base)

    @property
    def description(self) -> str:
        """The scenario's description, or the first line of the function's docstring."""
        if isinstance(self.base, Scenario):
            return self.base.description
        return (inspect.getdoc(self.base) or "").partition("\n")[0]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The defaults of the function's parameters, of those without one `inspect`'s word for none; a scenario has none."""
        signature = {} if isinstance(self.base, Scenario) else inspect.signature(self.base).parameters
        return {name: parameter.default for name, parameter in signature.items()}

    def resolve_values(
        self, variant: str | None = None, values: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Return the value of every parameter that is plain data: its default, else the variant's, else the given one."""
        plain = {}
        for name, value in {**self.parameters, **self._with_variant(variant, values)}.items():
            with suppress(DocumentError):  # a Python object
                plain[name] = frozen_data(value, (name,))
        return plain

    def placing(self) -> AbstractContextManager[None]:
        """Do nothing: there is no YAML file in which problems could be located."""
        return nullcontext()

    def resolve(
        self,
        variant: str | None = None,
        values: Mapping[str, Any] = MappingProxyType({}),
        steps: int | None = None,
        seed: int = 0,
    ) -> Scenario:
        """Return the scenario of a variant, values and a run's seed, the same one each time.

        With `steps`, it is trained for so many.
        """
        values = self._with_variant(variant, values)
        scenario = self._resolved(values, 0)
        if seed and not isinstance(self.base, Scenario):
            scenario = self._resolved(values, seed).model_copy(update={"env": scenario.env})
        if variant is not None and not self.variants:
            scenario = with_coupling(scenario, variant)
        return scenario if steps is None else scenario.with_training(steps=steps)

    def _resolved(self, values: Mapping[str, Any], seed: int) -> Scenario:
        key = f"{seed} {[(name, _shown(value)) for name, value in sorted(values.items())]}"
        if key not in self._scenarios:  # with the values, so that no other object gets the address of one
            self._scenarios[key] = values, self._build(values, seed)
        return self._scenarios[key][1]

    def _with_variant(self, variant: str | None, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if variant is None:
            return values
        return {**values_of_variant(self.name, variant, self.variants), **values}

    def _build(self, values: Mapping[str, Any], seed: int) -> Scenario:
        for name in values.keys() - self.parameters.keys():
            raise ScenarioError(f"{self.name} has no parameter {name!r}{suggest(name, self.parameters)}")
        if isinstance(self.base, Scenario):
            return self.base
        from antiphon.nets.random import torch_seeded  # torch

        with torch_seeded(seed), named(self.source):
            built = self.base(**values)
        if not isinstance(built, Scenario):
            raise ScenarioError(
                f"{self.source}: returns {type(built).__name__}; must be an antiphon.Scenario"
            )
        return built


def _shown(value: object) -> str:
    """Return a word that is equal for equal plain data, and of what is none for the same object."""
    try:
        return repr(frozen_data(value))
    except DocumentError:
        return str(id(value))


def load_python(reference: str) -> PythonTemplate:
    """Import the scenario, or the function that returns one, of `MODULE:FUNCTION`; modules beside are found too.

    A function's attribute `variants` names values of its parameters: `{"wide": {"width": 512}}`.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name or Path(module_name).suffix == ".py" or "/" in module_name:
        line = "must be MODULE:FUNCTION, for example train:build for build() in train.py"
        raise ScenarioError(f"{reference}: {line}")
    module = import_beside(module_name, reference)
    try:
        base = operator.attrgetter(name)(module)
    except AttributeError:
        near = suggest(name, vars(module))
        raise ScenarioError(f"{reference}: module '{module_name}' has no '{name}'{near}") from None
    if not isinstance(base, Scenario) and not callable(base):
        kind = type(base).__name__
        raise ScenarioError(f"{reference}: must be an antiphon.Scenario or a function, not {kind}")
    variants = {} if isinstance(base, Scenario) else getattr(base, "variants", {})
    return PythonTemplate(base=base, source=reference, variants=variants)


def _word(value: object) -> str:
    """Return the name of a function, or of any other object's type, as a scenario's name may be."""
    name = getattr(value, "__name__", type(value).__name__)
    return re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_") or "scenario"


# --- of the library, and of names -----------------------------------------------------------------------

_loaded = cache(load_python)


def scenario_names() -> tuple[str, ...]:
    """Return the names of all scenarios of the library, sorted."""
    return tuple(sorted((*library_names(), *MADE_IN_PYTHON)))


def template_named(name: str | Path) -> Template | PythonTemplate:
    if str(name) in MADE_IN_PYTHON:
        return _loaded(MADE_IN_PYTHON[str(name)])
    if str(name) in library_names():
        return load(name)
    documents = (*PopulationSpec.library_names(), *StudySpec.library_names())
    if str(name) in documents:
        fix = "antiphon study or antiphon population runs it"
        raise ScenarioError(f"{name}: is a study or a population, not a scenario; {fix}")
    path = Path(os.path.expanduser(name))
    # that a name exists is False, where it is too long for a file's
    if not path.suffix and path.parent == Path() and not os.path.exists(path):
        raise ScenarioError(f"no scenario {str(name)!r}{suggest(str(name), (*scenario_names(), *documents))}")
    return load(name)


@dataclass(frozen=True, kw_only=True)
class Request:
    """Scenario, seed and settings of a run; `scenario` and `resolved_values` raise where the template does not accept something."""

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
        with suppress(ScenarioError):
            if isinstance(self.template, Template) or self.scenario.to_yaml():
                return None
        return self.scenario

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
