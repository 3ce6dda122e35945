"""Explanations of the metrics of agents and channels: title, description, colour scale, caution."""

from __future__ import annotations

from typing import Literal, NamedTuple

from antiphon.telemetry.metrics import ABLATIONS, EVALUATED
from antiphon.telemetry.tab.tags import Family

Scale = Literal["sequential", "diverging", "share"]
"""Colour scales: from smallest to largest; on both sides of zero; from 0 to 1."""

_SCALED = "It depends on the gradients' scale: do not compare channels by it."
_ALIGNED = "Alignment misleads: it can fall while the agents learn, and rise while they do not."
_SENT = "in the environments in which it was sent"
_WORTH = ("helps", "harms")


class Explanation(NamedTuple):
    """Explanation of a metric.

    Attributes:
        says: Description, in one sentence.
        caution: What the metric does not show; may be empty.
        limit: End of a diverging scale on either side, at most; None: the largest magnitude of the values.
        positive: Whether it has no zero, so that orders of magnitude count.
        words: One word each for a 95 % interval above 0, and below 0; empty: the metric has no interval.
    """

    title: str
    says: str
    scale: Scale = "sequential"
    caution: str = ""
    limit: float | None = None
    positive: bool = False
    words: tuple[str, ...] = ()


def _aligned(title: str, says: str) -> Explanation:
    """Return the explanation of a measure of alignment, at most 1."""
    return Explanation(title, says, "diverging", _ALIGNED, 1.0)


def _ablated(replacement: str, messages: str) -> Explanation:
    """Return the explanation of a loss by ablation, by what the messages are replaced with."""
    return Explanation(
        f"loss by ablation ({replacement})",
        f"Increase of the readouts' loss on test data, or fall of their return, with its messages replaced by {messages}.",
        "diverging",
        words=_WORTH,
    )


_CHANNEL: dict[str, Explanation] = {
    "ablation_zero": _ablated("zero", "zeros"),
    "ablation_resample": _ablated("resample", "messages for other examples, or in other environments"),
    "sg_loss": Explanation(
        "SG loss",
        "The loss of the synthetic gradient's model before its newest update: of a regression the squared error of all components.",
        caution="Small gradients are easy to predict: do not compare channels of different energy by it.",
        positive=True,
    ),
    "cosine": _aligned(
        "cosine",
        "Mean cosine, per sample of one batch, between the synthetic gradient and the returned gradient, which the receiver sends back "
        "and the predictor learns. Good: near 1; from 0.1 it follows the returned gradient, 0 is chance, below 0 it points against it.",
    ),
    "pooled_cosine": _aligned(
        "pooled cosine",
        "Cosine between the synthetic and the returned gradients of the whole batch, each flattened to one vector. "
        "Good: near 1; 0 is chance.",
    ),
    "norm_ratio": Explanation(
        "norm ratio",
        "Norm of the synthetic gradients divided by the norm of the returned gradients. Good: near 1.",
        caution=_ALIGNED,
    ),
    "returned_norm": Explanation(
        "returned norm",
        "Mean norm, per sample of one batch, of the returned gradient; 0: nothing returns.",
        positive=True,
    ),
    "r2": _aligned(
        "R²",
        "Share of the returned gradients' variance that the synthetic gradient explains. Good: near 1; below 0 it predicts "
        "worse than their mean.",
    ),
    "bias2": Explanation(
        "bias²",
        "The part of the synthetic gradient's squared error that is the same in every sample.",
        caution=_SCALED,
        positive=True,
    ),
    "variance": Explanation(
        "error variance",
        "The part of the synthetic gradient's squared error that differs between samples.",
        caution=_SCALED,
        positive=True,
    ),
    "injection_norm": Explanation(
        "injection norm",
        "Mean norm, per sample that has one, of the gradient injected on the newest messages: the synthetic one, or with `delayed` "
        "the returned one; before `scale`.",
        positive=True,
    ),
    "message_mean": Explanation(
        "message mean",
        f"Mean of all components of the newest message, {_SENT}.",
        "diverging",
    ),
    "message_std": Explanation(
        "message spread",
        f"Standard deviation of all components of the newest message, {_SENT}.",
    ),
    "message_energy": Explanation(
        "message energy",
        f"Root mean square of the newest message's components, {_SENT}; 0: it carries nothing.",
    ),
    "symbol_entropy": Explanation(
        "symbol entropy",
        "Entropy in bits of the newest message's symbols over environments, of those in which it was sent, mean over positions; "
        "0: always the same symbol.",
    ),
    "message_entropy": Explanation(
        "message entropy", "Entropy in bits of whole messages on test data, measured by the language probe."
    ),
    "topographic_similarity": Explanation(
        "topographic similarity",
        "Rank correlation of distances between observations and between messages; 1: similar observations, similar messages.",
        "diverging",
        limit=1.0,
    ),
    "age": Explanation(
        "age",
        "Steps since the newest message was sent that is due at the receiver, also where the link lost it.",
    ),
    "traffic": Explanation(
        "traffic",
        "Bits sent per step and environment: messages (of symbols, length × log2(vocabulary)) where a mask lets the newest one be "
        "sent, and the state of the other end where it is context.",
    ),
    "lost": Explanation(
        "lost",
        "Share of environments in which the link lost the message due at this step, of those in which it was sent.",
        "share",
    ),
    "dropped": Explanation(
        "dropped",
        "Share of the messages sent since the previous log entry that the link lost.",
        "share",
    ),
    "stand_in": Explanation(
        "stand-ins",
        "Share of environments in which a synthetic input replaces the message due at this step, of those in which it was sent.",
        "share",
    ),
    "distortion": Explanation(
        "distortion",
        "Root mean square of the change that the link's noise and quantisation make to a component of the message due at this step, "
        f"{_SENT}.",
    ),
    "si_loss": Explanation(
        "SI loss",
        "The loss of the synthetic input's model before its newest update: squared error, summed over components, mean over the batch, "
        "where lost messages count 0; zeros would lose the share that arrives × components × energy².",
        caution=_SCALED,
        positive=True,
    ),
    "sg_learning_rate": Explanation(
        "SG learning rate", "Learning rate of the synthetic gradient's optimiser."
    ),
    "si_learning_rate": Explanation("SI learning rate", "Learning rate of the synthetic input's optimiser."),
}
_AGENT: dict[str, Explanation] = {
    "loss": Explanation(
        "training loss",
        "Its objective's mean loss on training data since the previous log entry, before its `scale`; of several objectives the sum, "
        "each times its `scale`.",
    ),
    "accuracy": Explanation(
        "training accuracy",
        "Share of correct answers on training data since the previous log entry.",
        "share",
    ),
    "error": Explanation(
        "training error",
        "Mean squared error on training data since the previous log entry; of a loss of your own, the loss.",
    ),
    "bits": Explanation(
        "training bits",
        "Its objective's loss in bits on training data since the previous log entry.",
    ),
    "return": Explanation(
        "training return",
        "Mean undiscounted return of each environment's newest finished episode in training; of those in progress until one has "
        "finished.",
        "diverging",
    ),
    "value_target": Explanation(
        "value target",
        "Mean return that its policy learns from, over the ticks since the previous log entry: discounted, and beyond the end "
        "of a window what its values predict.",
        "diverging",
    ),
    "td_error": Explanation(
        "TD error",
        "Mean absolute error of the values of its actions against the returns that they learn from, since the previous log entry; "
        "in units of normalised returns.",
    ),
    "q_value": Explanation(
        "Q-value", "Mean value of the actions that it took, since the previous log entry.", "diverging"
    ),
    "epsilon": Explanation(
        "epsilon", "Probability of an action at random, mean over the windows since the previous log entry."
    ),
    "policy_loss": Explanation(
        "policy loss",
        "Mean loss of its policy in the first passes since the previous log entry: log-probabilities weighted by advantages.",
    ),
    "value_loss": Explanation(
        "value loss",
        "Mean squared error of its values against the returns, unweighted, in the first passes since the previous log entry.",
    ),
    "explained_variance": Explanation(
        "explained variance",
        "Share of the returns' variance that its values explain; below 0 they predict worse than the returns' mean.",
        "diverging",
        limit=1.0,
    ),
    "entropy": Explanation(
        "entropy",
        "Mean entropy of its policy in nats (differential entropy for a Gaussian policy); it falls as choices become certain.",
    ),
    "approx_kl": Explanation(
        "approximate KL",
        "KL divergence in nats between the policy that sampled the actions and the updated one, mean over the later passes.",
    ),
    "clip_fraction": Explanation(
        "clip fraction", "Share of ticks at which the probability ratio is clipped, beyond `clip`.", "share"
    ),
    "updates": Explanation("updates", "Optimiser steps taken so far."),
    "learning_rate": Explanation("learning rate", "Learning rate of its optimiser."),
    "gradient_norm": Explanation(
        "gradient norm",
        "Norm of the gradient of its newest window, before `clip`; of a policy with several passes, of the first.",
    ),
    "parameter_norm": Explanation("parameter norm", "Norm of all its parameters."),
}
_AGENT |= {
    f"{split}_{metric}": _AGENT[metric]._replace(
        title=f"{split} {metric}", says=f"{meaning} on the {split} split."
    )
    for split in EVALUATED
    for metric, meaning in (
        ("loss", "Its objective's mean loss"),
        ("accuracy", "Share of correct answers"),
        ("error", "Mean squared error, or a loss of your own,"),
        ("bits", "Its objective's loss in bits"),
        ("return", "Mean sum of rewards per episode"),
    )
}
_PART: dict[str, Explanation] = {
    "steps_taken": Explanation("step", "Environment steps taken by the part."),
    "seconds": Explanation(
        "seconds", "Wall-clock time since the session began; in a virtual run simulated time."
    ),
    "computing": Explanation("computing", "Seconds spent computing steps."),
    "waiting": Explanation("waiting", "Seconds spent waiting for exchanges from other parts."),
    "waiting_for": Explanation("waiting for", "The part it waited for longest."),
    "bytes_sent": Explanation("bytes sent", "Bytes sent to all other parts."),
    "bytes_received": Explanation("bytes received", "Bytes received from all other parts."),
    "calls": Explanation("calls", "Exchanges sent."),
    "staleness": Explanation(
        "staleness", "Steps by which the oldest exchange from its neighbours is behind its own step."
    ),
    "blocked_on": Explanation(
        "blocked on", "The part whose exchange it is waiting for; the first of several."
    ),
}
EXPLANATIONS: dict[Family, dict[str, Explanation]] = {
    "channel": _CHANNEL,
    "agent": _AGENT,
    "part": _PART,
}
"""Explanations by family and metric; other metrics have none."""
GROUPS: dict[Family, list[tuple[str, list[str]]]] = {
    "channel": [
        ("Worth", [*ABLATIONS]),
        ("Alignment", ["cosine", "pooled_cosine", "norm_ratio", "r2"]),
        (
            "Learning",
            [
                "sg_loss",
                "si_loss",
                "returned_norm",
                "injection_norm",
                "bias2",
                "variance",
            ],
        ),
        ("Message", ["message_energy", "message_std", "message_mean"]),
        (
            "Language",
            ["symbol_entropy", "message_entropy", "topographic_similarity"],
        ),
        ("Link", ["age", "lost", "dropped", "stand_in", "distortion", "traffic"]),
    ],
    "agent": [
        ("Objective", ["loss", "accuracy", "error", "bits", "return"]),
        (
            "Policy",
            [
                *("value_target", "policy_loss", "value_loss", "explained_variance"),
                *("entropy", "approx_kl", "clip_fraction"),
            ],
        ),
        ("Learning", ["updates", "learning_rate", "gradient_norm", "parameter_norm"]),
    ],
}
"""Metrics that are read together, by family; the panel shows others last."""
OF_EPISODES = {
    "episode_return": Explanation(
        "episode return in training", "Mean sum of rewards of each environment's newest finished episode."
    ),
    "episode_length": Explanation(
        "episode length in training",
        "Mean steps of each environment's newest finished episode, without resets.",
    ),
    "episodes": Explanation(
        "episodes in training",
        "Finished episodes, of all environments; with `next_step`, one finishes as it is reset.",
    ),
}
"""Explanations of the metrics of environments with episodes."""
