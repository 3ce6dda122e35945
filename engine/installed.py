"""Which features a system has, each on its hook of the step; what a scenario does not use is not even imported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from antiphon.engine.heart.agent import AGE, Agent
from antiphon.engine.heart.divergence import DivergenceCheck
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.learn import ObjectiveEvaluator
from antiphon.engine.heart.message import LearningGroup
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.step import Engine
from antiphon.engine.heart.system import System


def install(engine: Engine, bases: Sequence[System], *, native: bool = False) -> None:
    """Put the features of an engine's system on its hooks.

    Args:
        engine: As made.
        bases: The single agents that its stacks are made of, of each seed.
        native: Whether the native kernel computes the stacks that it can.
    """
    system, base, groups = engine.system, bases[0], [one.groups for one in bases]
    engine.divergence = DivergenceCheck(system.on_divergence, system.agents, system.channels, groups)
    install_forward(engine.forward_pass)
    _install_objectives(engine.evaluator)
    _install_predictors(engine.predictor_trainer)
    if native:
        from antiphon.engine.native.networks import use_kernel

        use_kernel(system)
    if any(agent.stacked for agent in system.agents.values()):
        from antiphon.engine.features.reach import Reach

        engine.reach = Reach(system)
    if engine.order.swept:
        from antiphon.engine.features.sweep import SweepOrder

        engine.sweep = SweepOrder(system, engine.order, engine.backward_pass, engine.predictor_trainer)
    if any(group.late for group in system.groups):
        from antiphon.engine.features.late_windows import LateWindows

        engine.late = LateWindows(system, engine.forward_pass)
    if any(channel.traced for channel in system.channels.values()):
        from antiphon.engine.features.lambda_returns import LambdaReturns

        lambda_returns = LambdaReturns(system, engine.evaluator, engine.forward_pass, engine.backward_pass)
        engine.predictor_trainer.returns = lambda_returns.extend
    channels = system.channels.values()
    if any(channel.may_mix for channel in channels):
        from antiphon.engine.features.mixing import mixed_credit

        engine.backward_pass.mixing = partial(mixed_credit, engine.predictor_trainer)
    if any(channel.feedback.direct is not None for channel in channels):
        from antiphon.engine.features.direct_feedback import direct_feedback

        engine.backward_pass.roots.append(partial(direct_feedback, system, engine.evaluator))
    if any(channel.gradient.auxiliary for channel in channels):
        from antiphon.engine.features.auxiliary import auxiliary_loss

        engine.backward_pass.auxiliary = partial(auxiliary_loss, system, engine.predictor_trainer)
    if any(channel.needs_returned_loss for channel in channels):
        from antiphon.engine.features.returned_losses import return_losses

        engine.backward_pass.answered.append(partial(return_losses, system, engine.predictor_trainer))
    if any(channel.gradient.needs_actions for channel in channels):
        from antiphon.engine.policies.returned_actions import return_actions

        engine.backward_pass.answered.append(partial(return_actions, system))
    if any(
        sum(agent.learner.optimiser.clip is not None for agent in _owners(base, group)) > 1
        for group in base.groups
    ):
        from antiphon.engine.features.group_clip import GroupClip

        engine.group_clip = GroupClip(system, bases)
    if system.tied:
        from antiphon.engine.features.ties import TiedGradients

        engine.before_move.append(TiedGradients(system).sum_updates)
    if any(policy.passes > 1 for agent in system.agents.values() if (policy := agent.policy) is not None):
        from antiphon.engine.policies.further_passes import FurtherPasses

        engine.after_move.append(FurtherPasses(engine, bases).learn)
    normalised = engine.forward_pass.normalised
    if normalised is not None:
        engine.forward_pass.begin_statistics = normalised.begin
        engine.after_move.append(normalised.update)
    if engine.evaluator.policies is not None:
        engine.before_move.append(engine.evaluator.policies.update_statistics)
    if system.device.type == "cuda":
        check_later(engine)


def _owners(base: System, group: LearningGroup) -> list[Agent]:
    return [base.agents[name] for name in group.owners]


def check_later(engine: Engine) -> None:
    """Let the device skip what is not finite and clip what is far too long, and read what it found at `synchronize` only.

    Where a bound is asked for, or a seed stops while others continue, every step is checked at once.
    """
    divergence = engine.system.on_divergence
    if divergence.bound is not None or engine.system.seeds > 1:
        return
    from antiphon.engine.features.guard import Guard

    guard = engine.divergence = Guard(engine.divergence, engine.system.device)
    for owner in engine.divergence.statistics.owners:
        owner.optimiser.skip = guard.skip
    if engine.predictor_trainer.outliers is not None:
        engine.predictor_trainer.outliers.notes_later = True


def objectives_of(system: System) -> ObjectiveEvaluator:
    """Return what evaluates the objectives of a system, policies among them."""
    found = ObjectiveEvaluator(system)
    _install_objectives(found)
    return found


def predictor_trainer_of(system: System) -> PredictorTrainer:
    """Return what trains the predictors of a system, with its features."""
    found = PredictorTrainer(system)
    _install_predictors(found)
    return found


def install_forward(forward_pass: ForwardPass) -> None:
    """Put the features of its system on a forward pass's hooks."""
    system = forward_pass.system
    if any(channel.input.model is not None for channel in system.channels.values()):
        from antiphon.engine.features.stand_ins import StandIns

        forward_pass.stand_ins = StandIns(system)
    if any(channel.feedback.weights is not None for channel in system.channels.values()):
        from antiphon.engine.features.feedback_alignment import transports

        forward_pass.feedback = partial(transports, system)
    if any(AGE in agent.inputs.observes for agent in system.agents.values()):
        from antiphon.engine.features.ages import ages_of

        forward_pass.ages = ages_of
    if any(one.inputs.normalised or one.inputs.critic_normalised for one in system.agents.values()):
        from antiphon.engine.features.normalisation import NormalisedObservations

        forward_pass.normalised = NormalisedObservations(system, forward_pass.signal_of)
    if any(agent.inputs.critic for agent in system.agents.values()):
        from antiphon.engine.policies.critics import Critics

        forward_pass.critics = Critics(system, forward_pass.signal_of, forward_pass.normalised)
    if any(agent.trail is not None for agent in system.agents.values()):
        from antiphon.engine.features.contexts import States

        forward_pass.states = States(system)
    if any(agent.acts or agent.policy is not None for agent in system.agents.values()):
        from antiphon.engine.policies.actions import Actions

        forward_pass.actions = Actions(system)
    if any(policy.has_values for agent in system.agents.values() if (policy := agent.policy) is not None):
        from antiphon.engine.policies.final_values import FinalValues

        forward_pass.value_final = FinalValues(system, forward_pass).note


def _install_objectives(evaluator: ObjectiveEvaluator) -> None:
    if any(agent.policy is not None for agent in evaluator.system.agents.values()):
        from antiphon.engine.policies.trajectories import PolicyEvaluator

        evaluator.policies = PolicyEvaluator(evaluator.system)


def _install_predictors(predictor_trainer: PredictorTrainer) -> None:
    channels = predictor_trainer.system.channels.values()
    if any(channel.gradient.ends for channel in channels):
        from antiphon.engine.features.contexts import Contexts

        predictor_trainer.contexts = Contexts(predictor_trainer.system)
    if any(channel.gradient.outliers is not None for channel in channels):
        from antiphon.engine.features.outliers import ClippedReturns

        predictor_trainer.outliers = ClippedReturns(predictor_trainer.system)
