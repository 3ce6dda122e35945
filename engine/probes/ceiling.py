"""Alignment beside its ceiling: what the best linear prediction from the same message and context reaches (semantics 34)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from antiphon.comms.alignment import alignment
from antiphon.comms.model import encode
from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.core.ledger import Record
from antiphon.engine.core.system import System
from antiphon.engine.probes.live import Live, ahead_of
from antiphon.engine.probes.reach import look_ahead
from antiphon.engine.step.predictors import PredictorTrainer
from antiphon.errors import ScenarioError, suggest

__all__ = ["Ceiling", "best_linear", "ceilings"]

_PER_FEATURE = 100
"""Samples gathered for every number that a prediction is made from; of half of them a map of 1 / 50 too few
degrees of freedom is fitted, so that its R^2 falls short by 0.02 of what it leaves unexplained."""
_MOST_FEATURES = 4096
_PENALTIES = (1e-12, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties tried, as shares of the largest eigenvalue."""


@dataclass(frozen=True)
class Ceiling:
    """How like a channel's synthetic gradients are to the true ones, and how like the best linear prediction is.

    Attributes:
        synthetic: What `antiphon.comms.alignment` says of the channel's predictor.
        linear: What it says of the best linear map of message and context, on the same samples. A linear predictor
            cannot do better but by chance; other kinds can.
        samples: Of how many samples.
    """

    synthetic: dict[str, float]
    linear: dict[str, float]
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """Return `cosine`, `pooled_cosine` and `r2` with their ceilings, `bias2`, `variance` and `samples`."""
        rows: dict[str, Any] = {}
        for name in ("cosine", "pooled_cosine", "r2"):
            rows |= {name: self.synthetic[name], f"{name}_ceiling": self.linear[name]}
        rest = {name: self.synthetic[name] for name in ("bias2", "variance")}
        return rows | rest | {"samples": self.samples}


@dataclass
class _Gathered:
    """Samples of one channel, one tensor per step."""

    inputs: list[Tensor] = field(default_factory=list)
    """[rows, features]: message and context."""
    true: list[Tensor] = field(default_factory=list)
    """[rows, size]."""
    synthetic: list[Tensor] = field(default_factory=list)
    """[rows, size]."""

    def whole(self) -> bool:
        """Whether there are samples enough, in an even number of batches."""
        rows = sum(map(len, self.inputs))
        return bool(rows) and len(self.inputs) % 2 == 0 and rows >= _PER_FEATURE * self.inputs[0].shape[1]


def ceilings(
    simulation: BaseSimulation, *, channels: Sequence[str] | None = None, ahead: int | None = None
) -> dict[str, Ceiling]:
    """Compare synthetic with true gradients in a fork in which nothing learns, and with what a linear map can do.

    Samples are gathered over coming steps, 100 for every number that a prediction is made from; on one half of them
    the linear map is fitted, by ridge regression with a penalty found there by generalised cross-validation, and on
    the other half all is scored. Messages that the link loses are left out.

    Args:
        simulation: What to look at; no bit of it changes.
        channels: Which; None: all that have a predictor.
        ahead: Further steps whose losses count in a true gradient; None: as many as the messages can reach.

    Returns:
        By channel, without those whose messages and contexts have more than 4,096 numbers together.

    Raises:
        ScenarioError: There is no such channel, or it has no predictor.
    """
    with simulation.fork(stacked=False) as twin, simulation.fork(stacked=False) as bench:
        return _ceilings(twin, bench, channels, ahead)


def _ceilings(
    twin: BaseSimulation, bench: BaseSimulation, channels: Sequence[str] | None, ahead: int | None
) -> dict[str, Ceiling]:
    """As `ceilings`, with two forks that are used up."""
    system = twin.system
    twin.backend.freeze(gradients=False)
    gathered = {name: _Gathered() for name in _chosen(system, channels)}
    while open_ := [name for name, found in gathered.items() if not found.whole()]:
        due = [name for name in open_ if system.channels[name].ledger.sender.due(twin.now)]
        if due:
            reach = look_ahead(system, due, twin.now) if ahead is None else ahead
            live = Live(system, twin.now, reach, due)
            world = ahead_of(bench, twin)
            live.run(world, 1)
            seen = {name: _inputs(live.system, name, record) for name, record in live.sent.items()}
            live.run(world, reach)
            for name, true in live.gradients().items():
                _keep(gathered[name], seen[name], true, live.sent[name].lost)
        twin.advance()
    return {name: _scored(found) for name, found in gathered.items()}


def _chosen(system: System, channels: Sequence[str] | None) -> list[str]:
    known = [name for name, channel in system.channels.items() if channel.predictor is not None]
    for name in channels or ():
        if name not in known:
            what = "has no predictor" if name in system.channels else "is none of the scenario's channels"
            raise ScenarioError(f"ceilings: '{name}' {what}{suggest(name, known)}")
    chosen = known if channels is None else [name for name in known if name in channels]
    return [name for name in chosen if _features(system, name) <= _MOST_FEATURES]


def _features(system: System, name: str) -> int:
    predictor = system.channels[name].predictor
    assert predictor is not None
    context = sum(spec.features for spec in predictor.context)
    return predictor.size + context + (0 if predictor.target is None else predictor.target.features)


@torch.no_grad()
def _inputs(system: System, name: str, record: Record) -> tuple[Tensor, Tensor] | None:
    """What a predictor knows of a record, [B, features], and what it says, [B, size]; None where it says nothing."""
    channel, predictor_trainer = system.channels[name], PredictorTrainer(system)
    said, example = predictor_trainer.predict(channel, record), predictor_trainer.example(channel, record)
    if said is None or example is None or channel.predictor is None:
        return None
    columns = [example.message] if example.context is None else [example.message, example.context]
    if channel.predictor.target is not None and example.target is not None:
        spec = channel.predictor.target
        target = encode((spec,), {spec.name: example.target}, system.dtype)
        assert target is not None
        columns.append(target)
    return torch.cat(columns, 1), said


def _keep(found: _Gathered, seen: tuple[Tensor, Tensor] | None, true: Tensor, lost: Tensor | None) -> None:
    if seen is not None:
        rows = slice(None) if lost is None else ~lost
        found.inputs.append(seen[0][rows].double())
        found.synthetic.append(seen[1][rows].double())
        found.true.append(true[rows].double())


def _scored(found: _Gathered) -> Ceiling:
    """Fit on every other batch, score on those between."""
    fitted = best_linear(torch.cat(found.inputs[::2]), torch.cat(found.true[::2]))
    inputs, true = torch.cat(found.inputs[1::2]), torch.cat(found.true[1::2])
    linear = inputs @ fitted[0] + fitted[1]
    synthetic = torch.cat(found.synthetic[1::2])
    return Ceiling(
        {name: v.item() for name, v in alignment(synthetic, true).items()},
        {name: v.item() for name, v in alignment(linear, true).items()},
        len(true),
    )


@torch.no_grad()
def best_linear(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the linear map, [features, outputs] and [outputs], that predicts best, by ridge regression.

    The penalty is the one of the least generalised cross-validation error (Golub, Heath and Wahba 1979).

    Args:
        inputs: [rows, features].
        outputs: [rows, outputs].
    """
    rows = len(inputs)
    x_mean, y_mean = inputs.mean(0), outputs.mean(0)
    x, y = inputs - x_mean, outputs - y_mean
    values, vectors = torch.linalg.eigh(x.T @ x)
    values = values.clamp_min(0)
    along = vectors.T @ (x.T @ y)  # what each direction says of the outputs
    best, least = torch.zeros_like(along), float("inf")
    for share in _PENALTIES:
        shrunk = values + share * values[-1].clamp_min(1e-300)
        weights = along / shrunk.unsqueeze(1)
        residual = y - x @ (vectors @ weights)
        freedom = rows - 1 - (values / shrunk).sum().item()
        error = residual.square().sum().item() / max(freedom, 1e-9) ** 2
        if error < least:
            best, least = weights, error
    weight = vectors @ best
    return weight, y_mean - x_mean @ weight
