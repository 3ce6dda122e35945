"""Networks, objectives and learners, independent of environment, graph and other agents."""

from antiphon.agents.feedforward import Conv, Mlp
from antiphon.agents.learner import Learner
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import AUXILIARY_PORT, HIDDEN, OBJECTIVE, STATE, VALUE, Head, Network
from antiphon.agents.objectives import (
    OBJECTIVES,
    Classification,
    Coding,
    LossPerSample,
    Objective,
    Regression,
)
from antiphon.agents.recurrent import Recurrent
from antiphon.nets.layers import Transport

__all__ = [
    "AUXILIARY_PORT",
    "HIDDEN",
    "OBJECTIVE",
    "OBJECTIVES",
    "STATE",
    "VALUE",
    "Classification",
    "Coding",
    "Conv",
    "Head",
    "Learner",
    "LossPerSample",
    "Mlp",
    "ModuleNetwork",
    "Network",
    "Objective",
    "Recurrent",
    "Regression",
    "Transport",
]
