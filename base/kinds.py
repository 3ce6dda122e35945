"""Kinds: one class each, of which documents, errors, schema and tables have all they know.

A kind is a class that stands in a registry under its name (`antiphon.gradient("mine")`, extensions.py). Its nested class
`Options` has the keys that are its own in a document; `refuses` names keys of its section that it does not have, and what it
`needs` is declared beside them. A section of a document, such as `gradient:`, is one of the specs that `KindSpec.spec_of` joins:
the section's own keys and those of the kind. A user's function or class without `Options` has the keys that its signature has.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import (
    ConfigDict,
    PlainValidator,
    SkipValidation,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)

from antiphon.base.errors import ScenarioError, with_article
from antiphon.base.extensions import Catalogue, is_built_in, name_of, register, registered
from antiphon.base.imports import imported, is_importable
from antiphon.base.nearest_names import suggest, suggest_registered
from antiphon.base.problems import MISSING, DocumentError, show_refused, show_value, translate
from antiphon.base.spec import SPELLINGS, Spec, accepted_keys, fail, frozen_data

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import core_schema

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
    "recorder": ("directory",),
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


_Plain = Annotated[Any, PlainValidator(frozen_data), WithJsonSchema({})]


@cache
def _options_of_factory(factory: Callable[..., Any], supplied: tuple[str, ...], first: int) -> type[Options]:
    """Return the keys of a factory, which are the parameters that antiphon does not give."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())[first:]
    except (TypeError, ValueError):  # of some built-in callables no signature is known
        return _OpenOptions
    kinds = {parameter.kind for parameter in parameters}
    fields = {
        parameter.name: (_Plain, ... if parameter.default is parameter.empty else parameter.default)
        for parameter in parameters
        if parameter.name not in supplied
        and parameter.name.isidentifier()
        and not parameter.name.startswith("_")
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    base = _OpenOptions if inspect.Parameter.VAR_KEYWORD in kinds else Options
    return create_model(f"{name_of(factory)}Options", __base__=base, **fields)  # type: ignore[call-overload,no-any-return]


Kind = Annotated[str | Callable[..., Any], SkipValidation, WithJsonSchema({"type": "string"})]
"""The kind of a section, which chooses the section's spec and is checked there: a name, or from Python a user's object."""
KindName = Annotated[str, SkipValidation, WithJsonSchema({"type": "string"})]
"""The same, of sections whose code asks for antiphon's own kinds by name."""


class KindSpec(Spec):
    """A section of a document that has a `kind`: the keys of every kind, and in a subclass made by `spec_of` those of one.

    A `ClassVar` that a section adds is a fact about its kinds: the class of a kind declares it under the same name.
    """

    point: ClassVar[str]
    """The extension point of its kinds."""
    none: ClassVar[tuple[str, ...]] = ()
    """Names that stand for no kind at all."""
    section: ClassVar[type[KindSpec]]
    """The spec with the keys of every kind."""
    sources: ClassVar[tuple[Any, ...]] = ()
    """The class, factory or object of the kind; empty: it stands for none."""
    kind_name: ClassVar[str | None] = None
    """The kind by name; None: it is an object."""
    built_in: ClassVar[bool] = False
    """Whether the kind is antiphon's own."""
    runner: ClassVar[Any] = None
    """The class that declares what the kind needs: its own, or the one that runs a user's factories; None: it stands for none."""
    own_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that the kind gives to its class or factory."""
    closed: ClassVar[bool] = False
    """Whether the keys of the kind are part of it."""

    def __repr_name__(self) -> str:
        """Return the section, such as `gradient`: the kind is among the values."""
        return self.point

    def __init_subclass__(cls, *, sections: tuple[str, ...] = (), **settings: Any) -> None:
        super().__init_subclass__(**settings)
        _SPECS.update(dict.fromkeys(sections, cls))

    def __new__(cls, /, **data: Any) -> Self:
        kind = data.get("kind", cls.model_fields["kind"].default)
        chosen = cls if cls.closed or (kind is ...) else cls.spec_of(kind)
        return super().__new__(chosen)

    @classmethod
    def spec_of(cls, kind: object) -> type[Self]:
        """Return the spec of one kind, with the keys of its own.

        Raises:
            DocumentError: There is no such kind, or a factory has a parameter that is a key of the section already.
        """
        catalogue = Catalogue(cls.point)
        by_name = isinstance(kind, str) and (kind in cls.none or kind in catalogue)
        if not (callable(kind) or by_name):
            fix = suggest_registered(str(kind), [*catalogue, *cls.none])
            if type(kind).__module__ != "builtins":
                fix = f"; give the class, {type(kind).__name__}, with its options as further keys"
            message = f"unknown kind {show_value(kind)}{fix}"
            raise DocumentError(("kind",), message)
        if not isinstance(kind, str):
            return _joined(cls, None, kind)
        try:
            return _joined(cls, kind, None if kind in cls.none else catalogue[kind])
        except DocumentError:
            raise
        except ScenarioError as error:  # of a package that cannot be loaded
            raise DocumentError(("kind",), str(error)) from None

    @model_validator(mode="wrap")
    @classmethod
    def _by_kind(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        if cls.closed:
            try:
                return handler(data)
            except ValidationError as error:
                raise cls._explained(translate(error)) from None
        if isinstance(data, cls):
            return data
        keys = {"kind": data} if isinstance(data, str) or callable(data) else data
        if not isinstance(keys, Mapping):
            fail(f"must be a mapping of keys, not {show_refused(data)}")
        field = cls.model_fields["kind"]
        if "kind" not in keys and field.is_required():
            raise DocumentError(("kind",), MISSING + suggest("", Catalogue(cls.point)))
        return cls.spec_of(keys.get("kind", field.default)).model_validate(keys)

    @classmethod
    def _explained(cls, error: DocumentError) -> DocumentError:
        """Return the problem of a key, where it is missing with what it means."""
        if error.message != MISSING or len(error.path) != 1:
            return error
        meaning = meanings_of(cls).get(str(error.path[0]), "").removesuffix(".")
        needs = f"{with_article(str(cls.kind_name or name_of(cls.source)))} {cls.point} needs it"
        said = f": {meaning[0].lower()}{meaning[1:]}; write {cls.written_as()}" if meaning else ""
        return DocumentError(error.path, f"{MISSING}; {needs}{said}", others=error.others)

    @classmethod
    def written_as(cls) -> str:
        """Return how this kind is written: its name, or a mapping with the keys that it needs, `{kind: local, target: TARGET}`."""
        needed = [key for key, field in cls.model_fields.items() if key != "kind" and field.is_required()]
        keys = "".join(f", {key}: {key.upper()}" for key in needed)
        return f"{{kind: {cls.kind_name}{keys}}}" if needed else str(cls.kind_name)

    @classmethod
    def unknown_key(cls, key: str, data: Mapping[str, Any]) -> str:
        """Return the line about a key that the kind does not have: which kinds do, or what is meant."""
        kinds = _kinds_with(cls.section, key)
        if kinds:
            kind = name_of(data.get("kind", cls.model_fields["kind"].default))
            return f"{kind} has no {key}; leave it out, or use {', '.join(kinds)}"
        return super().unknown_key(key, data)

    @property
    def options(self) -> dict[str, Any]:
        """The values of the kind's own keys, as its class or factory is called with them."""
        return {key: getattr(self, key) for key in self.own_keys} | dict(self.model_extra or {})

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key that not every kind has."""
        return self.__dict__.get(key, default)

    @property
    def source(self) -> Any:
        """The class, factory or object of the kind; None: it stands for none."""
        return self.sources[0] if self.sources else None

    def __reduce__(self) -> Any:
        values = {name: getattr(self, name) for name in self.model_fields_set}
        kind = getattr(self, "kind", None)
        named = kind in registered(self.point) and is_importable(self.source)
        return _unpickled, (
            self.section,
            {**values, **(self.model_extra or {})},
            self.source if named else None,
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        json_schema = handler(schema)
        if cls.closed:
            properties = handler.resolve_ref_schema(json_schema)["properties"]
            for key in cls.refused:
                properties.pop(key, None)
            properties["kind"] = {"const": cls.kind_name, "type": "string"}
            return json_schema
        names = [name for name in Catalogue(cls.point) if is_known_by_keys(cls.point, name)]
        joined = [handler(cls.spec_of(name).__pydantic_core_schema__) for name in names]
        users = {"properties": {"kind": {"not": {"enum": names}}}, "required": ["kind"], "type": "object"}
        return {"anyOf": [{"type": "string"}, *joined, users]}


def _unpickled(
    section: type[KindSpec], keys: Mapping[str, Any], factory: Callable[..., Any] | None
) -> KindSpec:
    """Return a spec in another process, in which no module may have registered the factory of its kind yet."""
    if factory is not None and keys["kind"] not in registered(section.point):
        register(section.point, keys["kind"], factory)
    return section.model_validate(keys)


def _class_of(point: str, source: object) -> Any:
    """Return the class that declares what a kind needs: its own, or the one that runs a user's factories."""
    if point not in _RUNNERS or source is None:
        return source
    base, runner = _base_and_runner(point)
    return source if isinstance(source, type) and issubclass(source, base) else runner


@cache
def _base_and_runner(point: str) -> tuple[type[Any], type[Any]]:
    base, runner = _RUNNERS[point]
    return imported(base), imported(runner)


@cache
def _joined(section: type[KindSpec], name: str | None, source: Any) -> type[Any]:
    """Make the spec of a kind: the keys of its section, and those of its class or factory."""
    point, runner = section.point, _class_of(section.point, source)
    options = _options_of(section.point, name, source)
    facts = section.__class_vars__ - KindSpec.__class_vars__
    clashing = [
        key
        for key in options.model_fields
        if key in section.model_fields or key in facts or hasattr(section, key)
    ]
    if clashing:
        key = clashing[0]
        kind_of_name = "a key" if key in section.model_fields else "a name that antiphon uses"
        message = f"{name_of(source)} has a parameter {key!r}, which is {kind_of_name} of every {point}; " + (
            "give an object, or a function that calls it" if point in _AS_THEY_ARE else "rename it"
        )
        raise DocumentError(("kind",), message)
    users: type[Options] = options if runner is source else runner.Options
    bases = (section,) if options is Options else (options, section)
    if users is not options and users is not Options:
        bases = (*bases[:-1], users, section)
    refused = frozenset(getattr(runner, "refuses", ()))
    namespace = {
        "__module__": section.__module__,
        "__doc__": _documented(source, section, bases, refused),
        "model_config": ConfigDict(extra=options.model_config["extra"]),
        "section": section,
        "sources": () if source is None else (source,),
        "kind_name": name,
        "built_in": is_built_in(point, name),
        "runner": runner,
        "own_keys": tuple(options.model_fields),
        "refused": refused,
        "closed": True,
        **{fact: getattr(runner, fact) for fact in facts if hasattr(runner, fact)},
    }
    metaclass: Any = type(section)
    joined: type[Any] = metaclass(f"{name or name_of(source)}_{point}", bases, namespace)
    return joined


def _options_of(point: str, name: str | None, source: Any) -> type[Options]:
    declared = getattr(source, "Options", None)
    if isinstance(declared, type) and issubclass(declared, Options):
        return declared
    is_factory = isinstance(source, type) or (callable(source) and not hasattr(source, "named_parameters"))
    as_it_is = name is None and not isinstance(source, type) and point in _AS_THEY_ARE
    if not is_factory or as_it_is or is_built_in(point, name):
        return Options
    first = 1 if point == "optimiser" else 0  # its list of parameters, by whatever name
    return _options_of_factory(source, _GIVEN.get(point, ()), first)


def is_known_by_keys(point: str, name: str) -> bool:
    """Whether a name is antiphon's own, or was registered in this process."""
    return is_built_in(point, name) or name in registered(point)


def _kinds_with(section: type[KindSpec], key: str) -> list[str]:
    names = [name for name in Catalogue(section.point) if is_known_by_keys(section.point, name)]
    keys = {name: accepted_keys(section.spec_of(name)) for name in names}
    return [name for name in names if key in keys[name]]


def _documented(
    source: Any, section: type[KindSpec], parts: tuple[type, ...], refused: frozenset[str]
) -> str:
    """Return the docstring of a kind's spec: the first line of its class, and the attributes of all of its keys."""
    first = (inspect.getdoc(source) or inspect.getdoc(section) or "").partition("\n")[0]
    meanings = [meanings_of(spec) for spec in reversed(parts)]
    lines = [
        f"    {key}: {meaning}"
        for meaning_by_key in meanings
        for key, meaning in meaning_by_key.items()
        if key not in refused
    ]
    return "\n".join([first, "", "Attributes:", *lines])


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
    """Return a section whose kind a template's parameter chose, without the keys that are other kinds' alone.

    Args:
        data: Its keys; those that no kind has stay, to be refused.
    """
    spec = _SPECS.get(SPELLINGS.get(section, section))
    if spec is None:
        return dict(data)
    try:
        accepted = accepted_keys(spec.spec_of(data["kind"]))
    except DocumentError:  # there is no such kind
        return dict(data)
    return {
        k: v
        for k, v in data.items()
        if k in accepted or SPELLINGS.get(k) in accepted or not _kinds_with(spec, k)
    }


def kinds_of(section: str) -> tuple[str, ...]:
    """Return the kinds of a section by name: antiphon's own, then those that were registered in this process."""
    point = _SPECS[section].point
    return tuple(name for name in Catalogue(point) if is_known_by_keys(point, name))


def own_keys_of(section: str, kind: str) -> dict[str, tuple[Any, str]]:
    """Return the keys of a kind that not every kind of its section has, each with its default (`needed`: none) and meaning."""
    spec = _SPECS[section]
    joined = spec.spec_of(kind)
    meanings, own_keys = meanings_of(joined), {}
    for key, field in joined.model_fields.items():
        if key not in spec.model_fields:
            default = "needed" if field.is_required() else field.get_default(call_default_factory=True)
            own_keys[key] = default, meanings.get(key, "")
    return own_keys


def summary_of(section: str, kind: str) -> str:
    """Return the first line of the docstring of a kind's class."""
    return (inspect.getdoc(_SPECS[section].spec_of(kind)) or "").partition("\n")[0]


def sections() -> tuple[str, ...]:
    """Return the names of the sections that have kinds, one for each extension point."""
    first = {spec.point: name for name, spec in reversed(_SPECS.items())}
    return tuple(sorted(name for name in first.values() if kinds_of(name)))
