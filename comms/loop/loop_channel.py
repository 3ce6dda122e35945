"""A channel for any training loop: messages forward, a predicted gradient back at once.

The simulator's channels also have delay, clocks and lost messages; these do not. A message is received in the step in
which it was sent, or later by a receiver that kept it.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, SupportsFloat

import torch
from torch import Tensor

from antiphon.base.counts import checked_seed
from antiphon.base.errors import (
    AntiphonError,
    CallError,
    ScenarioError,
    ScenarioWarning,
    first_line,
    with_article,
)
from antiphon.base.mask import ALL
from antiphon.base.nearest_names import suggest
from antiphon.base.notebook import html_of, html_table, number
from antiphon.base.spellings import either_spelling
from antiphon.comms.backward_requests import (
    Gradients,
    Injection,
    backward,
    constant,
    gradients_of,
    value_of,
)
from antiphon.comms.couplings import COUPLINGS, DEFAULT, Coupling, Detached
from antiphon.comms.examples import ContextSpec, Example, encode, target_of
from antiphon.comms.gradient_alignment import alignment
from antiphon.comms.loop.channel_arguments import (
    Context,
    GradientSettings,
    check_dtype,
    context_specs,
    message_shape,
    no_coupling,
    read_gradient,
    signals_of,
)
from antiphon.comms.loop.gradients import ChannelStep, add_gradients
from antiphon.comms.loop.open_messages import OpenMessages, SentMessage
from antiphon.comms.model import LossAndGradients
from antiphon.comms.module_predictors import predictor_of
from antiphon.comms.synthetic_gradients import Critic, Predictor
from antiphon.nets.devices import existing_device
from antiphon.nets.isolation.own_context import in_own_context, own_context
from antiphon.nets.random import generator
from antiphon.nets.schedules import Rate
from antiphon.nets.torch_optimisers import copied
from antiphon.nets.user_modules import check_followed

_RESOLVED = ("target", "of", "parameters", "sites", "normalise", "rescale")
"""Options that `Channel` gives to the predictor itself."""
_COUPLINGS = sorted(
    name for name, coupling in COUPLINGS.items() if not (coupling.waits or coupling.replaces_messages)
)
_LR = 1e-3
"""Learning rate of a predictor, where none is given."""
_MANY = 256
"""Gradients that return without a step of the predictor, and after which a warning says so."""
_MANY_STEPS = 50
"""Steps of the sender's optimiser without a step of the predictor, after which a warning says so."""
_LOOK_PERIOD = 100
"""Calls of the channel's `learn` from one look at the predictor's loss to the next where a look makes the host wait."""
_MOST_INJECTIONS = 1024
"""Messages whose sender's graph is kept until the sender learns."""
_FIRST_STEPS = 20
"""Calls of the channel's `learn` after which a warning says that no gradient has reached its sender, or has returned."""


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
        lr: The learning rate of the predictor's Adam, if `gradient` sets no optimiser; also `learning_rate`.
        seed: Seed of the predictor's hidden layers, together with `name`.
        name: Name of the channel in errors.
        device: Device of the predictor.
        dtype: Type of the predictor and the messages; those that are computed under autocast are converted to it.

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
        coupling: str = DEFAULT,
        lr: float = _LR,
        seed: int = 0,
        name: str = "channel",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():  # lines begin with it
            raise ScenarioError(f"Channel: name={name!r}; must be a word, such as 'layer.1' or 'a->b:key'")
        self.name = name
        with self._named("size"):
            self.shape = message_shape(size)
            check_dtype(dtype)
            specs = context_specs(context)
            seed = checked_seed(seed)
        self.size = torch.Size(self.shape).numel()
        self.coupling = coupling
        self.dtype = dtype
        if coupling not in _COUPLINGS:
            raise self._error(no_coupling(coupling, _COUPLINGS))
        if gradient is None and COUPLINGS[coupling].predicts:
            self.coupling = Detached.name
        if not self.made_coupling.predicts:
            for key, is_set in (("gradient", gradient not in (None, "linear")), ("lr", lr != _LR)):
                if is_set:
                    line = f"channel {name}: {key} is not used by {with_article(self.coupling)} channel"
                    fix = f"leave it out, or use coupling={DEFAULT!r}"
                    warnings.warn(f"{line}; {fix}", ScenarioWarning, stacklevel=3)
        gradient_keys = "linear" if gradient is None else gradient
        settings, self._target = read_gradient(gradient_keys, specs, self._error)
        self._specs = specs
        self._context = tuple(spec for spec in specs.values() if spec.name != self._target)
        self._scale = settings.scale
        self._discount = settings.discount
        self.predictor: Predictor | None = None
        if self.made_coupling.predicts:
            target = None if self._target is None else specs[self._target]
            self._check_used(settings, lr)
            self.predictor = self._make_predictor(settings, target, lr, seed, device)
        self._warned: set[str] = set()
        self._begin()

    def _check_used(self, settings: GradientSettings, lr: float) -> None:
        """Refuse a learning rate beside another one, and warn of a context that is not read."""
        if settings.optimiser.lr is not None and lr is not _LR:
            raise self._error(
                f"lr: {lr!r}, but gradient.optimiser has lr {settings.optimiser.lr!r}; leave one out"
            )
        names = ", ".join(spec.name for spec in self._context)
        if names and settings.get("target") is not None and settings.get("network") is not None:
            line = f"channel {self.name}: context {names} is not used by your own network, which reads the message alone"
            warnings.warn(f"{line}; leave it out", ScenarioWarning, stacklevel=4)

    @property
    def made_coupling(self) -> Coupling:
        """Its coupling: how gradients cross it."""
        return COUPLINGS[self.coupling]

    def _begin(self) -> None:
        """Start without messages."""
        self._lock = threading.RLock()
        self._newest: Tensor | None = None
        """The newest message, with its graph; None: none has been sent."""
        self._newest_version: int | None = None
        """Changes in place of the newest message as it was sent; None: torch counts none."""
        self._sending_process: int | None = None
        self._open_messages = OpenMessages()
        self._injections: list[tuple[Injection, int]] = []
        self._expected_losses: list[Tensor] = []
        """What a critic expects the receiver to lose, [B] each, of the messages for which the sender has not learned."""
        self._newest_comparison: tuple[Tensor, Tensor] | None = None
        """The prediction and the returned gradient of the newest message that the predictor has learned from."""
        self._waiting_sum: LossAndGradients | None = None
        """The predictor's loss and gradients on the messages that wait for its step."""
        self._waiting_count = 0
        """How many of these are no longer kept by themselves."""
        self._step = ChannelStep(self.name)
        self._learn_calls = 0
        self._injected = False
        self._sender_learned = False
        self._receiver_learned = False

    def __getstate__(self) -> dict[str, Any]:
        public = ("name", "shape", "size", "coupling", "dtype", "predictor", "_target", "_specs", "_context")
        return {key: getattr(self, key) for key in (*public, "_scale", "_discount", "_warned")}

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
            raise self._error(f"lr: {rate!r} is not a learning rate; use a number of 0 or more")
        rates = Rate(base=number, run_steps=1)
        with self._named("device"):
            existing_device(device)
        optimiser: dict[str, Any] = {"kind": chosen.kind, "clip": chosen.clip}
        optimiser |= chosen.options if chosen.built_in else {"options": chosen.options, "lr": rates.base}
        options = {key: value for key, value in settings.options.items() if key not in _RESOLVED}
        rescale = {key: settings.options[key] for key in ("rescale",) if key in settings.options}
        with self._named(f"gradient: {settings.kind}"):
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
        return (
            f"<Channel {self.name}: {', '.join([self.coupling, *self._gradient_in_words, f'size {size}'])}>"
        )

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
        with self._lock, own_context():
            sent = None if predictor is None else self._recorded(predictor, message, signals)
            self._newest = message
            self._newest_version = None if message.is_inference() else message._version
            self._sending_process = os.getpid()
            self._open_messages.add(sent)
            surplus = self._open_messages.take_surplus()
            if surplus:
                self._add_to_waiting_sum(surplus)
                self._waiting_count += len(surplus)
            if predictor is not None and not predictor.frozen:
                self._warn_of_missing_steps()

    def _recorded(self, predictor: Predictor, message: Tensor, signals: Mapping[str, Tensor]) -> SentMessage:
        """Return the record of a message with its predicted gradient, which waits for the sender's `learn`."""
        context = encode(self._context, signals, self.dtype)
        target, valid, sites = (None, ALL, None) if self._target is None else target_of(signals, self._target)
        example = Example(value_of(message), context, None, valid, target, sites)
        with self._named(f"gradient: {predictor.kind}"):
            prediction = predictor.predict_sent(example)
            if isinstance(predictor, Critic) and self._discount:
                self._expected_losses.append(predictor.value(example) * self._discount)
        if message.requires_grad:
            self._injected = True
            share = Injection(message, prediction / max(len(message), 1), self._scale, self._discount)
            self._injections.append((share, message._version))
            if len(self._injections) > _MOST_INJECTIONS:
                del self._injections[0]
                self._warn(
                    f"{_MOST_INJECTIONS} messages were sent since its sender learned, and older ones are dropped; pass "
                    "sent=[channel] to comms.learn, or send(message.detach()) if the sender does not learn"
                )
        return SentMessage(example, prediction, predictor.updates, not predictor.needs_returned)

    @in_own_context
    def receive(self) -> Tensor:
        """Return the newest message, in the shape in which it was sent.

        It is detached from its sender (unless locked). Every call returns the same tensor, so that the gradients of all
        uses add up. It may be kept, and learned from after the sender has gone on.

        Raises:
            ScenarioError: No message has been sent, it was changed in place, or it was sent in another process.
        """
        with self._lock:
            if self._newest is None:
                raise self._error("no message has been sent; call send before receive")
            self._check_process()
            if self._newest_version is not None and self._newest._version != self._newest_version:
                raise self._error(_CHANGED)
            if self.made_coupling.joins_endpoints:
                return self._newest
            leaf = self._open_messages.receive(self._newest)
            return constant(self._newest) if leaf is None else leaf

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
        if self.made_coupling.joins_endpoints:
            raise self._error(
                "return_gradient: it is locked; pass both networks' parameters to one comms.learn"
            )
        if self._newest is None:
            raise self._error("return_gradient: no message has been sent; call send and receive before")
        if self.predictor is None or not self.predictor.needs_returned:
            return
        if not isinstance(gradient, Tensor) or gradient.shape != message.shape:
            type_name = None if gradient is None else with_article(type(gradient).__name__)
            shape = list(gradient.shape) if isinstance(gradient, Tensor) else type_name
            fix = "pass dL/dmessage, which is message.grad after loss.backward()"
            raise self._error(
                f"return_gradient: the gradient is {shape}, but the message {list(message.shape)}; {fix}"
            )
        if self.predictor.needs_loss and (losses is None or losses.shape != message.shape[:1]):
            raise self._error(
                f"return_gradient: its critic needs losses, [{len(message)}]; give the loss of each sample"
            )
        with self._lock:
            sent = next((sent for sent, leaf in self._open_messages.received() if leaf is message), None)
            if sent is None:
                raise self._error(
                    "return_gradient: no gradient is awaited for this tensor; pass what receive() returned, before learn()"
                )
            sent.book(constant(gradient.to(message)), None if losses is None else constant(losses))

    def learn(self) -> Tensor | None:
        """Take one optimiser step of the predictor on all returned gradients; call it after `learn` of both networks.

        Returns:
            The predictor's loss before the step, a scalar: the mean over the batch of |SG(m, c) - delta|^2, or of
            the kind's own loss, summed over messages. None without returned gradients.
        """
        with self._lock, own_context():
            if self._newest is None:
                raise self._error("learn: no message has been sent; call send, then comms.learn, then learn")
            self._step.over, self._step = True, ChannelStep(self.name)
            predictor = self.predictor
            if predictor is None:
                return None
            ready = self._open_messages.take()
            if ready:
                self._add_to_waiting_sum(ready)
                newest = ready[-1].example.returned
                if predictor.needs_returned and newest is not None:
                    self._newest_comparison = ready[-1].prediction, newest
            self._learn_calls += 1
            if self._learn_calls == _FIRST_STEPS:
                self._warn_of_ends(predictor)
            if self._waiting_sum is None:
                return None
            loss, gradients = self._waiting_sum
            self._waiting_sum, self._waiting_count = None, 0
            if loss.device.type == "cpu" or self._learn_calls % _LOOK_PERIOD == 0:
                self._warn_unless_finite(loss, ready)
            if not predictor.frozen:
                predictor.step(gradients, predictor.updates)
            return loss

    def _add_to_waiting_sum(self, messages: Sequence[SentMessage]) -> None:
        """Add the predictor's loss and gradients on some messages to those that its next step takes."""
        predictor = self.predictor
        assert predictor is not None
        if any(sent.changed for sent in messages):
            raise self._error(_CHANGED)
        examples = [sent.trained_on(predictor.updates) for sent in messages]
        with self._named(f"gradient: {predictor.kind}"):
            loss, gradients = predictor.loss_and_gradients(examples)
        if self._waiting_sum is not None:
            total, sums = self._waiting_sum
            pairs = zip(sums, gradients, strict=True)
            loss, gradients = total + loss, [b if a is None else a if b is None else a + b for a, b in pairs]
        self._waiting_sum = loss, gradients

    def parameters(self) -> Iterator[Tensor]:
        """Yield the predictor's parameters, like `torch.nn.Module.parameters`."""
        yield from () if self.predictor is None else self.predictor.parameters.values()

    def state_dict(self) -> dict[str, Any]:
        """Return the predictor's state as a tree of plain data and copied tensors, for `torch.save`.

        It holds the predictor's parameters, running statistics, optimiser and number of updates, but no messages.
        """
        state: dict[str, Any] = {} if self.predictor is None else copied(self.predictor.state_dict())
        return state

    @in_own_context
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of a channel with the same settings; messages in transit are dropped.

        Raises:
            ScenarioError: The state does not fit this channel; the line names the first difference.
        """
        predictor = self.predictor
        for section in ("parameters", "buffers"):
            expected = {} if predictor is None else getattr(predictor, section)
            saved = state.get(section, {})
            for name in [*expected, *(name for name in saved if name not in expected)]:
                have, want = ([*t[name].shape] if name in t else None for t in (saved, expected))
                if have != want:
                    raise self._error(
                        f"state: {section} '{name}' is {have}, but the channel needs {want}; "
                        "create both channels with the same size, gradient and context"
                    )
        if predictor is not None:
            predictor.load_state_dict(state)
        self._begin()

    def alignment(self) -> dict[str, Tensor] | None:
        """Return the alignment of synthetic and returned gradient, for the newest message trained on.

        Returns:
            `cosine`, `norm_ratio` and `r2`, see `antiphon.comms.alignment`; None before the first gradient is returned.
        """
        return None if self._newest_comparison is None else alignment(*self._newest_comparison)

    def _received(self) -> list[tuple[SentMessage, Tensor]]:
        """Messages that a receiver's objective may depend on, with their leaves."""
        with self._lock:
            self._check_process()
            return self._open_messages.received()

    def _learned(self) -> list[Tensor]:
        """Leaves of messages on which the predictor was trained."""
        with self._lock:
            return self._open_messages.learned()

    def _book(
        self, received: Sequence[SentMessage], gradients: Sequence[Tensor | None], losses: Tensor | None
    ) -> None:
        """Record the gradients dL/dmessage that one objective returns; None: it does not depend on the message."""
        with self._lock:
            if any(sent.learned for sent, g in zip(received, gradients, strict=True) if g is not None):
                raise self._error(_LEARNED)
            reached = any(gradient is not None for gradient in gradients)
            for sent, gradient in zip(received, gradients, strict=True):
                losses_here = losses if losses is None or len(losses) == len(sent.example.message) else None
                if gradient is not None:
                    sent.book(gradient, losses_here)
                elif not reached:
                    sent.book_unused(losses_here)

    def _checked(self, message: Tensor, context: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Check what is to be sent; return the signals as the predictor reads them."""
        if not isinstance(message, Tensor):
            raise self._error(f"message: it is of type {type(message).__name__}; pass a tensor")
        shape = list(message.shape)
        if len(shape) < 2 or message.numel() != len(message) * self.size:
            raise self._error(f"message: {shape} is not [batch, {self.size}]; reshape it, or change size")
        if not len(message):
            raise self._error(f"message: {shape} has no samples; leave out empty batches")
        if message.dtype != self.dtype:
            raise self._error(
                f"message: it is {message.dtype}, but the channel is {self.dtype}; pass the channel dtype=, or convert it"
            )
        if message.is_inference() and torch.is_grad_enabled():
            raise self._error(
                "message: it was made in torch.inference_mode(); use torch.no_grad(), or clone it"
            )
        for name in context:
            if name not in self._specs:
                raise self._error(f"context: no signal '{name}'{suggest(name, self._specs)}")
        if self.predictor is None:
            return {}
        device = next((p.device for p in self.predictor.parameters.values()), message.device)
        if message.device != device:
            raise self._error(
                f"message: it is on {message.device}, but the channel is on {device}; pass the channel device="
            )
        for name in self._specs:
            if name not in context:
                raise self._error(f"context: '{name}' is missing; pass {name}= to send")
        with self._named("context"):
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

    def _check_process(self) -> None:
        if self._sending_process is not None and self._sending_process != os.getpid():
            raise self._error(
                "its message was sent in another process, to which no gradient returns; pass the message and its gradient "
                "in queues, with return_gradient"
            )

    @contextmanager
    def _named(self, argument: str) -> Iterator[None]:
        """Raise errors, also those of a predictor of the user's, with the channel's name in one line."""
        try:
            yield
        except ScenarioError as error:
            raise self._error(str(error)) from None
        except CallError as error:  # a network's, where a run names the agent
            raise self._error(
                f"{argument} fails: {first_line(error.__cause__ or error)}"
            ) from error.__cause__
        except (AntiphonError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise self._error(f"{argument} fails: {first_line(error)}") from error

    def _warn_of_ends(self, predictor: Predictor) -> None:
        """Warn if the sender has never learned from a predicted gradient, or the predictor from a returned one."""
        calls = f"after {_FIRST_STEPS} calls of the channel's learn"
        if self._sender_learned and not self._injected:
            self._warn(
                f"{calls}, none of its messages has needed a gradient, and {_NOT_FOLLOWED}",
                kind="not followed",
            )
        if self._injections and not self._sender_learned:
            self._warn(
                f"{calls}, its sender has not learned from a predicted gradient; pass sent=[channel] to the comms.learn of the "
                "sender's parameters, or send(message.detach()) if the sender does not learn",
            )
        if predictor.needs_returned and self._newest_comparison is None and self._newest is not None:
            fix = (
                "pass received=[channel] to the receiver's comms.learn, or call return_gradient"
                if not self._receiver_learned
                else "compute the receiver's objective from what receive() returns, not detached"
            )
            self._warn(
                f"{calls}, no gradient has returned, and the predicted gradient is zero; {fix}",
                kind="returned",
            )

    def _warn_of_missing_steps(self) -> None:
        """Warn if the predictor has not learned for long, although gradients return or the sender's optimiser steps."""
        if self._step.most_optimiser_steps >= _MANY_STEPS:
            missing = f"its sender's optimiser has taken {_MANY_STEPS} steps"
        elif self._waiting_count >= _MANY:
            missing = f"the gradients of {_MANY} messages have returned"
        else:
            return
        self._warn(
            f"{missing} without a step of its predictor; call the channel's learn() after each optimiser's step (returned "
            "gradients are added up, and nothing is lost)"
        )

    def _warn_unless_finite(self, loss: Tensor, messages: Sequence[SentMessage]) -> None:
        """Warn if the predictor's loss on some messages is not finite, and name what is not."""
        if math.isfinite(loss) or not messages:
            return
        examples = [sent.example for sent in messages]
        parts = {
            "a message": [example.message for example in examples],
            "a signal of the context": [e.context for e in examples if e.context is not None],
            "a returned gradient": [e.returned for e in examples if e.returned is not None],
        }
        culprit = next(
            (name for name, values in parts.items() if not all(bool(v.isfinite().all()) for v in values)),
            "the predicted gradient",
        )
        self._warn(
            f"{culprit} is not finite, and after this step the predictor is not; leave such batches out, or lower the "
            "learning rate of the networks or of the predictor (lr=)",
            kind="not finite",
        )

    def _warn(self, problem: str, kind: str | None = None) -> None:
        """Warn of a problem of the loop, once; of problems of one kind, of the first."""
        if (kind or problem) not in self._warned:
            self._warned.add(kind or problem)
            warnings.warn(f"channel {self.name}: {problem}", stacklevel=4)

    def _error(self, problem: str) -> ScenarioError:
        return ScenarioError(f"channel {self.name}: {problem}")


def learn(
    objective: Tensor | None,
    parameters: Iterable[Tensor],
    *,
    sent: Sequence[Channel] = (),
    received: Sequence[Channel] = (),
) -> None:
    """Add the gradients of one network to its parameters' `grad`, and record the returned gradients on its channels.

    The network follows its objective plus `scale` times the predicted gradients of the messages it sent; the gradients
    returned on the messages it received count these predictions with `discount`. Parameters are not updated: take a step
    of any optimiser after `learn` of all networks.

    A gradient returns for the messages that the objective (or what the network sent) depends on, also if the sender has sent
    others since. If it depends on none of a channel, those received are given a gradient of zero as soon as the loop holds none
    of them any more.

    Args:
        objective: The network's loss: the mean over its B samples, a scalar, or the loss of each sample, [B], whose mean
            is followed (a critic on a received channel learns from each); None if the network has no loss of its own. One
            that needs no gradient is an error without channels; with them a gradient of zero, and a warning.
        parameters: Gradients of several calls add up in their `grad` until `zero_grad`. A gradient that a step has used is
            replaced: after a step of an optimiser, another change in place, or the `learn` of a channel in `sent`. A parameter
            that no gradient reaches is left as after `zero_grad`, or as it was. Those that do not require a gradient are ignored.
        sent: The channels on which the network has sent since its last `learn`.
        received: The channels on which it has received.

    Raises:
        ScenarioError: The objective has another shape, or is a mean although a critic learns from it; it depends on a message
            that the predictor has learned from; its graph is no longer there; or a locked channel is not in both `sent` and
            `received`.
    """
    sent, received = _channels("sent", sent), _channels("received", received)
    for channel in dict.fromkeys([*sent, *received]):
        if channel.made_coupling.joins_endpoints and not (channel in sent and channel in received):
            raise ScenarioError(
                f"channel {channel.name}: it is locked, so its ends learn as one network; pass it in both sent and "
                "received of one learn call, with the parameters of both"
            )
    for channel in sent:
        if channel._newest is None:
            raise channel._error(
                "learn: it is in sent=, but no message has been sent; call send before comms.learn"
            )
    uses = {channel: channel._received() for channel in received}
    injections = [(channel, *pair) for channel in sent for pair in channel._injections]
    rows = {len(injection.output) for _, injection, _ in injections}
    rows |= {len(leaf) for messages in uses.values() for _, leaf in messages}
    _check_objective(objective, rows)
    for channel, injection, version in injections:
        if injection.output._version != version:
            raise channel._error(_CHANGED)
    losses = {
        channel: _losses(channel, objective, sent, messages) for channel, messages in uses.items() if messages
    }
    trainable = _trainable(parameters)
    _check_parameters(objective, trainable, sent, received)
    learned = [(channel, leaf) for channel in received for leaf in channel._learned()]
    leaves = [leaf for messages in uses.values() for _, leaf in messages]
    with own_context():
        gradients, returned = _backward(
            objective,
            [injection for _, injection, _ in injections],
            trainable,
            [*leaves, *(t for _, t in learned)],
        )
    for (channel, _), late in zip(learned, returned[len(leaves) :], strict=True):
        if late is not None:
            raise channel._error(_LEARNED)
    back = iter(returned)
    for channel, messages in uses.items():
        channel._book([m for m, _ in messages], [next(back) for _ in messages], losses.get(channel))
    with own_context():
        add_gradients(trainable, gradients, [channel._step for channel in sent])
    for channel in sent:
        channel._sender_learned = True
        channel._injections.clear()
        channel._expected_losses.clear()
    for channel in received:
        channel._receiver_learned = True


_NO_GRADIENT = (
    "needs no gradient, and nothing is learned from it; pass the loss itself, neither detached nor a number"
)
_CHANGED = "message: it was changed in place after it was sent; send a copy (message.clone())"
_NOT_FOLLOWED = (
    "its sender has learned nothing from it; send what the sender's network returns, not detached, or leave the channel out "
    "of sent="
)
_LEARNED = (
    "the objective depends on a message that the predictor has learned from; call the channel's learn after the last "
    "comms.learn that reads a message, or give each receiver a channel of its own"
)


def _channels(role: str, channels: Sequence[Channel]) -> list[Channel]:
    """The channels of an argument of `learn`, each once."""
    if isinstance(channels, Channel) or any(not isinstance(channel, Channel) for channel in channels):
        raise ScenarioError(f"learn: {role} is not a list of channels; write {role}=[channel]")
    return list(dict.fromkeys(channels))


def _trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters that require a gradient, each once."""
    tensors = None if isinstance(parameters, Tensor | torch.nn.Module) else list(parameters)
    if tensors is None or any(not isinstance(p, Tensor) for p in tensors):
        raise ScenarioError("learn: parameters are not a list of tensors; write network.parameters()")
    if not tensors and isinstance(parameters, Iterator):
        raise ScenarioError(
            "learn: parameters are an iterator without parameters (left), as network.parameters() is after its first use; write "
            "network.parameters() in every call, or make a list of it once"
        )
    return [p for p in dict.fromkeys(tensors) if p.requires_grad]


def _check_parameters(
    objective: Tensor | None,
    parameters: Sequence[Tensor],
    sent: Sequence[Channel],
    received: Sequence[Channel],
) -> None:
    """Warn if the parameters are not of the network that sends or that computes the objective, when a channel learns first.

    Raises:
        ScenarioError: A checkpoint hides parameters of one; there is no channel, and an objective without a gradient.
    """
    if parameters and objective is not None and not (sent or received or objective.requires_grad):
        raise ScenarioError(f"learn: the objective {_NO_GRADIENT}")
    parameter_ids = {id(parameter) for parameter in parameters}
    for channel in sent if objective is None and parameters else ():
        if channel.predictor is not None and channel._newest is not None and not channel._injected:
            channel._warn(
                f"learn: no message has needed a gradient, and {_NOT_FOLLOWED}", kind="not followed"
            )
    for channel in sent:
        messages = [injection.output for injection, _ in channel._injections]
        for message in [] if channel._sender_learned else messages:
            check_followed("learn: the sender", message)
        if messages and not channel._sender_learned and not parameter_ids & _sources(messages, parameters):
            channel._warn(
                "learn: its messages depend on none of the parameters that were passed, and its sender learns nothing from it; "
                "pass the sender's parameters, or leave the channel out of sent="
            )
    first = [c for c in sent if not c._sender_learned] + [c for c in received if not c._receiver_learned]
    if not first or not parameter_ids or objective is None:
        return
    if any(channel.predictor is not None and channel.predictor.needs_loss for channel in received):
        return  # a critic learns from a loss without a gradient too
    check_followed("learn: a network", objective)
    leaves = [leaf for channel in dict.fromkeys([*sent, *received]) for _, leaf in channel._received()]
    sources = _sources([objective], [*parameters, *leaves])
    if not sources:
        problem = _NO_GRADIENT
    elif not sources & parameter_ids and sources - {id(leaf) for leaf in leaves}:
        problem = (
            "depends on parameters, but on none that were passed; pass those of the network that computes it, or [] to return "
            "gradients alone"
        )
    else:
        return
    first[0]._warn(f"learn: the objective {problem}", kind="returned")


def _sources(results: Sequence[Tensor], tensors: Sequence[Tensor]) -> set[int]:
    """The identities of the tensors that the gradients of some results reach: leaves, and those given that are results themselves."""
    named = {tensor.grad_fn: id(tensor) for tensor in tensors if tensor.grad_fn is not None}
    sources = {id(result) for result in results if result.grad_fn is None and result.requires_grad}
    nodes, seen = [result.grad_fn for result in results], set[Any]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        source = named.get(node, id(getattr(node, "variable", None)))
        if source != id(None):
            sources.add(source)
        nodes += [earlier for earlier, _ in node.next_functions]
    return sources


def _check_objective(objective: Tensor | None, rows: set[int]) -> None:
    """Check the shape and type of an objective; `rows`: the batch sizes of its channels."""
    if objective is None:
        return
    if not isinstance(objective, Tensor) or not objective.is_floating_point():
        found_type = str(objective.dtype) if isinstance(objective, Tensor) else type(objective).__name__
        raise ScenarioError(f"learn: the objective is {found_type}; pass a tensor of floats, or None")
    if not objective.requires_grad and not torch.is_grad_enabled():
        raise ScenarioError(
            "learn: the objective was computed under torch.no_grad() and has no gradient; compute it outside"
        )
    if objective.numel() != 1:
        if objective.dim() != 1:
            raise ScenarioError(
                f"learn: the objective is {list(objective.shape)}; pass its mean over the batch, or one loss per sample"
            )
        if rows and len(objective) not in rows:
            raise ScenarioError(
                f"learn: the objective has {len(objective)} samples, but the channels carry batches of {max(rows)}; "
                "pass one loss per sample"
            )


def _backward(
    objective: Tensor | None,
    injections: Sequence[Injection],
    parameters: Sequence[Tensor],
    leaves: Sequence[Tensor],
) -> tuple[Gradients, Gradients]:
    """Return the gradients of the parameters and of the leaves, dL/dleaf."""
    mean = None if objective is None else objective.mean()
    # a message that is injected without a factor depends on the leaves no less
    silent = [i.output for i in injections if not i.discount]
    try:
        zeros = gradients_of([(m, torch.zeros_like(m)) for m in silent], leaves, retain=True)
        gradients, returned = backward(mean, injections, parameters, leaves, 1)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ScenarioError(f"learn: {_explained(first_line(error))}") from error
    return gradients, [zero if back is None else back for back, zero in zip(returned, zeros, strict=True)]


def _explained(problem: str) -> str:
    """What an error of torch's backward pass means in a loop with channels."""
    if "second time" in problem or "freed" in problem:
        return (
            "the graph of the objective or of a sent message was used by an earlier learn or backward; add up the losses that "
            "share a graph, and pass their sum to one learn"
        )
    if "inplace" in problem:
        return (
            "a parameter or tensor was changed in place between the forward pass and learn; call comms.learn before the "
            "optimiser's step"
        )
    return f"the backward pass fails: {problem}"


def _losses(
    channel: Channel,
    objective: Tensor | None,
    sent: Sequence[Channel],
    messages: Sequence[tuple[SentMessage, Tensor]],
) -> Tensor | None:
    """Target of a critic on `channel`, [B]: the receiver's losses plus its own critics' values."""
    if channel.predictor is None or not channel.predictor.needs_loss:
        return None
    rows = {len(leaf) for _, leaf in messages}
    expected = [value for sending in sent for value in sending._expected_losses]
    if objective is not None:
        if objective.numel() not in rows:
            raise ScenarioError(
                f"channel {channel.name}: its critic learns the receiver's loss of each sample; pass learn an "
                f"objective [{max(rows)}], not its mean"
            )
        expected.append(constant(objective).view(-1))
    if len({len(value) for value in expected}) > 1:
        raise ScenarioError(
            f"channel {channel.name}: its critic adds up losses of batches of {sorted({len(v) for v in expected})} samples; "
            "use one batch size"
        )
    return torch.stack(expected).sum(0) if expected else messages[-1][1].new_zeros(max(rows))
