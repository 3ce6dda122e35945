"""The built-in networks, as data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from antiphon.scenarios.fields import Count, Counts, IsReal, Sequence
from antiphon.scenarios.problems import DocumentError
from antiphon.scenarios.spec import Spec

__all__ = ["NetworkSpec", "Norm"]

Norm = Literal["batch", "layer", "none"]
_RECURRENT = ("rnn", "leaky", "gru", "lstm")


class NetworkSpec(Spec):
    """A built-in network.

    Attributes:
        kind: `mlp`; `conv` for images; or with a state carried to the next tick: `rnn`, `leaky`, `gru`, `lstm`.
        hidden: Widths of the hidden layers (`mlp`), or filters of the convolutions (`conv`).
        size: Recurrent kinds only: units of the cell.
        encoder: Recurrent kinds only: widths of the hidden layers before the cell.
        norm: After every hidden layer, those of the encoder included; None: batch if the agent ticks once per
            example, else layer.
        cell_norm: Recurrent kinds only: inside the cell (`batch`: recurrent batch norm, Cooijmans et al. 2016).
        leak: `leaky` only: the weight of the new activation in each tick's state.
        activation: After every norm; `identity` makes the network linear.
        filter: `conv` only: height and width of the filters, in pixels.
        pool: `conv` only: pooling after each convolution; one per layer, or none at all.
    """

    kind: Literal["mlp", "conv", "rnn", "leaky", "gru", "lstm"] = "mlp"
    hidden: Counts = (128,)
    size: Count = 128
    encoder: Counts = ()
    norm: Norm | None = None
    cell_norm: Norm = "none"
    leak: Annotated[float, Field(gt=0, le=1), IsReal] = 0.5
    activation: Literal["relu", "tanh", "gelu", "identity"] = "relu"
    filter: Count = 5
    pool: Annotated[tuple[Literal["max", "avg", "none"], ...], Sequence] = ()

    bare: ClassVar[str | None] = "kind"

    @property
    def recurrent(self) -> bool:
        """Whether a state is carried to the next tick."""
        return self.kind in _RECURRENT

    def always_written(self) -> frozenset[str]:
        """Return the fields of kind and size."""
        return frozenset({"kind", "size" if self.recurrent else "hidden"})

    @model_validator(mode="after")
    def _conv_fits(self) -> Self:
        if self.kind == "conv" and not self.hidden:
            raise DocumentError(("hidden",), "a conv network needs at least one layer of filters")
        if self.pool and len(self.pool) != len(self.hidden):
            layers = f"{len(self.hidden)} hidden layer" + ("" if len(self.hidden) == 1 else "s")
            raise DocumentError(("pool",), f"has {len(self.pool)} entries for {layers}; give one for each")
        return self
