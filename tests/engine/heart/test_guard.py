"""The guard (`engine/heart/guard.py`): what is not finite moves no parameter, the host waits for no number, and the next sync reports it.

It is for GPUs; here `check_later` turns it on, which no document does on a CPU.
"""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon import DivergenceError, Simulation
from tests.contracts.twins import facts
from tests.engine.numbers import all_parameters, equal
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.running import check_later

WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "aten.equal", "_unique")
"""Operations whose result the host has to wait for."""
NETWORKS: dict[str, dict[str, Any]] = {
    "batch norm": {"kind": "mlp", "hidden": [8], "norm": "batch"},
    "lstm": {"kind": "lstm", "size": 5},
}
stacked_and_lone = pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "lone"])


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(name in str(func) for name in WAITS):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def ring(network: str = "batch norm", *, stacked: bool = True, **channel: Any) -> Simulation:
    names = [f"n{i}" for i in range(6)]
    agent = {
        "observes": ["image"],
        "network": NETWORKS[network],
        "objective": CLASSIFY,
        "clock": {"unroll": 2},
    }
    plain = {"size": 4, "norm": "none", "link": {"delay": 1}}
    ends = zip(names, names[1:] + names[:1], strict=True)
    channels = [{"from": a, "to": b, **plain, **channel} for a, b in ends]
    scenario = scenario_of(
        dict.fromkeys(names, agent), channels, telemetry={"period": 10}, batch=4, steps=400
    )
    return Simulation(scenario, backend="cohort", stacked=stacked)


def poison(simulation: Simulation, value: float = float("nan")) -> None:
    next(iter(simulation.agents["n3"].parameters.values())).data.view(-1)[0] = value


@pytest.mark.cases(1)
@pytest.mark.parametrize("network", NETWORKS)
@stacked_and_lone
def test_the_host_waits_for_no_number_and_no_bit_is_another(network: str, stacked: bool) -> None:
    # Without the label as context: torch's one_hot looks at its argument, but on the CPU alone.
    plain = {"gradient": {"kind": "mlp", "context": []}, "stacked": stacked}
    one, other = check_later(ring(network, **plain)), ring(network, **plain)
    for simulation, waits in ((one, False), (other, True)):
        for _ in range(3):
            simulation.step()
        with _Waits() as found:
            for _ in range(4):
                simulation.step()
        assert bool(found.found) == waits
    assert equal(all_parameters(one), all_parameters(other))


def everything(simulation: Simulation) -> list[Tensor]:
    """Parameters, running statistics and moments of agents and predictors."""
    found = {name: value for name, value in facts(simulation).items() if "@" not in name}
    return [value.nan_to_num(7.0) for value in found.values() if isinstance(value, Tensor)]


@pytest.mark.cases(1)
@pytest.mark.parametrize(("what", "poisoned"), [("agent", float("nan")), ("predictor", float("inf"))])
@stacked_and_lone
def test_the_line_is_that_of_the_host_and_everything_is_as_before_the_step(
    what: str, poisoned: float, stacked: bool
) -> None:
    lines = []
    for checked in (check_later, lambda simulation: simulation):
        simulation = checked(ring(stacked=stacked, gradient={"kind": "mlp", "norm": "batch"}))
        simulation.run(12)
        simulation.step()  # half a window: the next step learns, as every second does
        if what == "agent":
            poison(simulation, poisoned)
        else:
            model: Any = simulation.channels["n2->n3"].synthetic_gradient
            next(iter(model.parameters.values())).data.view(-1)[0] = poisoned
        before = everything(simulation)
        with pytest.raises(DivergenceError) as found:
            simulation.run(steps=30)
        lines.append(str(found.value))
        assert equal(before, everything(simulation))
    assert lines[0] == lines[1]
    assert "step 14 is not finite" in lines[0]
    assert simulation.now == 13
