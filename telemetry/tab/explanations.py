"""Explanations of the metrics of agents and channels: title, description, colour scale, caution; and of verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from antiphon.telemetry.causes import (
    FAST_IF_POOR,
    culprits,
    hints_if_poor,
    hints_of,
    hints_of_run,
    ways,
)
from antiphon.telemetry.metrics import AS_RUN, EVALUATED, LOSSES, METRICS, PROBED
from antiphon.telemetry.statistics import of_few_seeds
from antiphon.telemetry.tab.tags import Family
from antiphon.telemetry.verdicts import (
    ALIGNMENT_GRADES,
    DOUBTS,
    FLAGS,
    LEARNED,
    MEASURES,
    OWN_GAIN,
    REMARKS,
    SLIGHT,
    UNFOUND,
    VERDICTS,
    Measure,
    Results,
    Verdict,
    bounds,
    duration,
    fullest_first,
    in_words,
    lost_signals_texts,
    measuring_command,
    measuring_seconds,
    measuring_time,
    more_seeds,
    most_by_chance,
    quick_command,
    quick_time,
    short_command,
    short_time,
)

Scale = Literal["sequential", "diverging", "share"]
"""Colour scales: from smallest to largest; on both sides of zero; from 0 to 1."""

_SCALED = "It depends on the gradients' scale: do not compare channels by it."
_ALIGNED = "Alignment misleads: it can fall while the agents learn, and rise while they do not. What a signal is worth is its value."
_UNLIKE = "perfect links, not the run's"
_TRUE = "the true gradient (of all later losses, by backpropagation)"
_SENT = "in the environments in which it was sent"


class Explanation(NamedTuple):
    """Explanation of a metric.

    Attributes:
        says: Description, in one sentence.
        caution: What the metric does not show; may be empty.
        limit: End of a diverging scale on either side, at most; None: the largest magnitude of the values.
        good: Which numbers are good: `high`, `low`, or near `one`; empty: neither end is better.
        positive: Whether it has no zero, so that orders of magnitude count (`interval_ends`).
        least: The lowest number that it can have; None: any. Its intervals end there; those of shares at 0 and 1.
        most: The highest one.
    """

    title: str
    says: str
    scale: Scale = "sequential"
    caution: str = ""
    limit: float | None = None
    good: Literal["high", "low", "one", ""] = ""
    positive: bool = False
    least: float | None = None
    most: float | None = None

    @property
    def plain(self) -> str:
        """The description without marks of code, which neither the tab nor a report's charts render."""
        return self.says.replace("`", "")


def _aligned(title: str, says: str) -> Explanation:
    """Return the explanation of a measure of alignment, at most 1."""
    return Explanation(title, says, "diverging", _ALIGNED, 1.0, "high", least=-1.0, most=1.0)


def _ends(measure: str, title: str, limit: float | None = None) -> dict[str, Explanation]:
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


def _ablated(measure: Measure, replacement: str) -> dict[str, Explanation]:
    """Return the explanations of a loss by ablation and its interval, by what the messages are replaced with."""
    title = f"loss by {MEASURES[measure]}"
    says = f"Increase of the readouts' loss on test data, or fall of their return, with its messages replaced by {replacement}."
    return {measure: Explanation(title, says, "diverging", good="high"), **_ends(measure, title)}


_CHANNEL: dict[str, Explanation] = {
    "value": Explanation(
        "value",
        "How much its learning signal helps, by the readouts' losses: (no signal − own signal) / (no signal − true gradient); 1 is as "
        "good as the true gradient, 0 as no signal, below 0 worse; defined where the denominator, the gain, exceeds three standard errors.",
        "diverging",
        "Measured in forks of the run over a short horizon. If the interval contains 0, the signal may help or harm.",
        1.0,
        "high",
    ),
    **_ends("value", "value", 1.0),
    **{
        metric: Explanation(f"loss {condition}", f"Mean loss of the readouts {condition}.")
        for metric, condition in zip(
            LOSSES, ("with no signal", "with its own signal", "with the true gradient"), strict=True
        )
    },
    "own_gain": Explanation(
        "own gain",
        "Loss with no signal minus the loss with its own; below 0 its signal is worse than none.",
        "diverging",
        good="high",
    ),
    **_ends("own_gain", "own gain"),
    **_ablated("ablation_zero", "zeros"),
    **_ablated("ablation_mean", "their mean"),
    **_ablated("ablation_resample", "messages for other examples, or in other environments"),
    **_ablated("ablation_step", "messages of other steps of the same episode"),
    "sg_loss": Explanation(
        "SG loss",
        "The loss of the synthetic gradient's model before its newest update: of a regression the squared error of all components; with rescale: rms (the default with passes: all) in units of the returned gradient's mean square.",
        caution="Small gradients are easy to predict: do not compare channels of different energy by it.",
        good="low",
        positive=True,
    ),
    "cosine": _aligned(
        "cosine",
        "Mean cosine, per sample of one batch, between the synthetic gradient and the returned gradient, which the receiver sends back "
        "and the predictor learns. Good: near 1; from 0.1 it follows the returned gradient, 0 is chance, below 0 it points against it.",
    ),
    "true_cosine": _aligned(
        "true cosine",
        f"Mean cosine, per sample of many batches, between the synthetic gradient and {_TRUE}. Good: near 1; 0 is chance.",
    ),
    "cosine_ceiling": _aligned(
        "cosine ceiling",
        "The true cosine of the best linear prediction from the same message and context: where it is low, the predictor lacks "
        "context; where the true cosine is far below it, the predictor has not learned yet.",
    )._replace(good=""),
    "pooled_cosine": _aligned(
        "pooled cosine",
        "Cosine between the synthetic and the returned gradients of the whole batch, each flattened to one vector. "
        "Good: near 1; 0 is chance.",
    ),
    "parameter_cosine": _aligned(
        "parameter cosine",
        f"Cosine between the sender's parameter gradients under the synthetic gradient and under {_TRUE}, mean over batches. "
        "Good: near 1, and no less than half the cosine; below 0 its steps point against the true ones.",
    ),
    **_ends("parameter_cosine", "parameter cosine", 1.0),
    "norm_ratio": Explanation(
        "norm ratio",
        "Norm of the synthetic gradients divided by the norm of the returned gradients. Good: near 1. Its intervals end at 0, the lowest that it can be.",
        caution=_ALIGNED,
        good="one",
        least=0.0,
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
    )._replace(least=None),
    "bias2": Explanation(
        "bias²",
        "The part of the synthetic gradient's squared error that is the same in every sample.",
        caution=_SCALED,
        good="low",
        positive=True,
    ),
    "variance": Explanation(
        "error variance",
        "The part of the synthetic gradient's squared error that differs between samples.",
        caution=_SCALED,
        good="low",
        positive=True,
    ),
    "injection_norm": Explanation(
        "injection norm",
        "Mean norm, per sample that has one, of the gradient injected on the newest messages: the synthetic one, or with `delayed` "
        "the returned one; after gate and `clip`, before `scale`.",
        positive=True,
    ),
    "skill": Explanation(
        "skill",
        "Standard errors by which the running cosine of prediction and returned gradient is above zero, on messages that the "
        "predictor has not learned from. Good: from 2.5; below it may be chance, and a shut gate stays shut.",
        "diverging",
        good="high",
    ),
    "gate": Explanation(
        "gate",
        "Factor by which the synthetic gradient is multiplied before it is injected; 1: in full, 0: the sender takes no step by it; "
        "it begins at 0, with `passes: all` at 1.",
        "share",
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
    "signalling": Explanation(
        "signalling",
        "Mutual information of the symbols and the sender's input in bits, summed over the positions.",
    ),
    "listening": Explanation(
        "listening",
        "Causal influence of the message on the receiver's decisions in bits; 0: the receiver ignores the message.",
    ),
    "signalling_share": Explanation(
        "signalling share",
        "Signalling as a share of the symbols' entropy; 0: symbols do not depend on the sender's input, 1: it decides each.",
        "share",
    ),
    "listening_share": Explanation(
        "listening share",
        "Listening as a share of the decisions' entropy; 0: the receiver ignores the message, 1: it alone decides.",
        "share",
    ),
    "age": Explanation(
        "age",
        "Steps since the newest message was sent that is due at the receiver, also where the link lost it.",
        good="low",
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
        good="low",
    ),
    "dropped": Explanation(
        "dropped",
        "Share of the messages sent since the previous log entry that the link lost.",
        "share",
        good="low",
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
        good="low",
    ),
    "si_loss": Explanation(
        "SI loss",
        "The loss of the synthetic input's model before its newest update: squared error, summed over components, mean over the batch, "
        "where lost messages count 0; zeros would lose the share that arrives × components × energy².",
        caution=_SCALED,
        good="low",
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
        good="low",
    ),
    "accuracy": Explanation(
        "training accuracy",
        "Share of correct answers on training data since the previous log entry.",
        "share",
        good="high",
    ),
    "error": Explanation(
        "training error",
        "Mean squared error on training data since the previous log entry; of a loss of your own, the loss.",
        good="low",
    ),
    "bits": Explanation(
        "training bits",
        "Its objective's loss in bits on training data since the previous log entry.",
        good="low",
    ),
    "return": Explanation(
        "training return",
        "Mean undiscounted return of each environment's newest finished episode in training; of those in progress until one has "
        "finished.",
        "diverging",
        good="high",
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
_AGENT |= {
    f"{split}_{metric}{AS_RUN}": explanation._replace(
        title=f"{explanation.title}, links as in the run",
        says=f"{explanation.says.removesuffix('.')}, over the run's links.",
    )
    for split in EVALUATED
    for metric in METRICS
    for explanation in (_AGENT[f"{split}_{metric}"],)
}
_PART: dict[str, Explanation] = {
    "steps_taken": Explanation("step", "Environment steps taken by the part."),
    "seconds": Explanation(
        "seconds", "Wall-clock time since the session began; in a virtual run simulated time."
    ),
    "computing": Explanation(
        "computing", "Seconds spent computing steps, including steps repeated after a restart."
    ),
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
    "restarts": Explanation("restarts", "Number of restarts."),
    "alive": Explanation(
        "alive", "1 while its process runs, 0 while its process or machine is gone.", "share"
    ),
    "heartbeat_age": Explanation("last heartbeat", "Seconds since it last answered."),
}
EXPLANATIONS: dict[Family, dict[str, Explanation]] = {
    "channel": _CHANNEL,
    "agent": _AGENT,
    "part": _PART,
    "run": {},
}
"""Explanations by family and metric; other metrics have none."""
GROUPS: dict[Family, list[tuple[str, list[str]]]] = {
    "channel": [
        ("Worth", [*MEASURES, OWN_GAIN, *LOSSES]),
        ("Alignment", ["cosine", *PROBED, "parameter_cosine", "pooled_cosine", "norm_ratio", "r2"]),
        (
            "Learning",
            [
                "sg_loss",
                "si_loss",
                "skill",
                "gate",
                "returned_norm",
                "injection_norm",
                "bias2",
                "variance",
            ],
        ),
        ("Message", ["message_energy", "message_std", "message_mean"]),
        (
            "Language",
            [
                "symbol_entropy",
                "message_entropy",
                "topographic_similarity",
                *("signalling", "listening", "signalling_share", "listening_share"),
            ],
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
_DEFAULT: dict[Measure, tuple[str, ...]] = {
    measure: ("--value",) if measure == "value" else ("--ablate", measure.removeprefix("ablation_"))
    for measure in MEASURES
}
"""Options of `antiphon evaluate` that measure all channels."""
_NEEDS = {
    "better": (OWN_GAIN,),
    "worse": (OWN_GAIN,),
    "broken": ("norm_ratio",),
    "misguessed": ("si_loss",),
    "against": ("cosine", "parameter_cosine"),
    "stale": ("age",),
    "silent": ("message_energy",),
    "faint": ("gate", "returned_norm"),
}
"""Metrics without any of which no verdict is given."""


def verdicts_document(
    logged: Sequence[str],
    results: Mapping[Measure, Results],
    undefined: Mapping[str, Mapping[str, Any]],
    graph: Mapping[str, Any],
    path: str,
) -> dict[str, Any]:
    """Return the verdicts that a run's metrics allow as plain data, for the strip above the graph.

    `measures`: the measures of worth, that of most channels first (`fullest_first`), each with its `metric`, `title`, its `subject`, the metrics
    of its interval's `bounds`, whether it was `measured`, the step at which the page `opens`, the one that is `shown` instead where nothing is resolved there, and what it `says`, and of channels without a result the `step` at which they have none and the
    `reasons` by name, the same of `earlier` steps, and a command that may give them one, `again` (may be empty), with its `cost`, or what does `instead`; `by`: the command that measures value (may be empty), and `takes`: how long,
    if it takes more than a few minutes; then `quick_by` is the command that measures the loss by ablation, which takes `quick_takes`, and `short` that of value over fewer steps, with what it `takes`; `no_fork`: why it cannot be measured, so that `by` measures the loss by ablation
    (may be empty). `words`: for each verdict its `name`, the word `counted` after a number and `one` after 1, its description `says`, and its `flags`: a bit per measure, or under "" where
    it needs no measure; it is counted `beside` those of a measure, or by itself (""). `remarks`: `REMARKS` with the `flag`, `metrics`, what each `says`, and the measures `beside` it; `causes`: `hints_of` with the `flag`, the verdicts that it explains `also`, whether it is asked `always`, or with these `alone`,
    and `texts`, each what it says and what to try (null: it does not hold), of which `of` has the number of each channel's (empty: all have the first);
    `one`: the command that measures value and ceiling of a single "{channel}", and how long it takes; `common`: `_common`, without what is said `first`; `if_poor`: `hints_if_poor`, said where a channel has the flag `if_poor_flag`; `chance`: `_chance`; `doubts`: `DOUBTS`, and the bit `SLIGHT`; `culprits`: see there; `as_run`: the command that scores a run that loses messages over its links; `lost`: `lost_signals_texts`; `few`: `more_seeds` of the first measure;
    `signals`: `ALIGNMENT_GRADES` with the metrics of their interval's `bounds`; `ways`: by channel, where its receiver stands (`ways`).

    Args:
        results: Of the measures of worth (`results_of`).
        undefined: By measure, why channels have no result (`ChannelsWriter.undefined`).
        path: The run directory, for the command that measures; empty: none.
    """
    channel = EXPLANATIONS["channel"]
    results = dict.fromkeys(MEASURES, Results(0, {}, 0, 0, {})) | dict(results)
    order = fullest_first({measure: result for measure, result in results.items() if result.newest})
    measures = [
        {
            "metric": measure,
            "title": channel[measure].title,
            "subject": "signal" if measure == "value" else "messages",
            "bounds": bounds(measure),
            "measured": all(metric in logged for metric in (measure, *bounds(measure))),
            "opens": results[measure].step,
            "shown": results[measure].telling,
            "says": in_words({word: count for word, count in results[measure].told.items() if count}),
            "step": results[measure].newest,
            "reasons": {},
            "earlier": [],
            "again": _DEFAULT[measure],
            "instead": "",
            "cost": "",
            **undefined.get(measure, {}),
        }
        for measure in dict.fromkeys([*order, *MEASURES])
    ]
    remarks = [
        {"flag": remark.flag, "metrics": remark.metrics, "says": remark.says, "beside": remark.beside}
        for remark in REMARKS
    ]
    by = measuring_command(path, graph) if path and graph["channels"] else ""
    lossy = any(link.get("drop", 0) > 0 for link in graph["channels"])
    for measure in measures:
        if lossy:
            measure["links"] = _links_of_lossy(measure["metric"], measure.get("links", ""))
        measure["again"] = (
            measuring_command(path, graph, measure["again"]) if by and not measure["instead"] else ""
        )
    no_fork = graph.get("no_fork", "")
    takes = "" if no_fork else measuring_time(graph)
    signals = [{**signal._asdict(), "bounds": bounds(signal.metric)} for signal in ALIGNMENT_GRADES]
    why = {
        "signals": signals,
        "causes": _causes(graph),
        "one": _measuring_one(path, graph),
        **_of_run(graph, measures),
        **_faults(graph, path if lossy else ""),
        "few": more_seeds(results[order[0]].counts, len(graph.get("seeds", ()))) if order else "",
        "own_gain": bounds(OWN_GAIN),
        "ways": ways(graph),
    }
    contents = {
        "measures": measures,
        "words": _words(logged, graph.get("early", "")),
        "remarks": remarks,
        **why,
    }
    quick = _quick(path, graph) if by and takes else {}
    return {**contents, "by": by, "takes": takes, "no_fork": no_fork, **quick}


def _quick(path: str, graph: Mapping[str, Any]) -> dict[str, Any]:
    """Return the commands that measure in less time than value, and how long they take."""
    quick = {"quick_by": quick_command(path, graph), "quick_takes": quick_time(graph)}
    return {**quick, "short": {"by": short_command(path, graph), "takes": short_time(graph)}}


def _of_run(graph: Mapping[str, Any], measures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is said once for the run: what comes `first`, and what is `common`; and where a channel has a flag `if_poor`."""
    common, first = _common(graph, measures), int("overshooting" in graph)
    poor = {"if_poor": hints_if_poor(graph), "if_poor_flag": FAST_IF_POOR.flag}
    return {"first": common[:first], "common": common[first:], **poor}


def _common(graph: Mapping[str, Any], measures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is said once for the run: what holds by settings alone, that two seeds are few, and over which links `measures` are."""
    return [
        *hints_of_run(graph),
        *(line.removesuffix(".") for line in of_few_seeds([len(graph.get("seeds", ()))])),
        *(
            f"The {measure['title']} is over perfect links: evaluate --links as_run measures it over the run's"
            for measure in measures
            if measure.get("links", "").startswith(_UNLIKE)
        ),
    ]


def _faults(graph: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return what is doubted and what is at fault; `path`: the directory of a run that loses messages; empty: of others."""
    return {
        "chance": _chance(len(graph["channels"])),
        "doubts": {**DOUBTS, "slight_flag": SLIGHT},
        "culprits": [*culprits(graph).items()],
        "as_run": measuring_command(path, graph, ["--links", "as_run"]) if path else "",
        "lost": lost_signals_texts(graph),
    }


def _chance(channels: int) -> dict[str, Any]:
    """Return when a verdict may be chance: `most_by_chance` by the number of channels with a verdict, and `UNFOUND`."""
    return {"most": [most_by_chance(judged) for judged in range(channels + 1)], "unfound": UNFOUND}


def _measuring_one(path: str, graph: Mapping[str, Any]) -> list[str]:
    options = ["--channels", "{channel}", "--value"]
    return [measuring_command(path, graph, options) if path else "", duration(measuring_seconds(graph, 1))]


def _links_of_lossy(metric: str, links: str) -> str:
    """Return over which links a measure of a run that loses messages is: forks lose what the run loses, an ablation need not."""
    if metric == "value":
        return ", ".join(filter(None, ["links as in the run", links]))
    return links.replace("perfect links", _UNLIKE)


def _causes(graph: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = []
    for cause, hints in hints_of(graph):
        numbers = {hint: number for number, hint in enumerate(dict.fromkeys(hints))}
        if any(hint is not None for hint in numbers):
            of = [numbers[hint] for hint in hints] if len(numbers) > 1 else []
            told = {"flag": cause.flag, "also": cause.also, "always": cause.always, "alone": cause.alone}
            entries.append({**told, "texts": list(numbers), "of": of})
    return entries


def _words(logged: Sequence[str], early: str) -> list[dict[str, Any]]:
    def doubted(name: Verdict, word: str) -> str:
        return f"{word} ({early})" if early and name in LEARNED and word else word

    return [
        {
            "name": name,
            **definition._replace(
                counted=doubted(name, definition.counted), one=doubted(name, definition.one)
            )._asdict(),
            "flags": {measure: flags[name] for measure, flags in FLAGS.items() if name in flags},
            "beside": "value" if OWN_GAIN in _NEEDS.get(name, ()) else "",
        }
        for name, definition in VERDICTS.items()
        if name not in _NEEDS or any(metric in logged for metric in _NEEDS[name])
    ]
