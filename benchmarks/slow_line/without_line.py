"""One process of a way without a line; `../slow_line_curves.py` starts it with its settings as a JSON object.

The first process prints, for some of the steps, the step and the bits per character that the way's model then needs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from antiphon_way import scenario
from task import bits, mean_state
from torch import Tensor, distributed
from torch_way import started

import antiphon
from antiphon import Simulation


def judged(steps: int) -> list[int]:
    """Return the steps after which a model is judged, up to the first that is no less than a number."""
    found = [*range(10, 100, 10), *range(100, steps + 50, 50)]
    return found[: 1 + sum(step < steps for step in found)]


def of_torch(settings: Mapping[str, Any], wanted: list[int]) -> Iterator[dict[str, Tensor]]:
    """Train as a process of `torch_way`, and yield the parameters of all after the steps that are wanted."""
    step, parameters = started(settings)
    for taken in range(1, 1 + wanted[-1]):
        step()
        if taken in wanted:
            own = parameters()
            every = [own]
            if distributed.is_initialized():
                every *= distributed.get_world_size()
                # copies: a parameter may be a view of all of them, and would be sent with all
                sent = {name: value.detach().clone() for name, value in own.items()}
                distributed.all_gather_object(every, sent)
            yield mean_state(every)


def of_antiphon(settings: Mapping[str, Any], wanted: list[int]) -> Iterator[dict[str, Tensor]]:
    """Train in one process, which has the bits of parts over the same links, and yield the parameters."""
    torch.set_num_threads(1)
    way, seed, parts = settings["way"], settings["seed"], settings["machines"]
    given = scenario(way, seed, settings["lr"], parts=parts, link=settings["link"])
    with Simulation(given, seed=seed) as simulation:
        for before, taken in zip([0, *wanted], wanted, strict=False):
            simulation.run(taken - before, progress=False)
            yield dict(antiphon.join(simulation).named_parameters())


def main() -> None:
    settings = json.loads(sys.argv[1])
    wanted = judged(settings["steps"])
    train = of_antiphon if settings["way"].startswith("antiphon") else of_torch
    for taken, state in zip(wanted, train(settings, wanted), strict=True):
        if settings["index"] == 0:
            print(json.dumps([taken, round(bits(state), 4)]), flush=True)


if __name__ == "__main__":
    main()
