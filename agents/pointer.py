"""Networks that choose one of several candidates: each score is the product of two embeddings."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Unpack, final

import torch
from torch import Tensor

from antiphon.agents.feedforward import HeadedNetwork, Mlp
from antiphon.agents.network import (
    HIDDEN,
    OBJECTIVE,
    CallSettings,
    Described,
    Head,
    HiddenOptions,
    Tensors,
    features_of,
    sub,
    with_prefix,
)
from antiphon.base import extensions
from antiphon.base.errors import ScenarioError
from antiphon.base.spec import Count

_EMBEDDING = "embedding"


@final
@extensions.network("pointer")
class Pointer(HeadedNetwork):
    """One perceptron embeds each candidate, another embeds all other inputs; the scores are the products of the embeddings.

    Scores are logits, so that a permutation of the candidates permutes the choice (Vinyals et al. 2015, "Pointer
    networks", eq. 3, with a product; the listener of Lazaridou et al. 2017, "Multi-agent cooperation and the emergence of
    (natural) language"). They are the port `OBJECTIVE` and the last hidden activation, which all other heads read.

    Args:
        inputs: Components of one sample: the flattened candidates one after the other, then all other inputs.
        candidates: (number, *shape of each).
        heads: Its outputs; the objective's head has one component per candidate.

    Raises:
        ScenarioError: The objective's size is not the number of candidates, or there is nothing but candidates.
    """

    class Options(HiddenOptions):
        """Keys of pointer networks.

        Attributes:
            size: Components of the embeddings.
        """

        size: Count = 128

        def hidden_shape(
            self, inputs: tuple[int, ...] | None, candidates: Callable[[], tuple[int, ...]]
        ) -> tuple[int, ...] | None:
            return candidates()[:1]

    objective_is_linear = False

    @classmethod
    def of_kind(cls, described: Described) -> Pointer:
        inputs, candidates = features_of(described.inputs), described.candidates()
        return cls(inputs, candidates, heads=described.heads, **described.options)

    def __init__(
        self,
        inputs: int,
        candidates: tuple[int, ...],
        size: int,
        hidden: tuple[int, ...],
        heads: tuple[Head, ...],
        *,
        norm: str = "batch",
        activation: str = "relu",
    ) -> None:
        super().__init__((inputs,), heads)
        self.count, self.features = candidates[0], features_of(candidates[1:])
        rest = inputs - self.count * self.features
        output_count = self.heads[OBJECTIVE].features if OBJECTIVE in self.heads else 0
        if output_count != self.count:
            raise ScenarioError(
                f"network.kind: pointer has one output for each of {self.count} candidates, its first observation "
                f"{list(candidates)}, but the objective needs {output_count}; observe the candidates first"
            )
        if not rest:
            raise ScenarioError("network.kind: pointer reads only candidates; give it a message as well")
        embedding = (Head(_EMBEDDING, (size,)),)
        self.parts = {
            "candidate": Mlp((self.features,), hidden, embedding, norm=norm, activation=activation),
            "query": Mlp((rest,), hidden, embedding, norm=norm, activation=activation),
        }

    def trunk_shape(self) -> tuple[int, ...]:
        return (self.count,)

    def trunk_signature(self) -> Hashable:
        return self.count, *(network.signature() for network in self.parts.values())

    def trunk_parameters(self, generator: torch.Generator) -> Tensors:
        initial: Tensors = {}
        for name, network in self.parts.items():
            initial |= with_prefix(name, network.parameters(generator))
        return initial

    def trunk_buffers(self) -> Tensors:
        buffers: Tensors = {}
        for name, network in self.parts.items():
            buffers |= with_prefix(name, network.buffers())
        return buffers

    def trunk(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        columns = self.count * self.features
        rows, count = x.shape[-2], self.count
        read = {
            "candidate": x[..., :columns].reshape(*x.shape[:-2], rows * count, -1),
            "query": x[..., columns:],
        }
        embeddings: Tensors = {}
        after: Tensors = {}
        for name, network in self.parts.items():
            network_parameters, network_buffers = sub(parameters, name), sub(buffers, name)
            ports, updated = network(
                network_parameters, network_buffers, read[name], training=settings["training"]
            )
            embeddings[name] = ports[_EMBEDDING]
            after |= with_prefix(name, updated)
        candidates = embeddings["candidate"].reshape(*x.shape[:-2], rows, count, -1)
        scores = (candidates * embeddings["query"].unsqueeze(-2)).sum(-1)
        return {HIDDEN: scores, OBJECTIVE: scores}, after
