"""Networks, objectives and learners, independent of environment, graph and other agents."""

from antiphon.agents.conv import Conv
from antiphon.agents.learner import Learner
from antiphon.agents.mlp import Mlp
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import AUXILIARY_PORT, HIDDEN, OBJECTIVE, STATE, Head, Network, Transport
from antiphon.agents.objectives import OBJECTIVES, Classification, Coding, Objective, Regression
from antiphon.agents.recurrent import Recurrent

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
