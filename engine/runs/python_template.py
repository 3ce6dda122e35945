"""Scenarios made in Python, where a template may stand: a scenario or a function that returns one, and variants of it."""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from antiphon.errors import AntiphonError, ScenarioError, suggest
from antiphon.problems import DocumentError
from antiphon.scenarios.document import Scenario, Template
from antiphon.spec import frozen_data

__all__ = ["Buildable", "PythonTemplate", "imported_object", "in_one_line", "load_python", "other_variants"]

_ARGUMENT = re.compile(r"^ +(\w+): (.*)$", re.MULTILINE)

Buildable = Scenario | Template | Callable[..., Scenario]
"""A scenario, or what makes one of the values of its parameters."""


@dataclass(frozen=True, kw_only=True)
class PythonTemplate:
    """A scenario made in Python. A function is called with torch's random state at seed 0: in every process it makes the same.

    Raises:
        ScenarioError: From its methods: no such variant or parameter, or a function that returns something else.
    """

    base: Buildable
    source: str
    """What errors and run.json call it: MODULE:FUNCTION, if it can be imported under this name."""
    importable: bool = False
    """Whether another process can import it by `source`."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Values of parameters of the base, by name."""
    text: ClassVar[str] = ""
    """There is no document."""
    _made: dict[str, Scenario] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, base: Buildable) -> PythonTemplate:
        """Return the template of an object that is at hand."""
        module, name = sys.modules.get(getattr(base, "__module__", "")), getattr(base, "__qualname__", "")
        found: Any = functools.reduce(lambda at, part: getattr(at, part, None), name.split("."), module)
        spec = getattr(
            module, "__spec__", None
        )  # of the main program, or of a notebook, others can import nothing
        if found is not base or found is None or spec is None or spec.name != base.__module__:
            return cls(base=base, source=f"the Python {_word(base)}")
        return cls(base=base, source=f"{spec.name}:{name}", importable=True)

    def __reduce__(self) -> tuple[Callable[[str], PythonTemplate], tuple[str]]:
        """Let a worker process of a study import it by its source."""
        return load_python, (self.source,)

    @property
    def name(self) -> str:
        """The scenario's name, or the function's."""
        if isinstance(self.base, Scenario):
            return self.base.scenario
        return self.base.name if isinstance(self.base, Template) else _word(self.base)

    @property
    def description(self) -> str:
        """In words."""
        return "" if callable(self.base) else self.base.description

    @property
    def summary(self) -> str:
        """The first line of a function's docstring, or the description."""
        return (
            (inspect.getdoc(self.base) or "").partition("\n")[0] if callable(self.base) else self.description
        )

    @property
    def explained(self) -> dict[str, str]:
        """What the docstring of a function has on its parameters (`Args:`), by name."""
        text = (inspect.getdoc(self.base) or "").partition("Args:")[2] if callable(self.base) else ""
        return {name: text for name, text in _ARGUMENT.findall(text) if name in self.parameters}

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Names of the base's parameters, with what is known of each."""
        if isinstance(self.base, Template):
            return self.base.parameters
        return _parameters(self.base) if callable(self.base) else {}

    def resolve_values(
        self, variant: str | None = None, values: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Return the value of every parameter that is plain data: its default, else the variant's, else the given one."""
        base, values = self.base, self._with_variant(variant, values)
        if isinstance(base, Template):
            return base.resolve_values(None, values)
        found = {name: one.default for name, one in _parameters(base).items()} if callable(base) else {}
        plain = {}
        for name, value in {**found, **values}.items():
            try:
                plain[name] = frozen_data(value, (name,))
            except DocumentError:
                continue  # a Python object
        return plain

    def placing(self, variant: str | None, values: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Do nothing: there is no document in which problems could be located."""
        return nullcontext()

    def resolve(
        self, variant: str | None = None, values: Mapping[str, Any] = MappingProxyType({})
    ) -> Scenario:
        """Return the scenario of a variant and values, the same one each time; but for environments that serve one run only."""
        from antiphon.envs import registry

        values = self._with_variant(variant, values)
        key = repr((variant, sorted(values.items())))
        if key not in self._made:
            scenario = self._build(values)
            if not isinstance(self.base, Scenario) and hasattr(scenario.env, "num_envs"):
                return scenario
            self._made[key] = scenario
        scenario = self._made[key]
        env = registry.copied(scenario.env, "every run needs one of its own")
        return scenario if env is scenario.env else scenario.model_copy(update={"env": env})

    def _with_variant(self, variant: str | None, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the values of a variant (None: none), overridden by the given ones."""
        if variant is None:
            return values
        if variant not in self.variants:
            raise ScenarioError(f"{self.source} has no variant {variant!r}{suggest(variant, self.variants)}")
        return {**self.variants[variant], **values}

    def _build(self, values: Mapping[str, Any]) -> Scenario:
        base, source = self.base, self.source
        if isinstance(base, Template):
            return base.resolve(None, values)
        known = _parameters(base) if callable(base) else {}
        unknown = [name for name in values if name not in known and not _takes_all(base)]
        if unknown:
            mend = suggest(unknown[0], known) or "; give a function of its parameters that returns a Scenario"
            raise ScenarioError(f"{source} has no parameter {unknown[0]!r}{mend}")
        if isinstance(base, Scenario):
            return base
        missing = [name for name, one in known.items() if one.default is one.empty and name not in values]
        if missing:
            raise ScenarioError(f"{source}: parameter {missing[0]!r} has no value; give it one, or a default")
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = base(**values)
        if not isinstance(made, Scenario):
            raise ScenarioError(
                f"{source}: returns {type(made).__name__}; it must return an antiphon.Scenario"
            )
        return made


def other_variants(
    template: Template | PythonTemplate, variant: str | None, values: Mapping[str, Any]
) -> Iterator[Scenario]:
    """Yield the scenarios of a template's other variants, with the given values and with the parameters' defaults.

    Those that cannot be resolved are left out. A function is not called only to see what it would return.
    """
    if isinstance(template, PythonTemplate) and not isinstance(template.base, Template):
        return
    for settings in (values, {}) if values else ({},):
        for other in (None, *template.variants):
            if other != variant or settings != values:
                with suppress(ScenarioError):
                    yield template.resolve(other, settings)


def load_python(place: str) -> PythonTemplate:
    """Import the scenario, or the function that returns one, of `MODULE:FUNCTION`; modules beside are found too.

    The attribute `variants` of a function, where it has one, names values of its parameters: `{"wide": {"width": 512}}`.

    Raises:
        ScenarioError: There is no such module or function, it is something else, or it cannot be imported or called; one
            line that names where.
    """
    option = place
    found = imported_object(place, option)
    if not isinstance(found, Scenario | Template) and not callable(found):
        raise ScenarioError(
            f"{option}: is of type {type(found).__name__}; must be an antiphon.Scenario or a function that returns one"
        )
    base = in_one_line(found, option) if callable(found) else found
    variants = {} if isinstance(found, Scenario | Template) else getattr(found, "variants", {})
    return PythonTemplate(base=base, source=place, importable=True, variants=variants)


def imported_object(place: str, option: str) -> Any:
    """Import the object of `MODULE:NAME`; modules beside are found too.

    Args:
        place: Where it is.
        option: What errors begin with.

    Raises:
        ScenarioError: There is no such module or name, or the module cannot be imported.
    """
    module_name, _, name = place.partition(":")
    if not module_name or not name or Path(module_name).suffix == ".py" or "/" in module_name:
        raise ScenarioError(
            f"{option}: must be MODULE:FUNCTION, for example train:build for build() in train.py"
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ScenarioError(f"{option}: {_reason(error)}") from error
        raise ScenarioError(
            f"{option}: no module '{error.name}' in {here} or among what is installed"
        ) from None
    except (Exception, SystemExit) as error:
        raise ScenarioError(f"{option}: {_reason(error)}") from error
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        known = [word for word in vars(module) if word[0] != "_"]
        raise ScenarioError(
            f"{option}: module '{module_name}' has no '{name}'{suggest(name, known)}"
        ) from None


def in_one_line(function: Callable[..., Any], option: str) -> Callable[..., Any]:
    """Return a function whose exceptions are ScenarioErrors."""

    @functools.wraps(function)
    def called(**values: Any) -> Any:
        try:
            return function(**values)
        except AntiphonError:
            raise
        except Exception as error:
            raise ScenarioError(f"{option}: {_reason(error)}") from error

    return called


def _reason(error: BaseException) -> str:
    """Return an exception in one line, with the last place in the user's own code."""
    message = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError):  # has its place in the message
        return message
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not re.search("importlib|-packages", frame.filename)]
    place = [*frames[-1:], *theirs][-1]
    return f"{message} ({Path(place.filename).name}:{place.lineno})"


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function that can be given by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters
    return {name: parameter for name, parameter in found.items() if parameter.kind in named}


def _takes_all(function: Buildable) -> bool:
    """Whether a function takes any name (`**values`)."""
    kinds = (
        [one.kind for one in inspect.signature(function).parameters.values()] if callable(function) else []
    )
    return inspect.Parameter.VAR_KEYWORD in kinds


def _word(value: object) -> str:
    """Return the name of a function, or of any other object's type, as a scenario's name may be."""
    name = getattr(value, "__name__", type(value).__name__)
    return re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_") or "scenario"
