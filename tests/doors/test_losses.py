"""What a user hands over as a loss keeps its meaning, or is refused in one line."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

import antiphon
from antiphon import Population, Scenario, ScenarioError, Simulation
from antiphon.errors import RunError
from antiphon.scenarios import LinkSpec
from tests.distributed.virtual.profiles import on_cluster, profile
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.commands import Commands
from tests.kit.recorded import metrics
from tests.kit.running import load_state, stack_names
from tests.reference.backend import Chosen, reference

# --- what selects ------------------------------------------------------------------------------------------


# --- class weights, label smoothing ------------------------------------------------------------------------

WEIGHT = [0.1, 0.5, 2.0, 1.0]


def labels(shape: tuple[int, ...], missing: int) -> torch.Tensor:
    """Classes of 40 examples; each so-many-th example, or site, has none (-100)."""
    y = torch.randint(4, (40, *shape), generator=torch.Generator().manual_seed(1))
    y.view(-1)[::missing] = -100
    return y


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("backend", ["cohort", "native", reference])
def test_class_weights_and_label_smoothing_are_those_of_torch(
    shape: tuple[int, ...], backend: Chosen
) -> None:
    torch.manual_seed(0)
    y = labels(shape, 5)
    env = antiphon.envs.from_tensors(x=torch.randn(40, 5), y=y, training_only=["y"])
    how = {"weight": WEIGHT, "label_smoothing": 0.2, "reduction": "mean"}
    goal = {"kind": "classification", "target": "y", **how}
    agent = {"observes": ["x"], "network": nn.Linear(5, 4 * math.prod(shape)), "objective": goal}
    with Simulation(scenario_of({"a": agent}, env=env), dtype=torch.float64, backend=backend) as simulation:
        x, target, there = (simulation.signals[name] for name in ("x", "y", "_y"))
        logits = simulation.compose()(x=x.double())["a"].reshape(-1, 4)
        target = target.masked_fill(~there.reshape(target.shape), -100).flatten()
        weight = torch.tensor(WEIGHT, dtype=torch.float64)
        right = cross_entropy(logits, target, weight=weight, label_smoothing=0.2)
        assert simulation.step()["losses"]["a"] == pytest.approx(right.item(), abs=1e-12)


def test_class_weights_of_a_stack_are_each_agents_own() -> None:
    goal = {**CLASSIFY, "weight": [0.1 * (1 + label) for label in range(10)], "label_smoothing": 0.1}
    agent = {"observes": ["image"], "objective": goal}
    scenario = scenario_of({"a": agent, "b": agent})
    losses = []
    for stacked in (True, False):
        with Simulation(scenario, dtype=torch.float64, stacked=stacked) as simulation:
            losses.append([simulation.step()["losses"] for _ in range(2)])
    for one, other in zip(*losses, strict=True):
        assert {name: float(loss) for name, loss in one.items()} == pytest.approx(
            {name: float(loss) for name, loss in other.items()}, abs=1e-12
        )


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_whose_classes_have_no_weight_teaches_nothing(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """As of a background alone, of which torch's mean is nan."""
    y = torch.zeros(40, *shape, dtype=torch.long)
    env = antiphon.envs.from_tensors(
        x=torch.randn(40, 5), y=y, training_only=["y"], classes={"y": 2}, test=0.2
    )
    goal = {"kind": "classification", "target": "y", "weight": [0.0, 1.0]}
    agent = {"observes": ["x"], "network": {"kind": "mlp", "hidden": []}, "objective": goal}
    with Simulation(
        scenario_of({"a": agent}, env=env, optimiser={"kind": "sgd", "lr": 1.0}), dtype=dtype
    ) as simulation:
        before = {name: value.detach().clone() for name, value in simulation.agents["a"].parameters.items()}
        assert simulation.step()["losses"]["a"] == 0
        assert all(torch.equal(before[name], now) for name, now in simulation.agents["a"].parameters.items())
        assert simulation.evaluate().agents["a"]["loss"] == 0


def test_probabilities_of_classes_are_a_loss_of_ones_own() -> None:
    """Targets of mixup: refused by `classification` with the loss that takes them."""
    shares = torch.rand(20, 4).softmax(1)
    env = antiphon.envs.from_tensors(x=torch.rand(20, 3), y=shares, z=torch.rand(20), test=0, validation=0)

    def given(kind: Any, target: str) -> Simulation:
        agent = {
            "observes": ["x"],
            "objective": {"kind": kind, "target": target},
            "network": {"kind": "mlp", "hidden": [4]},
        }
        return Simulation(Scenario(scenario="t", env=env, agents={"a": agent}, training={"batch": 20}))

    line = r"does not fit the target '{}' \(floats, .*\); give it as classes, whole numbers from 0{}$"
    kind = r"lambda output, target: F.cross_entropy\(output, target, reduction='none'\)"
    with pytest.raises(ScenarioError, match=line.format("y", rf"; for probabilities .* as kind {kind}")):
        given("classification", "y")
    with pytest.raises(ScenarioError, match=line.format("z", "")):
        given("classification", "z")
    with given(lambda output, target: cross_entropy(output, target, reduction="none"), "y") as run:
        network, signals = run.agents["a"].module, run.signals
        right = cross_entropy(network(signals["x"])["objective"], signals["y"])
        assert run.evaluate("train").agents["a"]["loss"] == pytest.approx(right.item(), rel=1e-5)


# --- losses of a whole batch -------------------------------------------------------------------------------


def info_nce(output: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
    a, b = normalize(output, dim=1), normalize(view, dim=1)
    return cross_entropy(a @ b.T / 0.1, torch.arange(len(a)), reduction="none")


def test_a_loss_of_a_whole_batch_is_evaluated_in_batches_of_the_training() -> None:
    torch.manual_seed(0)
    x = torch.randn(100, 8)
    env = antiphon.envs.from_tensors(x=x, view=x + 0.5 * torch.randn(100, 8), training_only=["view"])
    agent = {"observes": ["x"], "objective": {"kind": info_nce, "target": "view"}}
    with Simulation(scenario_of({"a": agent}, env=env, batch=16)) as simulation:
        simulation.run(5)
        rows = env.table.splits["train"]
        output, view = simulation.compose()(x=x[rows])["a"], env.table.columns["view"][rows]
        starts = range(0, len(rows) - 15, 16)
        losses = [info_nce(output[i : i + 16], view[i : i + 16]) for i in starts]
        left = len(rows) - 16 * len(losses)  # they are scored in a batch with those before
        losses.append(info_nce(output[-16:], view[-16:])[16 - left :])
        found = simulation.evaluate("train")
    assert (found.examples, left > 0) == (len(rows), True)
    assert found.agents["a"]["loss"] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)


# --- losses that are no number per sample ------------------------------------------------------------------


class Sized:
    """Says how many outputs it needs."""

    def __init__(self, outputs: Any) -> None:
        self.outputs = outputs

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return output.sum(1)

    def size(self, shape: tuple[int, ...], classes: int | None) -> Any:
        return self.outputs


def test_the_loss_of_a_network_has_one_metric_beside_other_objectives() -> None:
    class Losing(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs)

        def forward(self, x: torch.Tensor) -> Any:
            output = super().forward(x)
            return output, output.square().mean(1)

    agent = {"observes": ["image"], "network": Losing, "objective": [CLASSIFY, "own_loss"]}
    with Simulation(scenario_of({"a": agent})) as run:
        run.step()
        assert run.evaluate().agents["a"].keys() == {"loss", "label_loss", "accuracy", "own_loss"}


# --- what losses, schedules and gradients keep between calls -------------------------------------------------


class Running:
    """Divides by a running mean of itself, a number in an attribute."""

    def __init__(self) -> None:
        self.mean = 0.0

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        losses = (output - target).square().mean(1)
        self.mean = 0.9 * self.mean + 0.1 * losses.mean().item()
        return losses / (1 + self.mean)


class WithBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        losses = (output - target).square().mean(1)
        self.mean.mul_(0.9).add_(0.1 * losses.detach().mean())
        return losses / (1 + self.mean)


class Saving(Running):
    """Has methods for what it keeps, which is no plain data."""

    def __init__(self) -> None:
        super().__init__()
        self.held = {1: 0.0}

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        losses = (output - target).square().mean(1)
        self.held[1] += losses.mean().item()
        return losses / (1 + self.held[1])

    def state_dict(self) -> dict[str, float]:
        return {"held": self.held[1]}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.held[1] = state["held"]


def in_closure() -> Any:
    running = Running()
    return lambda output, target: running(output, target)


def in_method() -> Any:
    running = Running()

    class Encloses:
        def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return running(output, target)

    return Encloses


class WornLoss(nn.Linear):
    """A gradient whose loss counts its calls in an attribute."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.calls = 0

    def loss(self, prediction: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (prediction - truth).square().sum(1) / self.calls


class WornSum:
    """An aggregation that counts its calls in an attribute."""

    def __init__(self, size: int, senders: int) -> None:
        self.calls = 0

    def __call__(self, messages: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return messages.sum(1) / self.calls


class OfClass(WornLoss):
    """Counts its calls in its class."""

    worn: ClassVar[int] = 0

    def loss(self, prediction: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        type(self).worn += 1
        return (prediction - truth).square().sum(1) / self.worn


class SumOfClass(WornSum):
    worn: ClassVar[int] = 0

    def __call__(self, messages: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        type(self).worn += 1
        return messages.sum(1) / self.worn


def keeping(objective: Any = "regression", gradient: Any = None, fan_in: Any = None) -> antiphon.Scenario:
    numbers = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=numbers), torch.randn(60, 2, generator=numbers)
    env = antiphon.envs.from_tensors(x=x, y=y, training_only=["y"])
    learned = {"gradient": {"kind": gradient, "context": ["y"]}} if gradient else {"coupling": "locked"}
    agents = {
        "a": {"observes": ["x"]},
        "b": {"objective": {"kind": objective, "target": "y"}, **({"fan_in": fan_in} if fan_in else {})},
    }
    return scenario_of(agents, channels=[{"from": "a", "to": "b", "size": 6, **learned}], env=env)


def parameters(simulation: Simulation) -> list[torch.Tensor]:
    return [p for name in ("a", "b") for p in simulation.agents[name].parameters.values()]


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("kind", [Running, WithBuffer, Saving])
def test_what_a_loss_keeps_is_saved_and_no_evaluation_changes_it(
    kind: Any, backend: Chosen, tmp_path: Path
) -> None:
    with (
        Simulation(keeping(kind), backend=backend) as whole,
        Simulation(keeping(kind), backend=backend) as half,
    ):
        whole.run(8, progress=False)
        half.run(4, progress=False)
        half.evaluate("test")
        half.save(tmp_path / "half")
        again = Simulation.load(tmp_path / "half", scenario=keeping(kind), backend=backend)
        for other in (again, half.fork(), half):
            other.run(4, progress=False)
            assert all(map(torch.equal, parameters(whole), parameters(other)))


LOST: dict[str, tuple[dict[str, Any], str]] = {
    "object": ({"objective": Running()}, "the objective of b keeps a state that no checkpoint has; give its class"),
    "closure": ({"objective": in_closure()}, "the objective of b keeps a state that no checkpoint has; give its class"),
    "method": ({"objective": in_method()}, "the objective of b keeps a state that no checkpoint has; give its class"),
    "gradient": ({"gradient": WornLoss}, "the gradient of a->b keeps a state in attributes, which no checkpoint has; regi"),
    "aggregation": ({"fan_in": WornSum}, "the aggregation of b keeps a state in attributes, which no checkpoint has; regi"),
    "gradient's class": ({"gradient": OfClass}, "the gradient of a->b keeps a state in attributes, which no checkpoint "),
    "aggregation's class": ({"fan_in": SumOfClass}, "the aggregation of b keeps a state in attributes, which no check"),
}  # fmt: skip


class Guess(nn.Module):
    """A predictor whose loss is `judge` of its prediction and the truth."""

    judge: Any = None

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x)

    def loss(self, *arguments: torch.Tensor) -> torch.Tensor:
        return type(self).judge(*arguments)


class Parameterless(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1].expand(-1, self.outputs) * 0.1


class Constant(Guess):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).detach()

    judge = staticmethod(lambda prediction, truth: (prediction - truth).square().sum(1))


def _failing(prediction: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    raise KeyError("scale")


UNLEARNT = (
    "its loss has no gradient, so that nothing is learned; compute it from parameters and without detach"
)
GUESSES: dict[str, tuple[type[nn.Module], str]] = {
    "detached loss": (
        type("Late", (Guess,), {"judge": lambda prediction, truth: (prediction - truth).square().sum(1).detach()}),
        f"Late: {UNLEARNT}",
    ),
    "detached": (Constant, f"Constant: {UNLEARNT}"),
    "no parameters": (Parameterless, f"Parameterless: {UNLEARNT}"),
    "fails": (
        type("Failing", (Guess,), {"judge": _failing}),
        r"Failing: _failing failed at test_losses.py:\d+: KeyError: 'scale'",
    ),
    "other arguments": (
        type("Alone", (Guess,), {"loss": property(lambda self: lambda: None)}),
        "Alone: .*failed.*: TypeError: .* takes 0 positional arguments but 2 were given",
    ),
}  # fmt: skip


@pytest.mark.parametrize("point", ["gradient", "input"])
@pytest.mark.parametrize("case", GUESSES)
def test_a_predictor_that_cannot_learn_is_a_line(case: str, point: str) -> None:
    kind, line = GUESSES[case]
    channel: dict[str, Any] = {"from": "a", "to": "b", "size": 6, "link": {"delay": 1, "drop": 0.3}}
    channel[point] = {"kind": kind, "context": ["x"]}
    agents = {"a": {"observes": ["x"]}, "b": {"objective": {"kind": "regression", "target": "y"}}}
    with (
        pytest.raises((ScenarioError, RunError), match=f"{point} {line}"),
        Simulation(scenario_of(agents, channels=[channel], env=keeping().env)) as simulation,
    ):
        simulation.run(4, progress=False)


def test_a_size_that_cannot_be_asked_for_is_a_line() -> None:
    class Sized(Running):
        def size(self) -> int:
            return 2

    line = (
        r"^agents.b.objective: Sized.size failed: TypeError: .*; let it take the target's shape and classes$"
    )
    with pytest.raises(ScenarioError, match=line):
        Simulation(keeping(Sized))


def test_a_compiled_loss_is_refused_with_the_fix() -> None:
    def compiled(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - target).square().sum(1)

    compiled._torchdynamo_orig_callable = compiled  # type: ignore[attr-defined]  # as torch.compile has it
    with pytest.raises(
        ScenarioError, match=r"compiled is compiled \(torch.compile\); pass the loss that it was made from"
    ):
        Simulation(keeping(compiled))


def test_an_aggregation_in_float64_has_the_type_of_the_run() -> None:
    with Simulation(keeping(fan_in=lambda messages, present: messages.sum(1).double())) as simulation:
        simulation.run(4, progress=False)
        assert {p.dtype for p in parameters(simulation)} == {torch.float32}


@pytest.mark.parametrize("kind", [Running, WithBuffer, Saving])
def test_a_copy_of_a_populations_member_has_what_its_loss_keeps(kind: Any) -> None:
    members = Population(keeping(kind), [0, 1])
    apart = Simulation(keeping(kind), seed=1)
    try:
        for _ in range(3):
            members.step()
            apart.step()
        assert all(map(torch.equal, parameters(members.simulations[1]), parameters(apart)))
        members.exploit(0, 1)
        kept = [one.running.backend.state_dict()["objects"] for one in (*members.simulations, apart)]
        assert (
            kept[0]
            == kept[1]
            == kept[2]
            != Simulation(keeping(kind)).running.backend.state_dict().get("objects")
        )
    finally:
        members.close()


@pytest.mark.parametrize("kind", LOST)
def test_members_with_what_cannot_be_saved_are_not_copied(kind: str) -> None:
    keys, line = LOST[kind]
    members = Population(keeping(**keys), [0, 1])
    try:
        if "objective" in keys:
            held = "keeps a state in its class" if kind == "method" else "is an object that keeps a state"
            line = f"the objective of b {held}, which several runs would share"
            with pytest.raises(RunError, match=line):
                members.step()
        else:
            members.step()
            for copy in (lambda: members.exploit(0, 1), lambda: members.whole(1)):
                with pytest.raises(RunError, match=line):
                    copy()
    finally:
        members.close()


LENT = """\
import torch
import antiphon

class Running:
    mean = 0.0
    def __call__(self, output, target):
        losses = (output - target).square().mean(1)
        self.mean = 0.9 * self.mean + 0.1 * losses.mean().item()
        return losses / (1 + self.mean)

LOSS = Running()

def scenario(kind=LOSS):
    x = torch.arange(80.0).view(20, 4) / 80
    env = antiphon.envs.from_tensors(x=x, y=x[:, :2].clone(), training_only=["y"])
    agent = {"observes": ["x"], "objective": {"kind": kind, "target": "y"}, "clock": {"unroll": 3}}
    return antiphon.Scenario(scenario="lent", env=env, agents={"a": agent}, training={"batch": 4, "steps": 6})

def given():
    return scenario(Running)
"""
"""A loss whose object a module holds, and its class; the first call is after the third step."""


def test_seeds_that_follow_one_another_share_no_loss_that_keeps_a_state(here: Path, cli: Commands) -> None:
    (here / "lent.py").write_text(LENT)
    sys.modules.pop("lent", None)
    run = "--allow-import lent run lent:{} --seeds 2 --logdir runs"
    line = (
        "the objective of a is an object that keeps a state, which several runs would share; give its class"
    )
    assert cli.code(run.format("scenario")) == 2
    assert line in " ".join(cli.err.split())
    cli(run.format("given"), "--name", "given")
    cli(run.format("given").replace("--seeds 2", "--seed 1"), "--name", "alone")
    assert metrics(here / "runs" / "given-s1") == metrics(here / "runs" / "alone")


# --- the same in parts and in virtual time -----------------------------------------------------------------------


def divided(**keys: Any) -> antiphon.Scenario:
    """Two agents that parts compute apart."""
    whole = keeping(**keys)
    channels = [one.model_copy(update={"link": LinkSpec(delay=1)}) for one in whole.channels]
    return whole.model_copy(update={"channels": tuple(channels)})


def losses_of(simulation: Simulation) -> float:
    return simulation.evaluate("test").agents["b"]["loss"]


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
@pytest.mark.parametrize("kind", [Running, WithBuffer])
@pytest.mark.parametrize("mode", ["lockstep", "free"])
def test_what_a_loss_keeps_in_a_part_is_the_whole_simulations(mode: str, kind: Any) -> None:
    scenario = divided(objective=kind, gradient="linear")
    with Simulation(scenario) as whole, Simulation(scenario, parts={"count": 2, "mode": mode}) as half:
        for one in (whole, half):
            one.run(8, progress=False)
        assert losses_of(half) == losses_of(whole)


@pytest.mark.filterwarnings("ignore::antiphon.ScenarioWarning")
def test_what_no_state_has_is_refused_in_virtual_time(tmp_path: Path) -> None:
    scenario = divided(objective=in_closure(), gradient="linear")
    line = LOST["closure"][1]
    with on_cluster(scenario, profile(2)) as simulation:
        simulation.run(4, progress=False)
        with pytest.raises(RunError, match=line):
            simulation.fork()
        simulation.save(tmp_path / "saved")
        again = on_cluster(scenario, profile(2))
        load_state(again, tmp_path / "saved", scenario)
        with pytest.raises(RunError, match=line):
            again.step()
    failing = profile(2, failures={"per_day": 9, "outage": 1, "checkpoint": 1})
    with on_cluster(scenario, failing) as simulation, pytest.raises(RunError, match=line):
        simulation.run(4, progress=False)


# --- what is seen of an object -----------------------------------------------------------------------------------


class Slots:
    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (output - target).square().mean(1)


class OnClass:
    calls: ClassVar[int] = 0

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        type(self).calls += 1
        return (output - target).square().mean(1)


class WithNorm:
    """An object, and no module, that holds one whose buffers change."""

    def __init__(self) -> None:
        self.norm = nn.BatchNorm1d(2, affine=False)

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.norm(output.detach().float())
        return (output - target).square().mean(1)


def on_function(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    on_function.calls = 1 + getattr(on_function, "calls", 0)  # type: ignore[attr-defined]
    return (output - target).square().mean(1)


def of_generator() -> Any:
    numbers = itertools.count()
    return lambda output, target: (output - target).square().mean(1) + 0 * next(numbers)


SEEN = {
    "slots": Slots,
    "class": OnClass,
    "norm": WithNorm,
    "function": on_function,
    "iterator": of_generator(),
}


@pytest.mark.parametrize("kind", SEEN)
def test_what_changes_anywhere_in_a_loss_is_seen(kind: str) -> None:
    with Simulation(keeping(SEEN[kind])) as simulation:
        simulation.step()
        with pytest.raises(RunError, match="the objective of b keeps a state that no checkpoint has"):
            simulation.fork()


class Annealed(Running):
    """Counts its calls, which changes its losses later alone."""

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.mean += 1
        return (output - target).square().mean(1) * (1 if self.mean < 5 else 0.1)


def test_losses_that_keep_a_state_are_not_stacked() -> None:
    agent = {"observes": ["x"], "objective": {"kind": Annealed, "target": "y"}}
    scenario = scenario_of({"a": agent, "b": agent}, env=keeping().env)
    with Simulation(scenario) as simulation:
        assert stack_names(simulation) == ["a", "b"]
        simulation.run(6, progress=False)
        kept = simulation.running.backend.state_dict()["objects"]
        assert kept["a"]["0"]["attributes"] == kept["b"]["0"]["attributes"] == {"mean": 6.0}


def test_more_objects_than_are_compared_are_said_to_be() -> None:
    chain: list[Any] = []
    for _ in range(300):
        chain = [chain]
    held = Running()
    held.chain = [chain, object()]  # type: ignore[attr-defined]
    line = "^Running: holds more objects than are compared; what changes in the others is neither seen nor saved$"
    with pytest.warns(antiphon.ScenarioWarning, match=line), Simulation(keeping(held)) as simulation:
        simulation.step()


def test_a_loss_that_changes_its_target_in_place_changes_no_other_agents() -> None:
    def apart(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - target.flatten(1) * 0.5).square().mean(1)

    def in_place(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - target.mul_(0.5).flatten(1)).square().mean(1)

    def trained(loss: Any) -> list[torch.Tensor]:
        eye = {"observes": ["image"], "objective": {"kind": loss, "target": "right_half"}}
        other = {"observes": ["image"], "objective": {"kind": "regression", "target": "right_half"}}
        with Simulation(scenario_of({"eye": eye, "other": other})) as simulation:
            simulation.run(3, progress=False)
            return [p.clone() for agent in simulation.agents.values() for p in agent.parameters.values()]

    assert all(map(torch.equal, trained(apart), trained(in_place)))
