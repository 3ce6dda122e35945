"""One process of a way of training in plain torch; `slow_line.py` starts it with its settings as a JSON object.

plain          the training loop
plain-heads    the training loop, with the head that antiphon's first part has, and its loss through all blocks below
ddp            DistributedDataParallel, half of the batch each; ddp16 sends gradients in float16
1f1b           half of the blocks each, four micro-batches (torch.distributed.pipelining)
averaging:H    half of the batch each; parameters are averaged every H steps (local SGD, Stich 2019)
diloco:H       the same, and an outer optimiser with Nesterov momentum takes the mean (Douillard et al. 2023)
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from clock import Clock
from heads import WithHeads
from task import BATCH, BLOCKS, Windows, new_model, save
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from antiphon.agents.models import GPT

PROCESSES = 2
MICRO_BATCHES = 4
OUTER_RATE, OUTER_MOMENTUM = 0.7, 0.9
Step = Callable[[], None]


def loss_of(logits: Tensor, following: Tensor) -> Tensor:
    """Return the mean loss of logits [batch, length, classes]."""
    return F.cross_entropy(logits.flatten(0, 1), following.flatten())


def loop(net: nn.Module, windows: Windows, rate: float) -> Step:
    """Return a step of the training loop of a model."""
    optimiser = torch.optim.Adam(net.parameters(), rate)

    def step() -> None:
        tokens, following = windows()
        optimiser.zero_grad()
        loss_of(net(tokens), following).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def with_heads(net: WithHeads, windows: Windows, rate: float) -> Step:
    """Return a step of the training loop with auxiliary losses."""
    optimiser = torch.optim.Adam(net.parameters(), rate)

    def step() -> None:
        optimiser.zero_grad()
        torch.stack(list(net.losses(*windows()))).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def replicated(model: GPT, windows: Windows, rate: float, *, half_precision: bool) -> Step:
    """Return a step of DistributedDataParallel."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

    net = nn.parallel.DistributedDataParallel(model)
    if half_precision:
        net.register_comm_hook(None, fp16_compress_hook)
    return loop(net, windows, rate)


def averaged(model: GPT, windows: Windows, rate: float, every: int, *, outer: bool) -> Step:
    """Return a step of a process that meets the other every so many steps."""
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
            mean = parameters_to_vector(model.parameters()) / PROCESSES
            distributed.all_reduce(mean)
            if outer:
                whole.grad = whole - mean
                optimiser.step()
                mean = whole.clone()
            vector_to_parameters(mean, model.parameters())

    return next_step


class Half(nn.Module):
    """One of the two halves of the model.

    Args:
        model: Its layers are shared with the half.
        index: 0, from the tokens on, or 1, up to the logits.
    """

    def __init__(self, model: GPT, index: int) -> None:
        super().__init__()
        middle = BLOCKS // 2
        self.index = index
        self.blocks = model.blocks[:middle] if index == 0 else model.blocks[middle:]
        if index == 0:
            self.tokens, self.positions = model.tokens, model.positions
        else:
            self.norm, self.head = model.norm, model.head

    def forward(self, x: Tensor) -> Tensor:
        """Return a message [batch, length, width] of tokens, or logits of a message."""
        if self.index == 0:
            x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return x if self.index == 0 else self.head(self.norm(x))


def pipelined(net: Half, windows: Windows, rate: float) -> Step:
    """Return a step of a half in a synchronous pipeline."""
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B

    optimiser = torch.optim.Adam(net.parameters(), rate)
    stage = PipelineStage(net, net.index, PROCESSES, torch.device("cpu"))
    schedule = Schedule1F1B(stage, MICRO_BATCHES, loss_fn=loss_of)

    def step() -> None:
        tokens, following = windows()
        optimiser.zero_grad()
        if net.index == 0:
            schedule.step(tokens)
        else:
            schedule.step(target=following)
        optimiser.step()

    return step


def prepared(settings: Mapping[str, Any], model: GPT) -> tuple[nn.Module, Step]:
    """Return what a process trains of a model, and what takes a step."""
    rate, seed, index = settings["lr"], 1000 * settings["seed"], settings["index"]
    kind, _, every = settings["way"].partition(":")
    if kind == "1f1b":
        half = Half(model, index)
        return half, pipelined(half, Windows(BATCH, seed), rate)
    if kind == "plain-heads":
        whole = WithHeads(model, [BLOCKS // PROCESSES])
        return whole, with_heads(whole, Windows(BATCH, seed), rate)
    if kind.startswith("plain"):
        return model, loop(model, Windows(BATCH, seed), rate)
    windows = Windows(BATCH // PROCESSES, seed + index)
    ways = {
        "ddp": partial(replicated, half_precision=False),
        "ddp16": partial(replicated, half_precision=True),
        "averaging": partial(averaged, every=int(every or 0), outer=False),
        "diloco": partial(averaged, every=int(every or 0), outer=True),
    }
    return model, ways[kind](model, windows, rate)


def main() -> None:
    """Train until the time is over, and write the parameters."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    if settings["processes"] > 1:
        distributed.init_process_group(
            "gloo",
            init_method=f"tcp://{settings['address']}",
            rank=settings["index"],
            world_size=PROCESSES,
            timeout=timedelta(minutes=20),
        )
    model = new_model(settings["seed"])
    net, step = prepared(settings, model)
    clock, taken = Clock(settings["clock"]), 0
    while clock.step(taken):
        step()
        taken += 1
    trained = {id(value) for value in net.parameters()}
    save({name: value for name, value in model.named_parameters() if id(value) in trained}, settings["state"])
    signal.pause()  # until all are through, and it is killed


if __name__ == "__main__":
    main()
