"""What evaluation, composition and metrics make of links, synthetic inputs, symbols, sampled messages and labels at every site."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from antiphon import Simulation
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


# --- a class at every site ---------------------------------------------------------------------------------------

COUNT, LENGTH, CLASSES = 90, 4, 5
TOKENS = torch.randint(CLASSES, (COUNT, LENGTH), generator=torch.Generator().manual_seed(0))
TOKENS[0, 0] = CLASSES - 1
