"""Train a model block by block, then go on with Hugging Face's Trainer."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments

import antiphon


class Tagger(nn.Module):
    def __init__(self, tokens=8, width=16):
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(3)
        )
        self.head = nn.Linear(width, tokens)

    def forward(self, input_ids, labels=None):
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        logits = self.head(x)
        if labels is None:
            return {"logits": logits}
        return {"loss": cross_entropy(logits.transpose(1, 2), labels), "logits": logits}


ids = torch.randint(8, (256, 12), generator=torch.Generator().manual_seed(0))
labels = (ids + 1) % 8
env = antiphon.envs.from_tensors(
    input_ids=ids, labels=labels, training_only=["labels"], classes={"labels": 8}
)
scenario = antiphon.split(
    Tagger(),
    at=["blocks.1", "blocks.2"],
    env=env,
    inputs={"input_ids": "input_ids"},
    objective="labels",
    output="logits",
    gradient="local",
)
with antiphon.Simulation(scenario) as run:
    run.run(steps=50)
    model = antiphon.join(run)  # a Tagger again
examples = [
    {"input_ids": one, "labels": other} for one, other in zip(ids, labels, strict=True)
]
arguments = TrainingArguments(
    output_dir="trained",
    max_steps=5,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
)
Trainer(model=model, args=arguments, train_dataset=examples).train()
