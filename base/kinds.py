"""Kinds: one class each, of which documents, errors, schema and tables have all they know.

A kind is a class that stands in a registry under its name (`antiphon.gradient("mine")`, extensions.py). Its nested class
`Options` has the keys that are its own in a document; `refuses` names keys of its section that it does not have, and what it
`needs` is declared beside them. A section of a document, such as `gradient:`, is a `KindSpec`: the keys of every kind, and an
instance of the kind's `Options`. A user's function or class without `Options` has the keys that its signature has.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    ConfigDict,
    PlainValidator,
    SkipValidation,
    create_model,
    model_validator,
)

from antiphon.base.errors import suggest, suggest_registered
from antiphon.base.extensions import Catalogue, is_built_in, name_of, register, registered
from antiphon.base.imports import imported, is_importable
from antiphon.base.problems import MISSING, DocumentError, refuse, show_refused, show_value
from antiphon.base.spec import (
    Spec,
    accepted_keys,
    fail,
    frozen_data,
    plain,
)

_RUNNERS = {
    "gradient": (
        "antiphon.comms.predictors:Predictor",
        "antiphon.comms.predictors:ModuleGradient",
    ),
    "input": ("antiphon.comms.synthetic_inputs:InputModel", "antiphon.comms.synthetic_inputs:ModuleInput"),
    "network": ("antiphon.agents.network:Network", "antiphon.agents.module:ModuleNetwork"),
    "objective": ("antiphon.agents.objectives:AnyObjective", "antiphon.agents.objectives:OwnObjective"),
}
"""By point, the base of classes that are kinds, and the class that runs all others: its `Options` are theirs too."""
_GIVEN = {
    "gradient": ("inputs", "outputs"),
    "input": ("inputs", "outputs"),
    "network": ("inputs", "outputs"),
    "optimiser": ("lr",),
    "sample": ("seed",),
}
"""By point, the arguments that antiphon gives to a factory: they are no keys."""
_SPECS: dict[str, type[KindSpec]] = {}
"""The specs of sections with a kind, by the names of the sections."""
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)
_AS_THEY_ARE = ("objective", "schedule")
"""Points whose functions are used as they are: only classes and registered names are factories there."""


class Options(Spec):
    """Base of the options of a kind: a subclass declares each key as a field with a type, a default and its meaning.

    Fields of plain types (`int`, `float`, `bool`, `str`, tuples) are strict: `width: "32"` is refused.
    """


class _OpenOptions(Options):
    """Any keys: of a factory whose signature takes all of them, or is not known."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _plain_keys(cls, data: Any) -> Any:
        accepted = accepted_keys(cls)
        return {k: v if k in accepted else frozen_data(v, (str(k),)) for k, v in dict(data).items()}


_Plain = Annotated[Any, PlainValidator(frozen_data)]
Kind = Annotated[str | Callable[..., Any], SkipValidation]
"""The kind of a section: a name, or from Python a user's object."""
KindName = Annotated[str, SkipValidation]
"""The same, of sections whose code asks for antiphon's own kinds by name."""


@dataclass(frozen=True)
class _Entry:
    """What a section knows of one kind.

    Attributes:
        source: The class, factory or object of the kind; None: it stands for none.
        runner: The class that declares what the kind needs: its own, or the one that runs a user's factories.
        shared: The keys of every kind that this one has.
        default: The options where no key is given; None: it needs one.
    """

    source: Any
    runner: Any
    options: type[Options]
    shared: frozenset[str]
    default: Options | None

    @cached_property
    def keys(self) -> frozenset[str]:
        return self.shared | accepted_keys(self.options)


class KindSpec(Spec):
    """A section of a document that has a `kind`: the keys of every kind, and an instance of the kind's `Options`.

    Attributes of the options are the section's too. So is a `ClassVar` without a value, a fact about the section's kinds: the class
    of a kind declares it under the same name.
    """

    point: ClassVar[str]
    """The extension point of its kinds."""
    none: ClassVar[tuple[str, ...]] = ()
    """Names that stand for no kind at all."""
    refused: ClassVar[frozenset[str]] = frozenset({"own"})

    own: Options = Options()
    """The keys of the kind."""

    def __init_subclass__(cls, *, sections: tuple[str, ...] = (), **settings: Any) -> None:
        super().__init_subclass__(**settings)
        _SPECS.update(dict.fromkeys(sections, cls))

    if TYPE_CHECKING:
        kind: Any
    else:

        def __getattr__(self, name: str) -> Any:
            if name in type(self).__class_vars__:
                return getattr(self.runner, name)
            if name.startswith("_") or "own" not in self.__dict__:
                return super().__getattr__(name)
            return getattr(self.own, name)

    def __repr_name__(self) -> str:
        """Return the section, such as `gradient`: the kind is among the values."""
        return self.point

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        yield from super().__repr_args__()
        yield from self.own.__repr_args__()

    def as_written(self, data: dict[str, Any]) -> dict[str, Any]:
        return data | plain(self.own)

    @classmethod
    def entry_of(cls, kind: object) -> _Entry:
        """Return what is known of a kind; DocumentError where there is none, or a factory has a parameter that every kind has as a key."""
        catalogue = Catalogue(cls.point)
        if not isinstance(kind, str) and callable(kind):
            return _entry(cls, None, kind)
        if isinstance(kind, str) and (kind in cls.none or kind in catalogue):
            return _entry(cls, kind, None if kind in cls.none else catalogue[kind])
        fix = suggest_registered(str(kind), [*catalogue, *cls.none])
        if type(kind).__module__ != "builtins":
            fix = f"; give the class, {type(kind).__name__}, with its options as further keys"
        raise DocumentError(("kind",), f"unknown kind {show_value(kind)}{fix}")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, cls):
            return data
        data = {"kind": data} if isinstance(data, str) or callable(data) else data
        if not isinstance(data, Mapping):
            fail(f"must be a mapping of keys, not {show_refused(data)}")
        field = cls.model_fields["kind"]
        if "kind" not in data and field.is_required():
            raise DocumentError(("kind",), MISSING + suggest("", Catalogue(cls.point)))
        kind = data.get("kind", field.default)
        entry = cls.entry_of(kind)
        values = dict(data)
        own = {key: values.pop(key) for key in data if key not in entry.shared}
        if not own and entry.default is not None:
            return {**values, "own": entry.default}
        if entry.options.model_config["extra"] == "forbid":
            refuse(DocumentError((key,), cls._unknown(key, kind)) for key in own if key not in entry.keys)
        return {**values, "own": entry.options.model_validate(own)}

    @classmethod
    def _unknown(cls, key: str, kind: object) -> str:
        """Return the line about a key that a kind does not have: which kinds do, or what is meant."""
        if kinds := _kinds_with(cls, key):
            return f"{name_of(kind)} has no {key}; leave it out, or use {', '.join(kinds)}"
        return f"unknown key {key!r}{suggest(key, cls.entry_of(kind).keys)}"

    @property
    def options(self) -> dict[str, Any]:
        """The values of the kind's own keys, as its class or factory is called with them."""
        return dict(self.own)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key that not every kind has."""
        return self.own.__dict__.get(key, default)

    @property
    def built_in(self) -> bool:
        return is_built_in(self.point, self.__dict__["kind"])

    @cached_property
    def _entry(self) -> _Entry:
        return self.entry_of(self.__dict__["kind"])

    @property
    def source(self) -> Any:
        """The class, factory or object of the kind; None: it stands for none."""
        return self._entry.source

    @property
    def runner(self) -> Any:
        """The class that declares what the kind needs: its own, or the one that runs a user's factories."""
        return self._entry.runner

    def __reduce__(self) -> Any:
        kind, keys = self.__dict__["kind"], {name: getattr(self, name) for name in self.model_fields_set}
        own = {name: value for name, value in keys.pop("own") if name in self.own.model_fields_set}
        named = kind in registered(self.point) and is_importable(self.source)
        return _unpickled, (type(self), keys | own, self.source if named else None)


def _unpickled(
    section: type[KindSpec], keys: Mapping[str, Any], factory: Callable[..., Any] | None
) -> KindSpec:
    """Return a spec in another process, in which no module may have registered the factory of its kind yet."""
    if factory is not None and keys["kind"] not in registered(section.point):
        register(section.point, keys["kind"], factory)
    return section.model_validate(keys)


@cache
def _entry(section: type[KindSpec], name: str | None, source: Any) -> _Entry:
    point, runner = section.point, source
    if point in _RUNNERS and source is not None:
        base, runner = map(imported, _RUNNERS[point])
        runner = source if isinstance(source, type) and issubclass(source, base) else runner
    options = _options_of(point, name, source)
    if clashing := [key for key in options.model_fields if key in section.model_fields]:
        message = f"{name_of(source)} has a parameter {clashing[0]!r}, which is a key of every {point}; " + (
            "give an object, or a function that calls it" if point in _AS_THEY_ARE else "rename it"
        )
        raise DocumentError(("kind",), message)
    of_runner = getattr(runner, "Options", Options)
    if runner is not source and not issubclass(options, of_runner):
        both = (options, of_runner)
        options = of_runner if options is Options else create_model(options.__name__, __base__=both)
    shared = accepted_keys(section) - {*getattr(runner, "refuses", ())}
    needs_none = not any(field.is_required() for field in options.model_fields.values())
    return _Entry(source, runner, options, shared, options() if needs_none else None)


def _options_of(point: str, name: str | None, source: Any) -> type[Options]:
    declared = getattr(source, "Options", None)
    if isinstance(declared, type) and issubclass(declared, Options):
        return declared
    is_factory = isinstance(source, type) or (callable(source) and not hasattr(source, "named_parameters"))
    as_it_is = name is None and not isinstance(source, type) and point in _AS_THEY_ARE
    if not is_factory or as_it_is or is_built_in(point, name):
        return Options
    try:
        parameters = [*inspect.signature(source).parameters.values()]
    except (TypeError, ValueError):  # of some built-in callables no signature is known
        return _OpenOptions
    if point == "optimiser":  # its list of parameters, by whatever name
        parameters = parameters[1:]
    kinds = {parameter.kind for parameter in parameters}
    fields = {
        parameter.name: (_Plain, ... if parameter.default is parameter.empty else parameter.default)
        for parameter in parameters
        if parameter.name not in _GIVEN.get(point, ())
        and not parameter.name.startswith("_")
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    base = _OpenOptions if inspect.Parameter.VAR_KEYWORD in kinds else Options
    return create_model(f"{name_of(source)}Options", __base__=base, **fields)  # type: ignore[call-overload,no-any-return]


def is_known_by_keys(point: str, name: str) -> bool:
    """Whether a name is antiphon's own, or was registered in this process."""
    return is_built_in(point, name) or name in registered(point)


def _kinds_with(section: type[KindSpec], key: str) -> list[str]:
    names = [name for name in Catalogue(section.point) if is_known_by_keys(section.point, name)]
    return [name for name in names if key in section.entry_of(name).keys]


@cache
def meanings_of(spec: type) -> dict[str, str]:
    """Return what the keys of a part mean, from the attributes of its docstring and of its bases'."""
    meanings: dict[str, str] = {}
    for base in (ancestor for ancestor in reversed(spec.__mro__) if issubclass(ancestor, Spec)):
        meanings |= attributes_in(inspect.cleandoc(vars(base).get("__doc__") or ""))
    return meanings


def attributes_in(text: str) -> dict[str, str]:
    """Return the attributes that a docstring lists, each with what it means."""
    listed = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    return {key: " ".join(meaning.split()) for key, meaning in _ATTRIBUTE.findall(listed)}


def fitting(section: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section whose kind a parameter chose, without the keys that are other kinds' alone; those of no kind stay, to be refused."""
    spec = _SPECS.get(section)
    if spec is None:
        return dict(data)
    try:
        accepted = spec.entry_of(data["kind"]).keys
    except DocumentError:  # there is no such kind
        return dict(data)
    return {k: v for k, v in data.items() if k in accepted or not _kinds_with(spec, k)}


def kinds_of(section: str) -> tuple[str, ...]:
    """Return the kinds of a section by name: antiphon's own, then those that were registered in this process."""
    point = _SPECS[section].point
    return tuple(name for name in Catalogue(point) if is_known_by_keys(point, name))


def own_keys_of(section: str, kind: str) -> dict[str, tuple[Any, str]]:
    """Return the keys of a kind that not every kind of its section has, each with its default (`required`: none) and meaning."""
    options = _SPECS[section].entry_of(kind).options
    meanings = meanings_of(options)
    return {
        key: ("required" if field.is_required() else field.default, meanings.get(key, ""))
        for key, field in options.model_fields.items()
    }


def summary_of(section: str, kind: str) -> str:
    """Return the first line of the docstring of a kind's class."""
    source = _SPECS[section].entry_of(kind).source
    return (inspect.getdoc(source) or inspect.getdoc(_SPECS[section]) or "").partition("\n")[0]


def sections() -> tuple[str, ...]:
    """Return the names of the sections that have kinds, one for each extension point."""
    first = {spec.point: name for name, spec in reversed(_SPECS.items())}
    return tuple(sorted(name for name in first.values() if kinds_of(name)))
