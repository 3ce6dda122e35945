"""Name an optimiser and a schedule of one's own in a YAML document."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

import antiphon


class SignMomentum(torch.optim.Optimizer):
    """Steps of the size of the learning rate along the sign of the mean gradient (Signum, Bernstein et al. 2018)."""

    def __init__(self, params: Iterable[Tensor], lr: float, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["beta"])
                p.sub_(group["lr"] * mean.sign())


def halving(every: int) -> Callable[[int], float]:
    return lambda step: 0.5 ** (step // every)


antiphon.register("optimiser", "sign-momentum", SignMomentum)
antiphon.register("schedule", "halving", halving)
scenario = antiphon.Scenario.from_yaml("""
scenario: own-optimiser
env: {id: antiphon/Digits-v0}
agents: {eye: {observes: [image]}, mind: {objective: {kind: classification, target: label}}}
channels: [{from: eye, to: mind, size: 16, gradient: {context: [label]}}]
training: {optimiser: {kind: sign-momentum, lr: 1e-3, schedule: {kind: halving, every: 200}}}
""")
with antiphon.Simulation(scenario) as simulation:
    simulation.run(steps=600)
    print(score := simulation.evaluate())
assert score.accuracy > 0.9
