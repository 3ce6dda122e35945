"""The examples with Lightning and Hugging Face: with the package where it is installed, and with a stand-in of what they use."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

HOWTO = Path(__file__).resolve().parents[2] / "docs/howto"
SCRIPTS = {"lightning": "lightning_module.py", "transformers": "hugging_face_trainer.py"}


class LightningTrainer:
    """Lightning's `Trainer`, as far as the example uses it."""

    def __init__(
        self,
        *,
        accelerator: str = "auto",
        logger: bool | None = None,
        max_epochs: int | None = None,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None,
    ) -> None:
        assert accelerator == "cpu"
        assert max_epochs == 1

    def fit(self, model: Any, train_dataloaders: Iterable[Any]) -> None:
        """Train for an epoch by the module's own step and optimiser."""
        optimiser = model.configure_optimizers()
        for index, batch in enumerate(train_dataloaders):
            optimiser.zero_grad()
            model.training_step(batch, index).backward()
            optimiser.step()


class TrainingArguments:
    """The arguments of Hugging Face's `Trainer` that the example has."""

    def __init__(
        self, output_dir: str, max_steps: int, save_strategy: str, report_to: str, use_cpu: bool
    ) -> None:
        self.max_steps = max_steps


class HuggingFaceTrainer:
    """Hugging Face's `Trainer`, as far as the example uses it."""

    def __init__(
        self, model: nn.Module, args: TrainingArguments, train_dataset: Sequence[dict[str, Tensor]]
    ) -> None:
        self.model, self.args, self.examples = model, args, train_dataset

    def train(self) -> None:
        """Train on batches of eight by the loss that the model returns."""
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=5e-5)
        for step in range(self.args.max_steps):
            rows = self.examples[8 * step : 8 * step + 8]
            batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
            optimiser.zero_grad()
            self.model(**batch)["loss"].backward()
            optimiser.step()


def stand_in(package: str) -> ModuleType:
    """Return a module with the names that an example imports."""
    module: Any = ModuleType(package)
    if package == "lightning":
        module.LightningModule, module.Trainer = nn.Module, LightningTrainer
    else:
        module.TrainingArguments, module.Trainer = TrainingArguments, HuggingFaceTrainer
    return module  # type: ignore[no-any-return]


def script_of(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run an example in a folder and return its variables."""
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    return runpy.run_path(str(HOWTO / SCRIPTS[package]))


@pytest.mark.long
@pytest.mark.parametrize("package", SCRIPTS)
def test_the_example_runs_with_what_it_uses_of_the_package(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, stand_in(package))
    found = script_of(package, tmp_path, monkeypatch)
    if package == "lightning":
        assert isinstance(found["classifier"].model, nn.Sequential)
    else:
        assert type(found["model"]) is found["Tagger"]


@pytest.mark.long
@pytest.mark.parametrize("package", SCRIPTS)
def test_the_example_runs_with_the_package(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    script_of(package, tmp_path, monkeypatch)
