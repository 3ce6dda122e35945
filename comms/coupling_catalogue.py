"""Couplings as scenario files name them: by a kind, which is a name or a class, with its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from antiphon.base import extensions
from antiphon.base.errors import ScenarioError
from antiphon.base.extensions import call_factory, key_of, name_of
from antiphon.comms.couplings import DEFAULT, Coupling


def coupling_of(kind: object, factory: Callable[..., Any], options: Mapping[str, Any]) -> Coupling:
    """Return the coupling that a kind stands for.

    Args:
        kind: The name of the coupling, or its class.
        options: The keys beside `kind`.

    Raises:
        ScenarioError: The factory fails, or makes something else.
    """
    coupling = call_factory(factory, name_of(kind), **options)
    if not isinstance(coupling, Coupling):
        type_name = type(coupling).__name__
        raise ScenarioError(
            f"{name_of(kind)} makes a {type_name}; make it a subclass of antiphon.comms.Coupling"
        )
    for key, value in (("name", name_of(kind)), ("options_key", key_of(kind, options)[1])):
        object.__setattr__(coupling, key, value)  # also of a frozen dataclass
    return coupling


def kind_predicts(coupling: object) -> bool:
    """Return whether a coupling in a scenario file (a name, a class, or a mapping with a `kind`) has a synthetic gradient."""
    return bool(getattr(_class_of(coupling), "predicts", False))


def _class_of(coupling: object) -> object:
    kind = coupling.get("kind", DEFAULT) if isinstance(coupling, Mapping) else coupling
    catalogue = extensions.Catalogue("coupling")
    return catalogue[kind] if isinstance(kind, str) and kind in catalogue else kind
