"""Scenarios made in Python, used like templates: a scenario or a function that returns one, and its variants."""

from __future__ import annotations

import inspect
import operator
import re
import sys
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from antiphon.base.errors import ScenarioError, named
from antiphon.base.imports import import_beside, is_importable
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError
from antiphon.base.spec import frozen_data
from antiphon.scenarios.loading import MADE_IN_PYTHON
from antiphon.scenarios.scenario import Scenario, values_of_variant, with_coupling

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
    _scenarios: dict[Hashable, tuple[Mapping[str, Any], Scenario]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def of(cls, base: Buildable) -> PythonTemplate:
        """Return the template of an object that is at hand."""
        name = getattr(base, "__qualname__", "")
        # of the main program, or of a notebook, others can import nothing
        spec = getattr(sys.modules.get(base.__module__), "__spec__", None)
        if spec is None or spec.name != base.__module__ or not is_importable(base):
            subject = f"scenario {base.scenario}" if isinstance(base, Scenario) else f"Python {_word(base)}"
            return cls(base=base, source=f"the {subject}")
        return cls(base=base, source=f"{spec.name}:{name}")

    @property
    def name(self) -> str:
        """The scenario's name, or the function's."""
        return self.base.scenario if isinstance(self.base, Scenario) else _word(self.base)

    @property
    def called(self) -> str:
        """The template's name in the library, or else its source: what a user calls."""
        return next((name for name, source in MADE_IN_PYTHON.items() if source == self.source), self.source)

    @property
    def description(self) -> str:
        """The scenario's description, or the first line of the function's docstring."""
        if isinstance(self.base, Scenario):
            return self.base.description
        return (inspect.getdoc(self.base) or "").partition("\n")[0]

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the function that can be given by name; a scenario has none."""
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {name: parameter for name, parameter in self._signature.items() if parameter.kind in named}

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of the parameters, of those without one `inspect`'s word for none."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    @property
    def takes_all(self) -> bool:
        """Whether the function takes values of any name."""
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in self._signature.values())

    @property
    def _signature(self) -> Mapping[str, inspect.Parameter]:
        return {} if isinstance(self.base, Scenario) else inspect.signature(self.base).parameters

    def resolve_values(
        self, variant: str | None = None, values: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Return the value of every parameter that is plain data: its default, else the variant's, else the given one."""
        plain = {}
        for name, value in {**self.defaults, **self._with_variant(variant, values)}.items():
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
        scenario = self._resolved(variant, values)
        if seed and not isinstance(self.base, Scenario):
            of_seed = self._resolved(variant, values, seed)
            scenario = of_seed.model_copy(update={"env": scenario.env})
        if variant is not None and not self.variants:
            scenario = with_coupling(scenario, variant)
        return scenario if steps is None else scenario.with_training(steps=steps)

    def _resolved(self, variant: str | None, values: Mapping[str, Any], seed: int = 0) -> Scenario:
        values = self._with_variant(variant, values)
        key = seed, frozenset((name, _key_of(value)) for name, value in values.items())
        if key not in self._scenarios:  # with the values, so that no other object gets the address of one
            self._scenarios[key] = values, self._build(values, seed)
        return self._scenarios[key][1]

    def _with_variant(self, variant: str | None, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if variant is None:
            return values
        return {**values_of_variant(self.called, variant, self.variants), **values}

    def _build(self, values: Mapping[str, Any], seed: int) -> Scenario:
        base, source, parameters = self.base, self.source, self.parameters
        unknown = [name for name in values if name not in parameters and not self.takes_all]
        if unknown:
            mend = (
                suggest(unknown[0], parameters)
                or "; give a function of its parameters that returns a Scenario"
            )
            raise ScenarioError(f"{self.called} has no parameter {unknown[0]!r}{mend}")
        if isinstance(base, Scenario):
            return base
        missing = [
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty and name not in values
        ]
        if missing:
            raise ScenarioError(f"{source}: parameter {missing[0]!r} has no value; give it one, or a default")
        import torch

        from antiphon.nets.random import torch_seeded

        with torch_seeded(seed), named(source):
            built = base(**values)
        if not isinstance(built, Scenario):
            how = ", such as antiphon.split(model, …)" if isinstance(built, torch.nn.Module) else ""
            raise ScenarioError(
                f"{source}: returns {type(built).__name__}; it must return an antiphon.Scenario{how}"
            )
        return built


def _key_of(value: object) -> Hashable:
    """Return a key that is equal for equal plain data, and of what is none for the same object."""
    try:
        return repr(frozen_data(value))
    except DocumentError:
        return id(value)


def load_python(reference: str) -> PythonTemplate:
    """Import the scenario, or the function that returns one, of `MODULE:FUNCTION`; modules beside are found too.

    A function's attribute `variants` names values of its parameters: `{"wide": {"width": 512}}`.

    Raises:
        ScenarioError: There is no such module or function, or it is something else.
    """
    base = _imported(reference)
    if isinstance(base, Scenario):
        return PythonTemplate(base=base, source=reference)
    if not callable(base):
        raise ScenarioError(
            f"{reference}: is of type {type(base).__name__}; must be an antiphon.Scenario or a function that returns one"
        )
    variants = getattr(base, "variants", {})
    return PythonTemplate(base=base, source=reference, variants=variants)


def _imported(reference: str) -> Any:
    """Import the object of `MODULE:NAME`; ScenarioError where there is no such module or name."""
    module_name, _, name = reference.partition(":")
    if not module_name or not name or Path(module_name).suffix == ".py" or "/" in module_name:
        raise ScenarioError(
            f"{reference}: must be MODULE:FUNCTION, for example train:build for build() in train.py"
        )
    module = import_beside(module_name, reference)
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        names = [word for word in vars(module) if word[0] != "_"]
        raise ScenarioError(
            f"{reference}: module '{module_name}' has no '{name}'{suggest(name, names)}"
        ) from None


def _word(value: object) -> str:
    """Return the name of a function, or of any other object's type, as a scenario's name may be."""
    name = getattr(value, "__name__", type(value).__name__)
    return re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_") or "scenario"
