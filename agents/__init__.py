"""Networks, objectives and learners, independent of environment, graph and other agents."""

from antiphon.agents.feedforward import Conv, Mlp
from antiphon.agents.learner import OBJECTIVES, Classification, Coding, Learner, Objective, Regression
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import AUXILIARY_PORT, HIDDEN, OBJECTIVE, STATE, Head, Network
from antiphon.agents.recurrent import Recurrent
from antiphon.nets.layers import Transport

__all__ = [
    "AUXILIARY_PORT",
    "HIDDEN",
    "OBJECTIVE",
    "OBJECTIVES",
    "STATE",
    "Classification",
    "Coding",
    "Conv",
    "Head",
    "Learner",
    "Mlp",
    "ModuleNetwork",
    "Network",
    "Objective",
    "Recurrent",
    "Regression",
    "Transport",
]
