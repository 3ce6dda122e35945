"""A model in the style of Hugging Face, trained block by block; it stays what `Trainer` and `save_pretrained` take."""

import torch
from torch import nn

import antiphon


class Classifier(nn.Module):  # a model of transformers goes here, with these arguments and a ModelOutput
    def __init__(self, tokens=20, width=32):
        super().__init__()
        self.embeddings = nn.Embedding(tokens, width)
        self.layer = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(3))
        self.classifier = nn.Linear(width, 2)

    def forward(self, input_ids, attention_mask=None):
        hidden = self.embeddings(input_ids)
        for layer in self.layer:
            hidden = hidden + layer(hidden)
        if attention_mask is not None:
            hidden = hidden * attention_mask[..., None]
        return {"logits": self.classifier(hidden.mean(1)), "pooled": hidden.mean(1)}


torch.manual_seed(0)
ids, lengths = torch.randint(20, (2_000, 12)), torch.randint(4, 13, (2_000, 1))
mask = (torch.arange(12) < lengths).float()  # ids and mask as a tokenizer returns them, with padding
label = (((ids > 9) * mask).sum(1) > lengths[:, 0] / 2).long()  # are most of the tokens above 9?
env = antiphon.envs.from_tensors(input_ids=ids, attention_mask=mask, label=label, test=0.2)
scenario = antiphon.split(Classifier(), at=["layer.1", "layer.2"], env=env, output="logits")
with antiphon.Simulation(scenario) as simulation:
    simulation.run(epochs=8)
    print(scenario, score := simulation.evaluate(), sep="\n")
    model = antiphon.join(simulation)  # a Classifier again
assert score.accuracy > 0.9
assert model(ids, attention_mask=mask).keys() == {"logits", "pooled"}
