"""One process of a way of training in plain torch; `slow_line.py` starts it with its settings as a JSON object.

plain          the training loop
plain-heads    the training loop, with the heads that antiphon's parts have but the last, and their losses through all blocks below
ddp            DistributedDataParallel, the batch divided among all; ddp16 sends gradients in float16
1f1b           the blocks divided among all, four micro-batches (torch.distributed.pipelining)
averaging:H    the batch divided among all; parameters are averaged every H steps (local SGD, Stich 2019)
diloco:H       the same, and an outer optimiser with Nesterov momentum takes the mean (Douillard et al. 2023)
streaming:H    the same with a part of the parameters at a time, in four bits, while training goes on (Douillard et al. 2025)

Each takes Adam.
"""

from __future__ import annotations

import copy
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from clock import Clock
from task import BATCH, Windows, new_model, save
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from antiphon.agents.models import GPT

MICRO_BATCHES = 4
OUTER_RATE, OUTER_MOMENTUM = 0.7, 0.9
PARTS, OVERLAP, MIXED = 4, 5, 0.5
"""Of Streaming DiLoCo: parts of the parameters, steps that an exchange may take, and the share of what comes of it."""
Step = Callable[[], None]


def loss_of(logits: Tensor, following: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), following.flatten())


def loop(net: nn.Module, windows: Windows, rate: float) -> Step:
    optimiser = torch.optim.Adam(net.parameters(), rate)

    def step() -> None:
        tokens, following = windows()
        optimiser.zero_grad()
        loss_of(net(tokens), following).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


class WithHeads(nn.Module):
    """The model, and at each cut, before a block, a head of the kind of `aug_local`: copies of the next block and of the last layers."""

    def __init__(self, model: GPT, cuts: Sequence[int]) -> None:
        super().__init__()
        self.model, self.cuts = model, cuts
        layers = ([model.blocks[cut], model.norm, model.head] for cut in cuts)
        self.heads = nn.ModuleList(nn.Sequential(*map(copy.deepcopy, each)) for each in layers)

    def losses(self, tokens: Tensor, following: Tensor) -> Iterator[Tensor]:
        """Yield the loss of each head, then of the model, in nats: the mean over [batch, length] characters."""
        model = self.model
        x = model.drop(model.tokens(tokens) + model.positions(torch.arange(tokens.shape[1])))
        for number, block in enumerate(model.blocks):
            if number in self.cuts:
                yield loss_of(self.heads[self.cuts.index(number)](x), following)
            x = block(x)
        yield loss_of(model.head(model.norm(x)), following)


def with_heads(net: WithHeads, windows: Windows, rate: float) -> Step:
    optimiser = torch.optim.Adam(net.parameters(), rate)

    def step() -> None:
        optimiser.zero_grad()
        torch.stack(list(net.losses(*windows()))).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def replicated(model: GPT, windows: Windows, rate: float, *, half_precision: bool) -> Step:
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

    net = nn.parallel.DistributedDataParallel(model)
    if half_precision:
        net.register_comm_hook(None, fp16_compress_hook)
    return loop(net, windows, rate)


def averaged(model: GPT, windows: Windows, rate: float, every: int, *, outer: bool) -> Step:
    """Return a step of a process that meets the others every so many steps."""
    step, taken = loop(model, windows, rate), 0
    whole = nn.Parameter(parameters_to_vector(model.parameters()).detach())
    optimiser = torch.optim.SGD([whole], OUTER_RATE, momentum=OUTER_MOMENTUM, nesterov=True)

    def next_step() -> None:
        nonlocal taken
        step()
        taken += 1
        if taken % every:
            return
        with torch.no_grad():
            mean = parameters_to_vector(model.parameters()) / distributed.get_world_size()
            distributed.all_reduce(mean)
            if outer:
                whole.grad = whole - mean
                optimiser.step()
                mean = whole.clone()
            vector_to_parameters(mean, model.parameters())

    return next_step


class Streamed:
    """A part of the parameters, which processes exchange while they train: Streaming DiLoCo (2501.18512)."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._whole = [nn.Parameter(each.detach().clone()) for each in parameters]
        self._optimiser = torch.optim.SGD(self._whole, OUTER_RATE, momentum=OUTER_MOMENTUM, nesterov=True)
        self._received: list[Tensor] = []
        self._work: Any = None

    @torch.no_grad()
    def send(self) -> None:
        """Begin to exchange how far each process has come since the last time."""
        pairs = zip(self._whole, self._parameters, strict=True)
        sent = torch.cat([in_four_bits(whole - own) for whole, own in pairs])
        self._received = [torch.empty_like(sent) for _ in range(distributed.get_world_size())]
        self._work = distributed.all_gather(self._received, sent, async_op=True)

    @torch.no_grad()
    def receive(self) -> None:
        """Take the outer step, and go half of the way from the process's own parameters to the common ones."""
        self._work.wait()
        sizes = [len(in_four_bits(each)) for each in self._whole]
        changes = zip(*(each.split(sizes) for each in self._received), strict=True)
        for whole, each in zip(self._whole, changes, strict=True):
            whole.grad = torch.stack([of_four_bits(change, whole) for change in each]).mean(0)
        self._optimiser.step()
        for whole, own in zip(self._whole, self._parameters, strict=True):
            own.lerp_(whole, MIXED)


def in_four_bits(values: Tensor) -> Tensor:
    """Return numbers as bytes: the largest magnitude, then two to a byte, each as its sign and 3 bits of exponent (E3M0)."""
    flat, largest = values.flatten(), values.abs().max()
    exponent = (7 + (flat.abs() / largest).log2().round()).nan_to_num(0.0, neginf=0.0).clamp(0, 7)
    code = exponent.to(torch.uint8) | (flat < 0).to(torch.uint8) << 3
    pairs = F.pad(code, (0, len(code) % 2)).view(-1, 2)
    return torch.cat([largest.view(1).view(torch.uint8), pairs[:, 0] << 4 | pairs[:, 1]])


def of_four_bits(sent: Tensor, like: Tensor) -> Tensor:
    """Return the numbers of `in_four_bits` in the shape of a tensor; an exponent of 0 is the number 0."""
    largest, pairs = sent[:4].clone().view(torch.float32), sent[4:]
    code = torch.stack((pairs >> 4, pairs & 15), 1).flatten()[: like.numel()].view_as(like)
    exponent = (code & 7).float()
    magnitude = torch.where(exponent > 0, largest * 2 ** (exponent - 7), 0.0)
    return torch.where(code > 7, -magnitude, magnitude)


def streamed(model: GPT, windows: Windows, rate: float, every: int) -> Step:
    """Return a step of a process that meets the others with each part of the parameters every so many steps."""
    step, taken = loop(model, windows, rate), 0
    kept = {id(p) for block in model.blocks for p in block.parameters()}
    sets = [[p for block in model.blocks[part::PARTS] for p in block.parameters()] for part in range(PARTS)]
    sets[-1] += [p for p in model.parameters() if id(p) not in kept]
    parts = [Streamed(each) for each in sets]

    def next_step() -> None:
        nonlocal taken
        step()
        taken += 1
        for number, part in enumerate(parts):
            since = (taken - number * every // PARTS) % every
            if taken >= every and since == 0:
                part.send()
            if taken >= every + OVERLAP and since == OVERLAP:
                part.receive()

    return next_step


class Stage(nn.Module):
    """A stage of a pipeline: the first has the embeddings besides its blocks, the last the norm and the head; layers are the model's."""

    def __init__(self, model: GPT, index: int, count: int) -> None:
        super().__init__()
        blocks = len(model.blocks)
        self.index, self.first, self.last = index, index == 0, index == count - 1
        self.blocks = model.blocks[blocks * index // count : blocks * (index + 1) // count]
        if self.first:
            self.tokens, self.positions = model.tokens, model.positions
        if self.last:
            self.norm, self.head = model.norm, model.head

    def forward(self, x: Tensor) -> Tensor:
        """Return a message [batch, length, width] or logits, of tokens or a message."""
        if self.first:
            x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)) if self.last else x


def pipelined(net: Stage, windows: Windows, rate: float) -> Step:
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B

    optimiser = torch.optim.Adam(net.parameters(), rate)
    stage = PipelineStage(net, net.index, distributed.get_world_size(), torch.device("cpu"))
    schedule = Schedule1F1B(stage, MICRO_BATCHES, loss_fn=loss_of)

    def step() -> None:
        tokens, following = windows()
        optimiser.zero_grad()
        inputs = (tokens,) if net.first else ()
        schedule.step(*inputs, **({"target": following} if net.last else {}))
        optimiser.step()

    return step


def prepared(settings: Mapping[str, Any], model: GPT) -> tuple[nn.Module, Step]:
    """Return what a process trains of a model, and what takes a step."""
    seed, index, machines = 1000 * settings["seed"], settings["index"], settings["machines"]
    whole, rate = Windows(BATCH, seed), settings["lr"]
    kind, _, every = settings["way"].partition(":")
    if kind == "1f1b":
        stage = Stage(model, index, machines)
        return stage, pipelined(stage, whole, rate)
    if kind == "plain-heads":
        blocks = len(model.blocks)
        headed = WithHeads(model, [blocks * part // machines for part in range(1, machines)])
        return headed, with_heads(headed, whole, rate)
    if kind == "plain":
        return model, loop(model, whole, rate)
    windows = Windows(BATCH // machines, seed + index)
    ways = {
        "ddp": partial(replicated, half_precision=False),
        "ddp16": partial(replicated, half_precision=True),
        "averaging": partial(averaged, every=int(every or 0), outer=False),
        "diloco": partial(averaged, every=int(every or 0), outer=True),
        "streaming": partial(streamed, every=int(every or 0)),
    }
    return model, ways[kind](model, windows, rate)


def started(settings: Mapping[str, Any]) -> tuple[Step, Callable[[], dict[str, Tensor]]]:
    """Return a step of this process, when it has met the others, and what returns the parameters that it trains."""
    torch.set_num_threads(1)
    if not settings["way"].startswith("plain"):
        distributed.init_process_group(
            "gloo",
            init_method=settings["address"],
            rank=settings["index"],
            world_size=settings["machines"],
            timeout=timedelta(minutes=20),
        )
    model = new_model(settings["seed"])
    net, step = prepared(settings, model)
    trained = {id(value) for value in net.parameters()}
    return step, lambda: {name: value for name, value in model.named_parameters() if id(value) in trained}


def main() -> None:
    settings = json.loads(sys.argv[1])
    step, parameters = started(settings)
    clock, taken = Clock(settings["clock"]), 0
    while clock.step(taken):
        step()
        taken += 1
    save(parameters(), settings["state"])
    signal.pause()  # until all are through, and it is killed


if __name__ == "__main__":
    main()
