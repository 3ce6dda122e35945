"""Teaching: predictors learn from what has come back, each by one step on all that reached it (semantics 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.comms.cut import constant
from antiphon.comms.predictors import Example, Predictor
from antiphon.comms.stacked import gradients_all, predict_all
from antiphon.engine.ledger import Record
from antiphon.engine.moment import besides, lanes_where
from antiphon.engine.parts import Channel
from antiphon.engine.system import System
from antiphon.engine.tape import Tape
from antiphon.errors import DivergenceError
from antiphon.nets.optimisers import step_all

__all__ = ["Lesson", "Teacher"]


@dataclass(slots=True)
class Lesson:
    """What a predictor learned from at one step."""

    examples: list[Example]
    loss: Tensor
    """Summed over the examples, before the update."""
    gradients: list[Tensor]
    """Of the predictor's trainable parameters."""
    prediction: Tensor | None
    """What it said of the newest example before the update; None unless asked for."""


class Teacher:
    """Asks and teaches the predictors of a system.

    Args:
        system: The channels.
    """

    def __init__(self, system: System) -> None:
        self.system = system

    def foresee(self, asked: list[tuple[Channel, Record]]) -> None:
        """Ask predictors for the synthetic gradients of records, which remember them while they stay true."""
        questions: list[tuple[Predictor, Example]] = []
        records: list[Record] = []
        for channel, record in asked:
            example = self.example(channel, record)
            if example is not None and channel.predictor is not None:
                example.delta = None  # nobody predicts with the answer at hand
                questions.append((channel.predictor, example))
                records.append(record)
        for record, (predictor, example), said in zip(
            records, questions, predict_all(questions), strict=True
        ):
            if example.target is not None and example.valid is not None:  # no own loss, no injection
                said = lanes_where(example.valid, said)
            record.prediction = (constant(said), predictor.updates)

    def predict(self, channel: Channel, record: Record) -> Tensor | None:
        """Return the synthetic gradient of one record, [B, size] per sample; None where nothing can be said."""
        self.foresee([(channel, record)])
        return None if record.prediction is None else record.prediction[0]

    def example(self, channel: Channel, record: Record) -> Example | None:
        """What a channel's predictor can say or learn of a record; None where its target is absent."""
        if channel.target is not None and channel.target not in record.moment.signals:
            return None
        if not record.moment.signals and channel.context:
            return None
        context = self._context(channel, record)
        if channel.target is None:
            valid = record.counted if isinstance(record.counted, Tensor) else None
            return Example(record.message, context, record.delta, valid=valid)
        target, present = (
            record.moment.signals[channel.target],
            record.moment.signals.get(f"_{channel.target}"),
        )
        if present is not None:
            target = lanes_where(present, target)
        return Example(record.message, context, None, valid=present, target=target)

    def _context(self, channel: Channel, record: Record) -> Tensor | None:
        context = record.moment.context(channel.context, self.system.dtype)
        if not channel.sees_returned:
            return context
        returned = channel.zeros if record.returned is None else record.returned
        return returned if context is None else torch.cat([context, returned], 1)

    def own_lessons(self, tapes: list[Tape]) -> dict[str, list[Example]]:
        """Examples of predictors to which nothing is returned: they learn when their sender does."""
        lessons: dict[str, list[Example]] = {}
        for tape in tapes:
            for name, record in tape.sent:
                channel = self.system.channels[name]
                if channel.predictor is None or channel.predictor.needs_delta:
                    continue
                example = None if record.unread or record.silent is True else self.example(channel, record)
                if example is not None:
                    heard = besides(record.silent)
                    if isinstance(heard, Tensor):
                        example.valid = heard if example.valid is None else heard & example.valid
                    lessons.setdefault(name, []).append(example)
        return lessons

    def prepare(self, lessons: dict[str, list[Example]], step: int, *, watch: bool) -> dict[str, Lesson]:
        """Gather what reached each predictor at this step, with the gradients it will follow.

        Raises:
            DivergenceError: A predictor's loss is not finite.
        """
        reached: dict[str, tuple[Predictor, list[Example]]] = {}
        for channel in self.system.channels.values():
            predictor = channel.predictor
            records = channel.ledger.take(step)
            if predictor is None:
                continue
            examples = lessons.get(channel.name, [])
            if predictor.needs_delta:
                examples = [example for record in records if (example := self._lesson(channel, record))]
            if examples:
                reached[channel.name] = predictor, examples
        said: list[Tensor | None] = [None] * len(reached)
        if watch:
            newest = [(predictor, examples[-1]) for predictor, examples in reached.values()]
            said = [constant(prediction) for prediction in predict_all(newest)]
        learned = gradients_all(list(reached.values()))
        prepared = {
            name: Lesson(examples, loss, gradients, prediction)
            for (name, (_, examples)), (loss, gradients), prediction in zip(
                reached.items(), learned, said, strict=True
            )
        }
        numbers = [number for lesson in prepared.values() for number in (lesson.loss, *lesson.gradients)]
        if numbers and not math.isfinite(torch.stack(torch._foreach_norm(numbers)).sum().item()):
            name = next(
                name
                for name, lesson in prepared.items()
                if not all(bool(t.isfinite().all()) for t in (lesson.loss, *lesson.gradients))
            )
            raise DivergenceError(
                f"agent '{self.system.channels[name].sender}': the loss of the synthetic gradient of its channel {name} "
                f"at step {step} is not finite; lower its learning rate, or that of its synthetic gradients"
            )
        return prepared

    def teach(self, lessons: dict[str, Lesson], step: int) -> None:
        """Let each predictor take its step."""
        plans = []
        for name, lesson in lessons.items():
            predictor = self.system.channels[name].predictor
            assert predictor is not None
            plans.append(predictor.planned(lesson.gradients, step))
        step_all(plans)

    def _lesson(self, channel: Channel, record: Record) -> Example | None:
        """What a predictor learns from a record that has come back, with its prediction where still true."""
        example = self.example(channel, record)
        predictor = channel.predictor
        if example is not None and predictor is not None and record.prediction is not None:
            prediction, updates = record.prediction
            if updates == predictor.updates:
                example.prediction = prediction
        return example
