"""What happens when, as the recorders are handed it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry import AgentTimes


def agent_times(name: str, ticks: NDArray[np.bool_], **more: Any) -> AgentTimes:
    """The times of an agent that ticks at some steps: alone, without a state and without credit from beyond."""
    no = np.zeros(len(ticks), bool)
    plain: dict[str, Any] = dict.fromkeys(("synthetic_credit", "late_credit"), no)
    return AgentTimes(name=name, ticks=ticks, **(plain | more))
