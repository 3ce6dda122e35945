"""A pole on a cart, `antiphon/CartPole-v0`."""

from __future__ import annotations

import math

import torch
from gymnasium.spaces import Discrete
from pydantic import Field
from torch import Tensor

from antiphon.envs.signal import Description, Signal
from antiphon.envs.worlds.world import Actions, State, World

_GRAVITY = 9.8  # m / s^2
_CART = 1.0  # kg
_POLE = 0.1  # kg
_HALF = 0.5  # m: from the joint to the pole's centre of mass
_FORCE = 10.0  # N
_SECONDS = 0.02  # per step
_FALLEN = 12 * math.pi / 180  # rad
_EDGE = 2.4  # m
_NUMBERS = ("position", "velocity", "angle", "angular_velocity")


class CartPole(World):
    """Gymnasium's CartPole-v1.

    Description:
        A pole is hinged to a cart on a frictionless track and must be kept upright by pushing the cart. The model
        of Barto, Sutton and Anderson (1983), "Neuronlike adaptive elements that can solve difficult learning control
        problems", with one explicit Euler step of 0.02 s per step.
    Action space:
        `Discrete(2)`: a push of 10 N to the left (0) or to the right (1).
    Observation space:
        `observation` [4]: position of the cart (m), its velocity (m/s), angle of the pole (rad), its angular velocity (rad/s);
        and each of them as `position`, `velocity`, `angle` and `angular_velocity` [1].
    Rewards:
        1.0 per step.
    Starting state:
        All four numbers uniform in [-0.05, 0.05).
    Episode end:
        Terminated when the cart is more than 2.4 m from the middle or the pole more than 12 degrees from the vertical;
        truncated after `limit` steps.
    """

    randoms = 4

    class Options(World.Options):
        limit: int = Field(500, ge=1)
        """Steps after which an episode is truncated."""

    @staticmethod
    def describe(options: Options) -> Description:
        signals = {"observation": Signal(shape=(4,)), **{name: Signal(shape=(1,)) for name in _NUMBERS}}
        return Description(signals=signals, action_space=Discrete(2))

    def start(self, uniforms: Tensor) -> State:
        return {"body": (uniforms * 0.1 - 0.05).to(self.dtype)}

    def transition(self, state: State, actions: Actions) -> tuple[State, Tensor, Tensor]:
        _, velocity, angle, spin = state["body"].unbind(1)
        total, moment = _CART + _POLE, _POLE * _HALF
        cosine, sine = angle.cos(), angle.sin()
        force = actions["action"].to(self.dtype) * (2 * _FORCE) - _FORCE
        push = (force + moment * spin * spin * sine) / total
        angular = (_GRAVITY * sine - cosine * push) / (_HALF * (4 / 3 - (_POLE / total) * cosine * cosine))
        linear = push - (moment / total) * angular * cosine
        body = torch.add(state["body"], torch.stack([velocity, linear, spin, angular], 1), alpha=_SECONDS)
        terminated = (body[:, 0].abs() > _EDGE) | (body[:, 2].abs() > _FALLEN)
        return {"body": body}, torch.ones_like(velocity), terminated

    def observe(self, state: State) -> dict[str, Tensor]:
        body = state["body"]
        return {"observation": body, **{name: body[:, at : at + 1] for at, name in enumerate(_NUMBERS)}}
