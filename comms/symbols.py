"""Sampled messages: symbols of a vocabulary, and vectors sampled around what their sender computes.

The sender's port holds a distribution's parameters; the message is a sample of it.

    gumbel      one-hot symbols, sampled by the largest of logits + Gumbel noise; the gradient passes straight through to
                softmax((logits + noise) / temperature) (Jang et al. 2017, 1611.01144; Maddison et al. 2017, 1611.00712)
    argmax      the most probable symbols; the gradient passes straight through to softmax(logits / temperature)
                (Bengio et al. 2013, 1308.3432)
    reinforce   symbols sampled from softmax(logits); no gradient passes: they are actions of the sender's own policy
                objective (RIAL: Foerster et al. 2016, 1605.06676)
    gaussian    the port's value plus noise of a fixed deviation, learned in the same way
    latent      normal components, whose means and deviations the port holds; the gradient passes to both
                (the reparameterisation of Kingma and Welling 2014, 1312.6114)

The noise is a function of (seed, agent, port, step, environment): channels of one port send the same message, and a
replayed window sends it again; a latent is sampled again with the same noise. Messages of several steps, with the noise of each,
are computed as one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from antiphon.base import kinds
from antiphon.base.extensions import sample
from antiphon.base.spec import Count
from antiphon.base.tools import copy_with
from antiphon.comms.backward_requests import constant
from antiphon.nets.random import normal_many, uniform_many

_SMALLEST = 2.0**-54
"""Replaces a uniform number of 0, whose Gumbel noise would be infinite."""


class MessageSampler(ABC):
    """Distribution of a channel's messages, parametrised by its sender's port; or of several channels, each with its seed.

    Attributes:
        learned: Whether the sender's policy objective trains it, and no gradient passes.
        parameters_per_component: Components of the port for each component of a message.
        greedy: Whether messages are the most probable ones instead of samples.
    """

    learned: ClassVar[bool] = False
    parameters_per_component: ClassVar[int] = 1
    greedy = False

    def __init__(self, seed: int) -> None:
        self._seeds = torch.tensor([seed])

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """A key that is equal for samplers of one stack of channels."""

    def send(self, port: Tensor, stamp: int, sent: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what `message` does, of a step; rows are (channel, environment)."""
        return self.message(port, self.noise(port, stamp), sent)

    def noise(self, port: Tensor, stamp: int) -> Tensor | None:
        """Return the random numbers of the messages of a step, [rows, …], of the port's type; None: they need none.

        Args:
            port: [rows, *size], of which the shape alone is used; rows are (channel, environment).
        """
        return None

    @abstractmethod
    def message(self, port: Tensor, noise: Tensor | None, sent: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return messages with their senders' graph, and their values; each row by itself.

        Args:
            port: [rows, *size], the distribution's parameters, with `parameters_per_component` times the message's first axis.
            noise: What `noise` returns, of the same rows.
            sent: [rows, size], their values if the window is replayed; None: they are sampled.

        Returns:
            The messages, [rows, *size], and their values without a graph, [rows, size].
        """

    def log_prob(self, port: Tensor, sent: Tensor) -> Tensor:
        """Return the log-probability (or density) of messages, [rows], given the port and the value sent; of `learned` ones."""
        raise NotImplementedError

    def entropy(self, port: Tensor) -> Tensor:
        """Return the entropy of messages in nats, [rows]; of `learned` ones."""
        raise NotImplementedError

    def for_rollout(self, seeds: Sequence[int], *, greedy: bool) -> Self:
        """Return a copy with other seeds of the noise, one for each channel."""
        return copy_with(self, _seeds=torch.tensor(seeds), greedy=greedy)

    def stack(self, samplers: Sequence[MessageSampler]) -> Self:
        """Return this sampler for several channels, in order."""
        return copy_with(self, _seeds=torch.cat([sampler._seeds for sampler in samplers]))

    def _counts(self, port: Tensor, stamp: int) -> tuple[Tensor, int, int]:
        """The seeds, the step and how many random numbers each channel needs."""
        if self._seeds.device != port.device:
            self._seeds = self._seeds.to(port.device)  # once
        return self._seeds, stamp, port.numel() // len(self._seeds)


class SymbolOptions(kinds.Options):
    """Keys of discrete symbols.

    Attributes:
        vocabulary: Number of symbols at each position.
        size: Number of positions of a message.
    """

    vocabulary: Annotated[int, Field(ge=2, le=2**31 - 1)]
    size: Count = 1


class SoftOptions(SymbolOptions):
    """Keys of symbols with a gradient.

    Attributes:
        temperature: Temperature of the softmax through which the straight-through gradient passes.
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0


class SymbolSampler(MessageSampler):
    """Messages of `size` symbols, each one-hot among `vocabulary`, side by side: [rows, size * vocabulary].

    Attributes:
        noisy: Whether noise is added to the logits.
    """

    noisy: ClassVar[bool] = True

    def __init__(self, vocabulary: int, size: int, seed: int, temperature: float = 1.0) -> None:
        super().__init__(seed)
        self.vocabulary, self.size, self.temperature = vocabulary, size, temperature

    @property
    def key(self) -> Hashable:
        return type(self), self.vocabulary, self.size, self.temperature

    def noise(self, port: Tensor, stamp: int) -> Tensor | None:
        if not self.noisy or self.greedy:
            return None
        numbers = uniform_many(*self._counts(port, stamp)).clamp_min(_SMALLEST)
        return -(-numbers.log()).log().view_as(port).to(port.dtype)

    def message(self, port: Tensor, noise: Tensor | None, sent: Tensor | None) -> tuple[Tensor, Tensor]:
        logits = self._positions(port)
        if noise is not None:
            logits = logits + self._positions(noise)
        if sent is None:
            sent = F.one_hot(constant(logits).argmax(-1), self.vocabulary).to(port.dtype).flatten(1)
        soft = constant(logits) if self.learned else torch.softmax(logits / self.temperature, -1)
        # The difference is zero, so that the values are exactly those sent; of logits that are no numbers it is none.
        return (sent.view_as(logits) + (soft - constant(soft))).view_as(port), sent

    def log_prob(self, port: Tensor, sent: Tensor) -> Tensor:
        logits = self._positions(port)
        return (torch.log_softmax(logits, -1) * sent.view_as(logits)).sum((1, 2))

    def entropy(self, port: Tensor) -> Tensor:
        logs = torch.log_softmax(self._positions(port), -1)
        return -(logs.exp() * logs).sum((1, 2))

    def _positions(self, port: Tensor) -> Tensor:
        return port.reshape(port.shape[0], self.size, self.vocabulary)


@sample("gumbel")
class GumbelSampler(SymbolSampler):
    """Symbols sampled by Gumbel noise, with a straight-through gradient (Gumbel-softmax)."""

    Options = SoftOptions


@sample("argmax")
class ArgmaxSampler(SymbolSampler):
    """The most probable symbols, with a straight-through gradient."""

    Options = SoftOptions
    noisy = False


@sample("reinforce")
class ReinforceSampler(SymbolSampler):
    """Symbols sampled by their probabilities, trained by the sender's policy objective."""

    Options = SymbolOptions
    learned = True


@sample("gaussian")
class GaussianSampler(MessageSampler):
    """Vectors of independent normal components around the port's value, trained by the sender's policy objective."""

    learned = True

    class Options(kinds.Options):
        """Keys of Gaussian noise.

        Attributes:
            noise: Standard deviation of each component.
        """

        noise: Annotated[float, Field(gt=0)]

    def __init__(self, noise: float, seed: int) -> None:
        super().__init__(seed)
        self.deviation = noise

    @property
    def key(self) -> Hashable:
        return self.deviation

    def noise(self, port: Tensor, stamp: int) -> Tensor | None:
        if self.greedy:
            return None
        return normal_many(*self._counts(port, stamp)).view(len(port), -1).to(port.dtype)

    def message(self, port: Tensor, noise: Tensor | None, sent: Tensor | None) -> tuple[Tensor, Tensor]:
        if sent is None:
            sent = constant(port).flatten(1)
            if noise is not None:
                sent = sent + self.deviation * noise
        return sent.view_as(port), sent

    def log_prob(self, port: Tensor, sent: Tensor) -> Tensor:
        away = (sent - port.flatten(1)) / self.deviation
        return -0.5 * away.square().sum(1) - sent.shape[1] * (
            math.log(self.deviation) + 0.5 * math.log(2 * math.pi)
        )

    def entropy(self, port: Tensor) -> Tensor:
        nats = 0.5 + 0.5 * math.log(2 * math.pi) + math.log(self.deviation)
        return port.new_full((len(port),), nats * port[0].numel())


@sample("latent")
class LatentSampler(MessageSampler):
    """Vectors of independent normal components, with a reparameterised gradient; the port holds means, then log deviations."""

    parameters_per_component = 2

    @property
    def key(self) -> Hashable:
        return type(self)

    def noise(self, port: Tensor, stamp: int) -> Tensor | None:
        if self.greedy:
            return None
        mean, _ = port.chunk(2, 1)
        return normal_many(*self._counts(mean, stamp)).view_as(mean).to(port.dtype)

    def message(self, port: Tensor, noise: Tensor | None, sent: Tensor | None) -> tuple[Tensor, Tensor]:
        message, logs = port.chunk(2, 1)
        if noise is not None:  # a replay adds the same noise
            message = message + logs.exp() * noise
        return message, constant(message).flatten(1)
