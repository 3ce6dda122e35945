"""Checks of what the class of a user's own coupling declares: misspelt names, and methods with other parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import get_annotations, isfunction, signature, unwrap
from typing import Any

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import nearest


def check_attributes(coupling_class: type, base: type) -> None:
    """Refuse attributes of a class that would have no effect or cannot be called; `base` and its bases declare those that have one.

    Looked at are those of the class and of bases that are no couplings: other couplings have been checked as they were defined. Names
    that are options of the class (parameters of `__init__`, fields of a dataclass) are the user's own.

    Raises:
        ScenarioError: The class has an attribute of a misspelt name, or a method with other parameters.
    """
    declared = {name: value for name, value in _attributes(base.__mro__).items() if not name.startswith("_")}
    checked = [
        ancestor
        for ancestor in coupling_class.__mro__[1:]
        if issubclass(ancestor, base) or ancestor in base.__mro__
    ]
    unchecked = [ancestor for ancestor in coupling_class.__mro__ if ancestor not in checked]
    fields = {
        name
        for ancestor in unchecked
        for name, kind in get_annotations(ancestor).items()
        if "ClassVar" not in str(kind)
    }
    options = {*fields, *signature(coupling_class.__init__).parameters}  # type: ignore[misc]
    class_name, attributes = coupling_class.__name__, _attributes(unchecked)
    for name, value in attributes.items():
        if name in declared and isfunction(value):
            _check_method(f"{class_name}.{name}", value, declared[name])
        is_own = name in declared or name.startswith("_") or name in options
        if is_own or not (isinstance(value, bool) or isfunction(value)):
            continue
        unset = [
            declared_name
            for declared_name, default in declared.items()
            if type(default) is type(value)
            and declared_name not in attributes
            and getattr(coupling_class, declared_name) != value
        ]
        # helpers of a user's own may well sound like one of these: `credited`, `credit_of`
        near = nearest(name, unset, cutoff=0.87)
        if near is not None:
            fix = f"did you mean '{near}'? If it is your own, begin its name with '_'"
            raise ScenarioError(f"{class_name}.{name}: no coupling has '{name}'; {fix}")


_SOURCES = {"applied_prediction": ("predicts",), "returned_gradient": ("uses_returned", "predicts")}
"""What `credit` reads of a message, with the attributes of which one gives it a value."""


def check_declared(coupling: Any) -> None:
    """Refuse a coupling whose `credit` reads what its class does not ask for, so that it is always None, or that has none to give.

    Raises:
        ScenarioError: It reads the prediction without `predicts`, or the returned gradient without `uses_returned`; or it has either,
            and no `credit`.
    """
    class_name = type(coupling).__name__
    if not coupling.gives_credit and not coupling.joins_endpoints:
        for name, flags in _SOURCES.items():
            if getattr(coupling, flags[0]):
                line = f"{class_name} has `{flags[0]} = True` and no `credit`, so that no sender learns"
                raise ScenarioError(f"{line}; define credit(self, message, step): return message.{name}")
    credit = unwrap(type(coupling).credit)
    read = credit.__code__.co_names if isfunction(credit) else ()
    if any(name in read and any(getattr(coupling, flag) for flag in _SOURCES[name]) for name in _SOURCES):
        return
    if any(isfunction(getattr(type(coupling), name, None)) for name in read):
        return  # a method of its own may read what it asks for
    for name, declared in _SOURCES.items():
        if isinstance(getattr(type(coupling), declared[0]), property):
            continue  # other options may ask for it
        if name in read:
            line = f"{class_name}.credit reads {name}, which is None without {declared[0]}"
            raise ScenarioError(f"{line}; set `{declared[0]} = True` in the class")


def _attributes(classes: Sequence[type]) -> dict[str, Any]:
    """Return the attributes of classes by name; the first class that has one decides."""
    return {name: value for ancestor in reversed(classes) for name, value in vars(ancestor).items()}


def _check_method(method_name: str, method: Callable[..., Any], base_attribute: Any) -> None:
    """Refuse a method that stands for a value of a coupling, or that cannot be called with its method's parameters."""
    if not isfunction(base_attribute):
        raise ScenarioError(
            f"{method_name}: is a method, and that of a coupling is a value; make it a property"
        )
    parameters = signature(base_attribute).parameters.values()
    by_name = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    by_place = [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
    try:
        signature(method).bind(*by_place, **dict.fromkeys(by_name))
    except TypeError:
        listed = ", ".join([*by_place, *(["*"] if by_name else []), *by_name])
        raise ScenarioError(
            f"{method_name}: has other parameters than that of a coupling; let it take ({listed})"
        ) from None
