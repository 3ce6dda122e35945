"""Who reaches an accuracy first where messages take time? A chain of layers learns digits, one machine a layer.

Times are in stage times: the forward and backward pass of a layer with its optimiser on one minibatch. Bandwidth is unlimited.

    one machine      backpropagation where all layers are
    locked           backpropagation over the machines, one minibatch at a time
    1f1b             the same steps, the minibatch in up to 32 parts: a synchronous pipeline (GPipe, Huang et al. 2019;
                     PipeDream-Flush, Narayanan et al. 2021)
    data parallel    the same steps, the minibatch divided over whole copies, which send their gradients to each other
    ring             the same, the gradients going around a ring (Patarasu and Yuan 2009)
    asynchronous     a pipeline without flushes: minibatches follow each other, each differentiated with the parameters of its
                     forward pass, which are stashed (PipeDream, Narayanan et al. 2019); the best of four numbers in flight
    delayed          antiphon's coupling `delayed`: the forward pass is repeated with present parameters
    decoupled        linear synthetic gradients, given the label
    local            a linear classifier at every layer, nothing returned

The first five share the steps of the scenario `locked`, and their step times are formulas (`step_time`). The asynchronous pipeline
is simulated here in plain torch, with its own events. The last three are antiphon's simulation in virtual time. Steps of
`delayed` take 1/3 more, for the repeated forward pass, those of `decoupled` 0.2 more (0.05 for a synthetic gradient, 0.15 for
its update), and of `local` 0.05.

A time is the mean over seeds of the first look at the test accuracy at which it is reached; looks are one stage time or 2 % of the
time apart. A dash: some seed is not there by `--limit`. Run: `python benchmarks/rivals.py --json`.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon import Simulation, envs
from antiphon.base.memory import keep_memory
from antiphon.distributed.virtual.profile import ClusterProfile
from antiphon.scenarios import Scenario

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, table

WIDTH, BATCH, CLASSES, RATE = 128, 64, 10, 0.001
FORWARD, BACKWARD = 1 / 3, 2 / 3
WAITING = ("one machine", "locked", "1f1b", "data parallel", "ring")
FREE = {"delayed": 1 + FORWARD, "decoupled": 1.2, "local": 1.05}
"""antiphon's own ways, and the stage times of a step."""
WAYS = (*WAITING, "asynchronous", *FREE)
PARTS = (1, 2, 4, 8, 16, 32)
SHARES = (1.0, 0.5, 0.25, 0.125)
"""Of the minibatches in flight that fill a pipeline."""


def reached(
    now: Callable[[], float],
    run: Callable[[float], None],
    accuracy: Callable[[], float],
    goal: float,
    limit: float,
) -> float:
    """Return the time of the first look that finds an accuracy; infinity: none does by the limit."""
    while now() < limit:
        run(max(now() + 1, now() * 1.02))
        if accuracy() >= goal:
            return now()
    return math.inf


# --- ways that wait --------------------------------------------------------------------------------------


def step_time(way: str, stages: int, latency: float) -> float:
    """Return the stage times of a step of a way that waits."""
    if way == "one machine":
        return stages
    if way == "locked":
        return stages + 2 * (stages - 1) * latency
    if way == "1f1b":  # the first part from end to end and back, the others behind it
        return min((stages + parts - 1) / parts for parts in PARTS) + 2 * (stages - 1) * latency
    return 1 + latency * (2 * (stages - 1) if way == "ring" else 1)


def chain(stages: int, way: str) -> Scenario:
    """Return the chain of layers as a scenario; all but `locked` can be cut."""
    names = [f"s{index}" for index in range(stages)]
    network = {"kind": "mlp", "hidden": [WIDTH], "norm": "batch"}
    agents: dict[str, Any] = {name: {"network": network, "align": True} for name in names}
    agents[names[0]] = {"network": network, "observes": ["image"]}
    agents[names[-1]]["objective"] = {"kind": "classification", "target": "label"}
    keys: dict[str, Any] = {
        "locked": {"coupling": "locked"},
        "delayed": {"coupling": "delayed"},
        "decoupled": {"gradient": {"kind": "linear", "context": ["label"]}},
        "local": {"gradient": {"kind": "local", "target": "label"}},
    }[way]
    link = {"delay": int(way != "locked")}
    return Scenario.model_validate(
        {
            "scenario": "stages",
            "env": {"id": "antiphon/Digits-v0", "sampling": "with_replacement"},
            "agents": agents,
            "channels": [{"from": one, "to": other, "link": link, **keys} for one, other in pairwise(names)],
            "training": {"batch": BATCH, "optimiser": {"kind": "adam", "lr": RATE}},
        }
    )


def locked_steps(stages: int, seed: int, goal: float) -> float:
    """Return the steps of backpropagation to an accuracy; infinity: more than a thousand."""
    with Simulation(chain(stages, "locked"), seed=seed) as simulation:

        def run(until: float) -> None:
            while simulation.now < until:
                simulation.step()

        return reached(lambda: simulation.now, run, lambda: simulation.evaluate().accuracy, goal, 1000)


# --- antiphon's ways -------------------------------------------------------------------------------------


def virtual_time(way: str, stages: int, latency: float, seed: int, goal: float, limit: float) -> float:
    """Return the stage times to an accuracy of parts that do not wait."""
    profile = ClusterProfile.model_validate(
        {
            "cluster": "chain",
            "machines": {"stage": {"count": stages}},
            "compute": {"step": FREE[way]},
            "links": [{"between": ["stage", "stage"], "latency": latency}],
        }
    )
    with Simulation(chain(stages, way), seed=seed, parts={"cluster": profile}) as simulation:

        def run(until: float) -> None:
            while simulation.metrics()["simulated_seconds"] < until:
                simulation.running.advance()

        return reached(
            lambda: simulation.metrics()["simulated_seconds"],
            run,
            lambda: simulation.evaluate().accuracy,
            goal,
            limit,
        )


# --- the asynchronous pipeline ---------------------------------------------------------------------------


class Layer:
    """A layer with batch norm, the last one with a classifier on top, and its Adam (Kingma and Ba 2015, algorithm 1).

    Parameters are replaced and never overwritten, so that a graph keeps those of its forward pass: that is the stash.

    Args:
        inputs: Of the layer.
        last: Whether it has the classifier.
    """

    def __init__(self, inputs: int, *, last: bool) -> None:
        layers = [nn.Linear(inputs, WIDTH), *([nn.Linear(WIDTH, CLASSES)] if last else [])]
        tensors = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
        tensors[2:2] = [torch.ones(WIDTH), torch.zeros(WIDTH)]
        self.last, self.updates = last, 0
        self.tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
        self._means = [torch.zeros_like(tensor) for tensor in tensors]
        self._squares = [torch.zeros_like(tensor) for tensor in tensors]
        self._running = torch.zeros(WIDTH), torch.ones(WIDTH)

    def forward(self, x: Tensor, *, training: bool = True) -> Tensor:
        """Return messages [batch, width] of inputs, or the last layer's scores [batch, classes]."""
        weight, bias, scale, shift, *classifier = self.tensors
        x = F.batch_norm(F.linear(x, weight, bias), *self._running, scale, shift, training=training).relu()
        return F.linear(x, *classifier) if self.last else x

    def update(self, gradients: Sequence[Tensor]) -> None:
        """Take a step along gradients, one for each tensor."""
        self.updates += 1
        new = []
        for tensor, mean, square, gradient in zip(
            self.tensors, self._means, self._squares, gradients, strict=True
        ):
            mean.lerp_(gradient, 0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            root = (square / (1 - 0.999**self.updates)).sqrt_().add_(1e-8)
            step = mean / root * (RATE / (1 - 0.9**self.updates))
            new.append((tensor.detach() - step).requires_grad_())
        self.tensors = new


class Pipeline:
    """An asynchronous pipeline in virtual time: every machine works backward if it can, and forward if it may.

    Args:
        stages: Of the chain.
        latency: Of a message, in stage times.
        in_flight: Minibatches between their forward and their backward pass at the first stage, at most; with one, it is
            backpropagation.
        data: Images [rows, pixels] and labels [rows], to learn from.
        seed: Of initial parameters and minibatches.

    Attributes:
        now: The present time, in stage times.
    """

    def __init__(
        self, stages: int, latency: float, in_flight: int, data: tuple[Tensor, Tensor], seed: int
    ) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            sizes = [data[0].shape[1]] + [WIDTH] * (stages - 1)
            self.layers = [Layer(inputs, last=index == stages - 1) for index, inputs in enumerate(sizes)]
        self.latency, self.data, self.now = latency, data, 0.0
        self._free = in_flight
        self._generator = torch.Generator().manual_seed(seed)
        self._messages: list[deque[tuple[Tensor, Tensor]]] = [deque() for _ in self.layers]
        self._returned: list[deque[Tensor]] = [deque() for _ in self.layers]
        self._stash: list[deque[tuple[Tensor, Tensor, list[Tensor]]]] = [deque() for _ in self.layers]
        """By stage, oldest first: input, output and parameters of the minibatches under way, which keep their order."""
        self._busy = [False for _ in self.layers]
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._wake(0)

    def run(self, until: float) -> None:
        """Let events happen up to a time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Return the accuracy on some images."""
        for layer in self.layers:
            images = layer.forward(images, training=False)
        return float((images.argmax(1) == labels).float().mean())

    def _after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._number), action))

    def _wake(self, stage: int) -> None:
        """Begin a stage's next job, if it is idle and has one."""
        if not self._busy[stage] and (job := self._job(stage)) is not None:
            self._busy[stage] = True
            self._go_on(stage, job)

    def _go_on(self, stage: int, job: Iterator[float]) -> None:
        work = next(job, None)
        if work is None:
            self._busy[stage] = False
            self._wake(stage)
        else:
            self._after(work, lambda: self._go_on(stage, job))

    def _job(self, stage: int) -> Iterator[float] | None:
        if self._returned[stage]:
            return self._backward(stage, self._returned[stage].popleft())
        if stage == 0 and self._free:
            self._free -= 1
            chosen = torch.randint(len(self.data[0]), (BATCH,), generator=self._generator)
            return self._forward(0, self.data[0][chosen], self.data[1][chosen])
        if self._messages[stage]:
            return self._forward(stage, *self._messages[stage].popleft())
        return None

    def _forward(self, stage: int, x: Tensor, labels: Tensor) -> Iterator[float]:
        layer = self.layers[stage]
        x.requires_grad_(stage > 0)
        message = layer.forward(x)
        yield FORWARD
        self._stash[stage].append((x, message, layer.tensors))
        if layer.last:
            scores = message.detach().requires_grad_()
            (delta,) = torch.autograd.grad(F.cross_entropy(scores, labels), scores)
            yield from self._backward(stage, delta)
        else:
            self._send(self._messages, stage + 1, (message.detach(), labels))

    def _backward(self, stage: int, delta: Tensor) -> Iterator[float]:
        x, message, tensors = self._stash[stage].popleft()
        gradients = torch.autograd.grad(message, [*tensors, *([x] if stage else [])], delta)
        yield BACKWARD
        self.layers[stage].update(gradients[: len(tensors)])
        if stage:
            self._send(self._returned, stage - 1, gradients[-1])
        else:
            self._free += 1

    def _send(self, queues: list[deque[Any]], stage: int, content: Any) -> None:
        def arrive() -> None:
            queues[stage].append(content)
            self._wake(stage)

        self._after(self.latency, arrive)


def digits(split: str) -> tuple[Tensor, Tensor]:
    """Return the images [rows, pixels] and labels [rows] of a split of antiphon's digits."""
    batches = list(envs.make({"id": "antiphon/Digits-v0"}, batch=1).batches(split, 2_000))
    images = torch.cat([batch["image"] for batch in batches]).flatten(1)
    return images, torch.cat([batch["label"] for batch in batches])


def asynchronous_time(stages: int, latency: float, seed: int, goal: float, limit: float) -> dict[int, float]:
    """Return the stage times to an accuracy, by minibatches in flight."""
    data, test = digits("train"), digits("test")

    def timed(in_flight: int) -> float:
        pipeline = Pipeline(stages, latency, in_flight, data, seed)
        accuracy = partial(pipeline.accuracy, *test)
        return reached(lambda: pipeline.now, pipeline.run, accuracy, goal, limit)

    full = math.ceil(2 * (stages - 1) * latency) + stages
    return {count: timed(count) for count in sorted({max(1, round(share * full)) for share in SHARES})}


# --- the table -------------------------------------------------------------------------------------------


def times(
    stages: int, latency: float, ways: Sequence[str], arguments: argparse.Namespace
) -> dict[str, float]:
    """Return the stage times to the accuracy by way, the mean over seeds."""
    seeds, goal, limit = range(arguments.seeds), arguments.goal, arguments.limit
    found: dict[str, float] = {}
    if set(ways) & set(WAITING):
        steps = fmean(locked_steps(stages, seed, goal) for seed in seeds)
        found |= {way: steps * step_time(way, stages, latency) for way in ways if way in WAITING}
    if "asynchronous" in ways:
        tried = [asynchronous_time(stages, latency, seed, goal, limit) for seed in seeds]
        found["asynchronous"] = min(fmean(one[in_flight] for one in tried) for in_flight in tried[0])
    for way in (way for way in ways if way in FREE):
        found[way] = fmean(virtual_time(way, stages, latency, seed, goal, limit) for seed in seeds)
    return found


def main() -> None:
    """Parse arguments, train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", default="4,8", help="layers, with commas")
    parser.add_argument("--latencies", default="0,1,5,20,50", help="in stage times, with commas")
    parser.add_argument("--ways", default=",".join(WAYS), help="with commas")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--goal", type=float, default=0.95, help="test accuracy")
    parser.add_argument("--limit", type=float, default=10_000.0, help="stage times")
    arguments = parsed(parser)
    ways = arguments.ways.split(",")
    if unknown := sorted(set(ways) - set(WAYS)):
        parser.error(f"--ways: no way {unknown[0]!r}; there are {', '.join(WAYS)}")
    torch.set_num_threads(1)
    keep_memory()
    rows: list[dict[str, Any]] = []
    for stages in map(int, arguments.stages.split(",")):
        for latency in map(float, arguments.latencies.split(",")):
            found = times(stages, latency, ways, arguments)
            cells = {way: round(found[way]) if math.isfinite(found[way]) else None for way in ways}
            rows.append({"layers": stages, "latency": latency, **cells})
            print(f"{stages} layers, latency {latency:g}", file=sys.stderr, flush=True)
    settings = {"goal": arguments.goal, "seeds": arguments.seeds, "limit": arguments.limit}
    lines = table(rows, ["layers", "latency", *ways])
    finish({"benchmark": "rivals", **settings, "rows": rows}, arguments, lines)


if __name__ == "__main__":
    main()
