"""The features of a system: a table of which setting needs which, and their installation.

A new feature is one file and one line of the table; a new setting is also a `FeatureSetting`
(feature_settings.py). What a scenario does not use is not even imported. A setting that is not in the table is an error, for the step
would ignore it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from antiphon.base.errors import EngineError
from antiphon.engine.feature_settings import FeatureSetting, feature_settings
from antiphon.engine.heart.feature import Feature, Features
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window_losses import ObjectiveEvaluator


class FeatureRow(NamedTuple):
    """A feature, and the setting that needs it."""

    setting: FeatureSetting
    of: type
    """What it is made for, and wherever there is one: a rollout has a forward pass and never learns, so it has no engine."""
    feature: str
    """Its class, below `antiphon.engine`."""

    @property
    def kind(self) -> type[Feature]:
        module, _, name = self.feature.rpartition(".")
        kind: type[Feature] = getattr(import_module(f"antiphon.engine.{module}"), name)
        return kind


TABLE = (
    FeatureRow(FeatureSetting.SYNTHETIC_INPUT, ForwardPass, "features.stand_ins.StandIns"),
    FeatureRow(FeatureSetting.FIXED_FEEDBACK, ForwardPass, "features.feedback_alignment.FeedbackAlignment"),
    FeatureRow(FeatureSetting.AGE, ForwardPass, "features.ages.Ages"),
    FeatureRow(
        FeatureSetting.NORMALISED_OBSERVATIONS, ForwardPass, "features.normalisation.NormalisedObservations"
    ),
    FeatureRow(FeatureSetting.CRITIC, ForwardPass, "policies.critics.Critics"),
    # before the policies, which find it, and before copies of what it moves
    FeatureRow(FeatureSetting.FURTHER_PASSES, Engine, "policies.further_passes.FurtherPasses"),
    FeatureRow(FeatureSetting.TARGET_NETWORK, ForwardPass, "policies.target_networks.TargetNetworks"),
    FeatureRow(FeatureSetting.SENDING_ENDPOINTS, ForwardPass, "features.contexts.EndpointStates"),
    FeatureRow(FeatureSetting.ACTIONS, ForwardPass, "policies.actions.Actions"),
    FeatureRow(FeatureSetting.FINAL_VALUES, ForwardPass, "policies.final_values.FinalValues"),
    FeatureRow(FeatureSetting.ENDPOINT_CONTEXT, PredictorTrainer, "features.contexts.Contexts"),
    FeatureRow(FeatureSetting.STACK, Engine, "features.reach.Reach"),
    FeatureRow(FeatureSetting.SWEEP_ORDER, Engine, "features.sweep.SweepOrder"),
    FeatureRow(FeatureSetting.DELAYED_CHANNEL, Engine, "heart.late_windows.LateWindows"),
    FeatureRow(FeatureSetting.DIRECT_FEEDBACK, Engine, "features.direct_feedback.DirectFeedback"),
    FeatureRow(FeatureSetting.AUXILIARY_TASK, Engine, "features.auxiliary.AuxiliaryLosses"),
    FeatureRow(FeatureSetting.RETURNED_LOSSES, Engine, "features.returned_losses.ReturnedLosses"),
    FeatureRow(FeatureSetting.RETURNED_ACTIONS, Engine, "policies.returned_actions.ReturnedActions"),
    FeatureRow(FeatureSetting.LAMBDA_RETURNS, Engine, "features.lambda_returns.LambdaReturns"),
    FeatureRow(FeatureSetting.GATE, Engine, "features.gates.Gates"),
    FeatureRow(FeatureSetting.CLIPPED_OUTLIERS, PredictorTrainer, "features.outliers.ClippedReturns"),
    FeatureRow(FeatureSetting.GROUP_CLIP, Engine, "features.group_clip.GroupClip"),
    FeatureRow(FeatureSetting.TIED_PARAMETERS, Engine, "features.ties.TiedGradients"),
    FeatureRow(FeatureSetting.REWARDS, ObjectiveEvaluator, "policies.policy_evaluator.PolicyEvaluator"),
    FeatureRow(FeatureSetting.OBSERVATION_STATISTICS, Engine, "features.normalisation.ObservationStatistics"),
)
"""Which setting needs which feature. Features with a point in common are called in this order."""


def install(engine: Engine, *, native: bool = False) -> None:
    """Install the features of an engine's system.

    Args:
        native: Whether the native kernel computes the stacks that it can.

    Raises:
        EngineError: A setting is in no row of the table.
    """
    system = engine.system
    made_for = {
        ForwardPass: engine.forward_pass,
        PredictorTrainer: engine.predictor_trainer,
        ObjectiveEvaluator: engine.objective_evaluator,
        Engine: engine,
    }
    _install(engine.features, made_for, system, engine.single_systems[0])
    if native:
        from antiphon.engine.native.networks import use_kernel

        use_kernel(system)
    if system.device.type == "cuda":
        check_later(engine)


def install_in(part: ForwardPass | ObjectiveEvaluator | PredictorTrainer) -> None:
    """Install the features of a part of the step that is used alone; EngineError as of `install`."""
    kinds = ForwardPass, ObjectiveEvaluator, PredictorTrainer
    _install(part.features, {kind: part for kind in kinds if isinstance(part, kind)}, part.system)


def _install(features: Features, made_for: Mapping[type, Any], *systems: System) -> None:
    used = {setting: place for system in systems for setting, place in feature_settings(system)}
    for setting in used.keys() - {row.setting for row in TABLE}:
        raise EngineError(
            f"{used[setting]}: no feature obeys its setting '{setting}'; engine/feature_table.py has to name one"
        )
    for row in TABLE:
        if row.setting in used and row.of in made_for:
            features.install(row.kind(made_for[row.of]))  # type: ignore[call-arg]


def check_later(engine: Engine) -> None:
    """Let the device skip what is not finite and clip what is far too long, and read what it found at `synchronize` only.

    Where a bound is asked for, or a seed stops while others continue, every step is checked at once.
    """
    divergence = engine.system.divergence_rule
    if divergence.bound is not None or engine.system.seed_count > 1:
        return
    from antiphon.engine.features.outliers import ClippedReturns
    from antiphon.engine.heart.guard import Guard

    guard = engine.divergence_check = Guard(engine.divergence_check, engine.system.device)
    for owner in engine.divergence_check.statistics.trained_parameters:
        owner.optimiser.skip = guard.skip
    if (clipped := engine.features.of(ClippedReturns)) is not None:
        clipped.notes_later = True
