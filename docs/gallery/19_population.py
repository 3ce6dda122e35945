"""Two members maximise surrogates of an objective that they do not know, and copy one another (Jaderberg et al. 2017, figure 2)."""

import random

import torch

import antiphon


class Number(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor([0.9]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(x), 1)


def surrogate(*weights: float) -> antiphon.Scenario:
    env = antiphon.envs.from_tensors(x=torch.ones(4, 1), zero=torch.zeros(4, 1))
    goals = [{"kind": "regression", "target": "zero", "scale": weight} for weight in weights]
    agents = {
        name: {"observes": ["x"], "network": Number(), "objective": goal}
        for name, goal in zip("ab", goals, strict=True)
    }
    training = {"batch": 1, "optimiser": {"kind": "sgd", "lr": 0.01}}
    return antiphon.Scenario(scenario="toy", env=env, agents=agents, channels=[], training=training)


def objective(n: int) -> float:
    agents = population.simulations[n].agents
    return 1.2 - sum(agents[name].parameters["module.value"].item() ** 2 for name in "ab")


weights, draw = [[1.0, 0.001], [0.001, 1.0]], random.Random(0)
population = antiphon.Population([surrogate(*own) for own in weights], seeds=[0, 1])
for step in range(1, 201):
    population.step()
    if step % 4 == 0:
        worse, better = sorted((0, 1), key=objective)
        population.exploit(worse, better)
        weights[worse] = [min(1.0, max(0.001, w + draw.uniform(-0.5, 0.5))) for w in weights[better]]
        population.explore(worse, surrogate(*weights[worse]))
print(f"{max(map(objective, (0, 1))):.4f} of 1.2")
assert objective(better) > 1.19  # neither surrogate alone reaches 0.4
