"""A channel for any training loop: messages forward, a predicted gradient back at once.

The gradient that returns for a message is the `grad` that `backward` leaves in what `receive` returned. The simulator's
channels also have delay, clocks and lost messages; these do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.kinds import Kind, KindSpec
from antiphon.base.problems import within
from antiphon.comms.backward_requests import as_leaf, constant, value_of
from antiphon.comms.couplings import DEFAULT, Decoupled, Detached, Locked
from antiphon.comms.examples import ContextSpec, Example, encode, target_of
from antiphon.comms.gradient_alignment import alignment
from antiphon.comms.predictors import Predictor, predictor_of
from antiphon.nets.layers import IGNORED
from antiphon.nets.mask import ALL
from antiphon.nets.random import generator
from antiphon.nets.schedules import Rate

Context = int | tuple[int, ...] | tuple[tuple[int, ...], int]
"""A signal of a context: classes, the shape of one sample, or both (shape, classes)."""
_COUPLINGS = {kind.name: kind for kind in (Decoupled, Detached, Locked)}
_LR = 1e-3
_KEPT = 64
"""Messages that wait for their gradient."""


class OptimiserSettings(KindSpec):
    """The optimiser of a predictor: the keys of every kind.

    Attributes:
        lr: The learning rate; None: the channel's.
        clip: The largest joint norm of its gradients; None: no limit.
    """

    kind: Kind = "adam"
    lr: float | None = None
    clip: Annotated[float, Field(gt=0)] | None = None

    point = "optimiser"


class GradientSettings(KindSpec):
    """The synthetic gradient of a channel: the keys of every kind.

    Attributes:
        scale: Factor of the credit.
    """

    kind: Kind = "ridge"
    scale: Annotated[float, Field(ge=0)] = 1.0
    optimiser: OptimiserSettings = Field(default_factory=OptimiserSettings)

    point = "gradient"


@dataclass(slots=True, eq=False)
class _Sent:
    """A message whose gradient may return."""

    example: Example
    prediction: Tensor
    leaf: Tensor
    factor: Tensor | None = None
    """What the loss that its credit is part of was multiplied with, as by a `GradScaler`; None: nothing."""


class Channel:
    """A channel from one network to another, with a predictor of the returned gradient.

    In each step call `send` in the sender and `receive` in the receiver, add `credit()` to the loss, call `backward`, take
    the optimiser's step, and call `learn`. Under `torch.no_grad()` messages are passed on and nothing is recorded.

    Args:
        size: Components of one message, or up to four axes such as [tokens, features] or [channels, height, width];
            messages are [B, size], or [B, ...] with as many components.
        gradient: The kind of the synthetic gradient (`ridge`, `linear`, `mlp`, `conv`, `critic`, `sobolev`, `sobolev_label`,
            `local`, a registered name, or a module or factory called with `inputs` and `outputs`), or the keys of a
            scenario's `gradient`: `kind`, `target` (the signal in `context` that `local` and `sobolev_label` predict),
            `network`, `scale`, `hidden`, `size`, `norm`, `sites` and `optimiser` (`kind`, `lr`, `momentum`, `weight_decay`, `clip`).
        context: Signals that the predictor is conditioned on, by name: a number of classes for integers [B], the shape of one
            sample for floats [B, *shape], or both, as (shape, classes), for integers [B, *shape].
        coupling: `decoupled`; `detached` (no gradient is returned); or `locked` (true backpropagation).
        lr: The learning rate of the predictor, if `gradient` sets none; None: 1e-3.
        seed: Seed of the predictor's hidden layers, together with `name`.
        name: Name of the channel in errors.
        device: Device of the predictor.
        dtype: Type of the predictor; messages are converted to it.

    Attributes:
        coupling: The class of its coupling.
        predictor: The predictor; None unless decoupled.

    Raises:
        ScenarioError: An invalid argument; the line names the channel and the fix.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        gradient: str | Mapping[str, Any] | Callable[..., Any] = "ridge",
        context: Mapping[str, Context] | None = None,
        coupling: str = DEFAULT,
        lr: float | None = None,
        seed: int = 0,
        name: str = "channel",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name, self.dtype = name, dtype
        self.shape = (size,) if isinstance(size, int) else tuple(size)
        if not 1 <= len(self.shape) <= 4 or min(self.shape) < 1:
            raise self._error(f"size: {size!r} is not a number of components, or up to four axes")
        if coupling not in _COUPLINGS:
            fix = f"{suggest(coupling, _COUPLINGS)}; others need a scenario"
            raise self._error(f"coupling: there is no {coupling!r} in a loop{fix}")
        self.coupling = _COUPLINGS[coupling]
        with self._named():
            self._specs = {key: _spec_of(key, entry) for key, entry in (context or {}).items()}
            settings, self._target = _read_gradient(gradient, self._specs)
            self._context = tuple(spec for spec in self._specs.values() if spec.name != self._target)
            self._scale = settings.scale
            self.predictor: Predictor | None = None
            if self.coupling.predicts:
                self.predictor = self._make_predictor(settings, _LR if lr is None else lr, seed, device)
                if lr is not None and self.predictor.closed_form:
                    raise ScenarioError(f"lr: {self.predictor.kind} has no learning rate; leave it out")
        self._newest: Tensor | None = None
        self._sent: list[_Sent] = []
        self._credited: list[tuple[Tensor, _Sent]] = []
        self._compared: tuple[Tensor, Tensor] | None = None

    def _make_predictor(
        self, settings: GradientSettings, lr: float, seed: int, device: torch.device | str
    ) -> Predictor:
        chosen = settings.optimiser
        rate = Rate(base=lr if chosen.lr is None else chosen.lr, run_steps=1)
        optimiser: dict[str, Any] = {"kind": chosen.kind, "clip": chosen.clip}
        optimiser |= chosen.options if chosen.built_in else {"options": chosen.options, "lr": rate.base}
        return predictor_of(
            settings,
            self.shape,
            self._context,
            generator=generator(seed, "channel", self.name, "gradient"),
            optimiser=optimiser,
            rate=rate,
            target=None if self._target is None else self._specs[self._target],
            device=device,
            dtype=self.dtype,
        )

    def _error(self, problem: str) -> ScenarioError:
        return ScenarioError(f"channel {self.name}: {problem}")

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ScenarioError as error:
            raise self._error(str(error)) from None

    def __repr__(self) -> str:
        kind = [] if self.predictor is None else [f"{self.predictor.kind} gradient"]
        size = " x ".join(map(str, self.shape))
        return f"<Channel {self.name}: {', '.join([self.coupling.name, *kind, f'size {size}'])}>"

    def send(self, message: Tensor, **context: Tensor) -> None:
        """Send a message; the gradient for the sender is predicted at once.

        Args:
            message: [B, ...], with `size` components per sample; do not change it in place afterwards.
            context: The signals declared as `context`, [B] integers or [B, ...] floats, by name; a class of -100 is missing.

        Raises:
            ScenarioError: The message or context does not fit the channel.
        """
        if message.dim() < 2 or message[0].numel() != torch.Size(self.shape).numel():
            raise self._error(f"message: {list(message.shape)} is not [batch, {list(self.shape)}]")
        message = message.to(self.dtype)
        self._newest = message if self.coupling.joins_endpoints else constant(message)
        if self.predictor is None or not torch.is_grad_enabled():
            return
        if context.keys() != self._specs.keys():
            raise self._error(f"context: pass {list(self._specs)} to send, not {list(context)}")
        with self._named(), torch.autocast(message.device.type, enabled=False):
            signals: dict[str, Tensor] = {}
            for name, spec in self._specs.items():
                signals |= _signals_of(spec, context[name], len(message), self.dtype)
            features = encode(self._context, signals, self.dtype)
            example = Example(value_of(message), features, None)
            if self._target is not None:
                example.target, example.valid, example.sites = target_of(signals, self._target)
                if example.sites is None and example.valid is not ALL:
                    example.sites = example.valid.tensor(len(message), message.device)
            prediction = self.predictor.predict_sent(example, learns=False)
        self._newest = as_leaf(message)
        sent = _Sent(example, prediction, self._newest)
        self._sent.append(sent)
        self._credited.append((message, sent))

    def receive(self) -> Tensor:
        """Return the newest message, in the shape in which it was sent.

        It is cut from its sender (unless locked), and the same tensor at every call: the gradients of all its uses add up in
        its `grad`, until `learn`. It may be kept, and used after the sender has gone on; the newest 64 wait for a gradient.

        Raises:
            ScenarioError: No message has been sent.
        """
        if self._newest is None:
            raise self._error("no message has been sent; call send before receive")
        return self._newest

    def credit(self) -> Tensor:
        """Return what the sender learns from its messages: a scalar to be added to a loss before `backward`.

        Its gradient at each message sent since the last call is the predicted gradient times `scale`, divided by the batch
        size. A factor that the loss is multiplied with, as by `torch.amp.GradScaler` or for accumulation, multiplies
        `credit()` and the gradient that returns; `learn` divides the latter by it.
        """
        credited, self._credited = self._credited, []

        def keep_factor(factor: Tensor) -> None:
            for _, sent in credited:
                sent.factor = factor

        device = None if self._newest is None else self._newest.device
        credit = torch.zeros((), dtype=self.dtype, device=device, requires_grad=True)
        for message, sent in credited:
            credit = credit + self._scale * (message.flatten(1) * (sent.prediction / len(message))).sum()
        credit.register_hook(keep_factor)  # type: ignore[no-untyped-call]
        return credit

    def learn(self, losses: Tensor | None = None) -> Tensor | None:
        """Take one optimiser step of the predictor on all messages whose gradient is back; call it once per step of the loop.

        Args:
            losses: The receiver's loss of each sample, [B], which critics (`critic`, `sobolev`) learn from; of several messages
                concatenated, in the order of sending.

        Returns:
            The predictor's loss before the step, a scalar: the mean over the batch of |SG(m, c) - delta|^2, or of
            the kind's own loss, summed over messages. None without a returned gradient. If it is not finite, no step is
            taken.

        Raises:
            ScenarioError: The predictor is a critic, and there are no losses.
        """
        predictor = self.predictor
        if predictor is None:
            return None
        back = [s for s in self._sent if s.leaf.grad is not None or not predictor.needs_returned]
        self._sent = [sent for sent in self._sent if sent not in back][-_KEPT:]
        if not back:
            return None
        if predictor.needs_loss:
            if losses is None:
                raise self._error(f"learn: {predictor.kind} needs losses, the loss of each sample [B]")
            parts = torch.split(constant(losses), [len(sent.leaf) for sent in back])
            for sent, part in zip(back, parts, strict=True):
                sent.example.loss = part
        for sent in back:
            if sent.leaf.grad is not None:
                gradient = sent.leaf.grad if sent.factor is None else sent.leaf.grad / sent.factor
                sent.example.returned = value_of(gradient) * len(gradient)
        statistics = dict(predictor.buffers)
        loss, gradients = predictor.loss_and_gradients([sent.example for sent in back])
        if not loss.isfinite():
            predictor.put_statistics(statistics)
            return loss
        if not predictor.frozen:
            predictor.step(gradients, predictor.updates)
        if (returned := back[-1].example.returned) is not None:
            self._compared = back[-1].prediction, returned
        return loss

    def alignment(self) -> dict[str, Tensor] | None:
        """Return the alignment of synthetic and returned gradient, for the newest message trained on.

        Returns:
            `cosine`, `norm_ratio` and `r2`, see `antiphon.comms.alignment`; None before the first gradient is returned.
        """
        return None if self._compared is None else alignment(*self._compared)

    def parameters(self) -> Iterator[Tensor]:
        """Yield the predictor's parameters, like `torch.nn.Module.parameters`."""
        yield from () if self.predictor is None else self.predictor.parameters.values()

    def state_dict(self) -> dict[str, Any]:
        """Return the predictor's state, for `torch.save`: parameters, running statistics, optimiser and number of updates."""
        return {} if self.predictor is None else self.predictor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of a channel with the same arguments."""
        if self.predictor is not None:
            self.predictor.load_state_dict(state)


def _read_gradient(
    gradient: str | Mapping[str, Any] | Callable[..., Any], context: Mapping[str, ContextSpec]
) -> tuple[GradientSettings, str | None]:
    """The settings of `gradient=`, and the target signal of the kind's own loss."""
    keys: dict[str, Any] = dict(gradient) if isinstance(gradient, Mapping) else {"kind": gradient}
    with within(("gradient",)):
        settings = GradientSettings.model_validate(keys)
    target = settings.get("target")
    if target is not None and target not in context:
        fix = f"give context={{{target!r}: CLASSES}}"
        raise ScenarioError(f"gradient.target: there is no {target!r} in the context; {fix}")
    return settings, target


def _spec_of(name: str, entry: Context) -> ContextSpec:
    if isinstance(entry, int):
        spec = ContextSpec(name, (), entry)
    elif len(entry) == 2 and isinstance(entry[0], Sequence):
        spec = ContextSpec(name, tuple(entry[0]), entry[1])
    else:
        spec = ContextSpec(name, tuple(entry))
    if min((*spec.shape, 1 if spec.classes is None else spec.classes)) < 1:
        fix = "use a number of classes, the shape of one sample, or (shape, classes)"
        raise ScenarioError(f"context: '{name}' is {entry!r}; {fix}")
    return spec


def _signals_of(spec: ContextSpec, value: Tensor, batch: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """A signal [B, *shape], and the mask `_name` of classes among which some are missing (-100); floats are copied."""
    if value.numel() != batch * torch.Size(spec.shape).numel() or len(value) != batch:
        fits = [batch, *spec.shape]
        raise ScenarioError(f"context: '{spec.name}' is {list(value.shape)}, but the channel needs {fits}")
    values = constant(value).reshape(batch, *spec.shape)
    if spec.classes is None:
        return {spec.name: values.to(dtype, copy=True)}
    values = values.long()
    present = values != IGNORED
    if values.device.type == "cpu" and bool(present.all()):  # elsewhere a look would make the host wait
        return {spec.name: values}
    mask = present if spec.shape else present.unsqueeze(1)
    return {spec.name: values.masked_fill(~present, 0), f"_{spec.name}": mask}
