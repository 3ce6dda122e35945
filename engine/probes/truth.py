"""Probes: the true gradient of a channel, read in a fork that is thrown away (semantics 33a)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.comms.alignment import alignment
from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.core.ledger import Record
from antiphon.engine.core.system import System
from antiphon.engine.probes.live import Live
from antiphon.engine.step.predictors import PredictorTrainer
from antiphon.errors import ScenarioError

__all__ = ["Probe", "predicted", "true_gradients"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What one message's learning signal should be, and what its channel says it is.

    Attributes:
        true: [B, size], B * dL/dmessage: the gradient of all losses up to the horizon.
        synthetic: [B, size], what the channel's predictor says of the same message now; None without a
            predictor, or where its target is absent.
        alignment: What `antiphon.comms.alignment` says of the two; empty without `synthetic`.
    """

    true: Tensor
    synthetic: Tensor | None = None
    alignment: dict[str, float] = field(default_factory=dict)


def true_gradients(simulation: BaseSimulation, horizon: int = 0) -> dict[str, Probe]:
    """Return what every message of the next step does to the losses of that step and `horizon` further ones.

    A fork takes these steps with the parameters of now: all channels pass gradients as if locked, across windows
    too, the links lose what they would lose in the run, and an episode's end cuts the paths through it. Noise and
    bits let the gradient straight through; every agent counts, whatever its `p_update`, and reads real messages,
    never a synthetic input. No bit of `simulation` changes.

    Args:
        simulation: What to probe, after any number of steps.
        horizon: Further steps whose losses count. A message that arrives later has no gradient; with an objective
            at the end of an episode of `hold` steps, `hold - 1` at its first step sees all there is to see.

    Returns:
        By the name of the channel, for those that send at step `simulation.now`.

    Raises:
        ScenarioError: The horizon is negative.
    """
    if horizon < 0:
        raise ScenarioError(f"probe: horizon is {horizon}; it must be at least 0")
    with simulation.fork(stacked=False) as twin:
        live = Live(twin.system, twin.now, horizon, twin.system.channels.keys())
        live.run(twin.world, 1)  # only now are the signals known that a context may use
        synthetic = {name: predicted(live.system, name, record) for name, record in live.sent.items()}
        live.run(twin.world, horizon)
    return {name: _probe(true, synthetic[name]) for name, true in live.gradients().items()}


@torch.no_grad()
def predicted(system: System, name: str, record: Record) -> Tensor | None:
    """Return what a channel's predictor says of a record, [B, size]; None where it says nothing."""
    channel = system.channels[name]
    return None if channel.predictor is None else PredictorTrainer(system).predict(channel, record)


@torch.no_grad()
def _probe(true: Tensor, synthetic: Tensor | None) -> Probe:
    if synthetic is None:
        return Probe(true)
    return Probe(true, synthetic, {k: v.item() for k, v in alignment(synthetic, true).items()})
