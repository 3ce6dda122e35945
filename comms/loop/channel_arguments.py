"""Arguments of `Channel`: size, context and synthetic gradient, and the check of what is sent against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from antiphon.base import extensions
from antiphon.base.errors import ScenarioError
from antiphon.base.kinds import Kind, KindSpec
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import as_whole, show_refused
from antiphon.base.spec import Real
from antiphon.comms.couplings import COUPLINGS, Coupling, Decoupled, Locked
from antiphon.comms.examples import ContextSpec
from antiphon.comms.synthetic_gradients import PREDICTORS
from antiphon.nets.layers import IGNORED

_OF_SEND = ("self", "message")
"""Parameters of `Channel.send`, beside which signals are keywords."""


class OptimiserSettings(KindSpec):
    """The optimiser of a predictor: the keys of every kind.

    Attributes:
        kind: A name, or a class or factory.
        lr: The learning rate; None: the channel's.
        clip: The largest joint norm of its gradients; None: no limit.
    """

    kind: Kind = "adam"
    lr: Real | None = None
    clip: Annotated[Real, Field(gt=0)] | None = None

    point = "optimiser"


class GradientSettings(KindSpec):
    """The synthetic gradient of a channel: the keys of every kind.

    Attributes:
        kind: A name, or a module or factory.
        scale: Factor of the injected gradient.
        discount: Factor of the prediction in the targets of channels upstream.
        optimiser: The predictor's optimiser.
    """

    kind: Kind = "linear"
    scale: Annotated[Real, Field(ge=0)] = 1.0
    discount: Annotated[Real, Field(ge=0)] = 1.0
    optimiser: OptimiserSettings = Field(default_factory=OptimiserSettings)

    point = "gradient"
    needs_actions: ClassVar[bool]


def read_gradient(
    gradient: str | Mapping[str, Any] | Callable[..., Any],
    context: Mapping[str, ContextSpec],
    error: Callable[[str], ScenarioError],
) -> tuple[GradientSettings, str | None]:
    """Read `gradient=`: its settings, and the target signal of the kind's own loss.

    Args:
        gradient: A kind, or the keys of `GradientSettings` and of the kind; a lens has the key `target` too.
        context: Signals sent with the channel's messages.
        error: Returns the error for a message.

    Raises:
        ScenarioError: A key or value that is not accepted.
    """
    keys: dict[str, Any] = dict(gradient) if isinstance(gradient, Mapping) else {"kind": gradient}
    kind = keys.get("kind")
    of_readout = isinstance(kind, str) and getattr(PREDICTORS.get(kind), "of_readout", False)
    target = keys.pop("target", None) if of_readout else None
    try:
        settings = GradientSettings.model_validate(keys)
    except ScenarioError as problem:
        raise error(f"gradient.{problem}") from None
    if settings.needs_actions:
        raise error(
            f"gradient.kind: {settings.kind} needs a receiver that acts, in a scenario; use another kind"
        )
    target = settings.get("target", target)
    if target not in list(context) and (target is not None or of_readout):
        fix = (
            suggest(str(target), list(context))
            if context
            else f"; give context={{{target or 'label'!r}: CLASSES}}"
        )
        raise error(f"gradient.target: there is no {target!r}{fix}")
    return settings, target


Context = int | tuple[int, ...] | tuple[tuple[int, ...], int]
"""A signal of a context: classes, the shape of one sample, or both (shape, classes)."""


def carried_out_couplings() -> list[str]:
    """Return the names of the built-in couplings that loops carry out, which call no method of a coupling."""
    return sorted(
        name
        for name, coupling in COUPLINGS.items()
        if not (coupling.waits or coupling.replaces_messages or _uncalled_method(type(coupling)))
    )


def _uncalled_method(coupling_class: type[Coupling]) -> str | None:
    """The method by which it does something else than a loop; None: there is none.

    A loop injects the prediction where it predicts, and reads the graph where it joins the endpoints.
    """
    if coupling_class.credit is not (Decoupled if coupling_class.predicts else Coupling).credit:
        return "credit"
    if coupling_class.read_kind is not (Locked if coupling_class.joins_endpoints else Coupling).read_kind:
        return "read_kind"
    return None


def _class_of(coupling: object) -> type[Coupling] | None:
    """The class of a coupling that is named, registered or given; None: it is no coupling."""
    if isinstance(coupling, str):
        catalogue = extensions.Catalogue("coupling")
        coupling = COUPLINGS.get(coupling) or catalogue.get(coupling)
    coupling_class = coupling if isinstance(coupling, type) else type(coupling)
    return coupling_class if issubclass(coupling_class, Coupling) else None


def no_coupling(coupling_name: object, names: Sequence[str]) -> str:
    """Return the line about a coupling that a channel of a loop cannot have: why, and what is written."""
    if isinstance(coupling_name, Mapping):
        coupling_name = coupling_name.get("kind")
    elif isinstance(coupling_name, list | tuple) and len(coupling_name) == 1:
        coupling_name = coupling_name[0]
    if isinstance(coupling_name, str) and coupling_name in PREDICTORS:
        kind = GradientSettings.spec_of(coupling_name)
        keys = {key: key.upper() for key, field in kind.model_fields.items() if field.is_required()}
        written = {"kind": coupling_name, **keys} if keys else coupling_name
        named = f", with {', '.join(keys.values())} a name of context" if keys else ""
        return f"coupling: {coupling_name!r} is a kind of gradient; write gradient={written!r}{named}"
    if coupling_name in names:
        return f"coupling: is a name in a loop, without keys; write coupling={coupling_name!r}"
    coupling_class = _class_of(coupling_name)
    if coupling_class is not None:
        reason = "is of a class of its own"
        if coupling_class.waits:
            reason = "keeps the sender's window open"
        elif coupling_class.replaces_messages:
            reason = "has a synthetic input"
        elif (method := _uncalled_method(coupling_class)) is not None:
            reason = f"has a `{method}` that loops do not call"
        shown = repr(coupling_name) if isinstance(coupling_name, str) else coupling_class.__name__
        return f"coupling: {shown} {reason}, for which a scenario is needed (antiphon.Simulation); use {', '.join(names)}"
    return f"coupling: there is no {coupling_name!r}{suggest(str(coupling_name), names)}"


def context_specs(context: Mapping[str, Context] | None) -> dict[str, ContextSpec]:
    """Return the signals that `context` describes, by name.

    Raises:
        ScenarioError: It is no mapping, or an entry describes no signal; the line begins with `context`.
    """
    if context is None:
        return {}
    if not isinstance(context, Mapping):
        names = (
            [context] if isinstance(context, str) else list(context) if isinstance(context, Sequence) else []
        )
        name = next((name for name in names if isinstance(name, str)), "label")
        raise ScenarioError(
            f"context: is {show_refused(context)}; give classes or shape by name: {{{name!r}: 10}}"
        )
    for name in context:
        if not isinstance(name, str) or not name or name in _OF_SEND:
            raise ScenarioError(
                f"context: {name!r} cannot name a signal in send(message, NAME=…); use another name"
            )
    return {name: context_spec(name, entry) for name, entry in context.items()}


def message_shape(size: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one message.

    Raises:
        ScenarioError: It is not a number of components or a list of up to four; the line begins with `size`.
    """
    try:
        shape = _extents(size)
    except TypeError:
        shape = ()
    if not shape or any(extent < 1 for extent in shape):
        written = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else size
        raise ScenarioError(f"size: {written!r} is not a number of components; use 1 or more")
    if len(shape) > 4:
        raise ScenarioError(f"size: {list(shape)} has {len(shape)} axes; use up to four")
    return shape


def context_spec(name: str, entry: Context) -> ContextSpec:
    """Return the signal that an entry of `context` describes.

    Raises:
        ScenarioError: It describes none; the line begins with `context`.
    """
    classes: int | None = None
    try:
        if isinstance(entry, Sequence) and len(entry) == 2 and isinstance(entry[0], Sequence):
            shape, classes = _extents(entry[0]), _extent(entry[1])
        elif isinstance(entry, Sequence):
            shape = _extents(entry)
        else:
            shape, classes = (), _extent(entry)
    except TypeError:
        shape, classes = (), 0
    if any(extent < 1 for extent in shape) or (classes is not None and classes < 1):
        raise ScenarioError(
            f"context: '{name}' is {entry!r}; use a number of classes, the shape of one sample, or (shape, classes)"
        )
    return ContextSpec(name, shape, classes)


def _extents(numbers: Any) -> tuple[int, ...]:
    """Return a number or several as integers. TypeError: something else."""
    if isinstance(numbers, Sequence) and not isinstance(numbers, str):
        return tuple(map(_extent, numbers))
    return (_extent(numbers),)


def _extent(number: object) -> int:
    """Return a number as an integer; numpy's count too. TypeError: something else."""
    if (extent := as_whole(number)) is None:
        raise TypeError
    return extent


def check_dtype(dtype: object) -> None:
    """Check the type of a channel's messages.

    Raises:
        ScenarioError: It is no type of floats; the line begins with `dtype`.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ScenarioError(f"dtype: {dtype!r} is no type of floats; use torch.float32 or torch.float64")


def signals_of(spec: ContextSpec, value: object, message: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a signal that is sent with a message, and the mask `_name` of classes among which some are missing (-100).

    The signal is [B, *shape]: integers as int64, floats as a copy of `dtype`. The mask has its shape, or is [B, 1].

    Raises:
        ScenarioError: It does not fit; the line begins with `context`.
    """
    subject = f"context: '{spec.name}'"
    if not isinstance(value, Tensor):
        raise ScenarioError(f"{subject} is of type {type(value).__name__}; pass a tensor")
    if not value.dim() or len(value) != len(message):
        rows = f"{len(value)} rows" if value.dim() else "no rows"
        raise ScenarioError(
            f"{subject} has {rows}, but the message has {len(message)}; use the same batch for both"
        )
    if value.numel() != len(value) * torch.Size(spec.shape).numel():
        expected = ", ".join(map(str, ("batch", *spec.shape)))
        raise ScenarioError(
            f"{subject} is {list(value.shape)}, but the channel was made for [{expected}]; reshape it, or change context"
        )
    if value.device != message.device:
        raise ScenarioError(
            f"{subject} is on {value.device}, but the message is on {message.device}; move it there"
        )
    if value.is_complex() or (spec.classes is not None and value.is_floating_point()):
        fix = "floats" if spec.classes is None else f"integers from 0 to {spec.classes - 1}"
        raise ScenarioError(f"{subject} is {str(value.dtype).removeprefix('torch.')}; pass {fix}")
    values = value.reshape(len(value), *spec.shape)
    if spec.classes is None:  # a copy: the caller may write to its own memory before the gradient returns
        return {spec.name: values.detach().to(dtype, copy=True)}
    looks = value.device.type == "cpu" and value.numel()  # elsewhere a look would make the host wait
    signals = {spec.name: values.long()}
    if not looks or bool((values == IGNORED).any()):
        present = values != IGNORED
        values = signals[spec.name].masked_fill(~present, 0)
        signals = {spec.name: values, f"_{spec.name}": present if spec.shape else present.unsqueeze(1)}
    if looks:
        least, most = (int(bound) for bound in values.aminmax())
        if least < 0 or most >= spec.classes:
            outside = least if least < 0 else most
            raise ScenarioError(
                f"{subject} has the value {outside}, but {spec.classes} classes; pass integers from 0 to {spec.classes - 1}"
            )
    return signals
