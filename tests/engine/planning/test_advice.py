"""Advice about delays against what the environment shows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon.engine.planning.advice import advice
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, load
from tests.engine.scenes import CLASSIFY, scenario_of


def scenario(delays: dict[str, int], align: dict[str, Any], **env: Any) -> Scenario:
    agents = {
        "a": {"observes": ["image"]},
        "b": {"observes": ["image"], "align": align.get("b")},
        "z": {"objective": CLASSIFY, "align": align.get("z")},
    }
    return scenario_of(
        agents, [channel(name, "detached", link={"delay": delay}) for name, delay in delays.items()], env
    )


def channel(ends: str, coupling: str, **more: Any) -> dict[str, Any]:
    return {"from": ends[0], "to": ends[1], "size": 4, "coupling": coupling, **more}


def late(found: list[str]) -> list[str]:
    return [line for line in found if "later" in line or "different steps" in line]


def test_an_objective_that_hears_of_an_older_example_is_named() -> None:
    (line,) = late(advice(scenario({"az": 1}, {})))
    assert line.startswith(
        "agent z: receives what 'a' observed 1 steps later, when another example is shown (hold 1); "
    )


@pytest.mark.parametrize(
    ("align", "env"),
    [({"z": True}, {}), ({}, {"hold": 2}), ({}, {"hold": 1, "episode": "example"})],
)
def test_alignment_and_longer_examples_mend_it(align: dict[str, Any], env: dict[str, Any]) -> None:
    assert late(advice(scenario({"az": 1}, align, **env))) == []


def test_an_aligned_agent_with_messages_of_different_steps_is_named() -> None:
    found = late(advice(scenario({"az": 1, "bz": 2}, {"z": "a->z"})))
    assert found == ["agent z: is aligned, but its messages are of different steps (a->z 1, b->z 2 old)"]
    assert late(advice(scenario({"ab": 1, "bz": 1, "az": 2}, {"b": True, "z": True}))) == []


def test_delayed_channels_that_wait_for_each_other_are_named() -> None:
    fields = load("corporation").resolve(values={"agents": 6, "coupling": "delayed"})
    (line,) = [line for line in advice(fields) if "wait for each other" in line]
    assert line.startswith("agents n0, n1, n2, n3, n4, n5: ")
    chain = load("digits-mlp").resolve(values={"coupling": "delayed"})
    assert not any("wait for each other" in line for line in advice(chain))


def locked(clock: dict[str, Any], **more: Any) -> list[str]:
    agents = {
        "a": {"observes": ["image"], "clock": clock},
        "z": {"objective": CLASSIFY, "clock": {"period": 2, "unroll": 2}},
    }
    return [
        line
        for line in advice(scenario_of(agents, [channel("az", "locked", **more)]))
        if "credit is lost" in line
    ]


def test_locked_messages_read_after_their_window_are_counted() -> None:
    assert locked({"period": 2, "unroll": 2}) == []
    (line,) = locked({"period": 2, "phase": 1, "unroll": 2})
    assert line.startswith("channel a->z: 1 of 2 messages of a window are read after its end")
    (line,) = locked({"unroll": 4}, link={"delay": 1})
    assert line.startswith("channel a->z: 2 of 4 messages")


def test_an_aligned_objective_of_last_steps_that_are_over_is_named() -> None:
    found = advice(scenario({"az": 1, "bz": 1}, {"z": True}, hold=3, episode="example"))
    assert [line for line in found if "never counts" in line]
    assert not any(
        "never counts" in line for line in advice(scenario({"az": 1, "bz": 1}, {"z": True}, hold=3))
    )


def test_a_longer_way_beside_a_direct_one_is_named() -> None:
    found = late(advice(scenario({"ab": 2, "bz": 0, "az": 0}, {}, hold=2)))
    assert len(found) == 1
    assert "receives what 'a' observed 2 steps later" in found[0]


def test_delayed_channels_inside_one_unit_are_named() -> None:
    agents: dict[str, Any] = {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}}
    late = {"coupling": "delayed", "link": {"delay": 1}}
    cycle = [channel("ab", "locked"), channel("bc", "delayed"), channel("ca", **late)]
    found = advice(scenario_of({**agents, "c": {}}, cycle))
    assert any("a, b, c: wait for each other" in line for line in found)
    found = advice(scenario_of(agents, [cycle[0], channel("ba", **late)]))
    assert any("channel b->a: is delayed within" in line for line in found)


def test_library_scenarios_are_in_time() -> None:
    for name in ("corporation", "eyes", "digits-mlp"):
        assert late(advice(load(name).resolve())) == []
    assert late(advice(load("digits-mlp").resolve(values={"delay": 3}))) == []


def test_an_objective_that_never_ticks_when_it_counts_is_refused() -> None:
    agents = {"a": {"observes": ["image"]}, "z": {"objective": CLASSIFY, "clock": {"period": 2}}}
    scenario = scenario_of(agents, [channel("az", "decoupled")], {"hold": 4, "episode": "example"})
    line = r"agents\.z\.clock: it ticks at steps 0, 2, …, never at an example's"
    with pytest.raises(ScenarioError, match=line):
        Simulation(scenario)


def test_an_agent_whose_first_window_ends_after_the_training_is_named() -> None:
    template = load("char-lm")
    (line,) = [
        found for found in advice(template.resolve(values={"T": 40, "steps": 39})) if "learns after" in found
    ]
    assert line.startswith(
        "agent reader: learns after 40 steps for the first time, and training.steps is 39; "
    )
    assert not any(
        "learns after" in found for found in advice(template.resolve(values={"T": 40, "steps": 40}))
    )


def test_a_task_that_grows_needs_an_agent_that_acts() -> None:
    acting = load("copy").resolve(values={"steps": 100})
    agents = {"copier": acting.agents["copier"].model_copy(update={"acts": False})}
    idle = acting.model_copy(update={"agents": agents})
    assert [line for line in advice(idle) if "none acts" in line]
    assert not [line for line in advice(acting) if "none acts" in line]


def _embeds(inputs: int, outputs: int) -> nn.Module:
    class Embeds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.EmbeddingBag(256, outputs)

        def forward(self, x: Tensor) -> Tensor:
            return self.table(x.long())

    return Embeds()


def test_classes_by_index_are_for_networks_that_embed_them() -> None:
    source = from_tensors(
        word=torch.arange(40) % 7,
        bit=torch.arange(40) % 2,
        label=torch.arange(40) % 2,
        training_only="label",
    )
    agent = {"observes": ["word", "bit"], "categories": "index", "objective": CLASSIFY}
    (line,) = advice(scenario_of({"eye": agent}, env=source))
    assert line == (
        "agent eye: 'word' enters as numbers, 0 to 6, and its mlp takes them for quantities; use `categories: "
        "one_hot`, or a network of your own that embeds them"
    )


def test_pictures_of_whole_numbers_are_pointed_out() -> None:
    """Bytes would have been scaled; int64 are classes, which enter one-hot."""
    pixels = torch.arange(40 * 100).reshape(40, 100) % 256
    source = from_tensors(
        pixels=pixels, word=torch.arange(40) % 7, label=torch.arange(40) % 2, training_only="label"
    )
    (line,) = advice(
        scenario_of({"eye": {"observes": ["pixels", "word"], "objective": CLASSIFY}}, env=source)
    )
    assert line == (
        "agent eye: 'pixels' enters as 25,600 zeros and ones: 100 values of 256 classes each; "
        "if they are quantities, give floats, and for a network that embeds them `categories: index`"
    )
    embeds = {"observes": ["pixels"], "categories": "index", "network": _embeds, "objective": CLASSIFY}
    assert advice(scenario_of({"eye": embeds}, env=source)) == []
    source = from_tensors(pixels=pixels.float(), label=torch.arange(40) % 2)
    assert advice(scenario_of({"eye": {"observes": ["pixels"], "objective": CLASSIFY}}, env=source)) == []
