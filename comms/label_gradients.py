"""Synthetic gradients of the sender's own loss: a model of a target, whose gradient in the message the sender follows.

`local` uses no returned gradient, and is the control for every claim. `sobolev_label` is also trained on the gradient that the
receiver returns (Czarnecki et al. 2017, 1706.04859, §4.3). Both may have a head: an auxiliary network from a message in its own
shape to outputs for the target.

Local losses with auxiliary networks replace the returned gradient in Nøkland & Eidnes 2019 ("Training Neural Networks with
Local Error Signals", 1901.06656) and Belilovsky et al. 2019, 2020 ("Greedy Layerwise Learning Can Scale to ImageNet",
1812.11446; "Decoupled Greedy Learning of CNNs", 1901.08164). AugLocal initialises them from copies of the model's own
later layers (Ma et al. 2024, 2402.17318).

For the shapes see predictors.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Self, final

import torch
from pydantic import model_validator
from torch import Tensor, nn

from antiphon.base.extensions import gradient
from antiphon.base.problems import DocumentError
from antiphon.base.spec import HeadModule, SignalName
from antiphon.comms.backward_requests import as_leaf, constant
from antiphon.comms.examples import ContextSpec, Criterion, Example, Learned, Numbers
from antiphon.comms.predictors import (
    LayerOptions,
    LossAndGradients,
    Predictor,
    SiteOptions,
    counted,
    with_slope,
)
from antiphon.nets.layers import cross_entropy, squared_error
from antiphon.nets.mask import ALL
from antiphon.nets.user_module import ModuleSource

_CRITERION = "criterion."


class PredictorHead(nn.Module):
    """Wrap a module that reads messages in their own shape for flat rows: [B, M] to [B, outputs].

    It runs in evaluation mode, so that nothing is random, but batch norms use the statistics of the batch.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module = module
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, outputs] of [B, M]."""
        outputs: Tensor = self.module(x.reshape(*x.shape[:-1], *self.shape))
        return outputs.flatten(1)

    def train(self, mode: bool = True) -> PredictorHead:
        """Set batch norms to `mode`, all other modules to evaluation."""
        super().train(False)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(mode)
        return self


class LabelGradient(Predictor):
    """A classifier (log loss) or regressor (squared error) of the target from message and context, or a head.

    Its last layer starts at zero, so an untrained model has no gradient in the message; a head starts unchanged.

    Args:
        criterion: How the target is scored, if not by the plain log loss or squared error. Class weights are relative to
            those of all targets of a message.
    """

    has_own_loss: ClassVar[bool] = True

    class Options(LayerOptions, SiteOptions):
        """Keys of kinds with their own target.

        Attributes:
            target: The target signal of the kind's own loss.
            network: From Python: a module from the message in its own shape to the target's outputs, or a factory called with
                `shape` and `outputs`. It reads no context.
        """

        target: SignalName
        network: HeadModule = None

        @model_validator(mode="after")
        def _layers_or_a_head(self) -> Self:
            if self.network is not None and self.sites:
                raise DocumentError(("sites",), "your own network reads whole messages; leave it out")
            if self.network is not None and self.hidden:
                raise DocumentError(("hidden",), "your own network replaces the layers; leave it out")
            return self

    def __init__(
        self,
        shape: tuple[int, ...],
        context: Sequence[ContextSpec],
        *,
        network: ModuleSource | None = None,
        criterion: Criterion | None = None,
        **settings: Any,
    ) -> None:
        self._network, self.criterion = network, criterion
        super().__init__(shape, context, **settings)
        # a head without parameters, or whose own are constants
        self.frozen = self.frozen or not self.parameters

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Numbers, Numbers]:
        kept = {} if self.criterion is None else self.criterion.buffers()
        of_criterion = {_CRITERION + name: value.clone() for name, value in kept.items()}
        if self._network is None:
            parameters, buffers = super().initial_values(inputs, outputs, generator)
        else:
            assert self.target is not None
            source, self._network = self._network, None
            shape = (*self.target.shape, *([self.target.classes] if self.classes else []))
            keys = {"shape": self.shape, "outputs": shape if outputs == self.target.features else (outputs,)}
            words = f"outputs of {list(keys['outputs'])} for messages of {list(self.shape)}"
            sizes, head = (self.size, outputs, words), partial(PredictorHead, shape=self.shape)
            parameters, buffers = self.values_of_module(
                "gradient.network", source, keys, sizes, generator, head
            )
        return parameters, buffers | of_criterion

    def _sizes(self) -> tuple[int, int]:
        assert self.target is not None
        outputs = self.criterion and self.criterion.size(self.target.shape, self.target.classes)
        return super()._sizes()[0], outputs or self.target.features

    def stacking_obstacle(self) -> str | None:
        return super().stacking_obstacle() if self.criterion is None else "its target has a loss of its own"

    @property
    def classes(self) -> bool:
        return self.target is not None and self.target.classes is not None

    def _predict(self, example: Example) -> Tensor:
        return with_slope(lambda m: self._losses(example, m, move=False), example.message)[1]

    def _loss(self, example: Example) -> Tensor:
        losses = self._losses(example, example.message, move=True)
        return counted(example, losses).sum(-1) / losses.shape[-1]

    def _losses(self, example: Example, message: Tensor, *, move: bool) -> Tensor:
        """The losses per sample, [B], at a message; `move`: running statistics are moved."""
        assert example.target is not None
        context = example.context if self.layers is None else None  # a head reads none
        output = self.forward(message, context, move=move)
        if self.criterion is None:
            return (cross_entropy if self.classes else squared_error)(output, example.target, example.sites)
        names = self.criterion.buffers()
        self.criterion.load_buffers({name: self.buffers[_CRITERION + name] for name in names})
        losses = self.criterion.loss(output, example.target, example.sites)
        if move:
            self.buffers |= {_CRITERION + name: value for name, value in self.criterion.buffers().items()}
        weights = self.criterion.target_weights(example.target, example.sites)
        if weights is None:
            return losses
        counts = counted(example, torch.ones_like(weights))
        total = (weights * counts).sum()
        return losses * torch.where(total > 0, counts.sum() / total, 0.0).to(losses.dtype)


@final
@gradient("local")
class LocalGradient(LabelGradient):
    """SG = d(-log p)/dm of a model of the target, trained by -log p alone; no gradient is returned."""

    needs_returned: ClassVar[bool] = False

    def predict_sent(self, example: Example, *, learns: bool = True) -> Tensor:
        if not learns or self.frozen or example.valid is not ALL:
            return super().predict_sent(example)
        # one backward pass computes the prediction, and the training step on all rows
        before, example_read = self.buffers, self.read(example)
        self.buffers = dict(before)
        with torch.enable_grad():
            leaf = as_leaf(example_read.message)
            losses = self._losses(example_read, leaf, move=True)
            slope, *gradients = torch.autograd.grad(losses.sum(), [leaf, *self.trainable], allow_unused=True)
        after, self.buffers = self.buffers, before
        rows = losses.shape[-1]
        of_rows: list[Tensor | None] = [None if g is None else g / rows for g in gradients]
        example.learned = Learned(constant(losses).sum(-1) / rows, of_rows, after)
        return self._as_gradients(slope)

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
        return torch.stack([item.loss for item in learned]).sum(0), gradients


@final
@gradient("sobolev_label")
class SobolevLabelGradient(LabelGradient):
    """SG = d(-log p)/dm of a model of the target, trained by -log p + |SG - delta|_1; zero until the first delta."""

    def _loss(self, example: Example) -> Tensor:
        assert example.returned is not None
        losses, slope = with_slope(lambda m: self._losses(example, m, move=True), example.message, keep=True)
        mismatch = counted(example, slope - example.returned).abs().sum(-1)
        return (counted(example, losses) + mismatch).sum(-1) / losses.shape[-1]
