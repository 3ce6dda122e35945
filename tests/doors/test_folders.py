"""Folders and files as a user names them: absolute at once, `~` is the home folder, the empty string is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import antiphon
from antiphon.envs import from_file

AGENT = {
    "observes": ["image"],
    "objective": {"kind": "classification", "target": "label"},
}


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> antiphon.Scenario:
    """A scenario, in a working directory beside a home folder."""
    for name in ("work", "home", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    training = {"batch": 4, "steps": 4}
    return antiphon.Scenario(
        scenario="s", env={"id": "antiphon/Digits-v0"}, agents={"a": AGENT}, training=training
    )


def runs(folder: Path) -> list[str]:
    return sorted(str(file.parent.relative_to(folder)) for file in folder.rglob("run.json"))


def test_a_run_stays_where_it_was_named(
    scenario: antiphon.Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with antiphon.Simulation(scenario, logdir="x") as simulation:
        simulation.run(2, progress=False)
        monkeypatch.chdir(tmp_path / "elsewhere")
        simulation.run(1, progress=False)
    assert runs(tmp_path) == ["work/x"]
    monkeypatch.chdir(tmp_path / "work")
    with antiphon.Simulation.resume("x") as simulation:
        monkeypatch.chdir(tmp_path / "elsewhere")
        simulation.run(1, progress=False)
        assert simulation.now == 4
    assert runs(tmp_path) == ["work/x"]


def test_a_tilde_is_the_home_folder(scenario: antiphon.Scenario, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with antiphon.Simulation(scenario, logdir="~/x") as simulation:
        simulation.run(2, progress=False)
        assert simulation.save("~/state") == home / "state"
        assert simulation.export("~/weights.safetensors") == home / "weights.safetensors"
        simulation.load_weights("~/x")
    antiphon.Simulation.load("~/state").close()
    antiphon.Simulation.resume("~/x").close()
    antiphon.Population(scenario, [0, 1], logdir=Path("~/both")).close()
    (home / "s.yaml").write_text(scenario.to_yaml())
    assert antiphon.load("~/s.yaml").resolve() == scenario
    np.savez(home / "data.npz", image=np.zeros((20, 2)), label=np.arange(20) % 2)
    from_file("~/data.npz")
    assert not list((tmp_path / "work").iterdir())
