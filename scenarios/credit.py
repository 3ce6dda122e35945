"""Local losses and lenses of a gradient: which kinds need what, and what a local loss may have beside its target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from antiphon.scenarios.problems import show_value
from antiphon.scenarios.spec import FrozenMap, IsReal, Signal, Spec, fail

__all__ = ["OWN_TARGET", "UNRETURNED", "HeadModule", "ParameterNames", "ReconstructionSpec"]

OWN_TARGET = ("local", "sobolev_label")
"""Kinds with a target of their own."""
UNRETURNED = ("local", "lens")
"""Kinds to which nothing is returned."""


def _module(value: object) -> object:
    if value is not None and not callable(value):
        fail(f"must be a torch module or a factory, from Python, not {show_value(value)}; leave it out")
    return value


def _names(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        fail(f"must be a mapping of the head's parameters to 'agent.parameter', not {show_value(value)}")
    for ours, theirs in value.items():
        if not (isinstance(ours, str) and isinstance(theirs, str) and "." in theirs):
            fail(f"{show_value(ours)} must name 'agent.parameter', not {show_value(theirs)}")
    return FrozenMap(value)


HeadModule = Annotated[Callable[..., Any] | None, PlainValidator(_module), WithJsonSchema({"type": "null"})]
"""A torch module, or a factory of one; from Python only."""
ParameterNames = Annotated[
    Mapping[str, str],
    PlainValidator(_names),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}}),
]


class ReconstructionSpec(Spec):
    """A second term of a local loss: reconstruction of a signal from the message (InfoPro, Wang et al. 2021, 2101.10832).

    Attributes:
        target: The signal, such as the sender's observation: squared error of floats, cross-entropy of classes.
        head: The decoder, from Python: a module from the message in its own shape to the signal's, or a factory called
            with `shape` and `outputs`; None: a linear map.
        weight: Factor of the term.
    """

    target: Signal
    head: HeadModule = None
    weight: Annotated[float, Field(gt=0), IsReal] = 1.0
