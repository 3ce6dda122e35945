"""The ring of the scaling benchmarks: its scenario, its schedule, and its parameters out of a simulation.

N agents in a directed ring. Each reads an observation of 32 that all share and a message of 32 from the agent before it,
sent one step ago; it has 64 hidden ReLU units, and as outputs a regression on a target of 32 that all share and a message
of 32. A linear synthetic gradient per channel, without context; Adam at 1e-3 everywhere; windows of one tick; batch 32.
"""

from __future__ import annotations

import networkx as nx
import torch
from torch import Tensor

from antiphon.envs import from_tensors
from antiphon.running.simulation import Simulation
from antiphon.scenarios import Scenario

SIZE = 32
"""Components of the observation, of a message and of the target, each."""
HIDDEN = 64
BATCH = 32
RATE = 1e-3
_EXAMPLES = 256
_PORT = "out"


def examples() -> tuple[Tensor, Tensor]:
    """Return what is drawn from: observations and targets, [256, 32] each."""
    generator = torch.Generator().manual_seed(0)
    observed, wanted = (torch.randn(_EXAMPLES, SIZE, generator=generator) for _ in range(2))
    return observed, wanted


def ring(agents: int, delay: int = 1, length: int | None = None) -> Scenario:
    """Return the scenario of a ring, whose messages take `delay` steps; `length`: of several rings of so many agents."""
    observed, wanted = examples()
    length = length or agents
    width = len(str(agents - 1))
    names = [f"n{index:0{width}}" for index in range(agents)]  # sorted as numbered
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name in names:
        graph.add_node(
            name,
            observes=["observed"],
            network={"kind": "mlp", "hidden": [HIDDEN], "norm": "none"},
            objective={"kind": "regression", "target": "wanted"},
        )
    for index, name in enumerate(names):
        graph.add_edge(
            name,
            names[index + 1 if (index + 1) % length and index + 1 < agents else index // length * length],
            size=SIZE,
            port=_PORT,
            norm="none",
            gradient={"kind": "linear"},
            link={"delay": delay},
        )
    return Scenario.from_graph(
        graph,
        scenario="ring",
        env=from_tensors(
            observed=observed, wanted=wanted, training_only=["wanted"], test=0.0, validation=0.0
        ),
        training={"batch": BATCH, "optimiser": {"kind": "adam", "lr": RATE}},
    )


def simulate(
    scenario: Scenario,
    backend: str,
    *,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    capture: bool = False,
) -> Simulation:
    """Return a simulation on a backend; `capture`: of steps that are replayed."""
    return Simulation(scenario, seed=seed, device=device, dtype=dtype, backend=backend, capture=capture)


def parameters(simulation: Simulation) -> dict[str, Tensor]:
    """Return copies of all parameters, stacked by agent in the order of the ring.

    `w1` [N, 64, 64], `b1` [N, 64], `w2` [N, 64, 64], `b2` [N, 64] (of the outputs, the message is first), and those of
    the synthetic gradient of each agent's message, `g` [N, 32, 32] and `c` [N, 32].
    """
    system = simulation.running.system
    own = [agent.learner.parameters for agent in system.agents.values()]
    out, goal = f"port_{_PORT}", "objective"
    taught = {channel.sender: channel.synthetic_gradient.model for channel in system.channels.values()}
    predictors = [taught[name] for name in system.agents]
    said = [list(predictor.parameters.values()) for predictor in predictors if predictor is not None]
    found = {
        "w1": [p["0.weight"] for p in own],
        "b1": [p["0.bias"] for p in own],
        "w2": [torch.cat([p[f"{out}.weight"], p[f"{goal}.weight"]]) for p in own],
        "b2": [torch.cat([p[f"{out}.bias"], p[f"{goal}.bias"]]) for p in own],
        "g": [weight for weight, _ in said],
        "c": [bias for _, bias in said],
    }
    return {name: torch.stack(tensors).detach().clone() for name, tensors in found.items()}
