"""Lens: the loss of a readout at a message, through the readout's own later layers with their present parameters.

A residual stream is read by the model's own last layers before its end ("logit lens", nostalgebraist 2020; Belrose et al.
2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens", 2303.08112): their loss there has a slope in the
message, which the sender follows. Nothing is learned, and nothing is returned.
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
    """Slope of a readout's loss through layers whose parameters are other networks'.

    Args:
        shape: Of a message.
        context: As of `Predictor`; not read.
        network: The layers, from a message in its own shape to the target's outputs. They run as `Head` has it; their buffers
            are those of the module, as it was given.
        sources: By parameter of `network`, the tensor whose values it has at every use; None: the module's own parameters,
            which stay its own.
        losses: Of outputs [B, K] and a target, per sample [B]; None: cross-entropy, or squared error.
        settings: The others of `Predictor`.

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
            of: The agent whose objective it takes; None: the scenario's only readout.
            parameters: By parameter of `network`, the "agent.parameter" whose present values it has; those left out are of
                the same name in `of`.
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
                "gradient.network: a lens needs layers from the message to the target's outputs; give a torch module, from "
                "Python, with `parameters` that say whose they are"
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
        """Return no parameters: those of its layers are other networks'."""
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
                raise ScenarioError(
                    f"gradient.parameters: nothing is named for '{name}' of the network; add it"
                )
            if sources[name].shape != p.shape:
                raise ScenarioError(
                    f"gradient.parameters: '{name}' of the network is {list(p.shape)}, and what is named for it "
                    f"{list(sources[name].shape)}; name a parameter of that shape"
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
