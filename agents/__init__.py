"""Networks, objectives and learners: an agent knows no environment, no graph and no other agent."""

from antiphon.agents.conv import Conv
from antiphon.agents.learner import Learner
from antiphon.agents.mlp import Mlp
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import HIDDEN, OBJECTIVE, Head, Network, Transport
from antiphon.agents.objectives import OBJECTIVES, Classification, Objective, Regression

__all__ = [
    "HIDDEN",
    "OBJECTIVE",
    "OBJECTIVES",
    "Classification",
    "Conv",
    "Head",
    "Learner",
    "Mlp",
    "ModuleNetwork",
    "Network",
    "Objective",
    "Regression",
    "Transport",
]
