"""Synthetic gradients of the sender's own loss: a model of a target, whose gradient in the message the sender follows.

`local` uses no returned gradient, and is the control for every claim. `sobolev_label` is also trained on the gradient that the
receiver returns (Czarnecki et al. 2017, 1706.04859, §4.3). Both may have their own head (heads.py).

`lens` has a readout's loss, through the readout's own later layers with their present parameters: the model's own last layers
are applied to a residual stream before its end ("logit lens", nostalgebraist 2020; Belrose et al. 2023, "Eliciting Latent
Predictions from Transformers with the Tuned Lens", 2303.08112). No predictor is trained, and no gradient is returned.

For the shapes see synthetic_gradients.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from antiphon.base import kinds
from antiphon.base.errors import ScenarioError
from antiphon.base.extensions import gradient
from antiphon.base.mask import ALL
from antiphon.base.problems import DocumentError
from antiphon.base.spec import FrozenMap, HeadModule, Name, ParameterNames, SignalName
from antiphon.comms.backward_requests import as_leaf, constant
from antiphon.comms.examples import ContextSpec, Example, Learned, Numbers
from antiphon.comms.heads import HeadSource, PredictorHead, head_of, output_shape
from antiphon.comms.model import LinearMaps, LossAndGradients
from antiphon.comms.synthetic_gradients import (
    LayerOptions,
    OwnLossPredictor,
    SiteOptions,
    counted,
    with_slope,
)
from antiphon.nets.layers import cross_entropy, squared_error
from antiphon.nets.modules import called, meta_copy
from antiphon.nets.user_modules import buffers_of, cast, parameters_of, set_mode


class LabelGradient(OwnLossPredictor):
    """A classifier (log loss) or regressor (squared error) of the target from message and context, or a head.

    Its last layer starts at zero, so an untrained model has no gradient in the message; a head starts unchanged.

    Args:
        shape: Shape of a message.

    Attributes:
        own_module: Whether the layers are a head.

    Raises:
        ScenarioError: The head does not fit; the line begins with the key.
    """

    has_own_loss: ClassVar[bool] = True
    own_module = False

    class Options(LayerOptions, SiteOptions):
        """Keys of kinds with their own target.

        Attributes:
            target: The target signal of the kind's own loss.
            network: From Python: a module from the message in its own shape to the target's outputs, or a factory called with
                `shape` and `outputs`. It reads no context.
        """

        target: SignalName
        network: HeadModule = None

        @property
        def reads_whole(self) -> bool:
            """Whether the loss reads all sites of a message together."""
            return self.network is not None

        @model_validator(mode="after")
        def _layers_or_a_head(self) -> Self:
            if self.reads_whole and self.sites:
                raise DocumentError(("sites",), "your own network reads whole messages; leave it out")
            if self.network is not None and self.hidden:
                raise DocumentError(("hidden",), "your own network replaces the layers; leave it out")
            return self

    def __init__(
        self,
        shape: tuple[int, ...],
        context: Sequence[ContextSpec],
        *,
        network: HeadSource | None = None,
        **settings: Any,
    ) -> None:
        self._network = network
        self.own_module = self.own_module or network is not None
        super().__init__(shape, context, **settings)
        # a head without parameters, or whose own are constants
        self.frozen = self.frozen or not self.parameters

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Numbers, Numbers]:
        if self._network is None:
            return super().initial_values(inputs, outputs, generator)
        assert self.target is not None
        seed = generator.initial_seed() % 2**63
        module = head_of(self._network, self.shape, output_shape(self.target), seed)
        values = self.values_of_module(module, self.size, outputs)
        assert self.layers is not None
        self._network, self.layers.module = None, meta_copy(module)  # its parameters are there once
        return values

    def _sizes(self) -> tuple[int, int]:
        assert self.target is not None
        return super()._sizes()[0], self.target.features

    @property
    def classes(self) -> bool:
        return self.target is not None and self.target.classes is not None

    def _losses(self, example: Example, message: Tensor, *, move: bool) -> Tensor:
        assert example.target is not None
        context = None if self.own_module else example.context  # a head reads none
        return self.own_losses(self.forward(message, context, move=move), example.target, example.sites)

    def own_losses(self, output: Tensor, target: Tensor, sites: Tensor | None) -> Tensor:
        """Return the loss per sample, [B], of outputs [B, K] for the sites that the target has (None: all)."""
        return (cross_entropy if self.classes else squared_error)(output, target, sites)


@gradient("local")
class LocalGradient(LabelGradient):
    """SG = d(-log p)/dm of a model of the target, trained by -log p alone; no gradient is returned."""

    needs_returned: ClassVar[bool] = False

    def linear_maps(self) -> LinearMaps | None:
        if self.hidden or self.own_module or self.bf16:
            return None
        return LinearMaps.of(self.parameters, self.size, "classes" if self.classes else "numbers")

    def predict_sent(self, example: Example, *, learns: bool = True) -> Tensor:
        if not learns:
            return super().predict_sent(example)
        prediction, example.learned = self.predict_with_training(example)
        return prediction if example.target is None else example.valid.zero_elsewhere(prediction)

    def predict_with_training(self, example: Example) -> tuple[Tensor, Learned | None]:
        """Return `predict`, and the training step on all rows of the example if the same backward pass computes it."""
        # plain layers keep the bits of two passes: the slope is of the sum over the rows, the training of their mean, and
        # dividing by a power of two is exact
        rows = len(example.message)
        exact = self.own_module or self.sites is not None or rows & (rows - 1) == 0
        if self.members or self.frozen or example.valid is not ALL or not exact or self.written_out():
            return self.predict(example), None
        before, example_read = self.buffers, self.read(example)
        self.buffers = dict(before)
        with torch.enable_grad():
            leaf = as_leaf(example_read.message)
            losses = self._losses(example_read, leaf, move=True)
            slope, *gradients = torch.autograd.grad(losses.sum(), [leaf, *self.trainable], allow_unused=True)
        after, self.buffers = self.buffers, before
        rows = losses.shape[-1]
        learned = Learned(
            constant(losses).sum(-1) / rows, [None if g is None else g / rows for g in gradients], after
        )
        return self._as_gradients(slope), learned

    def loss_and_gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        learned = [example.learned for example in examples if example.learned is not None]
        if len(learned) < len(examples) or (self.buffers and len(learned) > 1):
            return super().loss_and_gradients(examples)
        self.buffers |= learned[-1].buffers
        by_parameter = zip(*(item.gradients for item in learned), strict=True)
        columns = [[g for g in column if g is not None] for column in by_parameter]
        gradients = [
            torch.stack(column).sum(0) if len(column) > 1 else next(iter(column), None) for column in columns
        ]
        return torch.stack([item.loss for item in learned]).sum(), gradients


@final
@gradient("sobolev_label")
class SobolevLabelGradient(LabelGradient):
    """SG = d(-log p)/dm of a model of the target, trained by -log p + |SG - delta|_1; zero until the first delta."""

    def _loss(self, example: Example) -> Tensor:
        assert example.returned is not None
        losses, slope = with_slope(lambda m: self._losses(example, m, move=True), example.message, keep=True)
        mismatch = counted(example, slope - example.returned).abs().sum(-1)
        return (counted(example, losses) + mismatch).sum(-1) / losses.shape[-1]


@final
@gradient("lens")
class LensGradient(LocalGradient):
    """SG = d(-log p)/dm, p by layers with other agents' parameters; nothing is trained, and no gradient is returned.

    Args:
        shape: Shape of a message.
        context: See `Predictor`; not read.
        network: The layers, from a message in its own shape to the target's outputs. They run as described in `PredictorHead`, with
            the buffers of this module.
        sources: By parameter of `network`, the tensor whose values it takes at every use; None: the module's own parameters,
            which remain fixed.
        losses: Loss per sample [B] from outputs [B, K], a target, and the sites that it has if these are not all; None:
            cross-entropy, or squared error.
        mean: Whether losses are divided by the number of sites with a target in the batch, in place of its rows.

    Raises:
        ScenarioError: The layers do not fit the message or the target, or the parameters differ; the line begins with
            the key.
    """

    own_module = True
    of_readout: ClassVar[bool] = True

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
        losses: Callable[..., Tensor] | None = None,
        mean: bool = False,
        **settings: Any,
    ) -> None:
        self._head: PredictorHead
        if network is None:
            raise ScenarioError(
                "gradient.network: a lens needs layers from the message to the target's outputs; pass a torch module from "
                "Python, with `parameters` that name each one's source"
            )
        self._given_sources, self._loss_of, self._mean = sources, losses, mean
        self._layers: HeadSource | None = network
        super().__init__(shape, context, **{**settings, "hidden": (), "frozen": True})
        self._layers = None
        cast(self._head.to(settings.get("device", "cpu")), settings.get("dtype", torch.float32))
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
        parameters = parameters_of(self._head.module)
        if sources is None:
            sources = (
                {**parameters_of(self._layers)} if isinstance(self._layers, nn.Module) else {**parameters}
            )
        for name, p in parameters.items():
            if name not in sources:
                raise ScenarioError(f"gradient.parameters: no source for '{name}' of the network; add it")
            if sources[name].shape != p.shape:
                raise ScenarioError(
                    f"gradient.parameters: '{name}' of the network has shape {list(p.shape)}, but its source has "
                    f"{list(sources[name].shape)}; name a parameter of the same shape"
                )
        self.sources = {f"module.{name}": sources[name] for name in parameters}
        return {}, {}

    def _run(self, x: Tensor, *, move: bool, training: bool) -> Tensor:
        numbers = {name: constant(p) for name, p in self.sources.items()}
        return called(set_mode(self._head, training), numbers, buffers_of(self._head), x)[0]

    def stacking_obstacle(self) -> str | None:
        return "its parameters are another agent's"

    def _losses(self, example: Example, message: Tensor, *, move: bool) -> Tensor:
        losses = super()._losses(example, message, move=move)
        if not self._mean:
            return losses
        weights = torch.ones_like(constant(losses))
        if example.sites is not None:
            weights = weights * example.sites.flatten(1).sum(1)
        weights = counted(example, weights)
        return losses * weights * (len(losses) / weights.sum().clamp(min=1))

    def own_losses(self, output: Tensor, target: Tensor, sites: Tensor | None) -> Tensor:
        if self._loss_of is None:
            return super().own_losses(output, target, sites)
        return self._loss_of(output, target) if sites is None else self._loss_of(output, target, sites)

    def loss_and_gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        """Return the loss summed over messages, and no gradient."""
        with torch.no_grad():
            return torch.stack([self.loss(example) for example in examples]).sum(), []
