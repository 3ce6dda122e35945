"""Returns: what a state's synthetic gradient learns from, reaching over several windows (semantics 11; BP(lambda)).

With g_j the gradient of window j's own losses by the state it starts from, J_j the Jacobian of the state it ends with,
and SG_j what the predictor says of that state, the return of the state that window j starts from is

    G_j = g_j + discount J_j^T [(1 - lambda) SG_j+1 + lambda G_j+1],

where beyond the newest window G is SG itself. Windows are replayed from their tapes with the parameters of now.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from antiphon.comms.backward_requests import Injection, backward, clipped
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.learn import BackwardPass, ObjectiveEvaluator
from antiphon.engine.heart.ledger import GradientLedger
from antiphon.engine.heart.message import LearningGroup, Read, Record, Tape
from antiphon.engine.heart.rows import mask_fill_zero, mask_not
from antiphon.engine.heart.system import System

__all__ = ["LambdaReturns"]


class LambdaReturns:
    """Computes the returns of all state channels that ask for them.

    Args:
        system: Agents, channels and groups.
        evaluator: Of the objectives.
        forward_pass: Replays windows.
        backward_pass: Says what is injected into the messages of a replayed window, its states' own included.
    """

    def __init__(
        self,
        system: System,
        evaluator: ObjectiveEvaluator,
        forward_pass: ForwardPass,
        backward_pass: BackwardPass,
    ) -> None:
        self.system, self.evaluator = system, evaluator
        self.forward_pass, self.backward_pass = forward_pass, backward_pass

    def extend(self, closed: Iterable[tuple[LearningGroup, Tape]], step: int) -> dict[str, list[Record]]:
        """Take the windows that have just been learned from, and return the records whose return is now known.

        Their deltas are the returns. By channel.
        """
        found: dict[str, list[Record]] = {}
        for group, tape in closed:
            traced = [c for name in group.members if (c := self.system.agents[name].memory) and c.traced]
            if not traced:
                continue
            if all(self.system.agents[name].participates(tape.window) is False for name in group.members):
                continue
            if group.past and group.past[-1].window + 1 != tape.window:
                group.past.clear()  # no gradient passes through a window that is missing
            group.past.append(tape)
            span = max(channel.span for channel in traced)
            del group.past[:-span]
            for channel in traced:
                if len(group.past) >= channel.span:
                    entry = self._entry(group.past[-channel.span], channel)
                    use = None if entry is None else entry.use
                    if use is not None and use.record.counted is not False:
                        delta = self._return(group, group.past[-channel.span :], channel, step)
                        # Zero where an episode ended before: its last state has been taught that already.
                        channel.ledger.replace_gradient(use.record, mask_fill_zero(use.counted, delta))
                        found.setdefault(channel.name, []).append(use.record)
        return found

    @staticmethod
    def _entry(tape: Tape, channel: Channel) -> Read | None:
        return next((p.memory for tick in tape.ticks for p in tick.parts if p.agent == channel.sender), None)

    def _return(self, group: LearningGroup, tapes: list[Tape], channel: Channel, step: int) -> Tensor:
        """[B, state size]: G of the state that the oldest of `tapes` started from."""
        memories = [c for name in group.members if (c := self.system.agents[name].memory) is not None]
        returns: dict[str, Tensor] = {}
        for tape in reversed(tapes):
            self.forward_pass.replay(tape)
            put = [
                injection
                for injection in self.backward_pass.replayed_injections(group, tape, step)
                if injection.discount
            ]
            for memory in memories:
                beyond = self._beyond(tape, memory, returns.get(memory.name))
                if beyond is not None:
                    put.append(beyond)
            leaves = {
                memory.name: entry.value
                for memory in memories
                if (entry := self._entry(tape, memory)) is not None
                and entry.use is not None
                and entry.value is not None
                and memory.ledger.wants_deltas
            }
            _, deltas = backward(
                self.evaluator.window(tape).total, put, (), list(leaves.values()), self.system.batch
            )
            returns = {name: d for name, d in zip(leaves, deltas, strict=True) if d is not None}
            GradientLedger.release_graphs([tape])
        return returns.get(channel.name, torch.zeros_like(self.system.channels[channel.name].zeros))

    def _beyond(self, tape: Tape, memory: Channel, later: Tensor | None) -> Injection | None:
        """What is mixed in beside the synthetic gradient: lambda (G - SG) of the state that the window ended with."""
        record = next((record for name, record in tape.sent if name == memory.name), None)
        if record is None or record.graph_output is None or record.prediction is None or later is None:
            return None
        if not memory.traced or record.no_injection is True:
            return None
        said = record.prediction[0] if memory.clip is None else clipped(record.prediction[0], memory.clip)
        more = mask_fill_zero(mask_not(record.no_injection), memory.trace * (later - said))
        return Injection(record.graph_output, more, scale=0.0, discount=memory.discount)
