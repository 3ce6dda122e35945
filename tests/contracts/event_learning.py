"""The event simulator's second half: windows close, senders learn, gradients are complete (semantics 4, 5, 7, 17, 20, 27b)."""

from __future__ import annotations

from tests.contracts.event_scene import Fate, Link, Scene, Use, Window, state_of


class Learning:
    """Lets windows close up to the scene's horizon.

    Args:
        scene: What is played.
        group_of: The learning group of each agent.
        windows: Of each group, as (first step, end step).
        sent: The stamps of each channel; of a state those alone that are handed over a window's end.
        uses: The ticks at which a stamp is due.
    """

    def __init__(
        self,
        scene: Scene,
        group_of: dict[str, str],
        windows: dict[str, list[tuple[int, int]]],
        sent: dict[str, list[int]],
        uses: dict[tuple[str, int], list[Use]],
    ) -> None:
        self.scene, self.group_of, self.windows, self.sent, self.uses = scene, group_of, windows, sent, uses
        states = [Link(state_of(a), a, a, 0, coupling) for a, coupling in scene.memories.items()]
        self.channels = [*scene.links, *states]
        self.states = {x.name for x in states}
        self.closed: dict[Window, bool] = {}
        """Windows that have closed: did it count (True), or was it dropped?"""
        self.taken: dict[Window, int] = {}
        """The step at which each group learned from a window."""
        self.fates: dict[tuple[str, int], Fate] = {}
        self.given_up: set[tuple[str, int]] = set()
        """Messages of delayed channels whose gradient was not back within their channel's staleness."""
        self.injected: dict[tuple[str, int], tuple[int, frozenset[int]]] = {}
        booked = [
            x
            for x in self.channels
            if x.coupling != "locked" and not (x.name in self.states and x.coupling == "detached")
        ]
        self.unfinished = [(x, s) for x in booked for s in sent[x.name] if s < scene.horizon]
        slow = [
            x for x in scene.links if x.coupling == "delayed" and group_of[x.sender] != group_of[x.receiver]
        ]
        self.waits = {u: [x for x in slow if group_of[x.sender] == u] for u in windows}
        """The channels that a late group waits for."""

    def play(self) -> None:
        """Let windows close and gradients be complete."""
        for t in range(self.scene.horizon):
            ending = [(u, k) for u in self.windows for k, (_, end) in enumerate(self.windows[u]) if end == t]
            prompt = [(u, k) for u, k in ending if not self.waits[u]]
            for window in prompt:
                self._inject(window, t)
            self.closed.update(dict.fromkeys(prompt, True))
            self._finish(t)
            verdicts = {}
            for u, newest in [(u, k) for u, k in ending if self.waits[u]]:
                for k in [k for k in range(newest + 1) if (u, k) not in self.closed]:
                    verdict = self._judge(u, k, newest, t)
                    if verdict is not None:
                        verdicts[u, k] = verdict
            for window in [window for window, counts in verdicts.items() if counts]:
                self._inject(window, t)
            self.closed.update(verdicts)
            self._finish(t)
        self.fates.update({(x.name, s): Fate("open") for x, s in self.unfinished})

    def _judge(self, u: str, k: int, newest: int, t: int) -> bool | None:
        """Whether a late group learns from a window now (True), drops it (False), or goes on waiting (None)."""
        first, end = self.windows[u][k]
        sent = {x.name: [s for s in self.sent[x.name] if first <= s <= end] for x in self.waits[u]}
        given_up = set()
        for x in self.waits[u]:
            last = t if newest - k <= x.staleness else self.windows[u][k + x.staleness][1]
            if all(self._returned(x, s, last) for s in sent[x.name]):
                continue
            if newest - k < x.staleness:
                return None
            given_up.add(x.name)
        self.given_up |= {(name, s) for name in given_up for s in sent[name]}
        return not given_up or self._has_more(u, first, end, given_up)

    def _has_more(self, u: str, first: int, end: int, given_up: set[str]) -> bool:
        """Whether a window has anything to learn from but gradients that were given up."""
        if any(self.group_of[agent] == u for agent in self.scene.judged):
            return True
        others = [x for x in self.channels if self.group_of[x.sender] == u and x.name not in given_up]
        return any(
            first <= s <= end
            for x in others
            if x.coupling in ("delayed", "decoupled", "unlocked")
            for s in self.sent[x.name]
        )

    def _returned(self, link: Link, s: int, t: int) -> bool:
        """Whether a late window need not wait for this message at t: void, or its gradient complete and back."""
        fate = self.fates.get((link.name, s), Fate("open"))
        done = t if fate.finished is None else fate.finished
        void = fate.state == "void"
        return (void and not self.uses[link.name, s]) or (done < t and (void or done + link.way_back <= t))

    def _draws(self, agent: str, window: Window) -> bool:
        return (agent, window[1]) not in self.scene.undrawn

    def _inject(self, window: Window, t: int) -> None:
        """Let a group learn from a window: note what is put on the messages and states of its members."""
        self.taken[window] = t
        first, end = self.windows[window[0]][window[1]]
        for x in [x for x in self.channels if self.group_of[x.sender] == window[0]]:
            if not self._draws(x.sender, window):
                continue
            for s in [s for s in self.sent[x.name] if first <= s <= end]:
                rows = self._pulled(x, s, t)
                if rows:
                    self.injected[x.name, s] = (t, rows)

    def _pulled(self, x: Link, s: int, t: int) -> frozenset[int]:
        """The environments in which a gradient is put on a message when its sender learns at t."""
        if (x.name, s) in self.given_up:
            return frozenset()
        if x.coupling == "delayed":
            fate = self.fates.get((x.name, s), Fate("open"))
            back = fate.finished is not None and fate.finished < t and fate.finished + x.way_back <= t
            return fate.rows if back else frozenset()
        if x.coupling not in ("decoupled", "unlocked") or not self.uses[x.name, s]:
            return frozenset()
        use = self.uses[x.name, s][0].tick
        known = {b: [e for e in self.scene.ended(s, use, b) if e <= t] for b in range(self.scene.batch)}
        return frozenset(b for b, ends in known.items() if not ends)

    def _finish(self, t: int) -> None:
        """Finish the messages whose receiver windows have all closed (at once if nothing uses the stamp)."""
        for x, s in [(x, s) for x, s in self.unfinished if s <= t]:
            uses = self.uses[x.name, s]
            if not all(use.window in self.closed for use in uses):
                continue
            real = [use for use in uses if self.closed[use.window] and self._draws(use.reader, use.window)]
            counted = tuple((use.tick, b) for use in real for b in sorted(use.rows))
            zeros = tuple(b for use in uses for b in self._terminated(x, s, use))
            has = bool(counted or zeros)
            back = t + x.way_back
            learned = back if has and back < self.scene.horizon else None
            self.fates[x.name, s] = Fate("complete" if has else "void", t, learned, counted, zeros)
            self.unfinished.remove((x, s))

    def _terminated(self, x: Link, s: int, use: Use) -> list[int]:
        """The environments whose episode was terminated between the making of a state and its next use."""
        if x.name not in self.states:
            return []
        ends = {b: self.scene.ended(s, use.tick, b) for b in range(self.scene.batch)}
        return [b for b, steps in ends.items() if steps and self.scene.ends[steps[0], b]]

    def moved(
        self, credited: dict[tuple[str, int], frozenset[tuple[int, int]]]
    ) -> dict[tuple[str, int], frozenset[int]]:
        """The environments in which the gradient of a complete message is not zero: a use of it has a gradient itself."""
        found = {}
        for (name, s), fate in self.fates.items():
            if fate.state == "complete":
                found[name, s] = frozenset(
                    b
                    for use in self.uses[name, s]
                    for b in use.rows
                    if (use.tick, b) in fate.counted
                    and (use.tick, b) in credited.get((use.reader, self.taken[use.window]), frozenset())
                )
        return found
