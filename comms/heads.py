"""Heads of local losses: auxiliary networks from a message in its own shape to outputs for a target.

Local losses with auxiliary networks replace the returned gradient in Nøkland & Eidnes 2019 ("Training Neural Networks with
Local Error Signals", 1901.06656) and Belilovsky et al. 2019, 2020 ("Greedy Layerwise Learning Can Scale to ImageNet",
1812.11446; "Decoupled Greedy Learning of CNNs", 1901.08164). AugLocal initialises them from copies of the model's own
later layers (Ma et al. 2024, 2402.17318).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.comms.examples import ContextSpec, Numbers
from antiphon.comms.model import Model
from antiphon.errors import ScenarioError
from antiphon.nets.modules import check_module, meta_copy, module_of
from antiphon.nets.site_axes import features_first, site_features

__all__ = ["Head", "HeadModel", "HeadSource", "head_of", "output_shape"]

HeadSource = Callable[..., nn.Module] | nn.Module


def output_shape(target: ContextSpec) -> tuple[int, ...]:
    """Return the shape of a head's output for a target: [*S, classes], or the shape of a float target."""
    return target.shape if target.classes is None else (*target.shape, target.classes)


class Head(nn.Module):
    """Wrap a module that reads messages in their own shape for flat rows: [B, M] to [B, outputs].

    It runs in evaluation mode, so that nothing is random, but batch norms use the statistics of the batch.

    Args:
        module: The module.
        shape: Shape of a message.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module = module
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, outputs] of [B, M]."""
        found: Tensor = self.module(x.reshape(*x.shape[:-1], *self.shape))
        return found.flatten(1)

    def train(self, mode: bool = True) -> Head:
        """Set batch norms to `mode`, all other modules to evaluation."""
        super().train(False)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.train(mode)
        return self


def head_of(
    source: HeadSource,
    shape: tuple[int, ...],
    outputs: tuple[int, ...],
    seed: int,
) -> Head:
    """Return a head from a copy of a module, or from a factory called with `shape` and `outputs`.

    Args:
        source: The module, or the factory.
        shape: Shape of a message.
        outputs: Shape of the head's output for one message.
        seed: Seed of the random state under which a factory samples its initial parameters.

    Raises:
        ScenarioError: The head does not fit; the line begins with the key `gradient.network`.
    """
    try:
        module = module_of(source, seed, shape=shape, outputs=outputs)
        size, features = torch.Size(shape).numel(), torch.Size(outputs).numel()
        head = Head(module, shape)
        check_module(head, size, features, f"outputs of {list(outputs)} for messages of {list(shape)}")
    except ScenarioError as error:
        raise ScenarioError(f"gradient.network: {error}") from None
    return head


class HeadModel(Model):
    """A predictor with its own loss, whose layers may be a head, on messages that may be pooled.

    Args:
        shape: Shape of a message.
        context: See `Predictor`.
        network: A module or factory in place of the layers; it reads no context.
        pool: `mean` over the message's sites before the layers or the head; or `none`.
        settings: The other arguments of `Predictor`.

    Attributes:
        read_shape: Shape of a pooled message.

    Raises:
        ScenarioError: The head does not fit, or there is nothing to pool; the line begins with the key.
    """

    shape: tuple[int, ...]
    target: ContextSpec | None
    own_module = False
    """Whether the layers are a head."""

    def __init__(
        self,
        shape: tuple[int, ...],
        context: Sequence[ContextSpec],
        *,
        network: HeadSource | None = None,
        pool: str = "none",
        **settings: Any,
    ) -> None:
        self._given, self.pool = network, pool
        self.own_module = self.own_module or network is not None
        if pool == "mean" and len(shape) < 2:
            raise ScenarioError(
                f"gradient.pool: messages of {list(shape)} have no sites to pool; give the channel a size of "
                "[positions, features] or [channels, height, width], or leave pool out"
            )
        self.read_shape = shape
        if pool == "mean":
            self.read_shape = (site_features(shape),)
        super().__init__(shape, context, **settings)  # type: ignore[arg-type]  # of the class beside it
        # a head without parameters, or whose own are constants
        self.frozen = self.frozen or not self.parameters

    def pooled(self, message: Tensor) -> Tensor:
        """Return messages [..., M] pooled for the layers, [..., features]."""
        if self.pool == "none":
            return message
        if features_first(self.shape):
            return message.reshape(*message.shape[:-1], self.shape[0], -1).mean(-1)
        return message.reshape(*message.shape[:-1], *self.shape).mean(-2)

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Numbers, Numbers]:
        if self._given is None:
            return super().initial_values(inputs, outputs, generator)
        assert self.target is not None
        seed = generator.initial_seed() % 2**63
        module = head_of(self._given, self.read_shape, output_shape(self.target), seed)
        values = self.values_of_module(module, torch.Size(self.read_shape).numel())
        assert self.layers is not None
        self._given, self.layers.module = None, meta_copy(module)  # its parameters are there once
        return values
