"""What no document can set off at the ends of channels: read modes over a link that loses, each row by itself."""

from __future__ import annotations

import torch

from antiphon.comms import Mask
from antiphon.comms.links import Link
from antiphon.comms.read_modes import ReadMean
from antiphon.engine.heart.clock import Clock, StepWindows
from antiphon.engine.heart.ends import Wire
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.timetable import Timetable

LOST = {  # by stamp, in four environments
    0: (0, 0, 0, 0),
    1: (0, 0, 0, 1),
    2: (0, 1, 0, 1),
    3: (0, 0, 1, 1),
}
READ = {  # the stamps that the tick at step 3 reads side by side, by environment: stamp 0 was read by the tick at step 1
    0: (2, 3),
    1: (3,),
    2: (2,),
    3: (0,),
}


def test_each_of_several_messages_that_has_arrived_is_read_once_and_the_held_one_where_none_has() -> None:
    sender, receiver = Clock(), Clock(tick_period=2, phase=1)
    link = Link(name="a->b", drop=0.5)
    timetable = Timetable(sender, receiver, StepWindows.of_ticks(receiver), read_mode=ReadMean())
    wire = Wire("a->b", timetable, link, returns_gradients=False)
    for stamp, lost in LOST.items():
        wire.outbox.send(stamp, torch.full((4, 1), 10.0 + stamp), StepSignals(stamp, {}))
        wire.inbox.messages[stamp].lost = Mask.of(torch.tensor(lost, dtype=torch.bool))
        wire.inbox.delete_spent(stamp)
        if stamp == 1:
            first = wire.inbox.read(1)
            assert [arrival.available.plain.tolist() for arrival in first] == [
                [True] * 4,
                [True] * 3 + [False],
            ]
            wire.inbox.close(0, step=1)
    arrivals = wire.inbox.read(3)
    for row, stamps in READ.items():
        read = [arrival.value[row].item() for arrival in arrivals if arrival.available.plain[row]]
        assert read == [10.0 + stamp for stamp in stamps]
        counted = [arrival.due.stamp for arrival in arrivals if arrival.may_count.plain[row]]
        assert counted == [stamp for stamp in stamps if stamp > 1]
