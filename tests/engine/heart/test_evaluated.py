"""What evaluation, composition and metrics make of links, synthetic inputs, symbols, sampled messages and labels at every site."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Scenario, ScenarioError, Simulation
from antiphon.envs import from_tensors
from tests.contracts.documents import PPO, WORDS, pairs
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of

NAME = "eye->mind"
SIZE = 4


def pair(clock: dict[str, int] | None = None, mind: str = "right_half", **channel: Any) -> Simulation:
    """Two linear agents, each seeing half of a digit; the second knows its class."""
    agents = {
        "eye": {"observes": ["left_half"], "network": LINEAR_MAP, "clock": clock or {}},
        "mind": {"observes": [mind] if mind else [], "network": LINEAR_MAP, "objective": CLASSIFY},
    }
    usual = {"from": "eye", "to": "mind", "size": SIZE, "norm": "none", "gradient": {"context": ["label"]}}
    usual["input"] = {"context": ["right_half"]}
    return Simulation(scenario_of(agents, [{**usual, **channel}], batch=12))


def test_evaluation_over_perfect_links_does_without_synthetic_inputs() -> None:
    with pair(coupling="unlocked", link={"drop": 0.4}) as simulation:
        simulation.run(10)
        perfect, as_run = simulation.evaluate(), simulation.evaluate(links="as_run")
        model = simulation.channels[NAME].synthetic_input
        assert model is not None
        model.parameters["last.bias"].data.fill_(50.0)
        assert simulation.evaluate() == perfect
        assert simulation.evaluate(links="as_run").agents != as_run.agents


def test_the_most_probable_symbols_are_sent_where_nothing_is_sampled() -> None:
    words = {
        "sample": {"kind": "gumbel", "vocabulary": 3, "size": 2},
        "size": None,
        "norm": None,
        "input": None,
    }
    with pair(mind="", **words) as simulation:
        simulation.run(3)
        eye, mind = (simulation.agents[name].parameters for name in ("eye", "mind"))
        batch = next(iter(simulation.world.env.batches("test", 40)))
        logits = F.linear(batch["left_half"].flatten(1), eye["to_mind.weight"], eye["to_mind.bias"])
        likely = F.one_hot(logits.view(40, 2, 3).argmax(-1), 3).float().flatten(1)
        expected = F.linear(likely, mind["objective.weight"], mind["objective.bias"])
        found = simulation.compose()({"left_half": batch["left_half"]})["mind"]
        torch.testing.assert_close(found, expected.detach())


def test_a_policy_over_messages_alone_has_values_and_no_output() -> None:
    with Simulation(Scenario.model_validate(pairs(PPO, 1, sender={"objective": PPO}, **WORDS))) as simulation:
        heads = {name.partition(".")[0] for name in simulation.agents["sa0"].parameters}
        assert heads == {"0", "value", "to_a0"}
        found = simulation.compose()({"x": torch.zeros(1, 12, 4), "y": torch.zeros(1, 12, 3)})[0]
        assert list(found) == ["a0"]
        with pytest.raises(
            ScenarioError, match="'sa0' has a policy over its messages alone, so it has no output"
        ):
            simulation.compose(["sa0"])


# --- a class at every site ---------------------------------------------------------------------------------------

COUNT, LENGTH, CLASSES = 90, 4, 5
TOKENS = torch.randint(CLASSES, (COUNT, LENGTH), generator=torch.Generator().manual_seed(0))
TOKENS[0, 0] = CLASSES - 1
FOLLOWING = (2 * TOKENS + TOKENS.roll(1, 1)) % CLASSES


class Logits(nn.Module):
    """Logits of a class at each site, [B, T * CLASSES], from the tokens here and before."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        assert (inputs, outputs) == (LENGTH, LENGTH * CLASSES)
        self.here, self.before = (nn.Embedding(CLASSES, CLASSES) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = (self.here(x.long()) + self.before(x.long().roll(1, -1))).flatten(-2)
        return found


@pytest.mark.parametrize(("kind", "metric"), [("classification", "accuracy"), ("coding", "bits")])
def test_an_evaluation_is_the_mean_over_sites(kind: str, metric: str) -> None:
    agent = {"observes": ["tokens"], "categories": "index", "network": Logits}
    goal = {"kind": kind, "target": "following"}
    env = from_tensors(tokens=TOKENS, following=FOLLOWING)
    scenario = scenario_of({"a": {**agent, "objective": goal}}, env=env, optimiser={"lr": 0.05})
    with Simulation(scenario) as simulation:
        simulation.run(20)
        found = simulation.evaluate().agents["a"]
        examples = next(iter(simulation.world.env.batches("test", COUNT)))
        outputs = simulation.compose()({"tokens": examples["tokens"]})["a"].view(-1, LENGTH, CLASSES)
    nats = F.cross_entropy(outputs.movedim(2, 1), examples["following"]).item()
    assert found["loss"] == pytest.approx(nats, rel=1e-5)
    right = (outputs.argmax(2) == examples["following"]).double().mean().item()
    expected = right if metric == "accuracy" else nats / torch.log(torch.tensor(2.0)).item()
    assert found[metric] == pytest.approx(expected, rel=1e-5)
    assert 0 < right < 1
