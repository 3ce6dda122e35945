"""User-defined torch modules as predictors: synthetic gradients and synthetic inputs.

Such a module maps [B, inputs], the message and its context side by side (for an input the context alone), to the
gradient or the message, [B, outputs]. Its loss is the squared error, unless it has a method
`loss(prediction, truth)`, [B, outputs] each, that returns one number per sample, [B]. Its forward must not use random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from antiphon.base.call_errors import call_error
from antiphon.base.errors import ScenarioError
from antiphon.base.extensions import name_of
from antiphon.comms.examples import ContextSpec, Example, Numbers
from antiphon.comms.model import LossAndGradients, Model
from antiphon.comms.sites import sites_of
from antiphon.comms.synthetic_gradients import (
    PREDICTORS,
    DirectGradient,
    Predictor,
    counted,
)
from antiphon.comms.synthetic_inputs import INPUTS, InputModel
from antiphon.nets.isolation.global_numbers import of_seed
from antiphon.nets.modules import check_module, per_sample
from antiphon.nets.random import seed_for
from antiphon.nets.user_modules import module_of


class _ModuleModel(Model):
    """A model whose layers are a user's module, made before the rest of the model is."""

    point: ClassVar[str]
    reads: ClassVar[str]
    """What its columns are, in words."""

    def __init__(
        self,
        *message_and_context: Any,
        source: Callable[..., nn.Module] | nn.Module,
        options: Mapping[str, Any],
        **settings: Any,
    ) -> None:
        self._source, self._options = source, options
        self._losses_called = 0
        """Since the newest update began."""
        super().__init__(*message_and_context, **settings)

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Numbers, Numbers]:
        try:
            if not inputs:
                raise ScenarioError("a module needs an input to predict from; give it a context")
            if self._options and isinstance(self._source, nn.Module):
                raise ScenarioError(
                    "options: a module instance takes no options; pass its class or a registered name"
                )
            seed, sizes = generator.initial_seed() % 2**63, {"inputs": inputs, "outputs": outputs}
            self.module = module_of(self._source, seed, **sizes, **self._options)
            takes = f"[batch, {inputs}], {self.reads}"
            check_module(self.module, inputs, outputs, "the message's components", takes=takes)
        except ScenarioError as error:
            raise ScenarioError(f"{self.point}.kind: {error}") from None
        return self.values_of_module(self.module, inputs, outputs)

    def losses(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Return the losses per sample, [B], or [K, B] of models without a loss of their own.

        Raises:
            CallError: The module's own loss fails.
            ScenarioError: It is not one number per sample.
        """
        loss, subject = getattr(self.module, "loss", None), f"{self.point} {type(self.module).__name__}"
        if loss is None:
            return (prediction - truth).square().sum(-1)
        flat = prediction.reshape(-1, prediction.shape[-1])
        rows, place = (flat, truth.reshape(flat.shape)), ("loss", str(self.updates), str(self._losses_called))
        self._losses_called += 1
        try:
            values = of_seed(seed_for(self.seed, *place), partial(loss, *rows), flat.device)
        except Exception as error:
            line = call_error(error, subject, "its loss")
            if line is None:
                raise
            raise line from error
        return per_sample(f"{subject}: its loss", values, len(flat)).view(prediction.shape[:-1])

    def _training_loss(self, example: Example) -> Tensor:
        loss = super()._training_loss(example)
        if not loss.requires_grad:
            line = f"{self.point} {type(self.module).__name__}: its loss has no gradient, so that nothing is learned"
            raise ScenarioError(
                f"{line}; compute it from parameters and without detach(), or set learn: false"
            )
        return loss

    def loss(self, example: Example) -> Tensor:
        self._losses_called = 0
        return super().loss(example)

    def loss_and_gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        self._losses_called = 0
        return super().loss_and_gradients(examples)

    def stacking_obstacle(self) -> str | None:
        own_loss = "it has a loss of its own" if hasattr(self.module, "loss") else None
        return super().stacking_obstacle() or own_loss


@final
class ModuleGradient(_ModuleModel, DirectGradient):
    """Synthetic gradient by a user's module.

    Args:
        source: A module, or a factory called with `inputs` and `outputs`.
        options: More keyword arguments of the factory.
        settings: The other arguments of `Predictor`; settings of built-in layers are not used.

    Raises:
        ScenarioError: The module does not fit; the line begins with the key.
    """

    point = "gradient"
    reads = "the message and its context side by side"

    def _loss(self, example: Example) -> Tensor:
        prediction = self.forward(example.message, example.context, move=True)
        delta = self.regression(example).returned
        assert delta is not None
        return counted(example, self.losses(prediction, delta)).sum(-1) / prediction.shape[-2]


@final
class ModuleInput(_ModuleModel, InputModel):
    """Synthetic input by a user's module; for the arguments see `ModuleGradient`, with the message's size as shape."""

    point = "input"
    reads = "the signals of its context side by side"

    def _loss(self, example: Example) -> Tensor:
        rows = example.message.shape[-2]
        losses = self.losses(self.forward(example.context, rows, move=True), example.message)
        return counted(example, losses).sum(-1) / rows


def predictor_of(
    kind: Any,
    options: Mapping[str, Any],
    shape: tuple[int, ...],
    context: Sequence[ContextSpec],
    *,
    target: ContextSpec | None = None,
    sites: bool | None = None,
    **settings: Any,
) -> Predictor:
    """Return a synthetic gradient of a built-in or a user's kind; for other arguments see `Predictor`.

    Args:
        kind: A registered name, or a module or factory.
        options: Options of the kind: arguments of its class, or of a user's factory.
        shape: Shape of one message.
        target: Signal predicted beside the gradient.
        sites: Whether it is applied at every token or pixel; None: only if messages are [tokens, features].

    Raises:
        ScenarioError: It does not fit; the line begins with the key.
    """
    source = PREDICTORS[kind] if isinstance(kind, str) else kind
    predictor_type: type[Predictor] = ModuleGradient
    if isinstance(source, type) and issubclass(source, Predictor):
        predictor_type = source
        settings |= options
    else:
        settings |= {"source": source, "options": options}
    if "sites" not in predictor_type.Options.model_fields or settings.get("network") is not None:
        sites = False
    try:
        at_sites = sites_of(shape, context, target, use_sites=sites)
    except ScenarioError as error:
        raise ScenarioError(f"gradient.{error}") from None
    if at_sites is not None:
        shape, context = (at_sites.features,), [at_sites.at_site(spec) for spec in context]
        target = None if target is None else at_sites.at_site(target)
    predictor = predictor_type(shape, context, target=target, **settings)
    predictor.kind, predictor.sites = name_of(kind), at_sites
    return predictor


def input_of(
    kind: Any,
    options: Mapping[str, Any],
    shape: tuple[int, ...],
    context: Sequence[ContextSpec],
    *,
    sites: bool | None = None,
    **settings: Any,
) -> InputModel:
    """Return a synthetic input of a built-in or a user's kind; for the arguments see `predictor_of` and `InputModel`.

    Raises:
        ScenarioError: It does not fit; the line begins with the key.
    """
    source = INPUTS[kind] if isinstance(kind, str) else kind
    try:
        at_sites = sites_of(shape, context, use_sites=sites)
    except ScenarioError as error:
        raise ScenarioError(f"input.{error}") from None
    size, specs = torch.Size(shape).numel(), list(context)
    if at_sites is not None:
        size, specs = at_sites.features, [at_sites.at_site(spec) for spec in context]
    if isinstance(source, type) and issubclass(source, InputModel):
        model = source(size, specs, **options, **settings)
    else:
        model = ModuleInput(size, specs, source=source, options=options, **settings)
    model.kind, model.sites = name_of(kind), at_sites
    return model
