"""Training and telemetry of a scenario: optimisers, batch, steps, evaluation, and the metrics of studies by name: of
the readouts (`accuracy`), of one agent (`A.accuracy`), of the environment (`solved`).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PlainValidator

from antiphon.base.errors import suggest
from antiphon.base.kinds import Kind, KindSpec
from antiphon.base.problems import Path, show_refused, show_value
from antiphon.base.spec import Count, FrozenMap, Spec, distinct, fail


class ScheduleSpec(KindSpec, sections=("schedule",)):
    """Schedule of a learning rate over `training.steps`: the keys of every kind.

    Attributes:
        kind: `constant`, `steps`, `cosine` or `linear`; a registered name, or from Python a function of the step.
        warmup: The fraction of `training.steps` over which the rate first rises from zero; built-in kinds only.
    """

    kind: Kind = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0

    point = "schedule"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})


class OptimiserSpec(KindSpec, sections=("optimiser", "predictor")):
    """An optimiser of an agent or of a channel's predictor: the keys of every kind.

    Attributes:
        kind: `sgd`, `adam` or `adamw`; the name of a class of `torch.optim` such as `RMSprop`; a registered name, or
            from Python a class or factory of the parameters and `lr`.
        lr: The learning rate.
        clip: Maximum joint norm of the gradients of agents that learn together (joined by locked channels), as torch's
            `clip_grad_norm_`; larger ones are clipped. None: no limit.
        schedule: Schedule of `lr` over the training; None: constant.
    """

    kind: Kind = "adam"
    lr: Annotated[float, Field(gt=0)] = 0.001
    clip: Annotated[float, Field(gt=0)] | None = None
    schedule: ScheduleSpec | None = None

    point = "optimiser"
    written: ClassVar[frozenset[str]] = frozenset({"kind", "lr"})

    @property
    def is_users(self) -> bool:
        return not (self.built_in or f"{getattr(self.source, '__module__', '')}.".startswith("torch.optim."))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Kind and settings as `TrainedParameters` takes them."""
        settings = {"kind": self.kind, "clip": self.clip}
        if not self.built_in:
            return {**settings, "options": self.options, "lr": self.lr}
        return {**settings, **self.options}


class EvaluateSpec(Spec):
    """Evaluation during the training; a metric is `accuracy`, or `AGENT.accuracy` of one agent.

    Attributes:
        period: Steps from one evaluation to the next.
        split: The split of the data; for policies without data, the name of a set of episodes. Where `keep_best` or `patience`
            select by `test`, a warning says so: the run's score is of the same split.
        episodes: For policies: the number of whole episodes per environment; None: 200 of all environments together.
        keep_best: A metric; the checkpoint with its best value is kept. None: only the newest are kept.
        patience: Early stopping: by metric, the number of evaluations in a row without a new best value after which the run
            ends.
    """

    period: Count
    split: str = "validation"
    episodes: Count | None = None
    keep_best: str | None = None
    patience: Annotated[dict[str, Count], AfterValidator(FrozenMap)] = Field(default_factory=FrozenMap)

    @property
    def judged_by(self) -> dict[Path, str]:
        """The metrics of `keep_best` and `patience`, by the place that names them."""
        by_path: dict[Path, str] = {("patience", metric): metric for metric in self.patience}
        return by_path if self.keep_best is None else {("keep_best",): self.keep_best, **by_path}


class TrainingSpec(Spec):
    """Settings of the whole training.

    Attributes:
        batch: Number of parallel environments.
        steps: Environment steps of a run, and the horizon of all schedules. Default with `a2c` or `ppo`: 4,000.
        optimiser: Optimiser of every agent that has none of its own. Default with `a2c` or `ppo`: Adam with a learning rate
            of 0.003 that falls linearly to zero, and gradients clipped at 0.5.
        predictor: Optimiser of every predictor of a channel that has none of its own; None: the same as `optimiser`.
        evaluate: Evaluation during the training, early stopping and the best checkpoint; None: evaluation at its end only.
        precision: `bf16`: forward and backward passes of agents and predictors run under autocast to bfloat16; parameters,
            messages, losses and optimisers stay float32. Or `float32`.
        sweep: Whether the backward pass of an agent (or locked group) follows its forward pass at once, if its learning
            signal is complete by then; its activations are freed before the next forward pass. Otherwise there is one
            backward pass for all agents that learn at a step, after all forward passes.
    """

    batch: Annotated[int, Field(ge=1, le=2**20)] = 64
    steps: Count = 1000
    optimiser: OptimiserSpec = Field(default_factory=OptimiserSpec)
    predictor: OptimiserSpec | None = None
    evaluate: EvaluateSpec | None = None
    precision: Literal["float32", "bf16"] = "float32"
    sweep: bool = False

    written: ClassVar[frozenset[str]] = frozenset({"batch", "steps", "optimiser"})

    def of_policies(self, *, tied: bool) -> Self:
        """Return these settings with the defaults of policies for the fields that are not set.

        Args:
            tied: Whether single parameters of agents are tied: without locked channels, a clip would be of each agent.
        """
        keys = {"lr": 0.003, "clip": None if tied else 0.5, "schedule": {"kind": "linear", "scale": 0.0}}
        defaults = {"steps": 4000, "optimiser": OptimiserSpec.model_validate(keys)}
        return self.model_copy(update={k: v for k, v in defaults.items() if k not in self.model_fields_set})


class TelemetrySpec(Spec):
    """Telemetry of a run.

    Attributes:
        period: Steps from one log entry to the next.
        max: Maximum number of agents, and of channels, with scalars of their own; the others are in the aggregates.
    """

    period: Count = 100
    max: Count = 32


RETURN = "return"
"""The metric of policies: the sum of an episode's rewards."""
OF_AGENTS = ("accuracy", "error", "bits", RETURN, "loss")
"""Metrics of an agent with an objective, and of the readouts."""
SPLITS = ("train", "validation", "test")
"""Names of splits; in an environment without data, of episodes that differ from those of the others."""


def split_metric(metric: str) -> tuple[str | None, str]:
    """Split a metric into its agent (None: the readouts, or the environment) and its name."""
    agent, dot, name = metric.rpartition(".")
    return (agent, name) if dot else (None, name)


def is_of_env(metric: str) -> bool:
    agent, name = split_metric(metric)
    return agent is None and name not in OF_AGENTS


def metric_of_agents(name: str) -> str | None:
    """Return which metric of agents a name is, also of one of several objectives (`label_accuracy`); None: none."""
    return next((metric for metric in OF_AGENTS if name == metric or name.endswith(f"_{metric}")), None)


def less_is_better(metric: str) -> bool:
    return metric_of_agents(split_metric(metric)[1]) in ("error", "bits", "loss")


def quality(score: float | None, metric: str | None) -> float:
    """Return a score turned so that more is better; None: unknown, which is worst."""
    if score is None:
        return -math.inf
    return -score if metric is not None and less_is_better(metric) else score


def _metric(value: object) -> str:
    """Read a metric; an unknown name is the environment's."""
    if not isinstance(value, str):
        fail(f"must be a metric, not {show_refused(value)}")
    agent, name = split_metric(value)
    if agent is not None and metric_of_agents(name) is None:
        fail(f"unknown metric {show_value(value)}; write AGENT.METRIC{suggest(name, OF_AGENTS)}")
    return value


def _metrics(value: object) -> tuple[str, ...]:
    return distinct(tuple(map(_metric, value if isinstance(value, list | tuple) else [value])))


MetricName = Annotated[str, PlainValidator(_metric)]
MetricNames = Annotated[tuple[str, ...], PlainValidator(_metrics)]
