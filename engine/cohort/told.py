"""What was learned at a step, told by agent and channel to whoever looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from antiphon.comms.predictors import Example
from antiphon.engine.cohort.lift import Lifted
from antiphon.engine.cohort.parts import Bundle, Cohort
from antiphon.engine.cohort.teaching import CohortPredictorTrainer
from antiphon.engine.step.losses import Losses, WindowLoss
from antiphon.engine.step.predictors import Heard, PredictorUpdate
from antiphon.engine.step.report import StepReport, Update

__all__ = ["LossesByAgent", "Told", "losses_of", "without"]


class Told(StepReport):
    """What cohorts learned; taken apart only where somebody asks for it by agent.

    Args:
        learned: By cohort and bundle.
        lifted: Which they are.
        teacher: Knows which members a lesson was for.
    """

    def __init__(
        self, learned: StepReport, lifted: Lifted, predictor_trainer: CohortPredictorTrainer
    ) -> None:
        self._learned, self._lifted = learned, lifted
        self.learners, self.hearers = {}, {}  # of those who learned alone there are no others
        self._for = {
            name: predictor_trainer.learners(name, lesson)
            for name, lesson in learned.predictor_updates.items()
            if lesson.loss.dim()
        }
        self._heard = {
            name: predictor_trainer.hearers(name) for name, (loss, _) in learned.inputs.items() if loss.dim()
        }

    @property
    def together(self) -> StepReport:
        """What was learned, by cohort and bundle."""
        raw = self._learned
        return StepReport(raw.updates, raw.predictor_updates, raw.inputs, self._for, self._heard)

    @cached_property
    def updates(self) -> list[Update]:  # type: ignore[override]
        """By unit of single agents."""
        return [own for update in self._learned.updates for own in self._apart(update)]

    @cached_property
    def predictor_updates(self) -> dict[str, PredictorUpdate]:  # type: ignore[override]
        """By channel."""
        found: dict[str, PredictorUpdate] = {}
        for name, lesson in self._learned.predictor_updates.items():
            bundle = self._lifted.system.channels[name]
            if isinstance(bundle, Bundle) and len(bundle.members) > 1:
                found |= self._lessons(bundle, lesson)
            else:
                found[name] = lesson
        return {name: found[name] for name in self._lifted.base.channels if name in found}

    @cached_property
    def inputs(self) -> dict[str, Heard]:  # type: ignore[override]
        """By channel."""
        found: dict[str, Heard] = {}
        for name, (loss, gradients) in self._learned.inputs.items():
            bundle = self._lifted.system.channels[name]
            if isinstance(bundle, Bundle) and len(bundle.members) > 1:
                hearers = self._heard[name]
                for k, channel in enumerate(bundle.members):
                    if hearers is None or hearers[k]:
                        found[channel.name] = loss[k], [g[k] for g in gradients]
            else:
                found[name] = loss, gradients
        return {name: found[name] for name in self._lifted.base.channels if name in found}

    def losses(self) -> Iterator[tuple[tuple[str, ...], Losses]]:
        for update in self._learned.updates:
            for name, losses in update.losses.items():
                cohort = self._lifted.system.agents[name]
                yield cohort.names if isinstance(cohort, Cohort) else (name,), losses

    def by_agent(self) -> Mapping[str, Tensor]:
        return LossesByAgent(self)

    def _lessons(self, bundle: Bundle, lesson: PredictorUpdate) -> dict[str, PredictorUpdate]:
        batch, count = bundle.batch, len(bundle.members)
        learners = self._for[bundle.name]
        examples = [_examples(example, batch, count) for example in lesson.examples]
        said = None if lesson.prediction is None else torch.split(lesson.prediction, batch)
        return {
            channel.name: PredictorUpdate(
                [
                    some[k]
                    for some, example in zip(examples, lesson.examples, strict=True)
                    if example.members is None or example.members[k]
                ],
                lesson.loss[k],
                [g[k] for g in lesson.gradients],
                None if said is None else said[k],
            )
            for k, channel in enumerate(bundle.members)
            if learners is None or learners[k]
        }

    def _apart(self, update: Update) -> Iterator[Update]:
        base, agents = self._lifted.base, self._lifted.system.agents
        if not any(isinstance(agents[name], Cohort) for name in update.unit.members):
            yield update
            return
        found: dict[int, Update] = {}
        for name in update.unit.members:
            agent = agents[name]
            members = agent.members if isinstance(agent, Cohort) else (agent,)
            losses = update.losses.get(name)
            participates = agent.learning(update.tape.window) if isinstance(agent, Cohort) else None
            for n, member in enumerate(members):
                unit = base.group_of[member.name]
                own = found.setdefault(id(unit), Update(unit, update.tape, window_loss=WindowLoss()))
                if participates is not None and not participates[n]:
                    continue
                together = isinstance(agent, Cohort)
                if name in update.gradients:
                    own.gradients[member.name] = [
                        g[n] if together and g is not None else g for g in update.gradients[name]
                    ]
                if losses is not None and not _untold(losses, n):
                    own.window_loss.losses[member.name] = losses_of(losses, n) if together else losses
        for name, injected in update.injected.items():
            bundle = self._lifted.system.channels[name]
            channels = bundle.members if isinstance(bundle, Bundle) else (bundle,)
            rows = torch.split(injected, bundle.batch) if isinstance(bundle, Bundle) else (injected,)
            put = bundle.injectors(agents[bundle.sender].participates(update.tape.window))
            for k, (channel, own_rows) in enumerate(zip(channels, rows, strict=True)):
                if put is None or put[k]:
                    found[id(base.group_of[channel.sender])].injected[channel.name] = own_rows
        yield from found.values()


def losses_of(losses: Losses, places: int | list[int] | slice) -> Losses:
    """Return the losses of one member of a cohort, or of some of them."""
    if not losses.loss.dim():
        return losses
    count = losses.count[places] if isinstance(losses.count, Tensor) else losses.count
    return Losses(losses.loss[places], losses.score[places], count)


def without(losses: Losses, members: Tensor) -> Losses:
    """Return the losses of a cohort as if `members`, [N] bool, had had no target."""
    count = torch.as_tensor(losses.count, device=members.device).expand(len(members))
    found = [torch.where(members, torch.zeros_like(t), t) for t in (losses.loss, losses.score, count)]
    return Losses(*found)


def _untold(losses: Losses, n: int) -> bool:
    """Whether there was no target for a member."""
    return isinstance(losses.count, Tensor) and losses.count.dim() > 0 and not bool(losses.count[n])


def _examples(example: Example, batch: int, count: int) -> list[Example]:
    names = ("message", "context", "delta", "valid", "target", "prediction", "loss")
    split = {
        name: torch.split(value, batch) for name in names if (value := getattr(example, name)) is not None
    }
    return [
        replace(example, members=None, **{name: rows[k] for name, rows in split.items()})
        for k in range(count)
    ]


class LossesByAgent(Mapping[str, Tensor]):
    """The losses of a step by agent, of those that there was a target for; taken apart when they are looked at."""

    def __init__(self, learned: StepReport) -> None:
        self._learned = learned
        self._found: dict[str, Tensor] | None = None

    def _all(self) -> dict[str, Tensor]:
        if self._found is None:
            self._found = {}
            for names, losses in self._learned.losses():
                if not losses.loss.dim():
                    self._found[names[0]] = losses.loss
                    continue
                count = losses.count
                told = count.tolist() if isinstance(count, Tensor) else [count] * len(names)
                self._found |= {n: v for n, v, c in zip(names, losses.loss.unbind(), told, strict=True) if c}
        return self._found

    def __repr__(self) -> str:
        return repr(self._all())

    def __getitem__(self, name: str) -> Tensor:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())
