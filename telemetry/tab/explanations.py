"""Explanations of the metrics of agents, channels and parts, by what they are read with: text and colour scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from antiphon.telemetry.metrics import EVALUATED
from antiphon.telemetry.tab.tags import Family

Scale = Literal["sequential", "diverging", "share"]
"""Colour scales: from smallest to largest; on both sides of zero; from 0 to 1."""

_SCALED = "It depends on the gradients' scale: do not compare channels by it."
_SENT = "in the environments in which it was sent"


class Explanation(NamedTuple):
    """Explanation of a metric.

    Attributes:
        says: What it is, what is good, and what it does not show.
        limit: End of a diverging scale on either side, at most; None: the largest magnitude of the values.
        positive: Whether it has no zero, so that orders of magnitude count.
        words: One word each for a 95 % interval above 0, and below 0; empty: the metric has no interval.
    """

    says: str
    scale: Scale = "sequential"
    limit: float | None = None
    positive: bool = False
    words: tuple[str, ...] = ()


def _aligned(says: str) -> Explanation:
    """Return the explanation of a measure of alignment, at most 1."""
    misleads = "Alignment misleads: it can fall while the agents learn, and rise while they do not."
    return Explanation(f"{says} {misleads}", "diverging", 1.0)


def _ablated(messages: str) -> Explanation:
    """Return the explanation of a loss by ablation, by what the messages are replaced with."""
    says = f"Increase of the readouts' loss on test data, or fall of their return, with its messages replaced by {messages}."
    return Explanation(says, "diverging", words=("helps", "harms"))


_CHANNEL: dict[str, dict[str, Explanation]] = {
    "Worth": {
        "ablation_zero": _ablated("zeros"),
        "ablation_resample": _ablated("messages for other examples, or in other environments"),
    },
    "Alignment": {
        "cosine": _aligned(
            "Mean cosine, per sample of one batch, between the synthetic gradient and the returned gradient, which the receiver sends back "
            "and the predictor learns. Good: near 1; from 0.1 it follows the returned gradient, 0 is chance, below 0 it points against it."
        ),
        "pooled_cosine": _aligned(
            "Cosine between the synthetic and the returned gradients of the whole batch, each flattened to one vector. "
            "Good: near 1; 0 is chance."
        ),
        "norm_ratio": Explanation(
            "Norm of the synthetic gradients divided by the norm of the returned gradients. Good: near 1."
        ),
        "r2": _aligned(
            "Share of the returned gradients' variance that the synthetic gradient explains. Good: near 1; below 0 it predicts "
            "worse than their mean."
        ),
    },
    "Learning": {
        "sg_loss": Explanation(
            "The loss of the synthetic gradient's model before its newest update: of a regression the squared error of all components. "
            "Small gradients are easy to predict: do not compare channels of different energy by it.",
            positive=True,
        ),
        "si_loss": Explanation(
            "The loss of the synthetic input's model before its newest update: squared error, summed over components, mean over the batch, "
            f"where lost messages count 0; zeros would lose the share that arrives × components × energy². {_SCALED}",
            positive=True,
        ),
        "returned_norm": Explanation(
            "Mean norm, per sample of one batch, of the returned gradient; 0: nothing returns.",
            positive=True,
        ),
        "injection_norm": Explanation(
            "Mean norm, per sample that has one, of the gradient injected on the newest messages: the synthetic one, or with `delayed` "
            "the returned one; after the gate, before `scale`.",
            positive=True,
        ),
        "skill": Explanation(
            "Standard errors by which the running cosine of prediction and returned gradient is above zero, on messages that the "
            "predictor has not learned from. Good: from 2.5; below it may be chance, and a shut gate stays shut.",
            "diverging",
        ),
        "gate": Explanation(
            "Factor by which the synthetic gradient is multiplied before it is injected; 1: in full, 0: the sender takes no step by it; "
            "it begins at 0.",
            "share",
        ),
        "bias2": Explanation(
            f"The part of the synthetic gradient's squared error that is the same in every sample. {_SCALED}",
            positive=True,
        ),
        "variance": Explanation(
            f"The part of the synthetic gradient's squared error that differs between samples. {_SCALED}",
            positive=True,
        ),
    },
    "Message": {
        "message_energy": Explanation(
            f"Root mean square of the newest message's components, {_SENT}; 0: it carries nothing."
        ),
        "message_std": Explanation(f"Standard deviation of all components of the newest message, {_SENT}."),
        "message_mean": Explanation(f"Mean of all components of the newest message, {_SENT}.", "diverging"),
    },
    "Language": {
        "symbol_entropy": Explanation(
            "Entropy in bits of the newest message's symbols over environments, of those in which it was sent, mean over positions; "
            "0: always the same symbol."
        ),
        "message_entropy": Explanation(
            "Entropy in bits of whole messages on test data, measured by the language probe."
        ),
        "topographic_similarity": Explanation(
            "Rank correlation of distances between observations and between messages; 1: similar observations, similar messages.",
            "diverging",
            limit=1.0,
        ),
    },
    "Link": {
        "age": Explanation(
            "Steps since the newest message was sent that is due at the receiver, also where the link lost it."
        ),
        "traffic": Explanation(
            "Bits sent per step and environment: messages (of symbols, length × log2(vocabulary)) where a mask lets the newest one be "
            "sent, and the state of the other end where it is context."
        ),
    },
}
_AGENT: dict[str, dict[str, Explanation]] = {
    "Objective": {
        "loss": Explanation(
            "Its objective's mean loss on training data since the previous log entry, before its `scale`; of several objectives the sum, "
            "each times its `scale`."
        ),
        "accuracy": Explanation(
            "Share of correct answers on training data since the previous log entry.", "share"
        ),
        "error": Explanation(
            "Mean squared error on training data since the previous log entry; of a loss of your own, the loss."
        ),
        "bits": Explanation("Its objective's loss in bits on training data since the previous log entry."),
        "return": Explanation(
            "Mean undiscounted return of each environment's newest finished episode in training; of those in progress until one has "
            "finished.",
            "diverging",
        ),
    },
    "Policy": {
        "value_target": Explanation(
            "Mean return that its policy learns from, over the ticks since the previous log entry: discounted, and beyond the end "
            "of a window what its values predict.",
            "diverging",
        ),
        "td_error": Explanation(
            "Mean absolute error of the values of its actions against the returns that they learn from, since the previous log entry; "
            "in units of normalised returns."
        ),
        "q_value": Explanation(
            "Mean value of the actions that it took, since the previous log entry.", "diverging"
        ),
        "epsilon": Explanation(
            "Probability of an action at random, mean over the windows since the previous log entry."
        ),
        "policy_loss": Explanation(
            "Mean loss of its policy in the first passes since the previous log entry: log-probabilities weighted by advantages."
        ),
        "value_loss": Explanation(
            "Mean squared error of its values against the returns, unweighted, in the first passes since the previous log entry."
        ),
        "explained_variance": Explanation(
            "Share of the returns' variance that its values explain; below 0 they predict worse than the returns' mean.",
            "diverging",
            limit=1.0,
        ),
        "entropy": Explanation(
            "Mean entropy of its policy in nats (differential entropy for a Gaussian policy); it falls as choices become certain."
        ),
        "approx_kl": Explanation(
            "KL divergence in nats between the policy that sampled the actions and the updated one, mean over the later passes."
        ),
        "clip_fraction": Explanation(
            "Share of ticks at which the probability ratio is clipped, beyond `clip`.", "share"
        ),
    },
    "Learning": {
        "updates": Explanation("Optimiser steps taken so far."),
        "learning_rate": Explanation("Learning rate of its optimiser."),
        "gradient_norm": Explanation(
            "Norm of the gradient of its newest window, before `clip`; of a policy with several passes, of the first."
        ),
        "parameter_norm": Explanation("Norm of all its parameters."),
    },
}
_AGENT["Evaluation"] = {
    f"{split}_{metric}": one._replace(says=f"Its {metric} on the {split} split.")
    for split in EVALUATED
    for metric, one in _AGENT["Objective"].items()
}
_PART = {
    "steps_taken": Explanation("Environment steps taken by the part."),
    "seconds": Explanation("Wall-clock time since the session began; in a virtual run simulated time."),
    "computing": Explanation("Seconds spent computing steps."),
    "waiting": Explanation("Seconds spent waiting for exchanges from other parts."),
    "bytes_sent": Explanation("Bytes sent to all other parts."),
    "bytes_received": Explanation("Bytes received from all other parts."),
    "calls": Explanation("Exchanges sent."),
}
_GROUPS: dict[Family, Mapping[str, Mapping[str, Explanation]]] = {
    "channel": _CHANNEL,
    "agent": _AGENT,
    "part": {"Progress": _PART},
}
EXPLANATIONS: dict[Family, dict[str, Explanation]] = {
    family: {metric: one for group in groups.values() for metric, one in group.items()}
    for family, groups in _GROUPS.items()
}
"""Explanations by family and metric; other metrics have none."""
GROUPS = {
    family: [(heading, [*group]) for heading, group in groups.items()] for family, groups in _GROUPS.items()
}
"""Metrics that are read together, by family; the panel shows others last."""
OF_EPISODES = {
    "episode_return": Explanation("Mean sum of rewards of each environment's newest finished episode."),
    "episode_length": Explanation(
        "Mean steps of each environment's newest finished episode, without resets."
    ),
    "episodes": Explanation(
        "Finished episodes, of all environments; with `next_step`, one finishes as it is reset."
    ),
}
"""Explanations of the metrics of environments with episodes."""
