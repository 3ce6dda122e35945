"""Two networks in your own training loop: what one sends to the other returns a predicted gradient at once."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from antiphon import comms, envs

digits = envs.make({"id": "antiphon/Digits-v0"}, batch=1)  # your tensors: images [N, 1, 8, 8], labels [N]
train, test = (next(iter(digits.batches(split, 2_000))) for split in ("train", "test"))
accuracy = {}
for coupling in ("locked", "decoupled", "detached"):
    torch.manual_seed(0)
    eye, mind = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh()), nn.Linear(32, 10)
    both = [*eye.parameters(), *mind.parameters()]
    adam = torch.optim.Adam(both, lr=0.003)
    channel = comms.Channel(32, coupling=coupling, context={"label": 10})
    for _ in range(500):
        rows = torch.randint(len(train["label"]), (64,))
        image, label = train["image"][rows], train["label"][rows]
        channel.send(eye(image), label=label)  # in place of mind(eye(image)):
        loss = cross_entropy(mind(channel.receive()), label)
        (loss + channel.credit()).backward()
        adam.step()
        adam.zero_grad()
        channel.learn()  # the predictor's own step
    accuracy[coupling] = (mind(eye(test["image"])).argmax(1) == test["label"]).float().mean().item()
    print(f"{coupling:9} accuracy {accuracy[coupling]:.3f}")
assert accuracy["decoupled"] > accuracy["detached"]
