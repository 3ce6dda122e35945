"""Teaching bundles: many predictors of one kind asked and taught as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from antiphon.comms.outliers import BundledOutliers, Outliers
from antiphon.comms.predictors import Example, Predictor
from antiphon.comms.stacked import gradients_all
from antiphon.engine.cohort.guard import Guard
from antiphon.engine.cohort.models import Models
from antiphon.engine.cohort.parts import Bundle, Members
from antiphon.engine.core.ledger import Record
from antiphon.engine.core.parts import Channel
from antiphon.engine.core.system import System
from antiphon.engine.step.predictors import Heard, PredictorTrainer, PredictorUpdate

__all__ = ["CohortPredictorTrainer"]


class CohortPredictorTrainer(PredictorTrainer):
    """Teaches the predictors of bundles beside those of single channels."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self.guard: Guard | None = None
        """Where the host does not wait to know what is finite."""
        self._hearers: dict[str, Members] = {}
        """By bundle: whose synthetic inputs learn at this step."""

    def _learned(
        self, asked: Sequence[tuple[Predictor, Sequence[Example]]]
    ) -> list[tuple[Tensor, list[Tensor]]]:
        """Each predictor's loss (of a bundle [K]), and the gradients of its parameters, in order."""
        single = iter(gradients_all([(p, some) for p, some in asked if not isinstance(p, Models)]))
        return [
            predictor.gradients(examples) if isinstance(predictor, Models) else next(single)
            for predictor, examples in asked
        ]

    def _check(self, prepared: dict[str, PredictorUpdate], step: int) -> None:
        if self.guard is not None:
            single = {}
            for name, lesson in prepared.items():
                if self._models(name) is None:
                    single[name] = lesson
                else:
                    self.guard.look(name, len(lesson.loss), [*lesson.gradients, lesson.loss], step)
            super()._check(single, step)
            return
        numbers = [t for lesson in prepared.values() for t in (*lesson.gradients, lesson.loss)]
        if self.system.divergence.fine(numbers):
            return
        bundles = {
            name: prepared.pop(name)
            for name in list(prepared)
            if isinstance(self.system.channels[name].predictor, Models)
        }
        super()._check(prepared, step)
        for name, lesson in bundles.items():
            bundle = self.system.channels[name]
            assert isinstance(bundle, Bundle)
            diverged = self.system.divergence.members(len(bundle.members), lesson.gradients, [lesson.loss])
            for k in [k for k in diverged if _is(bundle.predictors_disabled, k)]:
                del diverged[k]
            for k, what in diverged.items():
                self._mute(bundle.members[k], what, step)
            bundle.predictors_disabled = _with(bundle.predictors_disabled, diverged, len(bundle.members))
            prepared[name] = lesson

    @property
    def _skip(self) -> Tensor | None:
        return None if self.guard is None else self.guard.tripped

    def said_broken(self, name: str, member: int, step: int) -> None:
        """Report that a predictor of a bundle has diverged.

        Raises:
            DivergenceError: The scenario says stop.
        """
        bundle = self.system.channels[name]
        self._mute(bundle.members[member] if isinstance(bundle, Bundle) else bundle, "is not finite", step)

    def _mute(self, channel: Channel, what: str, step: int) -> None:
        super()._mute(channel.members[0] if isinstance(channel, Bundle) else channel, what, step)
        channel.predictor_disabled = True

    def _deafen(self, channel: Channel, what: str, step: int) -> None:
        super()._deafen(channel.members[0] if isinstance(channel, Bundle) else channel, what, step)
        channel.input_model_disabled = True

    def _shorten(self, channel: Channel, outliers: Outliers, record: Record, step: int) -> None:
        if not isinstance(outliers, BundledOutliers):
            super()._shorten(channel, outliers, record, step)
            return
        assert isinstance(channel, Bundle)
        assert record.delta is not None
        before = outliers.clip_count
        record.delta = outliers.shortened(record.delta)
        first = (before == 0) & (outliers.clip_count > 0)
        if bool(first.any()):
            for k in first.nonzero().flatten().tolist():
                self._say_shortened(channel.members[k], step)

    def teach(self, predictor_updates: dict[str, PredictorUpdate], step: int) -> None:
        """Let each predictor take its step."""
        super().teach({n: le for n, le in predictor_updates.items() if self._models(n) is None}, step)
        for name, lesson in predictor_updates.items():
            models = self._models(name)
            if models is not None:
                models.step(lesson.gradients, step, self.learners(name, lesson), skip=self._skip)
                lesson.gradients = []  # as large as the predictors, and of no more use

    def learners(self, name: str, lesson: PredictorUpdate) -> Members:
        """Return the members of a bundle that a lesson is for."""
        bundle = self.system.channels[name]
        assert isinstance(bundle, Bundle)
        heard = _any_of([example.members for example in lesson.examples], len(bundle.members))
        return _able(heard, bundle.predictors_disabled)

    def hearers(self, name: str) -> Members:
        """Return the members of a bundle whose synthetic inputs learn at this step."""
        bundle = self.system.channels[name]
        assert isinstance(bundle, Bundle)
        return _able(self._hearers[name], bundle.input_models_disabled)

    def _models(self, name: str) -> Models | None:
        predictor = self.system.channels[name].predictor
        return predictor if isinstance(predictor, Models) else None

    # --- synthetic inputs ---------------------------------------------------------------------------------

    def prepare_inputs(self, step: int) -> dict[str, Heard]:
        """Gather what each synthetic input heard at this step, with the gradients it will follow."""
        bundles: dict[str, Heard] = {}
        for name, channel in self.system.channels.items():
            if isinstance(channel.input, Models):
                assert isinstance(channel, Bundle)
                if channel.heard:
                    bundles[name] = channel.input.heard(channel.heard, channel.heard_members)
                    self._hearers[name] = _any_of(channel.heard_members, len(channel.members))
                channel.heard, channel.heard_members = [], []
        found = super().prepare_inputs(step)
        if self.guard is not None:
            for name, (loss, gradients) in bundles.items():
                self.guard.look(name, len(loss), [*gradients, loss], step)
            return found | bundles
        if self.system.divergence.fine([t for loss, some in bundles.values() for t in (loss, *some)]):
            return found | bundles
        for name, (loss, gradients) in bundles.items():
            bundle = self.system.channels[name]
            assert isinstance(bundle, Bundle)
            diverged = self.system.divergence.members(len(bundle.members), gradients, [loss])
            for k in [k for k in diverged if _is(bundle.input_models_disabled, k)]:
                del diverged[k]
            for k, what in diverged.items():
                self._deafen(bundle.members[k], what, step)
            bundle.input_models_disabled = _with(bundle.input_models_disabled, diverged, len(bundle.members))
        return found | bundles

    def teach_inputs(self, heard: dict[str, Heard], step: int) -> None:
        """Let each synthetic input take its step."""
        single = {}
        for name, said in heard.items():
            bundle = self.system.channels[name]
            if isinstance(bundle.input, Models):
                bundle.input.step(said[1], step, self.hearers(name), skip=self._skip)
            else:
                single[name] = said
        super().teach_inputs(single, step)


def _any_of(examples: Sequence[Members], count: int) -> Members:
    """Return the members that any of the examples is for."""
    found: Members = torch.zeros(count, dtype=torch.bool)
    for members in examples:
        found = None if found is None or members is None else found | members
    return found


def _able(members: Members, broken: Members) -> Members:
    if broken is None:
        return members
    return torch.logical_not(broken) if members is None else members & torch.logical_not(broken)


def _is(members: Members, k: int) -> bool:
    return members is not None and bool(members[k])


def _with(broken: Members, more: dict[int, str], count: int) -> Members:
    if not more:
        return broken
    found = torch.zeros(count, dtype=torch.bool) if broken is None else broken.clone()
    found[list(more)] = True
    return found
