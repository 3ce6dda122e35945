"""A channel for any training loop: messages forward, a predicted gradient back at once.

The simulator's channels also have delay, clocks and lost messages; these do not. A message is received in the step in
which it was sent, or later by a receiver that kept it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, SupportsFloat

import torch
from torch import Tensor

from antiphon.base.argument_checks import checked_seed
from antiphon.base.errors import (
    ScenarioError,
    ScenarioWarning,
    with_article,
)
from antiphon.base.mask import ALL
from antiphon.base.nearest_names import suggest
from antiphon.base.notebook import html_of, html_table, number
from antiphon.base.spellings import either_spelling
from antiphon.comms.backward_requests import (
    Injection,
    constant,
    value_of,
)
from antiphon.comms.couplings import COUPLINGS, DEFAULT, Coupling, Detached
from antiphon.comms.examples import ContextSpec, Example, encode, target_of
from antiphon.comms.gradient_alignment import alignment
from antiphon.comms.loop.channel_arguments import (
    Context,
    GradientSettings,
    carried_out_couplings,
    check_dtype,
    context_specs,
    message_shape,
    no_coupling,
    read_gradient,
    signals_of,
)
from antiphon.comms.loop.channel_problems import ChannelProblems
from antiphon.comms.loop.finite import all_finite
from antiphon.comms.loop.open_messages import SentMessage
from antiphon.comms.loop.transit import MOST_INJECTIONS, Transit
from antiphon.comms.module_predictors import predictor_of
from antiphon.comms.synthetic_gradients import Critic, Predictor
from antiphon.nets.devices import existing_device
from antiphon.nets.isolation.own_context import in_own_context, own_context
from antiphon.nets.optimisers import MISSED
from antiphon.nets.random import generator
from antiphon.nets.schedules import Rate
from antiphon.nets.users.plain_trees import copied_tree

_RESOLVED = ("target", "of", "parameters", "sites", "normalise", "rescale")
"""Options that `Channel` gives to the predictor itself."""
_LR = 1e-3
"""Learning rate of a predictor, where none is given."""


class Channel:
    """A channel from one network to another, with a predictor of the returned gradient.

    In each step call `send` in the sender, `receive` in the receiver, the function `learn` for both networks, and then the
    channel's own `learn`. Under `torch.no_grad()` messages are passed on and nothing is recorded. A receiver may keep a message
    and learn from it later; its methods may be called in several threads. A copy has the predictor, but no messages.

    Args:
        size: Components of one message, or up to four axes such as [tokens, features] or [channels, height, width];
            messages are [B, size], or [B, ...] with as many components.
        gradient: None: no gradient is returned, as with `detached`. Otherwise the kind of the synthetic gradient (`linear`,
            `mlp`, `conv`, `critic`, `sobolev`, `sobolev_label`, `local`, `lens`, a registered name, or a module or factory
            called with `inputs` and `outputs`), or the keys of a scenario's `gradient`: `kind`, `target` (the signal in
            `context` that `local` and `sobolev_label` predict), `network` (for a `lens` the receiver's own layers, whose
            present parameters are used), `pool`, `normalise`, `scale`, `discount`, `hidden`, `size`, `norm`, `sites` and
            `optimiser` (`kind`, `lr`, `momentum`, `weight_decay`, `clip`).
        context: Signals that the predictor is conditioned on, by name: a number of classes for integers [B], the shape of one
            sample for floats [B, *shape], or both, as (shape, classes), for integers [B, *shape].
        coupling: `decoupled`; `detached` (no gradient is returned); or `locked` (true backpropagation: one `learn` call
            for both networks).
        lr: The learning rate of the predictor's Adam, if `gradient` sets no optimiser; None: 1e-3; also `learning_rate`.
        seed: Seed of the predictor's hidden layers, together with `name`.
        name: Name of the channel in errors.
        device: Device of the predictor.
        dtype: Type of the predictor and the messages; those that are computed under autocast are converted to it.

    Attributes:
        coupling: How gradients cross it.
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
        coupling: str = DEFAULT,
        lr: float | None = None,
        seed: int = 0,
        name: str = "channel",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():  # lines begin with it
            raise ScenarioError(f"Channel: name={name!r}; must be a word, such as 'layer.1' or 'a->b:key'")
        self.name = name
        self._problems = ChannelProblems(name)
        with self._problems.named("size"):
            self.shape = message_shape(size)
            check_dtype(dtype)
            specs = context_specs(context)
            seed = checked_seed(seed)
        self.size = torch.Size(self.shape).numel()
        self.dtype = dtype
        coupling_names = carried_out_couplings()
        if coupling not in coupling_names:
            raise self._problems.error(no_coupling(coupling, coupling_names))
        self.coupling: Coupling = COUPLINGS[coupling]
        if gradient is None and self.coupling.predicts:
            self.coupling = COUPLINGS[Detached.name]
        if not self.coupling.predicts:
            for key, is_set in (("gradient", gradient not in (None, "linear")), ("lr", lr is not None)):
                if is_set:
                    line = f"{self._problems.place}: {key} is not used by {with_article(self.coupling.name)} channel"
                    fix = f"leave it out, or use coupling={DEFAULT!r}"
                    warnings.warn(f"{line}; {fix}", ScenarioWarning, stacklevel=3)
        gradient_keys = "linear" if gradient is None else gradient
        settings, self._target = read_gradient(gradient_keys, specs, self._problems.error)
        self._specs = specs
        self._context = tuple(spec for spec in specs.values() if spec.name != self._target)
        self._scale = settings.scale
        self._discount = settings.discount
        self.predictor: Predictor | None = None
        if self.coupling.predicts:
            target = None if self._target is None else specs[self._target]
            self._check_used(settings, lr)
            self.predictor = self._make_predictor(settings, target, _LR if lr is None else lr, seed, device)
        self._begin()

    def _check_used(self, settings: GradientSettings, lr: float | None) -> None:
        """Refuse a learning rate beside another one, and warn of a context that is not read."""
        if settings.optimiser.lr is not None and lr is not None:
            raise self._problems.error(
                f"lr: {lr!r}, but gradient.optimiser has lr {settings.optimiser.lr!r}; leave one out"
            )
        names = ", ".join(spec.name for spec in self._context)
        if names and settings.get("target") is not None and settings.get("network") is not None:
            line = f"{self._problems.place}: context {names} is not used by your own network, which reads the message alone"
            warnings.warn(f"{line}; leave it out", ScenarioWarning, stacklevel=4)

    def _begin(self) -> None:
        self._transit = Transit(self._problems, self.predictor)

    def __getstate__(self) -> dict[str, Any]:
        public = ("name", "shape", "size", "coupling", "dtype", "predictor", "_target", "_specs", "_context")
        return {key: getattr(self, key) for key in (*public, "_scale", "_discount", "_problems")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    @in_own_context
    def _make_predictor(
        self,
        settings: GradientSettings,
        target: ContextSpec | None,
        lr: float,
        seed: int,
        device: torch.device | str,
    ) -> Predictor:
        chosen = settings.optimiser
        rate = lr if chosen.lr is None else chosen.lr
        try:
            number = (
                float(rate) if isinstance(rate, SupportsFloat) and not isinstance(rate, bool) else math.nan
            )
        except (TypeError, ValueError):  # of several numbers
            number = math.nan
        if not 0 <= number < math.inf:
            raise self._problems.error(f"lr: {rate!r} is not a learning rate; use a number of 0 or more")
        rates = Rate(base=number, run_steps=1)
        with self._problems.named("device"):
            existing_device(device)
        optimiser: dict[str, Any] = {"kind": chosen.kind, "clip": chosen.clip}
        optimiser |= chosen.options if chosen.built_in else {"options": chosen.options, "lr": rates.base}
        options = {key: value for key, value in settings.options.items() if key not in _RESOLVED}
        rescale = {key: settings.options[key] for key in ("rescale",) if key in settings.options}
        with self._problems.named(f"gradient: {settings.kind}"):
            return predictor_of(
                settings.kind,
                options,
                self.shape,
                self._context,
                generator=generator(seed, "channel", self.name, "gradient"),
                optimiser=optimiser,
                rate=rates,
                target=target,
                sites=settings.get("sites"),
                normalise=settings.get("normalise", "none"),
                **rescale,
                device=device,
                dtype=self.dtype,
            )

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return f"<Channel {self.name}: {', '.join([self.coupling.name, *self._gradient_in_words, f'size {size}'])}>"

    @property
    def _gradient_in_words(self) -> list[str]:
        """What predicts its gradient, and from which signals; empty: nothing does."""
        if self.predictor is None:
            return []
        signals = " and ".join(self._specs)
        return [f"{self.predictor.kind} gradient" + (f" from {signals}" if signals else "")]

    def _repr_html_(self) -> str:
        """Return its predictor's updates and newest alignment, for notebooks."""
        newest: dict[str, float] = {} if self.predictor is None else {"updates": self.predictor.updates}
        newest |= {name: value.item() for name, value in (self.alignment() or {}).items()}
        rows = [[name, number(value)] for name, value in newest.items()]
        return html_of(repr(self), html_table(("", "newest"), rows))

    def send(self, message: Tensor, **context: Tensor) -> None:
        """Send a message; the gradient for the sender is predicted at once.

        Args:
            message: [B, ...], with `size` components per sample.
            context: The signals declared as `context`, [B] integers or [B, ...] floats, by name.

        Raises:
            ScenarioError: The message or context does not fit the channel.
        """
        message = self._out_of_autocast(message)
        signals = self._checked(message, context)
        predictor = self.predictor if torch.is_grad_enabled() else None
        transit = self._transit
        with transit.lock, own_context():
            transit.send(message, None if predictor is None else self._recorded(predictor, message, signals))
            if predictor is not None and not predictor.frozen:
                transit.warn_of_missing_steps()

    def _recorded(self, predictor: Predictor, message: Tensor, signals: Mapping[str, Tensor]) -> SentMessage:
        """Return the record of a message with its predicted gradient, which waits for the sender's `learn`."""
        context = encode(self._context, signals, self.dtype)
        target, valid, sites = (None, ALL, None) if self._target is None else target_of(signals, self._target)
        example = Example(value_of(message), context, None, valid, target, sites)
        with self._problems.named(f"gradient: {predictor.kind}"):
            prediction = predictor.predict_sent(example)
            sent = SentMessage(example, prediction, predictor.updates, not predictor.needs_returned)
            if isinstance(predictor, Critic) and self._discount:
                self._transit.expected_losses.append((sent, predictor.value(example) * self._discount))
        if message.requires_grad:
            share = prediction / max(len(message), 1)
            if self._transit.inject(Injection(message, share, self._scale, self._discount), sent):
                self._problems.warn(
                    f"{MOST_INJECTIONS} messages were sent since its sender learned, and older ones are dropped; pass "
                    "sent=[channel] to comms.learn, or send(message.detach()) if the sender does not learn"
                )
        return sent

    @in_own_context
    def receive(self) -> Tensor:
        """Return the newest message, in the shape in which it was sent.

        It is detached from its sender (unless locked). Every call returns the same tensor, so that the gradients of all
        uses add up. It may be kept, and learned from after the sender has gone on.

        Raises:
            ScenarioError: No message has been sent, it was changed in place, or it was sent in another process.
        """
        transit = self._transit
        with transit.lock:
            newest = transit.check_newest()
            if self.coupling.joins_endpoints:
                return newest
            leaf = transit.open_messages.receive(newest)
            return constant(newest) if leaf is None else leaf

    @in_own_context
    def return_gradient(self, message: Tensor, gradient: Tensor | None, losses: Tensor | None = None) -> None:
        """Record the gradient of a received message that was computed elsewhere, as in another process.

        In place of the receiver's `learn`; several gradients of one message add up.

        Args:
            message: The tensor that `receive` returned.
            gradient: dL/dmessage, of its shape: its `grad` after `loss.backward()`.
            losses: The receiver's loss of each sample, [B]; only critics need it.

        Raises:
            ScenarioError: The gradient does not fit, or no gradient can return for the message.
        """
        if self.coupling.joins_endpoints:
            raise self._problems.error(
                "return_gradient: it is locked; pass both networks' parameters to one comms.learn"
            )
        transit = self._transit
        if transit.newest is None:
            raise self._problems.error(
                "return_gradient: no message has been sent; call send and receive before"
            )
        if self.predictor is None or not self.predictor.needs_returned:
            return
        if not isinstance(message, Tensor):
            raise self._problems.error(
                f"return_gradient: the message is {with_article(type(message).__name__)}; pass what receive() returned"
            )
        if not isinstance(gradient, Tensor) or gradient.shape != message.shape:
            type_name = None if gradient is None else with_article(type(gradient).__name__)
            shape = list(gradient.shape) if isinstance(gradient, Tensor) else type_name
            fix = "pass dL/dmessage, which is message.grad after loss.backward()"
            raise self._problems.error(
                f"return_gradient: the gradient is {shape}, but the message {list(message.shape)}; {fix}"
            )
        fits = isinstance(losses, Tensor) and losses.shape == message.shape[:1]
        if self.predictor.needs_loss and not fits:
            raise self._problems.error(
                f"return_gradient: its critic needs losses, a tensor [{len(message)}]; give the loss of each sample"
            )
        with transit.lock:
            sent = next((sent for sent, leaf in transit.open_messages.received() if leaf is message), None)
            if sent is None:
                raise self._problems.error(
                    "return_gradient: no gradient is awaited for this tensor; pass what receive() returned, before learn()"
                )
            if not all_finite([gradient, losses]):
                transit.leave_out([sent])
                transit.warn_left_out("return_gradient: the gradient, or a loss, is not finite")
                return
            sent.book(
                constant(gradient.to(message)), constant(losses) if isinstance(losses, Tensor) else None
            )

    def learn(self) -> Tensor | None:
        """Take one optimiser step of the predictor on all returned gradients; call it after `learn` of both networks.

        Returns:
            The predictor's loss before the step, a scalar: the mean over the batch of |SG(m, c) - delta|^2, or of
            the kind's own loss, summed over messages. None without returned gradients that are finite.
        """
        transit, predictor = self._transit, self.predictor
        with transit.lock, own_context():
            if transit.newest is None:
                raise self._problems.error(
                    "learn: no message has been sent; call send, then comms.learn, then learn"
                )
            transit.end_step()
            if predictor is None:
                return None
            transit.take_ready(predictor)
            transit.warn_of_ends(predictor)
            if (summed := transit.take_sum()) is None:
                return None
            loss, gradients = summed
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
        state: dict[str, Any] = {} if self.predictor is None else copied_tree(self.predictor.state_dict())
        return state

    @in_own_context
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of a channel with the same settings; messages in transit are dropped.

        Raises:
            ScenarioError: The state does not fit this channel; the line names the first difference.
        """
        predictor = self.predictor
        fix = "pass what state_dict() of such a channel returned"
        if not isinstance(state, Mapping):
            raise self._problems.error(f"state: is {with_article(type(state).__name__)}; {fix}")
        for section in ("parameters", "buffers"):
            expected = {} if predictor is None else getattr(predictor, section)
            saved = state.get(section, {})
            for name in [*expected, *(name for name in saved if name not in expected)]:
                have, want = ([*t[name].shape] if name in t else None for t in (saved, expected))
                if have != want:
                    raise self._problems.error(
                        f"state: {section} '{name}' is {have}, but the channel needs {want}; "
                        "create both channels with the same size, gradient and context"
                    )
        if predictor is not None:
            # before anything is loaded; an optimiser may come to count the steps that parameters miss
            have, want = (
                sorted({*tree} - {MISSED}) for tree in (state.get("optimiser", {}), predictor.optimiser.state)
            )
            if have != want:
                raise self._problems.error(
                    f"state: optimiser has {have}, but the channel needs {want}; "
                    "create both channels with the same optimiser in gradient"
                )
            for name in sorted(predictor.state_dict().keys() - state.keys()):
                raise self._problems.error(f"state: has no {name}; {fix}")
            predictor.load_state_dict(state)
        self._begin()

    def alignment(self) -> dict[str, Tensor] | None:
        """Return the alignment of synthetic and returned gradient, for the newest message trained on.

        All its samples count, as the predictor learns from all: of those without a label, a gradient of zero has returned, which
        only the cosines leave out.

        Returns:
            `cosine`, `norm_ratio` and `r2`, see `antiphon.comms.alignment`; None before the first gradient is returned.
        """
        comparison = self._transit.newest_comparison
        return None if comparison is None else alignment(*comparison)

    def _checked(self, message: Tensor, context: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Check what is to be sent; return the signals as the predictor reads them."""
        if not isinstance(message, Tensor):
            raise self._problems.error(f"message: it is of type {type(message).__name__}; pass a tensor")
        shape = list(message.shape)
        if len(shape) < 2 or message.numel() != len(message) * self.size:
            raise self._problems.error(
                f"message: {shape} is not [batch, {self.size}]; reshape it, or change size"
            )
        if not len(message):
            raise self._problems.error(f"message: {shape} has no samples; leave out empty batches")
        if message.dtype != self.dtype:
            raise self._problems.error(
                f"message: it is {message.dtype}, but the channel is {self.dtype}; pass the channel dtype=, or convert it"
            )
        if message.is_inference() and torch.is_grad_enabled():
            raise self._problems.error(
                "message: it was made in torch.inference_mode(); use torch.no_grad(), or clone it"
            )
        for name in context:
            if name not in self._specs:
                raise self._problems.error(f"context: no signal '{name}'{suggest(name, self._specs)}")
        if self.predictor is None:
            return {}
        device = next((p.device for p in self.predictor.parameters.values()), message.device)
        if message.device != device:
            raise self._problems.error(
                f"message: it is on {message.device}, but the channel is on {device}; pass the channel device="
            )
        for name in self._specs:
            if name not in context:
                raise self._problems.error(f"context: '{name}' is missing; pass {name}= to send")
        with self._problems.named("context"):
            of_specs = (
                signals_of(spec, context[name], message, self.dtype) for name, spec in self._specs.items()
            )
            return {name: value for signals in of_specs for name, value in signals.items()}

    def _out_of_autocast(self, message: Tensor) -> Tensor:
        """Return a message in the type of the caller's autocast in the channel's own, with its graph; any other as it is."""
        if not isinstance(message, Tensor) or message.dtype == self.dtype:
            return message
        kind = message.device.type
        mixed = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        return (
            message.to(self.dtype) if mixed and message.dtype == torch.get_autocast_dtype(kind) else message
        )


def transit_of(channel: Channel) -> Transit:
    return channel._transit
