"""The third competitor of `agents_scaling.py`: the same ring in JAX, one agent written down, vmapped and jitted; no antiphon, no torch.

As one writes it in plain JAX: a function of one agent, `jax.value_and_grad` of it, `jax.vmap` over agents, Adam as tree maps, and
one `jax.jit` of the step that gives its state away (`donate_argnums`), so that XLA updates in place. Beside the whole at once
there are chunks of agents (`jax.lax.map`), as for the program stacked by hand. It runs in a process of its own
(`python ring_jax.py`, requests as in `served.py`), whose environment says how many threads XLA has.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from served import serve

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
OWN, PREDICTOR = ("w1", "b1", "w2", "b2"), ("g", "c")
Tree = dict[str, Any]


def _loss(own: Tree, read: Any, predictor: Tree, observed: Any, wanted: Any) -> tuple[Any, Any]:
    """One agent's loss and the synthetic gradient of its message, as a number to differentiate; and the message."""
    size, batch = read.shape[1], read.shape[0]
    hidden = jax.nn.relu(jnp.concatenate([observed, read], 1) @ own["w1"].T + own["b1"])
    out = hidden @ own["w2"].T + own["b2"]
    message, answer = out[:, :size], out[:, size:]
    sent = jax.lax.stop_gradient(message)
    credit = sent @ predictor["g"].T + predictor["c"]
    return jnp.mean((answer - wanted) ** 2) + jnp.sum(message * credit) / batch, sent


def _predictor_loss(predictor: Tree, message: Any, delta: Any) -> Any:
    error = message @ predictor["g"].T + predictor["c"] - delta
    return jnp.sum(error**2) / message.shape[0]


_gradients = jax.vmap(jax.grad(_loss, argnums=(0, 1), has_aux=True), in_axes=(0, 0, 0, None, None))
_predictor_gradients = jax.vmap(jax.grad(_predictor_loss))


def _adam(p: Tree, gradients: Tree, mean: Tree, square: Tree, count: Any) -> tuple[Tree, Tree, Tree]:
    mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, mean, gradients)
    square = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, square, gradients)
    one, two = 1 - BETA1**count, jnp.sqrt(1 - BETA2**count)

    def moved(p: Any, m: Any, v: Any) -> Any:
        return p - RATE / one * m / (jnp.sqrt(v) / two + EPSILON)

    return jax.tree.map(moved, p, mean, square), mean, square


def _agents(state: Tree, count: Any, observed: Any, wanted: Any) -> Tree:
    """Take a step of some agents: what they read and what came back for their messages is in the state."""
    (own_gradients, returned), message = _gradients(
        state["own"], state["read"], state["predictor"], observed, wanted
    )
    own, mean, square = _adam(state["own"], own_gradients, state["mean"], state["square"], count)
    learns = count > 2  # nothing has come back before
    taught = _predictor_gradients(state["predictor"], state["older"], state["back"])
    old = state["predictor"], state["predictor_mean"], state["predictor_square"]
    new = _adam(old[0], taught, old[1], old[2], jnp.maximum(count - 2, 1))
    kept = jax.tree.map(lambda x, y: jnp.where(learns, x, y), new, old)
    return {
        "own": own,
        "mean": mean,
        "square": square,
        "predictor": kept[0],
        "predictor_mean": kept[1],
        "predictor_square": kept[2],
        "message": message,
        "returned": returned * observed.shape[0],
    }


def step_of(chunk: int) -> Callable[[Tree, Any, Any], Tree]:
    """Return the jitted step of all agents, in chunks of so many; 0: all at once."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Tree, observed: Any, wanted: Any) -> Tree:
        count = state["count"] + 1
        agents = {name: tree for name, tree in state.items() if name not in ("count", "sent")}
        agents["read"] = jnp.roll(state["sent"], 1, 0)
        if chunk:
            folded = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), agents)
            done = jax.lax.map(lambda some: _agents(some, count, observed, wanted), folded)
            done = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), done)
        else:
            done = _agents(agents, count, observed, wanted)
        sent, back = done.pop("message"), jnp.roll(done.pop("returned"), -1, 0)
        return {**done, "count": count, "sent": sent, "older": state["sent"], "back": back}

    return step


def _state(weights: Tree, batch: int) -> Tree:
    """Return the state before the first step."""

    def zeros(names: tuple[str, ...]) -> Tree:
        return {name: jnp.zeros_like(weights[name]) for name in names}

    agents, size, _ = weights["g"].shape
    return {
        "own": {name: jnp.array(weights[name]) for name in OWN},
        "predictor": {name: jnp.array(weights[name]) for name in PREDICTOR},
        "mean": zeros(OWN),
        "square": zeros(OWN),
        "predictor_mean": zeros(PREDICTOR),
        "predictor_square": zeros(PREDICTOR),
        **{name: jnp.zeros((agents, batch, size), weights["g"].dtype) for name in ("sent", "older", "back")},
        "count": jnp.zeros((), weights["g"].dtype),
    }


class Worker:
    """Answers requests: `load` weights and batches from a .npz file, take `steps`, `save` parameters to one."""

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one."""
        if "load" in request:
            with np.load(request["load"]) as file:
                loaded = {name: jnp.asarray(file[name]) for name in file}
            self.batches = list(zip(loaded.pop("observed"), loaded.pop("wanted"), strict=True))
            self.state = _state(loaded, len(self.batches[0][0]))
            self.step = step_of(request["chunk"])
            self.next = 0
            return {"device": jax.devices()[0].device_kind, "version": jax.__version__}
        if "save" in request:
            np.savez(request["save"], **self.state["own"], **self.state["predictor"])
            return {}
        cpu = jax.default_backend() == "cpu"
        clock = time.process_time if cpu else time.perf_counter
        start = clock()
        for _ in range(request["steps"]):
            self.state = self.step(self.state, *self.batches[self.next])
            self.next = (self.next + 1) % len(self.batches)
        jax.block_until_ready(self.state)
        return {"seconds": clock() - start}


if __name__ == "__main__":
    serve(Worker())
