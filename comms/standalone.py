"""Channels for any training loop: messages forward, a predicted gradient back at once.

The simulator's channels also have delay, clocks and lost messages; these do not. A message is received in the step in
which it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from antiphon.comms.alignment import alignment
from antiphon.comms.backward_requests import Injection, as_leaf, backward, constant, value_of
from antiphon.comms.examples import ContextSpec, Example, encode
from antiphon.comms.modules import predictor_of
from antiphon.comms.synthetic_gradients import Critic, Predictor
from antiphon.errors import ScenarioError, suggest
from antiphon.kinds import Kind, KindSpec
from antiphon.nets.random import generator
from antiphon.nets.schedules import Rate
from antiphon.nets.torch_optimisers import copied
from antiphon.spec import Real
from antiphon.spellings import either_spelling

__all__ = ["Channel", "GradientSettings", "learn", "read_gradient"]

_RESOLVED = ("target", "of", "parameters", "sites", "normalise")
"""Options that `Channel` gives to the predictor itself."""


class OptimiserSettings(KindSpec):
    """The optimiser of a predictor: the keys of every kind.

    Attributes:
        kind: A name, or a class or factory.
        lr: The learning rate; None: the channel's.
        clip: The largest joint norm of its gradients; None: no limit.
    """

    kind: Kind = "adam"
    lr: Real | None = None
    clip: Real | None = None

    point = "optimiser"


class GradientSettings(KindSpec):
    """The synthetic gradient of a channel: the keys of every kind.

    Attributes:
        kind: A name, or a module or factory.
        scale: Factor of the injected gradient.
        discount: Factor of the prediction in the targets of channels upstream.
        optimiser: The predictor's optimiser.
    """

    kind: Kind = "linear"
    scale: Real = 1.0
    discount: Real = 1.0
    optimiser: OptimiserSettings = Field(default_factory=OptimiserSettings)

    point = "gradient"


def read_gradient(
    given: str | Mapping[str, Any] | Callable[..., Any],
    context: Mapping[str, ContextSpec],
    error: Callable[[str], ScenarioError],
) -> tuple[GradientSettings, str | None]:
    """Read `gradient=`: its settings, and the target signal of the kind's own loss.

    Args:
        given: A kind, or the keys of `GradientSettings` and of the kind; a lens has the key `target` too.
        context: Signals sent with the channel's messages.
        error: Returns the error for a message.

    Raises:
        ScenarioError: A key or value that is not accepted.
    """
    keys: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"kind": given}
    target = keys.pop("target", None) if keys.get("kind") == "lens" else None
    try:
        settings = GradientSettings.model_validate(keys)
    except ScenarioError as problem:
        raise error(f"gradient.{problem}") from None
    if settings.declared("needs_actions"):
        raise error(
            f"gradient.kind: {settings.kind} needs a receiver that acts, in a scenario; use another kind"
        )
    target = settings.get("target", target)
    if target not in list(context) and (target is not None or settings.kind == "lens"):
        raise error(f"gradient.target: there is no {target!r}{suggest(str(target), list(context))}")
    return settings, target


_COUPLINGS = ("decoupled", "detached", "locked")
Context = int | tuple[int, ...] | tuple[tuple[int, ...], int]
"""A signal of a context: classes, the shape of one sample, or both (shape, classes)."""


@dataclass(slots=True, eq=False)
class _Message:
    """A sent message, kept until the predictor was trained on its returned gradient."""

    example: Example
    prediction: Tensor
    """[B, size], as predicted when it was sent."""
    updates: int
    """The predictor's updates when the message was sent."""
    leaf: Tensor | None = None
    """Leaf tensor that the receiver differentiates, once received."""
    returned: bool = False
    """Whether a gradient was returned."""

    def book(self, gradient: Tensor | None, losses: Tensor | None) -> None:
        """Accumulate the returned gradient and losses of one use, per sample (no gradient: no dependence)."""
        self.returned = True
        if gradient is not None:
            flat, known = value_of(gradient), self.example.delta
            self.example.delta = flat if known is None else known + flat
        if losses is not None:
            self.example.loss = losses if self.example.loss is None else self.example.loss + losses


class Channel:
    """A channel from one network to another, with a predictor of the returned gradient.

    In each step call `send` in the sender, `receive` in the receiver, the function `learn` for both networks, and then the
    channel's own `learn`. Under `torch.no_grad()` messages are passed on and nothing is recorded.

    Args:
        size: Components of one message, or up to four axes such as [tokens, features] or [channels, height, width];
            messages are [B, size], or [B, ...] with as many components.
        gradient: None: no gradient is returned, as with `detached`. Otherwise the kind of the synthetic gradient (`linear`,
            `mlp`, `conv`, `critic`, `sobolev`, `sobolev_label`, `local`, `lens`, a registered name, or a module or factory
            called with `inputs` and `outputs`), or the keys of a scenario's `gradient`: `kind`, `target` (the signal in
            `context` that `local` and `sobolev_label` predict), `network` (for a `lens` the receiver's own layers, whose
            present parameters are used), `pool`, `normalise`, `scale`, `discount`, `hidden`, `size`, `norm`, `sites` and
            `optimiser` (`kind`, `lr`, `momentum`, `weight_decay`, `clip`).
        context: Signals that the predictor is conditioned on: a number of classes for integers [B], the shape of one
            sample for floats [B, *shape], or both, as (shape, classes), for integers [B, *shape].
        coupling: `decoupled`; `detached` (no gradient is returned); or `locked` (true backpropagation: one `learn` call
            for both networks).
        lr: The learning rate of the predictor's Adam, if `gradient` sets no optimiser; also `learning_rate`.
        seed: Seed of the predictor's hidden layers, together with `name`.
        name: Name of the channel in errors.
        device: Device of the predictor.
        dtype: Type of the predictor and the messages.

    Attributes:
        predictor: The predictor; None unless decoupled.

    Raises:
        ScenarioError: An invalid argument; the line names the channel and the fix.
    """

    @either_spelling
    def __init__(
        self,
        size: int | Sequence[int],
        *,
        gradient: str | Mapping[str, Any] | Callable[..., Any] | None = "linear",
        context: Mapping[str, Context] | None = None,
        coupling: str = "decoupled",
        lr: float = 1e-3,
        seed: int = 0,
        name: str = "channel",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name = name
        self.shape = (size,) if isinstance(size, int) else tuple(size)
        self.size = torch.Size(self.shape).numel()
        self.coupling = coupling
        self.dtype = dtype
        if coupling not in _COUPLINGS:
            raise self._error(f"coupling: there is no {coupling!r}{suggest(coupling, _COUPLINGS)}")
        if gradient is None and coupling == "decoupled":
            self.coupling = "detached"
        if any(extent < 1 for extent in self.shape):
            extents = size if isinstance(size, int) else list(size)
            raise self._error(f"size: {extents} is not a number of components; use 1 or more")
        specs = {key: _context_spec(key, given) for key, given in (context or {}).items()}
        given = "linear" if gradient is None else gradient
        settings, self._target = read_gradient(given, specs, self._error)
        self._names = tuple(specs)
        self._context = tuple(spec for spec in specs.values() if spec.name != self._target)
        self._scale = settings.scale
        self._discount = settings.discount
        self.predictor: Predictor | None = None
        if self.coupling == "decoupled":
            target = None if self._target is None else specs[self._target]
            self.predictor = self._make_predictor(settings, target, lr, seed, device)
        self._live: Tensor | None = None
        self._newest: _Message | None = None
        self._open: list[_Message] = []
        self._injections: list[Injection] = []
        self._expected: list[Tensor] = []
        self._compared: tuple[Tensor, Tensor] | None = None

    def _make_predictor(
        self,
        settings: GradientSettings,
        target: ContextSpec | None,
        lr: float,
        seed: int,
        device: torch.device | str,
    ) -> Predictor:
        chosen, rate = settings.optimiser, Rate(base=settings.optimiser.lr or lr, horizon=1)
        optimiser: dict[str, Any] = {"kind": chosen.kind, "clip": chosen.clip}
        optimiser |= chosen.options if chosen.built_in else {"options": chosen.options, "lr": rate.base}
        options = {key: value for key, value in settings.options.items() if key not in _RESOLVED}
        try:
            return predictor_of(
                settings.kind,
                options,
                self.shape,
                self._context,
                generator=generator(seed, "channel", self.name, "gradient"),
                optimiser=optimiser,
                rate=rate,
                target=target,
                sites=settings.get("sites"),
                normalise=settings.get("normalise", "none"),
                device=device,
                dtype=self.dtype,
            )
        except ScenarioError as error:
            raise self._error(str(error)) from None

    def __repr__(self) -> str:
        return f"Channel(name={self.name!r}, size={self.size}, coupling={self.coupling!r})"

    def send(self, message: Tensor, **context: Tensor) -> None:
        """Send a message; the gradient for the sender is predicted at once.

        Args:
            message: [B, ...], with `size` components per sample.
            context: The signals declared as `context`, [B] integers or [B, ...] floats, by name.

        Raises:
            ScenarioError: The message or context does not fit the channel.
        """
        self._check(message, context)
        self._live, self._newest = message, None
        if self.predictor is None or not torch.is_grad_enabled():
            return
        example = Example(
            value_of(message),
            encode(self._context, context, self.dtype),
            None,
            target=None if self._target is None else context[self._target],
        )
        prediction, example.learned = self.predictor.predict_and_learn(example)
        self._newest = _Message(example, prediction, self.predictor.updates)
        if self.predictor.needs_delta:  # an older message that was not received cannot be any more
            self._open = [sent for sent in self._open if sent.leaf is not None]
        self._open.append(self._newest)
        if message.requires_grad and (self._scale or self._discount):
            self._injections.append(Injection(message, prediction, self._scale, self._discount))
        if isinstance(self.predictor, Critic) and self._discount:
            self._expected.append(self.predictor.value(example) * self._discount)

    def receive(self) -> Tensor:
        """Return the newest message, in the shape in which it was sent.

        It is detached from its sender (unless locked). Every call returns the same tensor, so that the gradients of all
        uses add up.

        Raises:
            ScenarioError: No message has been sent.
        """
        if self._live is None:
            raise self._error("no message has been sent; call send before receive")
        if self.coupling == "locked":
            return self._live
        if self._newest is None or self.predictor is None or not self.predictor.needs_delta:
            return constant(self._live)
        if self._newest.leaf is None:
            self._newest.leaf = as_leaf(self._live)
        return self._newest.leaf

    def learn(self) -> Tensor | None:
        """Take one optimiser step of the predictor on all returned gradients; call it after `learn` of both networks.

        Returns:
            The predictor's loss before the step, a scalar: the mean over the batch of |SG(m, c) - delta|^2, or of
            the kind's own loss, summed over messages. None without returned gradients.
        """
        predictor = self.predictor
        if predictor is None:
            return None
        ready = [m for m in self._open if m.returned or not predictor.needs_delta]
        if not ready:
            return None
        self._open = [m for m in self._open if not m.returned and predictor.needs_delta]
        for message in ready:
            example = message.example
            if example.delta is None:
                example.delta = torch.zeros_like(example.message)
            if message.updates == predictor.updates:
                example.prediction = message.prediction
            else:
                example.learned = None
        newest = ready[-1].example.delta
        if predictor.needs_delta and newest is not None:
            self._compared = ready[-1].prediction, newest
        loss, gradients = predictor.gradients([message.example for message in ready])
        if not predictor.frozen:
            predictor.step(gradients, predictor.updates)
        return loss

    def parameters(self) -> Iterator[Tensor]:
        """Yield the predictor's parameters, like `torch.nn.Module.parameters`."""
        yield from () if self.predictor is None else self.predictor.parameters.values()

    def state_dict(self) -> dict[str, Any]:
        """Return the predictor's state as a tree of plain data and copied tensors, for `torch.save`.

        It holds the predictor's parameters, running statistics, optimiser and number of updates, but no messages.
        """
        found: dict[str, Any] = {} if self.predictor is None else copied(self.predictor.state_dict())
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of a channel with the same settings; messages in transit are dropped.

        Raises:
            ScenarioError: The state does not fit this channel; the line names the first difference.
        """
        predictor = self.predictor
        for section in ("parameters", "buffers"):
            own = {} if predictor is None else getattr(predictor, section)
            found = state.get(section, {})
            for name in [*own, *(name for name in found if name not in own)]:
                have, want = ([*t[name].shape] if name in t else None for t in (found, own))
                if have != want:
                    raise self._error(
                        f"state: {section} '{name}' is {have}, but the channel needs {want}; "
                        "create both channels with the same size, gradient and context"
                    )
        if predictor is not None:
            predictor.load_state_dict(state)
        self._live, self._newest, self._compared = None, None, None
        for waiting in (self._open, self._injections, self._expected):
            waiting.clear()

    def alignment(self) -> dict[str, Tensor] | None:
        """Return the alignment of synthetic and returned gradient, for the newest message trained on.

        Returns:
            `cosine`, `norm_ratio` and `r2`, see `antiphon.comms.alignment`; None before the first gradient is returned.
        """
        return None if self._compared is None else alignment(*self._compared)

    def _uses(self) -> list[_Message]:
        """Messages that were received and not yet trained on."""
        return [message for message in self._open if message.leaf is not None]

    def _rows(self) -> set[int]:
        """Batch sizes in a backward pass over this channel."""
        known = {len(injection.message) for injection in self._injections}
        return known | {len(message.example.message) for message in self._uses()}

    def _check(self, message: Tensor, context: Mapping[str, Tensor]) -> None:
        shape = list(message.shape)
        if len(shape) < 2 or message[:1].numel() != self.size:
            raise self._error(f"message: {shape} is not [batch, {self.size}]; reshape it, or change size")
        if message.dtype != self.dtype:
            raise self._error(
                f"message: it is {message.dtype}, but the channel is {self.dtype}; pass the channel dtype="
            )
        for name in context:
            if name not in self._names:
                raise self._error(f"context: no signal '{name}'{suggest(name, self._names)}")
        for name in self._names if self.predictor is not None else ():
            if name not in context:
                raise self._error(f"context: '{name}' is missing; pass {name}= to send")
            if len(context[name]) != len(message):
                rows = f"{len(context[name])} rows, but the message has {len(message)}"
                raise self._error(f"context: '{name}' has {rows}; use the same batch for both")

    def _error(self, problem: str) -> ScenarioError:
        return ScenarioError(f"channel {self.name}: {problem}")


def learn(
    objective: Tensor | None,
    parameters: Iterable[Tensor],
    *,
    sent: Sequence[Channel] = (),
    received: Sequence[Channel] = (),
) -> None:
    """Set the gradients of one network, and record the returned gradients on its channels.

    The network follows its objective plus `scale` times the predicted gradients of the messages it sent; the gradients
    returned on the messages it received count these predictions with `discount`. Parameters are not updated: take a step
    of any optimiser after `learn` of all networks.

    Args:
        objective: The network's loss: the mean over its B samples, a scalar, or the loss of each sample, [B], whose mean
            is followed (a critic on a received channel learns from each); None if the network has no loss of its own.
        parameters: Their `grad` is replaced; it becomes None for all of them if no gradient reaches the network. Parameters
            that do not require a gradient are ignored.
        sent: The channels on which the network has sent since its last `learn`.
        received: The channels on which it has received.

    Raises:
        ScenarioError: The objective has another shape, or is a mean although a critic learns from it, the channels carry
            batches of different sizes, or a locked channel is not in both `sent` and `received`.
    """
    for channel in dict.fromkeys([*sent, *received]):
        if channel.coupling == "locked" and not (channel in sent and channel in received):
            raise ScenarioError(
                f"channel {channel.name}: it is locked, so its ends learn as one network; pass it in both sent and "
                "received of one learn call, with the parameters of both"
            )
    rows = {count for channel in {*sent, *received} for count in channel._rows()}
    if len(rows) > 1:
        raise ScenarioError(
            f"learn: the channels carry batches of {sorted(rows)} samples; use one batch size"
        )
    if objective is not None and objective.numel() != 1:
        if objective.dim() != 1:
            raise ScenarioError(
                f"learn: the objective is {list(objective.shape)}; pass its mean over the batch, or one loss per sample"
            )
        if rows and len(objective) not in rows:
            raise ScenarioError(
                f"learn: the objective has {len(objective)} samples, but the channels carry batches of {max(rows)}; "
                "pass one loss per sample"
            )
    trainable = [p for p in parameters if p.requires_grad]
    injections = [injection for channel in sent for injection in channel._injections]
    uses = [(channel, message) for channel in received for message in channel._uses()]
    leaves = [message.leaf for _, message in uses if message.leaf is not None]
    losses = [_losses(channel, objective, sent, message.example.message) for channel, message in uses]
    mean = None if objective is None else objective.mean()
    gradients, returned = backward(mean, injections, trainable, leaves, max(rows, default=1))
    reached = any(gradient is not None for gradient in gradients)
    for parameter, gradient in zip(trainable, gradients, strict=True):
        if not reached:
            parameter.grad = None
        elif gradient is None:
            parameter.grad = torch.zeros_like(parameter)
        else:  # a copy: autograd may give one tensor to several, or a view with strides of its own
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
    for (_, message), own, loss in zip(uses, returned, losses, strict=True):
        message.book(own, loss)
    for channel in sent:
        channel._injections.clear()
        channel._expected.clear()


def _losses(
    channel: Channel, objective: Tensor | None, sent: Sequence[Channel], message: Tensor
) -> Tensor | None:
    """Target of a critic on `channel`, [B]: the receiver's losses plus its own critics' values."""
    if channel.predictor is None or not channel.predictor.needs_loss:
        return None
    rows = len(message)
    expected = [value for other in sent for value in other._expected]
    if objective is not None:
        if objective.numel() != rows:
            raise ScenarioError(
                f"channel {channel.name}: its critic learns the receiver's loss of each sample; pass learn an "
                f"objective [{rows}], not its mean"
            )
        expected.append(constant(objective).view(rows))
    return torch.stack(expected).sum(0) if expected else message.new_zeros(rows)


def _context_spec(name: str, given: Context) -> ContextSpec:
    if isinstance(given, int):
        return ContextSpec(name, (), given)
    if len(given) == 2 and isinstance(given[0], tuple | list):
        return ContextSpec(name, tuple(given[0]), int(given[1]))
    return ContextSpec(name, tuple(given))
