"""Policies: the rewards and windows of agents that learn what to do, checked against the environment."""

from __future__ import annotations

from antiphon.agents.distributions import Categorical, MultiCategorical
from antiphon.agents.network import Network, features_of
from antiphon.agents.policy_objectives import PolicyObjective
from antiphon.agents.rewards import COSINE, Direction, Rewards
from antiphon.base.errors import suggest
from antiphon.base.problems import DocumentError, Path
from antiphon.engine.build.shapes import Shapes
from antiphon.engine.heart.agent import AGE, Goal
from antiphon.envs.signal import ALIVE, ENDS, TURN, Description
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.scenario import Scenario


def policy_goal(name: str, scenario: Scenario, env: Description, shapes: Shapes, network: Network) -> Goal:
    """Return a policy's objective, bound to its rewards."""
    spec, path = scenario.agents[name], ("agents", name, "objective")
    goal = spec.objective
    assert goal is not None
    own, turn = _own_agent(name, spec, env), _turn(name, spec, env)
    own_ends = f"{ENDS[0]}.{own}", f"{ENDS[1]}.{own}"
    # an agent with `acts: true` acts for all, so what it alone sees is not whom it acts for
    by_name = turn is None and not isinstance(spec.acts, str)
    alone = f"reward.{name if by_name else own}"
    rewards = goal.reward or {alone if alone in env.all_signals else "reward": 1.0}
    for reward in rewards:
        if reward != COSINE:
            _check_reward(reward, (*path, "reward"), env)
    _check_window(name, scenario, env)
    parts, batch = goal.get("minibatches"), scenario.training.batch
    if goal.passes > 1 and parts is not None and parts > batch:
        message = f"{parts} minibatches of {batch} environments (training.batch); use at most {batch}"
        raise DocumentError((*path, "minibatches"), message)
    if goal.get("replay", 1) > 1:
        _check_replay(name, network)
    direction = None if goal.goal is None else _direction(name, scenario, env, shapes)
    rewards_bound = Rewards(
        tuple(rewards),
        tuple(rewards.values()),
        own_ends if env.signals.keys() >= {*own_ends} else ENDS,
        direction,
        life_reward_name=f"reward.{own}" if own else None,
        may_act_signal_name=turn,
    )
    return Goal(shapes.objectives[name], "", False, goal.scale, rewards_bound)


def mask_place(name: str, scenario: Scenario, env: Description, shapes: Shapes) -> int:
    """Return where the mask of a policy's choices begins among its network's inputs."""
    spec, path = scenario.agents[name], ("agents", name, "objective", "mask")
    goal, objective = spec.objective, shapes.objectives[name]
    assert goal is not None
    assert goal.mask is not None
    assert isinstance(objective, PolicyObjective)
    distribution, signal = objective.distribution, env.signals[goal.mask]
    if not isinstance(distribution, Categorical | MultiCategorical):
        message = "masks the choices of one Discrete, MultiDiscrete or MultiBinary action, which this agent does not have"
        raise DocumentError(
            path, f"{message}; leave it out, or give each part of the action its own agent and mask"
        )
    if signal.classes is not None or features_of(signal.shape) != distribution.parameters:
        message = f"'{goal.mask}' is no mask, of {distribution.parameters} numbers, one for each choice"
        raise DocumentError(path, message)
    index = spec.observes.index(goal.mask)
    if index in spec.normalised:
        message = f"{goal.mask!r} is the mask of its choices, which is not normalised; leave it out"
        raise DocumentError(("agents", name, "normalise"), message)
    if len(shapes.inputs[name]) > 1:
        message = "needs a network of flat inputs, such as mlp or one of your own; conv reads maps alone"
        raise DocumentError(path, message)
    ages = len(scenario.relations.inputs[name])
    return sum(
        ages if observed == AGE else features_of(env.signals[observed].shape_as(spec.categories))
        for observed in spec.observes[:index]
    )


def life_of(name: str, spec: AgentSpec, env: Description) -> str:
    """Return the agent of the environment that an agent lives and dies with; "": its episodes are the environment's."""
    life = _own_agent(name, spec, env)
    signals = {f"{kind}.{life}" for kind in (ALIVE, *ENDS)}
    return life if life and env.signals.keys() >= signals else ""


def _own_agent(name: str, spec: AgentSpec, env: Description) -> str:
    """Return an agent's own one in the environment, if it has a reward for each; "": it has none.

    It is the one that the agent acts for, else the one of its name, else the only one whose reward it learns from, else the
    only one whose observations it has.
    """
    lives = [signal.partition(".")[2] for signal in env.signals if signal.startswith("reward.")]
    acts = spec.acts if isinstance(spec.acts, str) else ""
    goal, observed = spec.objective, [signal for signal in spec.observes if signal != AGE]
    rewards = () if goal is None or not goal.reward else goal.reward
    whose = {reward.partition(".")[2] for reward in rewards if reward != COSINE}
    sees = {life for life in lives if observed and all(signal.startswith(f"{life}.") for signal in observed)}
    candidates = (
        [life for life in lives if acts == life or acts.startswith(f"{life}.")],
        [life for life in lives if life == name],
        [life for life in lives if {life} == whose],
        [life for life in lives if {life} == sees],
    )
    return next((matching[0] for matching in candidates if matching), "")


def _turn(name: str, spec: AgentSpec, env: Description) -> str | None:
    """Return the signal of the turns of the agent that a policy acts for; None: it does not act, or there are no turns."""
    turn = f"{TURN}.{_own_agent(name, spec, env)}"
    if not spec.acts or turn not in env.signals:
        return None
    if spec.clock.period > 1:
        message = "agents take turns in this environment, and one that ticks at some steps alone misses its own; leave it out"
        raise DocumentError(("agents", name, "clock", "period"), message)
    return turn


def _check_reward(reward: str, path: Path, env: Description) -> None:
    signal = env.all_signals.get(reward)
    if signal is None:
        raise DocumentError(path, f"no signal '{reward}'{suggest(reward, env.all_signals)}")
    if signal.shape != () or signal.classes is not None or signal.known != "after_step":
        raise DocumentError(path, f"'{reward}' is not a single number that follows the action; use a reward")


def _check_window(name: str, scenario: Scenario, env: Description) -> None:
    """Refuse a window of one tick where episodes are longer: its only tick would not see what follows."""
    steps, period = scenario.relations.windows[name], scenario.agents[name].clock.period
    if steps == "episode" or steps >= 2 * period or env.episode_steps == 1:
        return
    message = "a policy needs a window of 2 or more ticks, not 1: it learns from what follows an action"
    raise DocumentError(("agents", name, "clock", "unroll"), message)


def _check_replay(name: str, network: Network) -> None:
    reason = "this agent has a state" if network.state_size else network.row_split_obstacle()
    if reason is not None:
        message = f"ticks are drawn apart from those before them, and {reason}; leave it out"
        raise DocumentError(("agents", name, "objective", "replay"), message)


def _direction(name: str, scenario: Scenario, env: Description, shapes: Shapes) -> Direction:
    objective, path = scenario.agents[name].objective, ("agents", name, "objective", "goal")
    assert objective is not None
    assert objective.goal is not None
    signal = env.all_signals.get(objective.goal.observes)
    if signal is None:
        suggestion = suggest(objective.goal.observes, env.observations)
        raise DocumentError((*path, "observes"), f"no signal '{objective.goal.observes}'{suggestion}")
    if signal.classes is not None or signal.known != "tick":
        message = f"'{objective.goal.observes}' is not a float that is known at the tick, so it has no change to learn from"
        raise DocumentError((*path, "observes"), f"{message}; use another")
    incoming = [channel.name for channel in scenario.relations.inputs[name]]
    size = features_of(shapes.messages[objective.goal.channel])
    if size != features_of(signal.shape):
        message = (
            f"the message has {size} components, and '{objective.goal.observes}' {features_of(signal.shape)}"
        )
        raise DocumentError((*path, "channel"), f"{message}; make them equal")
    return Direction(incoming.index(objective.goal.channel), objective.goal.observes)
