"""Other spellings of keys and arguments: one table, which documents, `--set` and Python go through; and words of the field
for what antiphon names otherwise, and keys of earlier versions, for the fix in an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.problems import DocumentError, Path

_STANDARD: Mapping[str, str] = {
    "color": "colour",
    "every": "period",
    "learning_rate": "lr",
    "neighbors": "neighbours",
    "normalize": "normalise",
    "optimizer": "optimiser",
}
"""By the other spelling the one that antiphon writes."""

_FEEDBACK = {
    "fa": "fa feedbackalignment",
    "dfa": "dfa directfeedbackalignment",
    "kickback": "kickback",
}
_COUPLINGS = {
    "locked": "true yes on bp backprop backpropagation endtoend e2e coupled joint full exact",
    "detached": "false no off none null stop stopgradient stopgrad detach nograd blocked",
    "decoupled": "sg dni synthetic syntheticgradient syntheticgradients decouple async dg",
    "delayed": "ddg stale delay late",
    "unlocked": "si syntheticinput syntheticinputs forwardunlocked fullyunlocked",
}
_GRADIENTS = {"local": "greedy layerwise greedylayerwise localloss auxiliaryloss", "mlp": "nn network hidden"}
_OBJECTIVES = {
    "classification": "crossentropy ce xent nll negativeloglikelihood softmax logsoftmax classify classifier categorical "
    "categoricalcrossentropy sparsecategoricalcrossentropy accuracy",
    "regression": "mse l2 squarederror meansquared meansquarederror regress",
    "coding": "bce bcewithlogits binarycrossentropy binarycrossentropywithlogits sigmoid bernoulli multilabel",
    "reinforce": "pg vpg policygradient rl",
    "a2c": "a3c actorcritic advantageactorcritic impala",
    "ppo": "ppo2 trpo policy",
    "own_loss": "custom own loss callable",
}
_NO_OBJECTIVES = {
    "write kind: regression (squared error), or from Python a function that returns the loss of each sample": "mae l1 smoothl1 "
    "huber absoluteerror meanabsoluteerror poisson poissonnll gaussiannll quantile logcosh",
    "write kind: classification (cross-entropy), or from Python a function that returns the loss of each sample": "hinge focal "
    "margin multimargin labelsmoothing",
    "from Python give a function that returns the loss of each sample": "triplet contrastive infonce cosine cosineembedding kl kldiv ctc",
    "policies here learn on-policy: write kind: ppo, a2c or reinforce": "dqn ddqn qlearning sarsa sac ddpg td3 rainbow",
    "write kind: regression with the observation as its target": "autoencoder reconstruction reconstruct vae",
}
_NETWORKS = {
    "mlp": "dense fc linear feedforward perceptron fullyconnected ffn",
    "conv": "cnn convnet convolution conv2d convolutional",
    "rnn": "elman recurrent vanillarnn",
    "leaky": "ctrnn leakyrnn",
}
_SCHEDULES = {
    "cosine": "cosineannealing cosineannealinglr cosinedecay",
    "linear": "linearlr lineardecay anneal annealed polynomial",
    "steps": "step steplr multistep multisteplr piecewise",
    "constant": "none off fixed constantlr",
}
_SAMPLES = {"gumbel": "gumbelsoftmax straightthrough st concrete", "gaussian": "normal", "latent": "vae kl"}


def _fixes(key: str, words: Mapping[str, str]) -> dict[str, str]:
    return {word: f"write {key}: {name}" for name, those in words.items() for word in (name, *those.split())}


_OF_CHANNELS = {
    **_fixes("coupling: locked, feedback", _FEEDBACK),
    **_fixes("gradient", _GRADIENTS),
    **_fixes("coupling", _COUPLINGS),
}
_FIXES: Mapping[str, Mapping[str, str]] = {
    "coupling": _OF_CHANNELS,
    "gradient": _OF_CHANNELS,
    "network": _fixes("kind", _NETWORKS),
    "objective": {
        **_fixes("kind", _OBJECTIVES),
        **{word: fix for fix, those in _NO_OBJECTIVES.items() for word in those.split()},
    },
    "sample": _fixes("kind", _SAMPLES),
    "schedule": _fixes("kind", _SCHEDULES),
}
"""By section, words of the field and of other libraries (small letters alone) with what is written for them."""
_LONGEST_WORD = 100
_NOT_LETTERS = re.compile(r"[^a-z0-9]")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def standard(path: Path) -> Path:
    """Return a path of a document with the standard spelling of every key."""
    return tuple(_STANDARD.get(part, part) if isinstance(part, str) else part for part in path)


def spelled(key: str, known: Collection[str]) -> str:
    """Return the known name that a key is another spelling of; the key itself where it is known, or of none.

    Both directions hold: a factory with a parameter `learning_rate` takes `lr`. Of a key with dots, such as `input.lr`, every word counts.
    """
    if key in known or not isinstance(key, str):
        return key
    meant = standard(tuple(key.split(".")))
    return next((name for name in known if standard(tuple(name.split("."))) == meant), key)


def suggest_key(key: str, known: Collection[str]) -> str:
    """Return "; did you mean 'x'?" for the known name that is nearest to a key in some spelling, or the list of known names."""
    return suggest(key, known, also=[other for other, name in _STANDARD.items() if name in known])


def standard_keys(keys: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return a mapping with the names that are known in place of other spellings.

    Raises:
        DocumentError: Two of its keys are one name.
    """
    found: dict[str, Any] = {}
    first: dict[str, str] = {}
    for key, value in keys.items():
        name = spelled(key, known)
        if name in found:
            raise DocumentError(
                (key,), f"is another spelling of {first[name]!r}, which is given too; keep one"
            )
        found[name], first[name] = value, key
    return found


def fix_of_word(section: str, word: object) -> str:
    """Return "; write …" for a word of the field that a section names otherwise; empty where there is none.

    Args:
        section: The section or key that the word was given for, such as `coupling` or `objective`.
        word: The word; spelled as a class (`CrossEntropyLoss`) or a function (`mse_loss`) it is the same one.
    """
    letters = _NOT_LETTERS.sub("", str(word)[:_LONGEST_WORD].lower())
    fixes = _FIXES.get(section, {})
    fix = fixes.get(letters) or fixes.get(letters.removesuffix("loss"))
    return f"; {fix}" if fix else ""


def either_spelling(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function to take its keyword arguments in either spelling."""
    known = tuple(signature(function).parameters)

    @wraps(function)
    def with_standard_names(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        given: Any = kwargs
        if not given.keys() <= set(known):
            try:
                given = standard_keys(given, known)
            except DocumentError as error:
                raise ScenarioError(f"{function.__qualname__.removesuffix('.__init__')}: {error}") from None
        return function(*args, **given)

    return with_standard_names


# --- keys that documents of earlier versions have, and what is written instead ---


def _advanced(keys: Mapping[str, Any]) -> str:
    given = keys["advanced"] if isinstance(keys["advanced"], Mapping) else ("on_divergence", "sweep")
    return f"write its keys in training itself: {', '.join(f'{key}: …' for key in given)}"


def _apply(keys: Mapping[str, Any]) -> str:
    if keys["apply"] is True:
        return "leave it out"
    return "write scale: 0 and discount: 0 for a predictor that is trained and not applied"


def _deviation(keys: Mapping[str, Any]) -> str:
    return "write noise" if "kind" in keys else "write kind: gaussian, noise: …"


def _known_to(keys: Mapping[str, Any]) -> str:
    given = keys["known_to"] if isinstance(keys["known_to"], Mapping) else {"SIGNAL": "adjacent"}
    return f"write split: {{{', '.join(f'{signal}: {who}' for signal, who in given.items())}}}"


def _symbols(keys: Mapping[str, Any]) -> str:
    """Return the line with the same values, as far as they are given."""
    old = keys["symbols"] if isinstance(keys["symbols"], Mapping) else {}
    new = {"kind": old.get("by", "gumbel"), "vocabulary": old.get("vocabulary", "…")}
    if "length" in old:
        new["size"] = old["length"]
    return f"write sample: {{{', '.join(f'{key}: {value}' for key, value in new.items())}}}"


def _type(keys: Mapping[str, Any]) -> str:
    default = keys.get("default")
    if keys["type"] == "float" and isinstance(default, int):
        return f"leave it out, and write default: {default}.0, which accepts any number"
    return "leave it out; values are of the type of the default, such as 1, 1.0 or word"


_OPTIONS = "write its keys beside kind"
_SPLIT = "write channel: {split: …}"
_RENAMED: Mapping[str, Mapping[str, str]] = {
    "AgentSpec": {"weights": "parameters"},
    "ChannelSpec": {"staleness": "horizon"},
    "DivergenceSpec": {"bound": "max"},
    "GoalSpec": {"signal": "observes"},
    "GradientSpec": {"filter": "size", "head": "network", "span": "horizon"},
    "GraphSpec": {"branching": "neighbours", "readouts": "readout", "rewire": "rate"},
    "NetworkSpec": {"encoder": "hidden", "filter": "size", "leak": "rate"},
    "ObjectiveSpec": {"when": "read"},
    "ParameterSpec": {"also": "choices", "help": "description"},
    "RecorderSpec": {"experiment": "project"},
    "SampleSpec": {"by": "kind", "length": "size"},
    "Scenario": {"tied": "share"},
    "ScheduleSpec": {"factor": "scale"},
    "TelemetrySpec": {"top": "max"},
}
"""By the spec of a section and the old key the new one."""
_REWRITTEN: Mapping[str, Mapping[str, str | Callable[[Mapping[str, Any]], str]]] = {
    "AgentSpec": {"objectives": "write objective: […]", "p_update": "write the probability as learn"},
    "ChannelSpec": {
        "carries": "write key: state on a state channel, and leave it out elsewhere",
        "symbols": _symbols,
    },
    "EnvSpec": {"gymnasium": "write id: gymnasium/ID", "pettingzoo": "write id: pettingzoo/MODULE"},
    "FanInSpec": {"options": _OPTIONS},
    "GradientSpec": {"apply": _apply, "options": _OPTIONS},
    "GraphSpec": {"known_to": _known_to, "prefix": "leave it out; names of generated agents begin with n"},
    "InputSpec": {"options": _OPTIONS},
    "LinkSpec": {"back": "write link: {delay: [there, back]}"},
    "NetworkSpec": {"options": _OPTIONS},
    "ObjectiveSpec": {"options": _OPTIONS},
    "OptimiserSpec": {"options": _OPTIONS},
    "ParameterSpec": {"type": _type},
    "RecorderSpec": {"options": _OPTIONS},
    "SampleSpec": {"deviation": _deviation},
    "Scenario": {
        "blind_channel": _SPLIT,
        "dealt_agents": "write agent: {deal: […]}",
        "first_agent": "write agent: {first: …}",
        "readout_agent": "write agent: {readout: …}",
        "split_channel": _SPLIT,
    },
    "ScheduleSpec": {"options": _OPTIONS},
    "TrainingSpec": {
        "advanced": _advanced,
        "bound": "write on_divergence: {max: …}",
        "keep_best": "write evaluate: {period: …, keep_best: METRIC}",
        "stop": "write evaluate: {period: …, patience: {METRIC: N}}",
        "window_limit": "leave it out; windows may have up to 65,536 steps",
    },
}
"""By the spec of a section and the old key what is to be done, where it is more than another name."""


def new_name(section: str, key: str) -> str | None:
    """Return the name that a section has instead of a key of earlier versions; None: it has no other name.

    Args:
        section: The name of the section's spec.
        key: The key.
    """
    return _RENAMED.get(section, {}).get(key)


def moved_key(section: str, key: str, keys: Mapping[str, Any]) -> str | None:
    """Return the line about a key that a section had in earlier versions; None: it had no such key.

    Args:
        section: The name of the section's spec.
        key: The key, which the section does not have.
        keys: The section, whose other keys and values the fix may depend on.
    """
    new = new_name(section, key)
    fix = f"write {new}" if new else _REWRITTEN.get(section, {}).get(key)
    if callable(fix):
        fix = fix(keys)
    return None if fix is None else f"is no longer a key; {fix}"
