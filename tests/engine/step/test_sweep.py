"""The sweep order (`training.sweep`): the same numbers, and graphs that are gone before the next agent ticks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.engine.step.engine import Engine
from antiphon.engine.step.sweep import obstacle
from antiphon.errors import DivergenceError
from antiphon.scenarios import Scenario
from benchmarks.split import Kept
from tests.contracts.builders import GOAL, LABEL, OWN, TOLD, Document, Play, document, levels, ring
from tests.contracts.drawn_scenes import scenes
from tests.contracts.twins import differences, facts, hold, made, side_by_side

LOCAL: Document = {"gradient": {"kind": "local", "target": "label"}}
SOBOLEV: Document = {"gradient": {"kind": "sobolev_label", "target": "label", "hidden": [5]}}
MLP: Document = {"gradient": {"kind": "mlp", "hidden": [5], "context": ["label"]}}
DETACHED: Document = {"coupling": "detached"}
DELAYED: Document = {"coupling": "delayed"}
LOCKED: Document = {"coupling": "locked"}
LATER: Document = {"link": {"delay": 1}}
TWICE: Document = {"clock": {"unroll": 2}}


def swept(scene: Document, sweep: bool = True) -> Document:
    return {**scene, "training": {**scene["training"], "sweep": sweep}}


def order(simulation: Simulation) -> Engine:
    assert isinstance(simulation.backend, Engine)
    return simulation.backend


def after(scene: Document, sweep: bool, steps: int = 9) -> dict[str, Any]:
    with made(swept(scene, sweep), "cohort") as simulation:
        simulation.run(steps)
        found: dict[str, Any] = checkpoint.copy_tree(facts(simulation))
    return found


def count_swept(scene: Document, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """By step, how many groups have been differentiated by the time at which the last agent has ticked."""
    counts: list[int] = []
    tick = Engine.tick

    def counted(self: Engine, *arguments: Any, **more: Any) -> None:
        tick(self, *arguments, **more)
        counts.append(len(self._swept))

    monkeypatch.setattr(Engine, "tick", counted)
    with made(swept(scene), "cohort") as simulation:
        simulation.run(4)
    return counts


# --- chains of torch modules -------------------------------------------------------------------------------


def block(inputs: int, outputs: int) -> nn.Module:
    """A block with dropout, whose width is not its message's."""
    return nn.Sequential(nn.Linear(inputs, 12), nn.Tanh(), nn.Dropout(0.2), nn.Linear(12, outputs))


def chain(count: int, channel: Document, *, agent: Document | None = None, every: bool = False) -> Document:
    """Blocks in a chain, each the only reader of the one before.

    Args:
        count: Of blocks.
        channel: What each channel has besides.
        agent: What each agent has besides.
        every: Whether every block has an objective, or the last alone.
    """
    agents: Document = {}
    for i in range(count):
        goal = {"objective": LABEL} if every or i == count - 1 else {}
        agents[f"m{i}"] = {
            "network": block,
            **({"observes": ["x"]} if i == 0 else {}),
            **goal,
            **(agent or {}),
        }
    channels = [{"from": f"m{i}", "to": f"m{i + 1}", "size": 6, **channel} for i in range(count - 1)]
    return document(agents, channels)


def graph(channel: Document, other: Document) -> Document:
    """Two readers of one message, one of which is read over a locked channel, and an objective in the middle."""
    agents = {
        "a": {"network": block, "observes": ["x"]},
        "b": {"network": block, "observes": ["y"], "objective": LABEL},
        "c": {"network": block, "observes": ["z"]},
        "d": {"network": block, "objective": LABEL},
    }
    ends = [("a", "b", channel), ("a", "c", other), ("b", "d", channel), ("c", "d", LOCKED)]
    return document(agents, [{"from": s, "to": r, "size": 5, **more} for s, r, more in ends])


CHAINS: dict[str, tuple[Document, int]] = {
    "linear": (chain(4, TOLD), 4),
    "mlp": (chain(4, MLP), 4),
    "local": (chain(4, LOCAL), 4),
    "sobolev_label": (chain(4, SOBOLEV), 4),
    "detached": (chain(4, DETACHED), 4),
    "objectives in the middle": (chain(4, TOLD, every=True), 4),
    "delay": (chain(4, {**TOLD, **LATER}), 4),
    "windows of two ticks": (chain(3, TOLD, agent=TWICE), 3),
    "half of the windows": (chain(4, TOLD, agent={"p_update": 0.5}), 4),
    "scale and discount": (chain(4, {"gradient": {**TOLD["gradient"], "scale": 0.5, "discount": 0.9}}), 4),
    "several readers": (graph(TOLD, LOCAL), 3),
    "locked": (chain(4, LOCKED), 1),
    "delayed": (chain(3, DELAYED), 1),
    "trace": (chain(3, {"gradient": {**TOLD["gradient"], "trace": 0.5}}), 1),
    "small agents, stacked": (levels(), 2),
    "states": (ring(3, agent={"network": {"kind": "gru", "size": 4}, **TWICE}, state=TOLD), 1),
}


EXACT = ("mlp", "sobolev_label", "detached", "locked", "delayed", "small agents, stacked", "states")


@pytest.mark.parametrize("name", CHAINS)
def test_the_numbers_are_those_of_the_joint_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for rounding; to the bit where no small linear predictors are stacked for one call in the joint order."""
    scene, groups = CHAINS[name]
    ours, theirs = after(scene, sweep=True), after(scene, sweep=False)
    assert not list(differences(theirs, ours))
    for place, value in theirs.items():
        if isinstance(value, Tensor) and name in EXACT:
            assert torch.equal(ours[place], value), place
    assert max(count_swept(scene, monkeypatch)) == groups


@settings(max_examples=12)
@given(scenes())
def test_random_scenarios_in_either_order(scene: Document) -> None:
    found = list(differences(after(scene, sweep=False), after(scene, sweep=True)))
    assert not found, "\n".join(found[:12])


@settings(max_examples=6)
@given(scenes())
def test_random_scenarios_are_the_references(scene: Document) -> None:
    hold(swept(scene), look=5)


def test_windows_are_differentiated_at_the_step_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_swept(CHAINS["windows of two ticks"][0], monkeypatch) == [0, 3, 0, 3]


def test_alike_modules_stay_apart() -> None:
    """Stacked ones would have one graph; without the sweep they are stacked."""
    linear = lambda inputs, outputs: nn.Linear(inputs, outputs)
    agents = {name: {"network": linear, "observes": ["x"], "objective": LABEL} for name in "ab"}
    for sweep, stacks in ((True, 2), (False, 1)):
        with made(swept(document(agents, []), sweep), "cohort") as simulation:
            assert len(order(simulation).system.agents) == stacks


# --- what is not differentiated at the tick ----------------------------------------------------------------

ENDS = Play(share=0.2)
STATEFUL: Document = {**OWN, **TWICE, "network": {"kind": "gru", "size": 4}, "objective": LABEL}
FALLBACKS: dict[str, tuple[Document, str]] = {
    "a target known after the step": (
        document({"a": {**OWN, "objective": GOAL}}, []),
        "the target goal is known after the step",
    ),
    "a context known after the step": (
        ring(2, channel={"gradient": {"kind": "linear", "context": ["goal"]}}),
        "the synthetic gradient of n0->n1 reads goal, known after the step",
    ),
    "a local target known after the step": (
        ring(2, channel={"gradient": {"kind": "local", "target": "goal"}}),
        "the synthetic gradient of n0->n1 reads goal, known after the step",
    ),
    "episodes that end before a message is read": (
        ring(2, env=ENDS),
        "an episode's end can void a message of n0->n1 before it is read",
    ),
    "messages read more rarely than sent": (
        levels(count=1, high={"clock": {"period": 2}}, env=ENDS),
        "an episode's end can void a message of a0->b0 before it is read",
    ),
    "states over the ends of episodes": (
        document({"a": STATEFUL}, [{"from": "a", "to": "a", "carries": "state", **TOLD}], ENDS),
        "an episode's end can void a message of a->a:state before it is read",
    ),
    "delayed": (chain(2, DELAYED), "it waits for delayed gradients"),
    "trace": (
        chain(2, {"gradient": {**TOLD["gradient"], "trace": 0.5}}),
        "m0->m1 mixes in what its receiver returns at the same step",
    ),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_what_has_to_wait_waits(name: str) -> None:
    scene, reason = FALLBACKS[name]
    with made(swept(scene), "cohort") as simulation:
        system = simulation._system
        assert obstacle(system, system.groups[0]) == reason
    found = list(differences(after(scene, sweep=False), after(scene, sweep=True)))
    assert not found, "\n".join(found[:12])


def test_what_an_end_of_an_episode_voids_is_not_learned_from() -> None:
    """Though its training was computed with its slope."""
    hidden = {"kind": "local", "target": "label", "hidden": [5], "norm": "layer"}
    scene = {**chain(3, {"gradient": hidden, **LATER}), "env": ENDS}
    side_by_side(made(scene, "reference"), made(scene, "cohort"), 12)


@pytest.mark.parametrize("channel", [TOLD, LOCAL, DETACHED])
def test_ends_of_episodes_do_not_hold_back_what_is_read_at_once(channel: Document) -> None:
    with made(swept(levels(channel=channel, env=ENDS)), "cohort") as simulation:
        system = simulation._system
        assert [obstacle(system, group) for group in system.groups] == [None] * 6


def test_a_steered_learning_signal_is_not_differentiated_at_the_tick() -> None:
    class Nothing:
        def applies(self, *_: Any) -> bool:
            return True

        def signal(self, *_: Any) -> None:
            return None

    with made(swept(chain(2, TOLD)), "cohort") as simulation:
        engine = order(simulation)
        engine.backward_pass.steering = Nothing()
        engine.tick(0, simulation.world.step_signals)
        assert not engine._swept


# --- graphs ------------------------------------------------------------------------------------------------


def wide(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
    )


def kept(count: int, sweep: bool, channel: Document) -> int:
    """Bytes kept for backward at most, over one step of a chain of so many blocks."""
    scene = chain(count, channel)
    for agent in scene["agents"].values():
        agent["network"] = wide
    with Simulation(Scenario.model_validate(swept(scene, sweep))) as simulation:
        simulation.run(2)
        system = simulation._system
        own = [p for agent in system.agents.values() for p in agent.learner.parameters.values()]
        account = Kept(own)
        most = account.during(simulation.step)
        assert account.now == 0
    return most


@pytest.mark.parametrize("channel", [DETACHED, LOCAL, SOBOLEV, TOLD])
def test_what_is_kept_for_backward_does_not_grow_with_the_chain(channel: Document) -> None:
    few, many, joint = kept(4, True, channel), kept(16, True, channel), kept(16, False, channel)
    assert many <= 1.1 * few
    assert joint >= 4 * many


@pytest.mark.parametrize("channel", [DETACHED, LOCAL])
def test_spent_messages_are_released_unless_they_are_kept(channel: Document) -> None:
    """Those to which nothing returns, once read: in a run at steps of which nobody takes figures or recordings."""
    with made(swept(chain(3, channel)), "cohort") as simulation:
        engine = order(simulation)
        held = {name: c.ledger.records for name, c in engine.system.channels.items()}
        for keep in (True, False):
            simulation._advance(keep=keep)
            assert [len(records) for records in held.values()] == [keep, keep]
            assert all(bool(update.injected) <= keep for update in simulation.learned.updates)
        for go_on in (
            lambda: simulation.run(3),
            simulation.step,
        ):  # the last step of a run, and one by hand after it
            go_on()
            assert [list(records) for records in held.values()] == [[simulation.now - 1]] * 2
            assert all(record.message.numel() for records in held.values() for record in records.values())


HALF: Document = {"clock": {"period": 2}}


def clocked(scene: Document, **clocks: Document) -> Document:
    """The scene with other clocks of some agents."""
    agents = {name: {**agent, **clocks.get(name, {})} for name, agent in scene["agents"].items()}
    return {**scene, "agents": agents}


HELD: Document = {"coupling": "unlocked", "input": {"kind": "linear", "context": ["held", "age"]}}
RELEASED: dict[str, Document] = {
    "delay": chain(3, {**LOCAL, **LATER}),
    "losses": chain(3, {**LOCAL, "link": {"drop": 0.4}}),
    "noise": chain(3, {**DETACHED, "link": {"noise": 0.3, "bits": 4}}),
    "the sender's windows are longer": clocked(chain(3, LOCAL), m0=TWICE),
    "the receiver's windows are longer": clocked(chain(3, LOCAL), m1=TWICE),
    "the receiver is slower": clocked(chain(3, LOCAL), m1=HALF, m2=HALF),
    "the sender is slower": clocked(chain(3, LOCAL), m0=HALF),
    "the mean of several": clocked(chain(3, {**DETACHED, "read": "mean"}), m1=HALF, m2=HALF),
    "synthetic inputs": chain(3, {**LOCAL, **HELD}),
    "several readers": graph(LOCAL, DETACHED),
}


@pytest.mark.parametrize("name", RELEASED)
def test_what_is_released_is_read_by_nothing(name: str, tmp_path: Path) -> None:
    """Released or kept, in one piece or resumed: the same bits."""
    scene = swept(RELEASED[name])
    with made(scene, "cohort") as released, made(scene, "cohort") as kept, made(scene, "cohort") as first:
        released.run(8)
        for _ in range(8):
            kept.step()
        first.until = 99
        for _ in range(3):
            first._advance(keep=False)
        with Simulation.load(first.save(tmp_path / "at-3"), first.scenario) as resumed:
            resumed.run(5)
            for agent, own in kept.agents.items():
                for key, p in own.parameters.items():
                    assert torch.equal(p, released.agents[agent].parameters[key])
                    assert torch.equal(p, resumed.agents[agent].parameters[key])


@pytest.mark.parametrize(
    "scene",
    [
        chain(3, DETACHED),
        chain(3, LOCAL, agent=HALF),
        chain(3, DETACHED, agent=HALF),
        chain(3, LOCAL, agent=TWICE),
        chain(3, SOBOLEV),
        graph(TOLD, LOCAL),
    ],
)
def test_every_figure_of_the_joint_order_is_there(scene: Document) -> None:
    """Figures of a step at which nobody sends are of a message of before."""
    found = []
    for sweep in (True, False):
        with made({**swept(scene, sweep), "telemetry": {"every": 2}}, "cohort") as simulation:
            rows = simulation.history
            simulation.run(7)
            found.append({(row.step, row.name, row.metric): torch.tensor(row.value) for row in rows})
    assert any(metric == "message_mean" for _, _, metric in found[0])
    assert found[0].keys() == found[1].keys()
    for place, value in found[0].items():
        torch.testing.assert_close(value, found[1][place], equal_nan=True, msg=str(place))


def test_on_step_finds_every_message_and_injection() -> None:
    counts: list[list[int]] = []

    def on_step(simulation: Simulation) -> None:
        sent = [simulation.backend.sent(f"m{i}->m{i + 1}") for i in range(2)]
        injected = [rows for update in simulation.learned.updates for rows in update.injected.values()]
        counts.append([*(one.message.numel() for one in sent if one), *(rows.numel() for rows in injected)])

    with made(swept(chain(3, LOCAL)), "cohort") as simulation:
        simulation.run(3, on_step=on_step)
    rows = chain(3, LOCAL)["training"]["batch"]
    assert counts == [[6 * rows] * 4] * 3


def test_a_run_that_has_diverged_can_be_saved_and_looked_into(tmp_path: Path) -> None:
    """Messages of the step that failed have been released, and no later step was taken."""
    with made(swept(chain(3, DETACHED, every=True)), "cohort") as simulation:
        simulation.run(2)
        simulation.until = 9
        simulation._system.agents["m2"].learner.trainable[0].data.fill_(float("nan"))
        with pytest.raises(DivergenceError):
            simulation.run(seconds=100)
        with Simulation.load(simulation.save(tmp_path / "diverged"), simulation.scenario) as again:
            assert again.diverged == simulation.diverged
            for key, p in simulation.agents["m0"].parameters.items():
                assert torch.equal(p, again.agents["m0"].parameters[key])


def test_what_is_recorded_is_kept() -> None:
    with made(swept(chain(3, LOCAL)), "cohort") as plain, made(swept(chain(3, LOCAL)), "cohort") as watched:
        found = watched.channels["m0->m1"].record(["message", "prediction"])
        plain.run(4)
        watched.run(4)
        assert found.steps == {"message": [0, 1, 2, 3], "prediction": [0, 1, 2, 3]}
        assert not list(differences(facts(plain), facts(watched)))


# --- runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", [chain(3, LOCAL), chain(3, TOLD, agent=TWICE)])
def test_a_resumed_run_has_the_same_bits(scene: Document, tmp_path: Path) -> None:
    scenario = Scenario.model_validate(swept(scene))
    with Simulation(scenario) as whole, Simulation(scenario) as first:
        whole.run(7)
        first.run(3)  # in the middle of a window of two ticks
        with Simulation.load(first.save(tmp_path / "at-3"), scenario) as second:
            second.run(4)
            assert not list(differences(facts(whole), facts(second)))
            for a, b in zip(whole.agents, second.agents, strict=True):
                for name, p in whole.agents[a].parameters.items():
                    assert torch.equal(p, second.agents[b].parameters[name])


def test_telemetry_changes_no_bit(tmp_path: Path) -> None:
    scene = swept(chain(3, SOBOLEV))
    scene["telemetry"] = {"every": 2, "histograms": True}
    scenario = Scenario.model_validate(scene)
    with Simulation(scenario) as plain, Simulation(scenario, logdir=tmp_path / "run") as watched:
        plain.run(6)
        watched.run(6)
        assert not list(differences(facts(plain), facts(watched)))
        for name in plain.agents:
            for key, p in plain.agents[name].parameters.items():
                assert torch.equal(p, watched.agents[name].parameters[key])


def test_a_divergence_touches_no_parameter() -> None:
    """A window that was differentiated at the tick is not applied where a later one has diverged."""
    with made(swept(chain(3, DETACHED, every=True)), "cohort") as simulation:
        simulation.run(2)
        before = {k: v.clone() for k, v in simulation.agents["m0"].parameters.items()}
        simulation._system.agents["m2"].learner.trainable[0].data.fill_(float("nan"))
        with pytest.raises(DivergenceError, match="agent 'm2'"):
            simulation.step()
        assert all(torch.equal(before[k], v) for k, v in simulation.agents["m0"].parameters.items())
