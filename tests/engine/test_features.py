"""What a scenario does not use is not part of its step: each feature's file can be away, and nothing changes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from antiphon.engine import feature_table, heart
from antiphon.engine.heart.feature import LEARNING, Feature, Features, points_of
from antiphon.engine.heart.updates import StepUpdates
from antiphon.errors import EngineError
from tests.contracts.builders import Document, ring
from tests.contracts.documents import pairs, with_critics
from tests.contracts.twins import differences, facts, made

HEART = Path(heart.__file__).parent
LINEAR: Document = {"gradient": {"kind": "linear"}}
DELAYED: Document = {"coupling": "delayed", "link": {"delay": 1}}
STATE: Document = {"gradient": {"kind": "linear", "auxiliary": 0.5}}
A2C: Document = {"kind": "a2c"}
PPO: Document = {"kind": "ppo", "epochs": 2}
TIED: Document = {"share": [["n0.0.weight", "n1.0.weight"]]}
USERS: dict[str, Document] = {
    "heart.participation": ring(2, agent={"learn": 0.5}),
    "native.networks": ring(4),
    "policies.actions": pairs(A2C),
    "policies.critics": with_critics("x"),
    "policies.passes": pairs(PPO),
    "policies.target_networks": pairs({"kind": "q"}),
    "policies.policy_evaluator": pairs(A2C),
}
"""Scenarios by the module that they need, and the plain one does not."""


def numbers(document: Document, backend: str = "cohort") -> dict[str, object]:
    simulation = made(document, backend)
    simulation.run(8)
    return facts(simulation)


@pytest.fixture(scope="module")
def plain() -> dict[str, object]:
    return numbers(ring(3, channel=LINEAR))


@pytest.mark.cases(2)
@pytest.mark.parametrize("module", USERS)
def test_a_feature_that_is_not_used_may_be_away(
    module: str, plain: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"antiphon.engine.{module}", None)
    assert not list(differences(plain, numbers(ring(3, channel=LINEAR)), tolerance=0.0))
    with pytest.raises(ImportError):
        made(USERS[module], "native" if module == "native.networks" else "cohort")


OF_SETTINGS: dict[str, Document] = {
    "stack": ring(4),
    "values of final observations": pairs(A2C),
}
"""Scenarios by setting, where `USERS` has none."""


@pytest.mark.parametrize("row", feature_table.TABLE, ids=lambda row: row.feature)
def test_a_setting_and_no_other_installs_its_feature(row: feature_table.FeatureRow) -> None:
    module = row.feature.rpartition(".")[0]
    document = OF_SETTINGS.get(row.setting) or USERS[module]
    assert points_of(row.kind)
    assert made(document, "cohort").running.backend.features.of(row.kind) is not None
    assert made(ring(1), "cohort").running.backend.features.of(row.kind) is None


def test_the_points_of_a_step_name_the_features_of_the_table() -> None:
    features_by_point: dict[str, list[str]] = {}
    for row in feature_table.TABLE:
        for point in points_of(row.kind):
            features_by_point.setdefault(point, []).append(row.kind.__name__)
    source = (HEART / "feature.py").read_text(encoding="utf-8")
    written = re.findall(r"^    (\w+): (?:Many = \(\)|One = None)  # ([\w, ]+)$", source, re.MULTILINE)
    assert {point: names.split(", ") for point, names in written} == features_by_point


def test_two_features_do_not_answer_at_one_point() -> None:
    class Acts(Feature):
        def action(self) -> None:
            return None

        def before_move(self, updates: StepUpdates) -> None:
            pass

    features = Features()
    features.install(Acts())
    assert features.tick_points.action is features.installed[0]
    assert [point for point in LEARNING if getattr(features.learning_points, point)] == ["before_move"]
    with pytest.raises(EngineError, match="'action' of the step: Acts and Acts answer both"):
        features.install(Acts())


def test_a_feature_has_what_predictors_learn_before_they_move_and_is_called_again_once_they_have() -> None:
    class Watches(Feature):
        def __init__(self) -> None:
            self.steps: list[tuple[int, bool, bool]] = []

        def before_move(self, updates: StepUpdates) -> None:
            models = [channels[name].synthetic_gradient.model for name, _ in updates.of_predictors]
            self.before = [
                (model, *map(torch.clone, model.trainable)) for model in models if model is not None
            ]

        def after_move(self, updates: StepUpdates, step: int) -> None:
            moved = [
                not torch.equal(old, new)
                for model, *values in self.before
                for old, new in zip(values, model.trainable, strict=True)
            ]
            self.steps.append((step, any(updates.of_windows()), any(moved)))

    simulation = made(ring(2, agent={"clock": {"unroll": 3}}, channel=LINEAR), "cohort")
    backend = simulation.running.backend
    channels, watches = backend.system.channels, Watches()
    backend.features.install(watches)
    simulation.run(6)
    assert [step for step, *_ in watches.steps] == [*range(6)]
    assert any(moved and not ended for _, ended, moved in watches.steps)  # predictors alone
