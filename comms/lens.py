"""Lens: the loss of a readout at a message, through the readout's own later layers with their present parameters.

The model's own last layers are applied to a residual stream before its end ("logit lens", nostalgebraist 2020; Belrose et
al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens", 2303.08112). The sender follows the gradient
of their loss in the message. No predictor is trained, and no gradient is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor, nn

from antiphon import kinds
from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import ContextSpec, Example, Numbers
from antiphon.comms.heads import Head, HeadSource, head_of, output_shape
from antiphon.comms.model import LossAndGradients
from antiphon.comms.synthetic_gradients import LocalGradient
from antiphon.errors import ScenarioError
from antiphon.extensions import gradient
from antiphon.nets.modules import called, meta_copy
from antiphon.spec import FrozenMap, HeadModule, Name, ParameterNames

__all__ = ["LensGradient"]


@final
@gradient("lens")
class LensGradient(LocalGradient):
    """Gradient of a readout's loss through layers that use other networks' parameters.

    Args:
        shape: Shape of a message.
        context: See `Predictor`; not read.
        network: The layers, from a message in its own shape to the target's outputs. They run as described in `Head`, with
            the buffers of this module.
        sources: By parameter of `network`, the tensor whose values it takes at every use; None: the module's own parameters,
            which remain fixed.
        losses: Loss per sample [B] from outputs [B, K] and a target; None: cross-entropy, or squared error.
        settings: The other arguments of `Predictor`.

    Raises:
        ScenarioError: The layers do not fit the message or the target, or the parameters differ; the line begins with
            the key.
    """

    refuses: ClassVar[frozenset[str]] = frozenset({"trace", "propagate"})
    own_module = True

    class Options(kinds.Options):
        """Keys of a lens.

        Attributes:
            network: From Python: the layers from the message in its own shape to the target's outputs.
            of: The agent whose objective is used; None: the scenario's only readout.
            parameters: By parameter of `network`, the "agent.parameter" whose present values it uses; by default the
                parameter of the same name in `of`.
        """

        network: HeadModule = None
        of: Name | None = None
        parameters: ParameterNames = Field(default_factory=FrozenMap)

    def __init__(
        self,
        shape: tuple[int, ...],
        context: Sequence[ContextSpec],
        *,
        network: Callable[..., nn.Module] | nn.Module | None = None,
        sources: Mapping[str, Tensor] | None = None,
        losses: Callable[[Tensor, Tensor], Tensor] | None = None,
        **settings: Any,
    ) -> None:
        self._head: Head
        if network is None:
            raise ScenarioError(
                "gradient.network: a lens needs layers from the message to the target's outputs; pass a torch module from "
                "Python, with `parameters` that name each one's source"
            )
        self._given_sources, self._loss_of = sources, losses
        self._layers: HeadSource | None = network
        super().__init__(shape, context, **{**settings, "hidden": (), "frozen": True})
        self._layers = None
        self._head.to(device=settings.get("device", "cpu"), dtype=settings.get("dtype", torch.float32))
        self._head = meta_copy(self._head)  # called with the parameters of others

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Numbers, Numbers]:
        """Return no parameters: the layers use other networks' parameters."""
        assert self.target is not None
        assert self._layers is not None
        seed, needed = generator.initial_seed() % 2**63, output_shape(self.target)
        sources = self._given_sources
        self._head = head_of(self._layers, self.shape, needed, seed)
        own = dict(self._head.module.named_parameters())
        if sources is None:
            sources = dict(self._layers.named_parameters()) if isinstance(self._layers, nn.Module) else own
        for name, p in own.items():
            if name not in sources:
                raise ScenarioError(f"gradient.parameters: no source for '{name}' of the network; add it")
            if sources[name].shape != p.shape:
                raise ScenarioError(
                    f"gradient.parameters: '{name}' of the network has shape {list(p.shape)}, but its source has "
                    f"{list(sources[name].shape)}; name a parameter of the same shape"
                )
        self.sources = {f"module.{name}": sources[name] for name in own}
        return {}, {}

    def _run(self, x: Tensor, *, move: bool, training: bool) -> Tensor:
        numbers = {name: constant(p) for name, p in self.sources.items()}
        return called(self._head.train(training), numbers, dict(self._head.named_buffers()), x)[0]

    def stackable(self) -> str | None:
        return "its parameters are another agent's"

    def own_losses(self, output: Tensor, target: Tensor) -> Tensor:
        return super().own_losses(output, target) if self._loss_of is None else self._loss_of(output, target)

    def gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        """Return the loss summed over messages, and no gradient."""
        with torch.no_grad():
            return torch.stack([self.loss(example) for example in examples]).sum(), []
