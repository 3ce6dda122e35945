"""Train two agents on a torch Dataset with its official test split."""

import torch
from torch.utils.data import Dataset

import antiphon


class Waves(Dataset):
    """Noisy recordings [32] of sine, square and sawtooth waves, at a random phase."""

    def __init__(self, count: int, seed: int) -> None:
        noise = torch.Generator().manual_seed(seed)
        self.kinds = torch.randint(3, (count,), generator=noise)
        turns = torch.rand(count, 1, generator=noise) + torch.linspace(0, 2, 32)
        shapes = [(6.28 * turns).sin(), (6.28 * turns).sin().sign(), 2 * (turns % 1) - 1]
        self.waves = torch.stack(shapes, 1)[torch.arange(count), self.kinds]
        self.waves += 0.3 * torch.randn(self.waves.shape, generator=noise)

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.waves[index], self.kinds[index]


env = antiphon.envs.from_dataset(Waves(2_000, 0), names=("wave", "kind"), test=Waves(500, 1), validation=0.1)
agents = {"ear": {"observes": ["wave"]}, "mind": {"objective": {"kind": "classification", "target": "kind"}}}
channel = {"from": "ear", "to": "mind", "size": 16, "gradient": {"kind": "linear", "context": ["kind"]}}
scenario = antiphon.Scenario(scenario="waves", env=env, agents=agents, channels=[channel])
with antiphon.Simulation(scenario, logdir="runs/waves") as simulation:
    simulation.run(steps=600)
    score = simulation.evaluate("test")
print(env.description.example_counts)
print(score)
assert score.examples == 500
assert score.accuracy > 0.9
