"""Explanations of the figures of agents and channels: title, description, colour scale, caution; and of verdicts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from antiphon.telemetry.channels.tags import Family
from antiphon.telemetry.figures import EVALUATED
from antiphon.telemetry.verdicts import FLAGS, MEASURES, VERDICTS, bounds, measuring_command

__all__ = ["EXPLANATIONS", "Explanation", "verdicts_document"]

Scale = Literal["sequential", "diverging", "share"]
"""Colour scales: from smallest to largest; to both sides of zero; from 0 to 1."""

_ALIGNED = "Alignment misleads: it can fall while learning goes on, and rise where nothing is learned. Look at the value."


class Explanation(NamedTuple):
    """Explanation of a figure.

    Attributes:
        title: Heading.
        says: Description, in one sentence.
        scale: Colour scale.
        caution: Limits of its meaning; may be empty.
        limit: Ends of a diverging scale, on either side; None: those of the values.
    """

    title: str
    says: str
    scale: Scale = "sequential"
    caution: str = ""
    limit: float | None = None


def _aligned(title: str, says: str) -> Explanation:
    """Return the explanation of a measure of alignment, at most 1."""
    return Explanation(title, says, "diverging", _ALIGNED, 1.0)


def _ends(measure: str, title: str, limit: float | None = None) -> dict[str, Explanation]:
    """Return the explanations of the ends of a measure's interval."""
    return {
        metric: Explanation(
            f"{title}, {end} end",
            f"{end.title()} end of the {title}'s 95 % interval.",
            "diverging",
            "",
            limit,
        )
        for metric, end in zip(bounds(measure), ("lower", "upper"), strict=True)
    }


_CHANNEL: dict[str, Explanation] = {
    "value": Explanation(
        "value",
        "What the channel's learning signal is worth: 1 is as good as the true gradient, 0 is as good as none, "
        "below 0 is worse than none.",
        "diverging",
        "Measured in forks over a short horizon. Where the interval holds 0, it may as well help as harm.",
        1.0,
    ),
    **_ends("value", "value", 1.0),
    "ablation": Explanation(
        "loss by ablation",
        "By how much the readouts' loss rises on test data when the channel's messages are taken away.",
        "diverging",
    ),
    **_ends("ablation", "loss by ablation"),
    "sg_loss": Explanation(
        "SG loss",
        "The loss of the synthetic gradient's model before its newest update.",
        caution="Small gradients are easy to predict: channels of different energy cannot be compared by it.",
    ),
    "cosine": _aligned(
        "cosine", "Mean cosine, per sample, between the synthetic gradient and what came back."
    ),
    "pooled_cosine": _aligned(
        "pooled cosine",
        "Cosine between synthetic and returned gradients of the whole batch as one long vector.",
    ),
    "parameter_cosine": _aligned(
        "parameter cosine",
        "Cosine between the gradients of the sender's parameters that the synthetic and the true gradients cause, mean over "
        "batches.",
    ),
    "norm_ratio": Explanation(
        "norm ratio",
        "Norm of the synthetic gradients over the norm of those that came back.",
        caution=_ALIGNED,
    ),
    "r2": _aligned(
        "R²",
        "Share of the returned gradients' variance that the synthetic gradient explains; below 0 it is worse "
        "than their mean.",
    ),
    "bias2": Explanation(
        "bias²", "The part of the synthetic gradient's squared error that is the same in every sample."
    ),
    "variance": Explanation(
        "error variance", "The part of the synthetic gradient's squared error that differs between samples."
    ),
    "injection_norm": Explanation(
        "injection norm", "Mean norm, per sample, of the synthetic gradient put on the newest messages."
    ),
    "message_mean": Explanation("message mean", "Mean of all components of the newest message.", "diverging"),
    "message_std": Explanation(
        "message spread", "Standard deviation of all components of the newest message; 0 carries nothing."
    ),
    "message_energy": Explanation(
        "message energy", "Root of the mean square of the newest message's components: 0 carries nothing."
    ),
    "symbol_entropy": Explanation(
        "symbol entropy",
        "Entropy in bits of the newest message's symbols over environments, mean over positions: 0 is always the same one.",
    ),
    "message_entropy": Explanation(
        "message entropy", "Entropy in bits of whole messages on test data, when the language was measured."
    ),
    "topographic_similarity": Explanation(
        "topographic similarity",
        "Rank correlation of distances between observations and between messages: 1 if alike things have alike names.",
        "diverging",
        limit=1.0,
    ),
    "signalling": Explanation(
        "signalling", "Bits of the symbols about what the sender read, summed over the positions."
    ),
    "listening": Explanation(
        "listening",
        "Bits of the receiver's decisions that are determined by the message: 0 is a receiver that does not listen.",
    ),
    "age": Explanation("age", "Steps since the newest usable message was sent: large is stale."),
    "traffic": Explanation("traffic", "Bits sent per step and environment, context of the far end included."),
    "lost": Explanation(
        "lost", "Share of environments in which the link lost the message that is due.", "share"
    ),
    "stand_in": Explanation(
        "stand-ins", "Share of environments in which a synthetic input stands in for the message.", "share"
    ),
    "distortion": Explanation(
        "distortion", "Root of the mean squared change of a component by the link's noise and bits."
    ),
    "si_loss": Explanation("SI loss", "The loss of the synthetic input's model before its newest update."),
    "outliers": Explanation("outliers", "How many returned gradients have been shortened so far."),
}
_AGENT: dict[str, Explanation] = {
    "loss": Explanation("loss", "Its objective's mean loss on training data since the row before."),
    "accuracy": Explanation(
        "accuracy", "Share of right answers on training data since the row before.", "share"
    ),
    "error": Explanation("error", "Share of wrong answers on training data since the row before.", "share"),
    "bits": Explanation("bits", "Its objective's loss in bits on training data since the row before."),
    "return": Explanation(
        "return",
        "Mean over ticks since the row before of the return that its policy learns from.",
        "diverging",
    ),
    "policy_loss": Explanation(
        "policy loss",
        "Mean loss of its policy since the row before: advantages weighted by log-probabilities.",
    ),
    "value_loss": Explanation(
        "value loss", "Mean squared error of its values since the row before, against the returns."
    ),
    "explained_variance": Explanation(
        "explained variance",
        "Share of the returns' variance that its values explain; below 0 they are worse than the returns' mean.",
        "diverging",
        limit=1.0,
    ),
    "entropy": Explanation(
        "entropy",
        "Mean entropy of its policy in nats, of a Gaussian one the differential entropy: it falls as choices become certain.",
    ),
    "approx_kl": Explanation(
        "approximate KL",
        "How far the policy has moved from the one that sampled the actions, in nats, a mean over the further passes.",
    ),
    "clip_fraction": Explanation(
        "clip fraction", "Share of ticks at which the ratio of probabilities is beyond `clip`.", "share"
    ),
    "updates": Explanation("updates", "Optimiser steps taken so far."),
    "gradient_norm": Explanation("gradient norm", "Norm of the gradient of its newest update."),
    "parameter_norm": Explanation("parameter norm", "Norm of all its parameters."),
    "silenced": Explanation("in quarantine", "1 once it is in quarantine: it learns no more.", "share"),
}
_AGENT |= {
    f"{split}_{metric}": _AGENT[metric]._replace(
        title=f"{split} {metric}", says=f"{what} on the {split} split."
    )
    for split in EVALUATED
    for metric, what in (
        ("loss", "Its objective's mean loss"),
        ("accuracy", "Share of right answers"),
        ("error", "Share of wrong answers"),
        ("bits", "Its objective's loss in bits"),
        ("return", "Mean sum of the rewards of a whole episode"),
    )
}
_PART: dict[str, Explanation] = {
    "steps_taken": Explanation("step", "Environment steps that the part has taken."),
    "seconds": Explanation(
        "seconds", "Since the session began: of wall-clock time, in a virtual run of simulated time."
    ),
    "computing": Explanation(
        "computing", "Seconds in which it computed steps, those repeated after a restart included."
    ),
    "waiting": Explanation("waiting", "Seconds in which it waited for what other parts had to send."),
    "waiting_for": Explanation("waiting for", "The part that it waited for the longest."),
    "bytes_sent": Explanation("bytes sent", "Bytes of exchanges to all other parts."),
    "bytes_received": Explanation("bytes received", "Bytes of exchanges from all other parts."),
    "calls": Explanation("calls", "Exchanges sent."),
    "staleness": Explanation(
        "staleness", "Steps by which the oldest of what its neighbours have sent is behind its own step."
    ),
    "blocked_on": Explanation(
        "blocked on", "The part whose exchange it waits for now, the first of several."
    ),
    "restarts": Explanation("restarts", "How often it was started again."),
    "alive": Explanation("alive", "1 while it runs, 0 while its process or machine is gone.", "share"),
    "heartbeat_age": Explanation("last heartbeat", "Seconds since it last answered."),
}
EXPLANATIONS: dict[Family, dict[str, Explanation]] = {"channel": _CHANNEL, "agent": _AGENT, "part": _PART}
"""Explanations by family and metric; other metrics have none."""
_NEEDS = {"stale": "age", "silent": "message_energy"}
"""Figures without which a verdict is never given."""


def verdicts_document(logged: Collection[str], path: str) -> dict[str, Any]:
    """Return the verdicts that a run's figures allow as plain data, for the strip above the graph.

    `measures`: those of worth, first choice first, each with its `metric`, `title`, the metrics of its interval's `bounds`,
    whether it was `measured`, and the line that measures it (`by`; may be empty). `words`: by verdict its `name`, the word `counted`
    after a number, what it `says`, and its `flags`: its bit by measure, or under "" where it needs none.

    Args:
        logged: Metrics of channels.
        path: Of the run, for the line that measures it; empty: it has none.
    """
    channel = EXPLANATIONS["channel"]
    measures = [
        {
            "metric": measure,
            "title": channel[measure].title,
            "bounds": bounds(measure),
            "measured": all(metric in logged for metric in (measure, *bounds(measure))),
            "by": measuring_command(path, [measure]) if path else "",
        }
        for measure in MEASURES
    ]
    words = [
        {
            "name": name,
            "counted": definition.counted,
            "says": definition.says,
            "flags": {measure: flags[name] for measure, flags in FLAGS.items() if name in flags},
        }
        for name, definition in VERDICTS.items()
        if name not in _NEEDS or _NEEDS[name] in logged
    ]
    return {"measures": measures, "words": words}
