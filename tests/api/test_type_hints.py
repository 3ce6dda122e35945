"""`typing.get_type_hints` evaluates the annotations of all that is public, though files import little when they are loaded."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from gymnasium.envs.registration import EnvSpec

import antiphon

PAGES = sorted(page.stem for page in (Path(__file__).parents[2] / "docs" / "api").glob("*.md"))
OF_GYMNASIUM = {"EnvSpec": EnvSpec}
"""What its `VectorEnv` names in an annotation and imports for type checkers alone."""


def annotated(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the public classes and functions of a module, and all methods and properties of its classes."""
    if hasattr(module, "__getattr__"):
        yield "__getattr__", module.__getattr__
    names = getattr(module, "__all__", None) or [
        n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
    ]
    for name in names:
        thing = getattr(module, name)
        if inspect.isroutine(thing):
            yield name, thing
        if not inspect.isclass(thing):
            continue
        yield name, thing
        for kind in inspect.getmro(thing):
            members = vars(kind).items() if kind.__module__.startswith("antiphon.") else ()
            for member, value in members:
                if isinstance(value, staticmethod | classmethod):
                    value = value.__func__
                elif isinstance(value, property):
                    value = value.fget
                elif isinstance(value, cached_property):
                    value = value.func
                public = not member.startswith("_") or member in ("__init__", "__call__")
                if (
                    public
                    and inspect.isfunction(value)
                    and getattr(value, "__module__", "").startswith("antiphon.")
                ):
                    yield f"{name}.{member}", value


@pytest.mark.parametrize("page", [*PAGES, "base.errors", "testing", "tune"])
def test_annotations_of_public_names_can_be_evaluated(page: str) -> None:
    module = antiphon if page == "antiphon" else importlib.import_module(f"antiphon.{page}")
    module = importlib.import_module("antiphon.agents.models") if page == "agents" else module
    wrong = {}
    for name, thing in annotated(module):
        try:
            typing.get_type_hints(thing, localns=OF_GYMNASIUM)
        except Exception as error:  # noqa: BLE001  (an annotation may be any expression)
            wrong[name] = str(error)
    assert wrong == {}
