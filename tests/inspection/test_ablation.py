"""Ablation: channels ranked by what is lost without them, example by example, with the same random numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete

from antiphon import Scenario, ScenarioError, Simulation, environment
from antiphon.envs import Description, Signal, World, from_tensors
from tests.engine.numbers import unchanged
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.documented import ABLATIONS, Links, ablate, ablation_rows

COUNT = 400
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(COUNT, 4, generator=GENERATOR)
NOISE = torch.randn(COUNT, 4, generator=GENERATOR)
LABEL = (X[:, 0] > 0).long() + 2 * (X[:, 1] > 0).long()
SCORE = NOISE[:, 0]
NET = {"kind": "mlp", "hidden": [16], "norm": "none"}


def simulate(link: dict[str, Any] | None = None, **channel: Any) -> Simulation:
    """`eye` sees what decides, `ear` what does not (but the score); both speak to both judges."""
    env = from_tensors(x=X, noise=NOISE, label=LABEL, score=SCORE, test=0.5, training_only=["label", "score"])
    agents = {
        "eye": {"observes": ["x"], "network": NET},
        "ear": {"observes": ["noise"], "network": NET},
        "judge": {"network": NET, "objective": CLASSIFY},
        "other": {"network": NET, "objective": {"kind": "regression", "target": "score"}},
    }
    common = {"size": 4, "norm": "none", "coupling": "locked", "link": link or {}, **channel}
    channels = [{"from": a, "to": b, **common} for a in ("eye", "ear") for b in ("judge", "other")]
    adam = {"kind": "adam", "lr": 0.01}
    scenario = scenario_of(agents, channels, env, readout="judge", batch=32, steps=300, optimiser=adam)
    return Simulation(scenario, seed=1)


@pytest.fixture(scope="module")
def trained() -> Simulation:
    simulation = simulate()
    simulation.run(100)
    return simulation


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", [kind for kind in ABLATIONS if kind != "step"])
def test_the_channel_that_matters_comes_first_for_whom_it_matters(trained: Simulation, kind: str) -> None:
    found = ablate(trained, kind)
    assert found.ranked()[0] == "eye->judge"
    assert found.ranked("other")[0] == "ear->other"
    assert found.readouts["eye->judge"]["loss"].verdict == "helps"
    assert found.readouts["eye->judge"]["accuracy"].value < -0.2
    assert found.channels["ear->other"]["other"]["error"].value > 0.2
    unreached = found.channels["eye->judge"]["other"]["loss"]
    assert (unreached.value, unreached.half, unreached.verdict) == (0.0, 0.0, "unresolved")


def test_it_agrees_with_a_system_whose_channel_is_silent(trained: Simulation) -> None:
    found = ablate(trained, "zero")
    silent = trained.fork()
    head = silent.agents["eye"].parameters
    for name in ("to_judge.weight", "to_judge.bias"):
        head[name].data.zero_()
    whole, without = trained.evaluate(), silent.evaluate()
    changes = found.channels["eye->judge"]["judge"]
    assert found.intact["judge"]["loss"] == pytest.approx(whole.loss, rel=1e-5)
    assert changes["loss"].value == pytest.approx(without.loss - whole.loss, rel=1e-4)
    assert changes["accuracy"].value == pytest.approx(without.accuracy - whole.accuracy, abs=1e-6)


@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "classification", "target": "rare"},
        {"kind": "classification", "target": "sites", "reduction": "mean"},
        [
            {"kind": "classification", "target": "label"},
            {"kind": "classification", "target": "rare", "scale": 3.0},
        ],
    ],
)
def test_its_means_are_those_of_evaluations_where_targets_are_missing(objective: Any) -> None:
    """A tenth of the examples has the target `rare`; `sites` are many where what the eye sees is small, else few."""
    chance = torch.rand(COUNT, 6, generator=torch.Generator().manual_seed(3))
    rare = LABEL.where(chance[:, 0] < 0.1, -100)
    often = torch.where(X[:, :1] > 0, 0.1, 0.9)
    sites = (X[:, 1:2] + NOISE[:, :1] > 0).long().expand(-1, 6).where(chance < often, -100)
    env = from_tensors(
        x=X, label=LABEL, rare=rare, sites=sites, test=0.5, training_only=["label", "rare", "sites"]
    )
    agents = {
        "eye": {"observes": ["x"], "network": NET},
        "judge": {"network": NET, "objective": CLASSIFY},
        "other": {"network": NET, "objective": objective},
    }
    common = {"from": "eye", "size": 4, "norm": "none", "coupling": "locked"}
    channels = [common | {"to": name} for name in ("judge", "other")]
    adam = {"kind": "adam", "lr": 0.01}
    scenario = scenario_of(agents, channels, env, batch=32, steps=300, optimiser=adam)
    with Simulation(scenario, seed=1) as simulation:
        simulation.run(60)
        found = ablate(simulation, "zero")
        whole = simulation.evaluate()
        for receiver in ("judge", "other"):
            silent = simulation.fork()
            for name in (f"to_{receiver}.weight", f"to_{receiver}.bias"):
                silent.agents["eye"].parameters[name].data.zero_()
            without = silent.evaluate()
            change = found.readouts[f"eye->{receiver}"]["loss"]
            assert change.value == pytest.approx(without.loss - whole.loss, rel=1e-4)
            for agent, metrics in whole.agents.items():
                assert found.intact[agent] == pytest.approx(metrics, rel=1e-5)
                for metric, value in metrics.items():
                    change = found.channels[f"eye->{receiver}"][agent][metric]
                    assert change.value == pytest.approx(
                        without.agents[agent][metric] - value, rel=1e-4, abs=1e-6
                    )


def test_means_are_of_all_examples(trained: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ablate(trained, "mean")
    monkeypatch.setattr("antiphon.inspection.ablation._ROWS", 60)
    parts = ablate(trained, "mean")
    assert parts.count == whole.count == 200
    for name, changes in whole.readouts.items():
        assert parts.readouts[name]["loss"].value == pytest.approx(changes["loss"].value, rel=1e-4, abs=1e-6)


def test_over_links_as_they_run_losses_are_common() -> None:
    simulation = simulate({"drop": 0.3, "noise": 0.2}, coupling="detached")
    links = Links("as_run")
    one, two = (ablate(simulation, "zero", links=links) for _ in range(2))
    assert one == two
    intact = simulation.evaluate("test", links="as_run").agents["judge"]["loss"]
    assert one.intact["judge"]["loss"] == pytest.approx(intact, rel=1e-6)
    everything_lost = ablate(simulation, "zero", links=Links("as_run", drop=1.0))
    assert all(changes["loss"].value == 0 for changes in everything_lost.readouts.values())


# --- returns -----------------------------------------------------------------------------------------------

ACTING = """
scenario: acting
env: {id: antiphon/CartPole-v0}
agents:
  sensor: {observes: [observation], network: {kind: mlp, hidden: [16]}}
  deaf: {observes: [observation], network: {kind: mlp, hidden: [4]}}
  motor: {network: {kind: mlp, hidden: [16]}, acts: true, clock: {unroll: 4}, objective: {kind: reinforce}}
channels:
  - {from: sensor, to: motor, size: 4, coupling: locked}
  - {from: deaf, to: motor, size: 2, coupling: locked}
readout: motor
training: {steps: 8, batch: 5, optimiser: {kind: adam, lr: 0.01}}
"""


@pytest.fixture(scope="module")
def acting() -> Simulation:
    simulation = Simulation(Scenario.from_yaml(ACTING), seed=3)
    simulation.run(4)
    return simulation


def test_where_readouts_act_returns_of_the_same_episodes_are_compared(acting: Simulation) -> None:
    with unchanged(acting):
        found = ablate(acting, "zero", episodes=1)
    silent = acting.fork()
    head = silent.agents["sensor"].parameters
    for name in ("to_motor.weight", "to_motor.bias"):
        head[name].data.zero_()
    whole, without = acting.evaluate(episodes=1).return_, silent.evaluate(episodes=1).return_
    assert (found.measure, found.count) == ("return", 5)
    assert found.intact == {"motor": {"return": whole}}
    change = found.channels["sensor->motor"]["motor"]["return"]
    assert change.value == pytest.approx(without - whole)
    assert change == found.change("sensor->motor")
    assert (change.verdict == "helps") == (change.value + (change.half or 0.0) < 0)
    rows = {(row.name, row.metric): row.value for row in ablation_rows(found)}
    assert rows["sensor->motor", "ablation_zero"] == pytest.approx(whole - without)  # what is lost


@pytest.mark.long
def test_with_actions_sampled_returns_with_and_without_a_channel_are_those_of_sampled_actions(
    acting: Simulation,
) -> None:
    found = ablate(acting, "zero", episodes=1, sampled=True)
    silent = acting.fork()
    for name in ("to_motor.weight", "to_motor.bias"):
        silent.agents["sensor"].parameters[name].data.zero_()
    whole, without = (one.evaluate(episodes=1, sampled=True).return_ for one in (acting, silent))
    assert found.intact == {"motor": {"return": whole}}
    assert found.change("sensor->motor").value == pytest.approx(without - whole)
    assert whole != acting.evaluate(episodes=1).return_


@pytest.mark.long
@pytest.mark.parametrize("kind", ABLATIONS)
def test_returns_without_a_channel_are_the_same_every_time(acting: Simulation, kind: str) -> None:
    one, two, again = (ablate(acting, kind, episodes=n, sampled=True) for n in (1, 2, 2))
    assert two == again
    assert (one.count, two.count) == (5, 10)
    assert one != two


@pytest.mark.parametrize(
    ("changed", "how", "line"),
    [
        ("", {"examples": 5}, "examples: has no effect where the readouts act; use episodes"),
        ("", {"episodes": 0}, "evaluate: episodes=0; must be a whole number, at least 1"),
        (
            "batch: 1",
            {},
            "ablate: resample needs messages of another environment; set training.batch to 2 or more",
        ),
    ],
)
def test_what_has_no_effect_on_returns_is_refused(changed: str, how: dict[str, Any], line: str) -> None:
    document = ACTING.replace("batch: 5", changed or "batch: 5")
    with Simulation(Scenario.from_yaml(document)) as simulation, pytest.raises(ScenarioError) as refused:
        ablate(simulation, "resample", **how)
    assert str(refused.value) == line


STEPS = 6


class Told(World):
    """Each episode has a goal, and each step a cue, that only the speaker sees; the listener has to name one of them."""

    randoms = 2 + STEPS
    named: int
    """The place of what is to be named in what the speaker sees."""

    @staticmethod
    def describe(options: Any) -> Description:
        return Description(signals={"shown": Signal(shape=(2,))}, action_space=Discrete(2))

    def start(self, uniforms: torch.Tensor) -> dict[str, torch.Tensor]:
        bits = (uniforms[:, 1:] > 0.5).to(self.dtype)
        last = 2 + (uniforms[:, 0] * (STEPS - 1)).long()  # from 2 to STEPS
        return {"goal": bits[:, 0], "cues": bits[:, 1:], "step": torch.zeros_like(last), "last": last}

    def observe(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        place = state["step"].clamp(max=STEPS - 1).unsqueeze(1)
        return {"shown": torch.cat([state["goal"].unsqueeze(1), state["cues"].gather(1, place)], 1)}

    def transition(self, state: dict[str, torch.Tensor], actions: Any) -> Any:
        named = self.observe(state)["shown"][:, self.named]
        right = (actions["action"] == named).to(self.dtype)
        state = {**state, "step": state["step"] + 1}
        return state, right, state["step"] == state["last"]


@environment("tests/GoalTold-v0")
class GoalTold(Told):
    named = 0


@environment("tests/CueTold-v0")
class CueTold(Told):
    named = 1


@environment("tests/TurnTold-v0")
class TurnTold(Told):
    """Episodes of two steps, whose cues differ."""

    named = 1

    def start(self, uniforms: torch.Tensor) -> dict[str, torch.Tensor]:
        state = super().start(uniforms)
        first = state["cues"][:, :1]
        return {
            **state,
            "cues": torch.cat([first, 1 - first], 1).repeat(1, STEPS // 2),
            "last": 0 * state["last"] + 2,
        }


@environment("tests/TwiceTold-v0")
class TwiceTold(Told):
    """Each step costs one, and an episode ends when two cues have been named: the first two steps' cues, or later ones."""

    named = 1

    def start(self, uniforms: torch.Tensor) -> dict[str, torch.Tensor]:
        state = super().start(uniforms)
        first = state["cues"][:, :1]
        cues = torch.cat([first, 1 - first, 1 - first, *[first] * (STEPS - 3)], 1)
        return {**state, "cues": cues, "last": 0 * state["last"] + 2, "right": 0 * state["last"]}

    def transition(self, state: dict[str, torch.Tensor], actions: Any) -> Any:
        state, right, _ = super().transition(state, actions)
        state = {**state, "right": state["right"] + right.long()}
        return state, -torch.ones_like(right), state["right"] == state["last"]


@environment("tests/PausingTold-v0")
class PausingTold(Told):
    """Episodes of four steps, of which the first and the third have a message, a cue, and count."""

    named = 1

    @staticmethod
    def describe(options: Any) -> Description:
        return Description(signals={"shown": Signal(shape=(2,)), "told": Signal()}, action_space=Discrete(2))

    def start(self, uniforms: torch.Tensor) -> dict[str, torch.Tensor]:
        state = super().start(uniforms)
        first = state["cues"][:, :1]
        cues = torch.cat([first, first, 1 - first, 1 - first], 1).repeat(1, 2)[:, :STEPS]
        return {**state, "cues": cues, "last": 0 * state["last"] + 4}

    def observe(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**super().observe(state), "told": (state["step"] % 2 == 0).to(self.dtype)}

    def transition(self, state: dict[str, torch.Tensor], actions: Any) -> Any:
        told = state["step"] % 2 == 0
        state, right, ended = super().transition(state, actions)
        return state, right * told, ended


def telling(told: str, mask: str | None = None, **env: Any) -> Simulation:
    """A speaker says what is to be named, or the episode's goal, and a listener names it."""
    net = {"kind": "mlp", "hidden": []}
    scenario = Scenario(
        scenario="told",
        env={"id": f"tests/{told}Told-v0", **env},
        agents={
            "speaker": {"observes": ["shown"], "network": net},
            "listener": {"network": net, "acts": True, "objective": "reinforce", "clock": {"unroll": 4}},
        },
        channels=[
            {
                "from": "speaker",
                "to": "listener",
                "size": 1,
                "norm": "none",
                "coupling": "locked",
                "mask": mask,
            }
        ],
        training={"batch": 16, "steps": 4},
    )
    simulation = Simulation(scenario, seed=1)
    says, names = (simulation.agents[name].parameters for name in ("speaker", "listener"))
    says["to_listener.weight"].data.copy_(2.0 * torch.eye(2)[[int(told != "Goal")]])
    says["to_listener.bias"].data.fill_(-1.0)
    names["objective.weight"].data.copy_(torch.tensor([[-1.0], [1.0]]))
    names["objective.bias"].data.zero_()
    return simulation


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("told", "lost"),
    [
        ("Goal", {"zero": True, "mean": True, "resample": True, "step": False}),
        ("Cue", dict.fromkeys(ABLATIONS, True)),
    ],
)
def test_another_step_leaves_what_a_message_says_of_its_episode(told: str, lost: dict[str, bool]) -> None:
    with telling(told) as simulation:
        for kind in ABLATIONS:
            found = ablate(simulation, kind, episodes=4)
            change = found.change("speaker->listener")
            whole = found.intact["listener"]["return"]
            assert (found.count, 2 < whole < STEPS) == (64, True)
            assert (change.verdict == "helps") == lost[kind]
            assert lost[kind] or (change.value, change.half) == (0.0, 0.0)
            # of numbers with equal chances half of what is named is right by chance
            assert not lost[kind] or change.value == pytest.approx(-whole / 2, abs=0.7)


def test_no_message_is_replaced_by_itself_where_another_step_s_takes_its_place() -> None:
    with telling("Turn") as simulation:
        found = ablate(simulation, "step", episodes=4)
        assert (found.intact["listener"]["return"], found.change("speaker->listener").value) == (2.0, -2.0)


def test_a_message_of_another_step_is_one_that_was_sent() -> None:
    with telling("Pausing", mask="told") as simulation:
        found = ablate(simulation, "step", episodes=4)
        assert (found.intact["listener"]["return"], found.change("speaker->listener").value) == (2.0, -2.0)


@pytest.mark.parametrize("kind", ["mean", "resample"])
def test_what_is_not_sent_takes_no_message_s_place(kind: str) -> None:
    """All messages that are sent are the same, so that another one, or their mean, changes nothing."""
    sent = (torch.arange(40) % 3 == 0).float()
    env = from_tensors(seen=torch.ones(40, 1), sent=sent, wanted=2 * sent[:, None], training_only=["wanted"])
    net = {"kind": "mlp", "hidden": [], "norm": "none"}
    goal = {"kind": "regression", "target": "wanted"}
    scenario = Scenario(
        scenario="paused",
        env=env,
        agents={"a": {"observes": ["seen"], "network": net}, "b": {"network": net, "objective": goal}},
        channels=[{"from": "a", "to": "b", "size": 2, "norm": "none", "mask": "sent", "coupling": "locked"}],
        training={"steps": 20, "batch": 8, "optimiser": {"kind": "sgd", "lr": 0.1}},
    )
    with Simulation(scenario, dtype=torch.float64) as simulation:
        simulation.run()
        assert ablate(simulation, "zero", split="train").change("a->b").value > 0.01
        changed = ablate(simulation, kind, split="train").change("a->b")
        assert changed.value == pytest.approx(0, abs=1e-12)


def test_messages_of_other_steps_go_around_an_episode_that_has_become_longer() -> None:
    """Of two messages each is replaced by the other: named are the cues of steps 3 and 4, and never two by one message alone."""
    with telling("Twice", limit=12) as simulation:
        found = ablate(simulation, "step", episodes=4)
        assert (found.intact["listener"]["return"], found.change("speaker->listener").value) == (-2.0, -2.0)


def test_other_steps_need_episodes_with_several_messages(trained: Simulation) -> None:
    with pytest.raises(
        ScenarioError, match="ablate: step needs episodes, and the readouts do not act; use resample"
    ):
        ablate(trained, "step")
    single = ACTING.replace("v0}", "v0, limit: 1}")
    with (
        Simulation(Scenario.from_yaml(single)) as simulation,
        pytest.raises(ScenarioError, match="sends one in each"),
    ):
        ablate(simulation, "step", episodes=1)


def test_an_episode_with_one_message_or_none_is_played_as_it_was() -> None:
    """Of a pole that falls after some ten steps, a message in nine steps is the only one, or the second; one in 400 never comes."""
    observing = "sensor: {observes: [observation], "
    rare, never = (
        ACTING.replace("coupling: locked", "coupling: detached").replace(observing, f"{observing}clock: {{{clock}}}, ")
        for clock in ("period: 9", "period: 400, phase: 399")
    )  # fmt: skip
    alone = Simulation(Scenario.from_yaml(rare.replace("batch: 5", "batch: 1")))
    assert ablate(alone, "step", channels=["sensor->motor"], episodes=6).count == 6
    with pytest.raises(ScenarioError, match="'sensor->motor', which sends one in each at most"):
        ablate(Simulation(Scenario.from_yaml(never)), "step", episodes=1)


def test_only_some_channels_and_examples_and_no_bit_of_the_run_changes(trained: Simulation) -> None:
    some = {"channels": ["ear->judge"], "examples": 50}
    with unchanged(trained):
        found = ablate(trained, "resample", **some)
    assert (list(found.channels), found.count) == (["ear->judge"], 50)
