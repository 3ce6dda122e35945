"""Decouple your model: a plain loop, then the same model trained block by block, and back in plain torch."""

import copy
import itertools
import math

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import antiphon
from antiphon.agents.models import GPT  # plain torch; your own model goes here

text = antiphon.envs.make({"id": "antiphon/TextWindows-v0", "length": 32}, batch=1)  # the text in the package
# tokens, following: [N, 32]
train, test = (next(iter(text.batches(split, 80_000))) for split in ("train", "test"))


def bits(model: torch.nn.Module, tokens: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    return cross_entropy(model(tokens).transpose(1, 2), following) / math.log(2)  # per character


torch.manual_seed(0)
model = GPT(77, 32, width=32)  # 77 characters, four blocks
trained = {"plain loop": copy.deepcopy(model)}
adam = torch.optim.Adam(trained["plain loop"].parameters(), lr=0.003)
for tokens, following in itertools.islice(DataLoader(TensorDataset(*train.values()), 16, shuffle=True), 120):
    adam.zero_grad()
    bits(trained["plain loop"], tokens, following).backward()
    adam.step()

print(antiphon.cuts(model, test["tokens"]), end="\n\n")
env = antiphon.envs.from_tensors(**train, test=test, training_only=["following"], classes={"following": 77})
settings = {"env": env, "objective": "following", "batch": 16, "optimiser": {"kind": "adam", "lr": 0.003}}
ways = {way: {"coupling": way} for way in ("locked", "detached")} | {
    way: {"gradient": way} for way in ("aug_local", "local")
}
for name, way in ways.items():
    with antiphon.Simulation(antiphon.split(model, 4, **way, **settings), logdir=f"runs/{name}") as run:
        run.run(120)
        trained[name] = antiphon.join(run)  # a GPT again
loss = {name: bits(each.eval(), **test).item() for name, each in trained.items()}  # in plain torch
print("\nbits per character:", ", ".join(f"{name} {value:.2f}" for name, value in loss.items()))
assert trained["aug_local"].state_dict().keys() == model.state_dict().keys()
assert loss["aug_local"] < loss["detached"]
