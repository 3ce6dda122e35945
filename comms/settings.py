"""Settings of a channel's `gradient=`, as in a scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from antiphon.comms.context import ContextSpec
from antiphon.comms.labels import LabelGradient
from antiphon.comms.predictors import PREDICTORS
from antiphon.errors import ScenarioError, suggest

__all__ = ["GradientSettings", "read_gradient"]

_NORMS = ("batch", "layer", "none")
_OPTIMISERS = ("sgd", "adam", "adamw")
_OPTIMISER_KEYS = ("kind", "lr", "momentum", "betas", "weight_decay", "clip")
_HIDDEN = {"mlp": (1024,), "conv": (64,), "critic": (256,), "sobolev": (256,)}
"""Default hidden layers by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSettings:
    """A synthetic gradient, as declared."""

    kind: str = "linear"
    target: str | None = None
    """The signal of the context that its own loss is on (`local`, `sobolev_label`)."""
    scale: float = 1.0
    discount: float = 1.0
    apply: bool = True
    hidden: tuple[int, ...] = ()
    filter: int = 5
    norm: str = "batch"
    optimiser: Mapping[str, Any] | None = None


def read_gradient(
    given: str | Mapping[str, Any], context: Mapping[str, ContextSpec], error: Callable[[str], ScenarioError]
) -> GradientSettings:
    """Read `gradient=`; a target is given only to the kinds that have an own loss.

    Args:
        given: A kind, or the keys of `GradientSettings`.
        context: Signals sent with the channel's messages.
        error: Constructor of the error from a message.

    Raises:
        ScenarioError: A key or value that is not accepted.
    """

    def one_of(place: str, value: object, known: Sequence[str]) -> None:
        if value not in known:
            raise error(f"{place}: there is no {value!r}{suggest(str(value), known)}")

    keys = dict(given) if isinstance(given, Mapping) else {"kind": given}
    for key in keys:
        one_of("gradient", key, [field.name for field in fields(GradientSettings)])
    kind = keys.get("kind", "linear")
    one_of("gradient.kind", kind, list(PREDICTORS))
    own_loss = issubclass(PREDICTORS[kind], LabelGradient)
    target = keys.get("target") if own_loss else None
    hidden = tuple(keys.get("hidden", _HIDDEN.get(kind, ())))
    settings = GradientSettings(**{**keys, "hidden": hidden, "target": target})
    one_of("gradient.norm", settings.norm, _NORMS)
    for key in settings.optimiser or {}:
        one_of("gradient.optimiser", key, _OPTIMISER_KEYS)
    if settings.optimiser is not None:
        one_of("gradient.optimiser.kind", settings.optimiser.get("kind", "adam"), _OPTIMISERS)
    if kind == "mlp" and not hidden:
        raise error("gradient.hidden: an mlp has one or two hidden layers; or use kind linear")
    if own_loss:
        if target is None:
            raise error(f"gradient.target: a {kind} gradient needs one; name a signal of context")
        one_of("gradient.target", target, list(context))
    return settings
