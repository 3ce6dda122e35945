"""Specifications of a channel's predictors: synthetic gradient, synthetic input, feedback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from antiphon.scenarios.fields import Count, Flag, IsReal, Name, Sequence, Signal, Signals
from antiphon.scenarios.networks import Norm
from antiphon.scenarios.problems import DocumentError
from antiphon.scenarios.spec import Spec
from antiphon.scenarios.training import OptimiserSpec, ScheduleSpec

__all__ = ["FeedbackSpec", "GradientSpec", "InputSpec"]

_HIDDEN = {"mlp": (1024,), "conv": (64,), "critic": (256,), "sobolev": (256,)}
"""Default hidden layers by kind."""


def _with_hidden(data: Any, by_kind: Mapping[str, tuple[int, ...]]) -> Any:
    """Return a predictor's document with the hidden layers of its kind where it names none."""
    keys = {"kind": data} if isinstance(data, str) else data
    if isinstance(keys, Mapping) and isinstance(keys.get("kind"), str) and keys["kind"] in by_kind:
        return {"hidden": by_kind[keys["kind"]], **keys}
    return data


class GradientSpec(Spec):
    """The synthetic gradient of a decoupled or unlocked channel, of a message or of a state.

    Attributes:
        kind: Of the predictor; `local` is the control (a predictor of `target`; nothing returned).
        context: Signals that condition it.
        target: `local` and `sobolev_label` only: the signal its own loss is on.
        scale: Factor of the injected gradient.
        schedule: Of `scale` over the training; None: constant.
        discount: Factor of the prediction inside targets further up.
        clip: The largest norm, per sample, of the injected gradient; None: no limit.
        apply: False trains it without injecting its gradient (a shadow).
        trace: Lambda of BP(lambda). Of a message: the share of the gradient returned at once in the injected
            one. Of a state: how far the target reaches beyond the next prediction.
        span: State channels only: the windows over which `trace` reaches.
        auxiliary: State channels only: the weight of an auxiliary task of the agent: to predict, after a window's
            first tick, the synthetic gradient of the state at its end.
        propagate: Share of the predictor's own loss that reaches the sender.
        hidden: Widths of its hidden layers, or their filters (`conv`).
        filter: `conv` only: height and width of the filters, in pixels.
        norm: After each hidden layer.
        optimiser: Its own; None: `training.predictor`.
    """

    kind: Literal["linear", "mlp", "conv", "critic", "sobolev", "sobolev_label", "local"] = "linear"
    context: Signals = ()
    target: Signal | None = None
    scale: Annotated[float, Field(ge=0), IsReal] = 1.0
    schedule: ScheduleSpec | None = None
    discount: Annotated[float, Field(ge=0), IsReal] = 1.0
    clip: Annotated[float, Field(gt=0), IsReal] | None = None
    apply: Flag = True
    trace: Annotated[float, Field(ge=0, le=1), IsReal] = 0.0
    span: Annotated[Count, Field(le=8)] = 4
    auxiliary: Annotated[float, Field(ge=0), IsReal] = 0.0
    propagate: Annotated[float, Field(ge=0), IsReal] = 0.0
    hidden: Annotated[tuple[Count, ...], Field(max_length=2), Sequence] = ()
    filter: Count = 5
    norm: Norm = "batch"
    optimiser: OptimiserSpec | None = None

    bare: ClassVar[str | None] = "kind"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})

    @model_validator(mode="before")
    @classmethod
    def _hidden_by_kind(cls, data: Any) -> Any:
        return _with_hidden(data, _HIDDEN)

    @model_validator(mode="after")
    def _mlp_is_deep(self) -> Self:
        if self.kind == "mlp" and not self.hidden:
            raise DocumentError(
                ("hidden",), "an mlp gradient has one or two hidden layers; or use kind linear"
            )
        return self


class InputSpec(Spec):
    """The synthetic input of a channel: the receiver's prediction of the message.

    Attributes:
        kind: Of the predictor; `none`: no synthetic input, for templates.
        context: Signals that condition it: observations, and `held`, `age`, `from.phase`, `to.phase`.
        hidden: Widths of its hidden layers: one or two for `mlp` (default 1024).
        norm: After each hidden layer.
        optimiser: Its own; None: `training.predictor`.
    """

    kind: Literal["linear", "mlp", "none"] = "linear"
    context: Signals = ()
    hidden: Annotated[tuple[Count, ...], Field(max_length=2), Sequence] = ()
    norm: Norm = "batch"
    optimiser: OptimiserSpec | None = None

    bare: ClassVar[str | None] = "kind"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})

    @model_validator(mode="before")
    @classmethod
    def _hidden_by_kind(cls, data: Any) -> Any:
        return _with_hidden(data, {"mlp": _HIDDEN["mlp"]})

    @model_validator(mode="after")
    def _mlp_is_deep(self) -> Self:
        if self.kind == "mlp" and not self.hidden:
            raise DocumentError(("hidden",), "an mlp input has one or two hidden layers; or use kind linear")
        return self


class FeedbackSpec(Spec):
    """Feedback path of the gradient over a locked channel, in place of the receiver's weights.

    Attributes:
        kind: `fa`: a fixed random matrix in place of the receiver's first layer; `dfa`: the error of an objective
            through a fixed random matrix; `kickback`: that error through a matrix of ones.
        of: `dfa` and `kickback` only: the agent whose objective it is; None: the scenario's only readout.
    """

    kind: Literal["fa", "dfa", "kickback"]
    of: Name | None = None

    bare: ClassVar[str | None] = "kind"
