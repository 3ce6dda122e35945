"""Train a LightningModule's model block by block, then go on with its Trainer."""

import lightning
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import antiphon


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        layers = [nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(3)]
        self.model = nn.Sequential(*layers, nn.Linear(8, 2))

    def training_step(self, batch, batch_idx):
        x, label = batch
        return cross_entropy(self.model(x), label)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


x = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
label = (x[:, 0] > 0).long()
classifier = Classifier()
env = antiphon.envs.from_tensors(x=x, label=label)
scenario = antiphon.split(classifier.model, at=[1, 2], env=env, gradient="local")
with antiphon.Simulation(scenario) as run:
    run.run(steps=50)
    classifier.model = antiphon.join(run)  # an nn.Sequential of the same keys
trainer = lightning.Trainer(
    max_epochs=1,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
)
trainer.fit(classifier, DataLoader(TensorDataset(x, label), batch_size=64))
