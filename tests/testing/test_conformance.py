"""The conformance checks pass antiphon's own and sound examples, and name what is broken in one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import testing
from antiphon.agents.objectives import OBJECTIVES
from antiphon.agents.policies import POLICY_FIELDS
from antiphon.telemetry.figures import Figure, Recorder, RunDescription
from antiphon.telemetry.history import History
from tests.test_extensions import (
    Focal,
    Gated,
    Leaky,
    Lion,
    Robust,
    hinge,
    inverse_root,
    largest,
    normed,
    slower_first,
)


def line_of(check: Callable[..., None], broken: Any, **settings: Any) -> str:
    """The line with which a check refuses."""
    with pytest.raises(AssertionError) as refused:
        check(broken, **settings)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- objectives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        *(kind for kind in OBJECTIVES if kind not in POLICY_FIELDS),
        *(Focal, Focal(1.0), hinge, nn.CrossEntropyLoss(reduction="none")),
    ],
)
def test_sound_objectives_pass(kind: Any) -> None:
    if kind == "regression":
        testing.check_objective(kind, classes=None, target=(2,))
    else:
        testing.check_objective(kind)


@pytest.mark.parametrize("kind", POLICY_FIELDS)
def test_policies_are_refused(kind: str) -> None:
    line = f"{kind}: a policy's losses are of windows, not of outputs and a target"
    assert line_of(testing.check_objective, kind) == line


@pytest.mark.parametrize("kind", ["classification", "coding"])
def test_labels_at_several_sites_pass(kind: str) -> None:
    testing.check_objective(kind, target=(2, 4))


class Learned(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 3)


class Noisy(Focal):
    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return super().__call__(output + 0.1 * torch.randn_like(output), target)


class NoMetric(Focal):
    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return output.mean()


def likelihood(output: Tensor, target: Tensor) -> Tensor:
    return (
        -output.exp().div(output.exp().sum(1, keepdim=True)).log().gather(1, target.unsqueeze(1)).squeeze(1)
    )


OBJECTIVE_FAULTS: dict[str, tuple[Any, str]] = {
    "a mean": (nn.CrossEntropyLoss(), "its loss is [], not one number per sample"),
    "per class": (lambda o, t: o.square(), "its loss is [6, 3], not one number per sample"),
    "no graph": (lambda o, t: (o.argmax(1) != t).to(o.dtype), "the loss has no graph"),
    "in place": (
        lambda o, t: F.cross_entropy(o.data.mul_(2) + 0 * o, t, reduction="none"),
        "it changes what it is given in place",
    ),
    "random": (Noisy, "it draws from the global random numbers"),
    "overflows": (likelihood, "the loss of outputs of size 100 is not finite"),
    "another type": (
        lambda o, t: F.cross_entropy(o.float(), t, reduction="none"),
        "the loss of torch.float64 outputs is torch.float32",
    ),
    "parameters": (Learned, "Learned has parameters, which nothing would train"),
    "no metric per sample": (NoMetric, "its score is [], not one number per sample"),
    "raises": (lambda o: o, "fails: "),
}


@pytest.mark.parametrize("name", OBJECTIVE_FAULTS)
def test_broken_objectives_are_named(name: str) -> None:
    broken, line = OBJECTIVE_FAULTS[name]
    assert line in line_of(testing.check_objective, broken)


# --- predictors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [testing.check_predictor, testing.check_input])
@pytest.mark.parametrize("kind", ["linear", "mlp", normed, Robust])
def test_sound_predictors_pass(check: Callable[..., None], kind: Any) -> None:
    check(kind)


class Counting(Robust):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Remembering(Robust):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.last = torch.zeros(outputs)

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x) + self.last
        self.last = found.detach().mean(0)
        return found


class Backwards(Robust):
    def loss(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return -super().loss(prediction, truth)


class Averaged(Robust):
    def loss(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return super().loss(prediction, truth).mean()


class Constant(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x[..., : self.outputs]


PREDICTOR_FAULTS: dict[str, tuple[Any, str]] = {
    "too narrow": (lambda inputs, outputs: nn.Linear(inputs, outputs - 1), "the graph needs [2, 4]"),
    "random": (
        lambda inputs, outputs: nn.Sequential(nn.Linear(inputs, outputs), nn.Dropout(0.5)),
        "draws random numbers",
    ),
    "remembers": (Remembering, "called twice, it gives different predictions"),
    "counts": (Counting, "it changes attributes of its own"),
    "backwards": (Backwards, "150 steps bring its prediction no nearer"),
    "averages": (Averaged, "its loss is [], not one number per sample"),
    "nothing to learn": (Constant, ""),
    "no factory": (lambda inputs: nn.Linear(inputs, 4), "cannot be called as"),
}


@pytest.mark.parametrize("check", [testing.check_predictor, testing.check_input])
@pytest.mark.parametrize("name", PREDICTOR_FAULTS)
def test_broken_predictors_are_named(check: Callable[..., None], name: str) -> None:
    broken, line = PREDICTOR_FAULTS[name]
    assert line in line_of(check, broken, context=5)


@pytest.mark.parametrize("kind", ["local", "sobolev_label", "lens", "local_policy"])
def test_kinds_that_predict_no_returned_gradient_are_refused(kind: str) -> None:
    line = f"{kind}: its loss is its own, and no returned gradient is predicted; a scenario or a Channel checks its head"
    assert line_of(testing.check_predictor, kind) == line


# --- aggregations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["attention", largest, Gated])
def test_sound_aggregations_pass(kind: Any) -> None:
    testing.check_aggregation(kind)


AGGREGATION_FAULTS: dict[str, tuple[Any, str]] = {
    "not joined": (lambda m, p: m, "makes [2, 3, 4]; return [batch, features]"),
    "none present": (
        lambda m, p: m.sum(1) / p.sum(1, keepdim=True),
        "with 0 of 18 messages present it is not finite",
    ),
    "random": (lambda m, p: m.sum(1) + torch.randn(m.shape[-1]), "draws random numbers"),
    "no graph": (lambda m, p: m.detach().sum(1), "has no graph"),
    "in place": (lambda m, p: m.data.mul_(2).sum(1) + m.sum(1), "in place"),
    "another type": (lambda m, p: m.sum(1).float(), "it makes torch.float32; keep the type"),
    "no mask": (lambda m: m.sum(1), "fails: "),
    "sizes": (lambda m, p: m @ torch.ones(5, 2), "fails: "),
}


@pytest.mark.parametrize("name", AGGREGATION_FAULTS)
def test_broken_aggregations_are_named(name: str) -> None:
    broken, line = AGGREGATION_FAULTS[name]
    assert line in line_of(testing.check_aggregation, broken)


# --- networks --------------------------------------------------------------------------------------------------------


def plain(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, outputs))


@pytest.mark.parametrize("source", [plain, Leaky])
def test_sound_networks_pass(source: Any) -> None:
    testing.check_network(source)


class KeepsState(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        self.state = torch.zeros(outputs)

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x) + self.state.to(x)
        self.state = found.detach().mean(0)
        return found


class OneSize(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.zeros(2, 1)


class NoState(Leaky):
    def forward(self, x: Tensor, state: Tensor) -> Any:
        return super().forward(x, state)[0]


class Unused(Leaky):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.spare = nn.Linear(2, 2)


NETWORK_FAULTS: dict[str, tuple[Any, str]] = {
    "too wide": (lambda inputs, outputs: nn.Linear(inputs, outputs + 1), "the graph needs [2, 4]"),
    "keeps a state": (KeepsState, "in evaluation, called twice it gives different numbers"),
    "one batch size": (OneSize, "fails: "),
    "no state": (NoState, "NoState does not take inputs of [batch, 10] (return the output and the state"),
    "unused": (Unused, "does not depend on its parameters module.spare.weight, module.spare.bias"),
    "no graph": (
        lambda inputs, outputs: nn.Sequential(nn.Linear(inputs, outputs), Detached()),
        "has no graph",
    ),
    "another type": (lambda inputs, outputs: nn.Sequential(nn.Linear(inputs, outputs), Narrow()), "keep it"),
}


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Narrow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()


@pytest.mark.parametrize("name", NETWORK_FAULTS)
def test_broken_networks_are_named(name: str) -> None:
    broken, line = NETWORK_FAULTS[name]
    assert line in line_of(testing.check_network, broken)


# --- optimisers and schedules ----------------------------------------------------------------------------------------


SOUND = ("RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "SGD", "AdamW", Lion, slower_first)


@pytest.mark.parametrize("kind", SOUND)
def test_sound_optimisers_pass(kind: Any) -> None:
    testing.check_optimiser(kind)


class DeafLion(Lion):
    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        super().__init__(params, lr)
        self.rate = lr

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad.sign(), alpha=-self.rate)


class Forgetful(torch.optim.SGD):
    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        super().__init__(params, lr)
        self.taken = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.taken += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-group["lr"] / self.taken)


class Moving(torch.optim.SGD):
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.data = p - group["lr"] * p.grad


class Uphill(torch.optim.SGD):
    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        super().__init__(params, lr, maximize=True)


class Scaling(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            p.grad.mul_(0.5)
        super().step()


class WithObject(Lion):
    def step(self, closure: Any = None) -> None:
        super().step()
        for state in self.state.values():
            state["extra"] = object()


OPTIMISER_FAULTS: dict[str, tuple[Any, str]] = {
    "its own rate": (DeafLion, "it does not read `lr` of its groups"),
    "forgets": (Forgetful, "it does not go on from its state_dict to the same bits"),
    "other memory": (Moving, "it replaces its parameters' memory"),
    "uphill": (Uphill, "50 steps at 0.01 do not lower a sum of squares"),
    "changes gradients": (Scaling, "it changes the gradients that it is given"),
    "no plain state": (WithObject, "its state is not plain data and tensors"),
    "a closure": (torch.optim.LBFGS, "fails: "),
    "no optimiser": (lambda parameters, lr: None, "made NoneType, not a torch.optim.Optimizer"),
    "Rprop": ("Rprop", "it does not read `lr` of its groups"),
}


@pytest.mark.parametrize("name", OPTIMISER_FAULTS)
def test_broken_optimisers_are_named(name: str) -> None:
    broken, line = OPTIMISER_FAULTS[name]
    assert line in line_of(testing.check_optimiser, broken)


def test_sound_schedules_pass() -> None:
    testing.check_schedule(inverse_root)
    testing.check_schedule(lambda step: 0 if step > 500 else 1)


class Calls:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, step: int) -> float:
        self.calls += 1
        return 1 / self.calls


SCHEDULE_FAULTS: dict[str, tuple[Any, str]] = {
    "negative": (lambda step: 1 - step / 500, "it returns -0.00"),
    "not finite": (lambda step: math.nan if step == 0 else 1.0, "it returns nan at step 0"),
    "counts calls": (Calls, "the factor of a step depends on the calls before"),
    "zero": (lambda step: 0.0, "it is 0 at all of 1000 steps"),
    "no number": (lambda step: [1.0], "it fails at step 0"),
    "ends": (lambda step: [1.0] * 2000 and (1.0 if step < 2000 else {}[step]), "it fails at step 10000"),
    "random": (lambda step: torch.rand(()).item(), "it draws from the global random numbers"),
}


@pytest.mark.parametrize("name", SCHEDULE_FAULTS)
def test_broken_schedules_are_named(name: str) -> None:
    broken, line = SCHEDULE_FAULTS[name]
    assert line in line_of(testing.check_schedule, broken)


# --- recorders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [Recorder, History])
def test_sound_recorders_pass(factory: Callable[[], Recorder]) -> None:
    testing.check_recorder(factory)


class Strict(Recorder):
    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        assert all(math.isfinite(row.value) for row in rows), "a figure is not finite"


class Closing(Recorder):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise ValueError("closed already")
        self.closed = True


class Editing(Recorder):
    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        rows.clear()  # type: ignore[attr-defined]


class Sampling(Recorder):
    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        np.random.rand()


class Naming(Recorder):
    def begin(self, description: RunDescription) -> None:
        self.names = [description.graph.nodes[name]["about"] for name in description.names["agents"]]


class Ending(Recorder):
    result: Mapping[str, Any] | None = None

    def end(self, result: Mapping[str, Any]) -> None:
        self.result = result

    def close(self) -> None:
        assert self.result is not None, "no result"


class Partial:
    def begin(self, description: RunDescription) -> None:
        """Nothing."""


RECORDER_FAULTS: dict[str, tuple[Any, str]] = {
    "strict": (Strict, "Strict fails: a figure is not finite"),
    "closes once": (Closing, "Closing: a second close fails: closed already"),
    "edits": (Editing, "Editing: it changes the rows or the result"),
    "samples": (Sampling, "Sampling: it draws from the global random numbers"),
    "wants texts": (Naming, "Naming fails: "),
    "wants an end": (Ending, "Ending: close without an end fails: no result"),
    "half": (Partial, "Partial: it has no figures, histograms, samples, digests, end, close"),
}


@pytest.mark.parametrize("name", RECORDER_FAULTS)
def test_broken_recorders_are_named(name: str) -> None:
    broken, line = RECORDER_FAULTS[name]
    np.random.seed(0)
    np.random.rand()  # most draws leave the block of numbers drawn ahead as it is, and move on in it
    assert line in line_of(testing.check_recorder, broken)
