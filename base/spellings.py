"""Other spellings of keys and arguments: one table, which documents, `--set` and Python go through; and words of the field
for what antiphon names otherwise, for the fix in an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
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
OTHER_SPELLINGS = frozenset(_STANDARD)
"""Keys that have another standard spelling."""


def check_hook(owner: type, earlier: str, name: str) -> None:
    """Check that a user's class overrides a method by its name of now.

    Raises:
        ScenarioError: It has the earlier one alone, which nothing would call.
    """
    if earlier in vars(owner) and name not in vars(owner):
        raise ScenarioError(f"{owner.__name__}.{earlier}: nothing calls it; its name is {name}")


_FEEDBACK = {
    "fa": "fa feedbackalignment",
    "dfa": "dfa directfeedbackalignment",
    "kickback": "kickback",
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
    "q": "dqn ddqn doubledqn qlearning dial pqn drqn valuelearning",
    "own_loss": "custom own loss callable",
}
_NO_OBJECTIVES = {
    "write kind: regression (squared error), or from Python a function that returns the loss of each sample": "mae l1 smoothl1 "
    "huber absoluteerror meanabsoluteerror poisson poissonnll gaussiannll quantile logcosh",
    "write kind: classification (cross-entropy), or from Python a function that returns the loss of each sample": "hinge focal "
    "margin multimargin labelsmoothing",
    "from Python give a function that returns the loss of each sample": "triplet contrastive infonce cosine cosineembedding kl kldiv ctc",
    "policies here learn on-policy: write kind: ppo, a2c or reinforce": "sarsa sac ddpg td3 rainbow",
    "write {kind: classification, target: label}": "label labels target",
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
    return {
        word: f"write {key}: {name}"
        for name, spellings in words.items()
        for word in (name, *spellings.split())
    }


_OF_CHANNELS = {
    **_fixes("coupling: locked, feedback", _FEEDBACK),
    **_fixes("gradient", _GRADIENTS),
    **dict.fromkeys(("local", *_GRADIENTS["local"].split()), "write gradient: {kind: local, target: TARGET}"),
}
_OF_RUNS = {
    "seed": "give it to the run: --seed S, in Python Simulation(…, seed=S)",
    "seeds": "give them to the run: --seeds K, in Python antiphon.study(…, seeds=K)",
    "device": "give it to the run: --device cuda, in Python Simulation(…, device='cuda')",
    "logdir": "give it to the run: --logdir DIR, in Python Simulation(…, logdir='runs/a')",
}
_FIXES: Mapping[str, dict[str, str]] = {
    "Scenario": _OF_RUNS,
    "TrainingSpec": _OF_RUNS,
    "Simulation": {
        **dict.fromkeys(("steps", "epochs"), "write simulation.run(steps=…)"),
        **dict.fromkeys(("variant", "values"), "write antiphon.load(NAME).resolve(variant, values)"),
        "name": "write logdir='runs/NAME'",
    },
    "Simulation.evaluate": dict.fromkeys(
        ("ablate", "ablation"), "call antiphon.inspection.ablation.ablate(simulation)"
    ),
    "population": dict.fromkeys(("seeds",), "write members; their seeds are seed, seed + 1, …"),
    "split": {
        **{
            word: f"write antiphon.Simulation(scenario, {word}=…)"
            for word in ("seed", "device", "dtype", "logdir")
        },
        "epochs": "write simulation.run(epochs=…)",
    },
    "coupling": {**_OF_CHANNELS},
    "gradient": {**_OF_CHANNELS},
    "network": _fixes("kind", _NETWORKS),
    "objective": {
        **_fixes("kind", _OBJECTIVES),
        **{word: fix for fix, spellings in _NO_OBJECTIVES.items() for word in spellings.split()},
    },
    "sample": _fixes("kind", _SAMPLES),
    "schedule": _fixes("kind", _SCHEDULES),
}
"""By section, words of the field and of other libraries (small letters alone) with what is written for them."""
WORDS_OF_LAYERS: Mapping[str, str] = {
    "hidden": "channels filters units neurons width widths layers sizes hiddensize hiddensizes hiddenlayers hiddendim hiddenunits "
    "numlayers nlayers layersizes"
}
"""Words of the field for the key `hidden` (small letters alone)."""
WORDS_OF_CELLS: Mapping[str, str] = {
    "size": "units neurons width hiddensize hiddendim hiddenunits cellsize statesize"
}
"""Those for the `size` of a recurrent cell."""
_EXAMPLE = 64
_LONGEST_WORD = 100
_NOT_LETTERS = re.compile(r"[^a-z0-9]")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def standard(path: Path) -> Path:
    """Return a path of a document with the standard spelling of every key."""
    return tuple(_STANDARD.get(key, key) if isinstance(key, str) else key for key in path)


def spelled(key: str, names: Collection[str]) -> str:
    """Return the known name that a key is another spelling of; the key itself where it is known, or of none.

    Both directions hold: a factory with a parameter `learning_rate` takes `lr`. Of a key with dots, such as `input.lr`, every word counts.
    """
    if key in names or not isinstance(key, str):
        return key
    meant = standard(tuple(key.split(".")))
    return next((name for name in names if standard(tuple(name.split("."))) == meant), key)


def suggest_key(key: str, names: Collection[str]) -> str:
    """Return "; did you mean 'x'?" for the known name that is nearest to a key in some spelling, or the list of known names."""
    return suggest(key, names, also=[spelling for spelling, name in _STANDARD.items() if name in names])


def standard_keys(keys: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return a mapping with the names that are known in place of other spellings.

    Raises:
        DocumentError: Two of its keys are one name.
    """
    renamed: dict[str, Any] = {}
    first: dict[str, str] = {}
    for key, value in keys.items():
        name = spelled(key, names)
        if name in renamed:
            raise DocumentError(
                (key,), f"is another spelling of {first[name]!r}, which is given too; keep one"
            )
        renamed[name], first[name] = value, key
    return renamed


def add_words(sections: Collection[str], key: str, words: Mapping[str, str]) -> None:
    """Add words of the field to sections; `words`: by the value of the key that is written for them."""
    for section in sections:
        _FIXES[section].update(_fixes(key, words))


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


def fix_of_key(words: Mapping[str, str], key: str, value: object, defaults: Mapping[str, object]) -> str:
    """Return "; write hidden: [8]" for a word of the field in place of a key; empty where it is none.

    Args:
        words: By key of the section, its words of the field (small letters alone).
        key: The word.
        value: What is given for it: kept where it may be the key's value.
        defaults: By key of the section its default, a tuple where it has a list.
    """
    letters = _NOT_LETTERS.sub("", key[:_LONGEST_WORD].lower())
    meant = next((name for name, spellings in words.items() if letters in spellings.split()), None)
    if meant is None or meant not in defaults:
        return ""
    listed, counts_layers = isinstance(defaults[meant], tuple), "layers" in letters and isinstance(value, int)
    sizes = [*value] if isinstance(value, list | tuple) else [value]
    if not sizes or counts_layers or any(type(size) is not int or size < 1 for size in sizes):
        sizes = [_EXAMPLE]
    if counts_layers:
        return f"; write {meant} with a size for each layer, such as {meant}: [{_EXAMPLE}, {_EXAMPLE}]"
    return f"; write {meant}: {sizes if listed else sizes[0]}"


def either_spelling(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function to take its keyword arguments in either spelling, and to suggest the name of one it does not have.

    One that is unlike all of a function with an argument `values` may be a parameter of a template.
    """
    parameters = tuple(signature(function).parameters)
    public = [name for name in parameters if name != "self"]
    function_name = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def with_standard_names(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        arguments: Any = kwargs
        if not arguments.keys() <= set(parameters):
            try:
                arguments = standard_keys(arguments, parameters)
                for name in arguments.keys() - set(parameters):
                    fix = fix_of_word(function_name, name) or suggest_key(name, public)
                    if "values" in public and fix.startswith("; known"):
                        fix += f"; a parameter of the scenario is given in values={{{name!r}: …}}"
                    raise DocumentError((), f"no argument {name!r}{fix}")
            except DocumentError as error:
                raise ScenarioError(f"{function_name}: {error}") from None
        return function(*args, **arguments)

    return with_standard_names
