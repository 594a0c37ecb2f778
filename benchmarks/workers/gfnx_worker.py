"""gfnx at work: trajectory balance as in its baselines, all iterations in one compiled loop.

The environment, the roll-out, the masks and the log-probabilities of trajectories are gfnx's. As in
its baselines one ReLU MLP reads one-hot states for both policies, roll-out and loss go through as
many states as the longest trajectory has, and Adam is optax's; nothing is logged. The learning rate
is zero but known only at run time, so that Adam does all of its work and the lengths stay put.
Rewards of strings are drawn at random, as their values cost nothing. Mean lengths count the stop.
"""

from functools import partial
from importlib.metadata import version
from itertools import pairwise

import gfnx
import jax
import jax.numpy as jnp
import optax
from gfnx.environment import sequence
from protocol import given_stop, serve, stop_bias

SAMPLE = 1024  # trajectories from which a mean length is taken


class RandomTable(gfnx.TFBind8RewardModule):
    """The look-up of the library, without the file."""

    def init(self, rng_key, dummy_state):
        count = self.nchar**self.max_length
        return {"rewards": jax.random.uniform(rng_key, (count,), minval=self.min_reward)}


def environment(work: dict) -> gfnx.TEnvironment:
    if work["kind"] == "hypergrid":
        reward = gfnx.GeneralHypergridRewardModule(R0=0.01)
        return gfnx.HypergridEnvironment(reward, dim=work["ndim"], side=work["height"])
    letters, length = work["alphabet_size"], work["length"]
    kind = {
        "append": sequence.FixedAutoregressiveSequenceEnvironment,
        "prepend-append": sequence.FixedPrependAppendSequenceEnvironment,
    }[work["order"]]
    tokens = {"bos_token": letters, "eos_token": letters + 1, "pad_token": letters + 2}
    reward = RandomTable(letters, length)
    return kind(reward, max_length=length, nchar=letters, ntoken=letters + 3, **tokens)


def network(layers: list, inputs: jax.Array) -> jax.Array:
    *hidden, (weight, bias) = layers
    for hidden_weight, hidden_bias in hidden:
        inputs = jax.nn.relu(inputs @ hidden_weight + hidden_bias)
    return inputs @ weight + bias


def initial_layers(key: jax.Array, sizes: list[int]) -> list:
    """Uniform within 1/sqrt(inputs), as in the baselines."""
    layers = []
    for inputs, outputs in pairwise(sizes):
        key, *keys = jax.random.split(key, 3)
        draw = partial(jax.random.uniform, minval=-(inputs**-0.5), maxval=inputs**-0.5)
        layers.append((draw(keys[0], (inputs, outputs)), draw(keys[1], (outputs,))))
    return layers


def prepare(task: dict) -> tuple:
    work = task["work"]
    key, env_key, layer_key = jax.random.split(jax.random.key(0), 3)
    env = environment(work)
    env_params = env.init(env_key)
    forward, backward = env.action_space.n, env.backward_action_space.n
    if work["kind"] == "hypergrid":
        inputs = work["ndim"] * work["height"]
    else:
        inputs = work["length"] * (work["alphabet_size"] + 1)

    def encode(observed: jax.Array) -> jax.Array:
        if work["kind"] == "hypergrid":
            return observed  # one-hot already
        tokens = observed[..., 1:]  # the first is always the beginning
        one_hot = jax.nn.one_hot(tokens, work["alphabet_size"] + 1)
        return one_hot.reshape(*tokens.shape[:-1], inputs)

    def sample(key: jax.Array, layers: list, count: int) -> tuple:
        def policy(_, observed, layers):
            return network(layers, encode(observed))[:, :forward], {}

        trajectories, info = gfnx.utils.forward_rollout(key, count, policy, layers, env, env_params)
        return trajectories.replace(info={}), info

    def loss(params: dict, trajectories, log_reward: jax.Array) -> jax.Array:
        logits = network(params["layers"], encode(trajectories.obs))
        forward_logits, backward_logits = jnp.split(logits, [forward], axis=-1)
        both = {"forward_logits": forward_logits, "backward_logits": backward_logits}
        trajectories = trajectories.replace(info=both)
        log_pf, log_pb = gfnx.utils.forward_trajectory_log_probs(env, trajectories, env_params)
        return jnp.mean((params["log_z"] + log_pf - log_pb - log_reward) ** 2)

    def step(state: tuple, learning_rate: float) -> tuple:
        key, params, moments = state
        key, sample_key = jax.random.split(key)
        trajectories, info = sample(sample_key, params["layers"], work["batch_size"])
        gradient = jax.grad(loss)(params, trajectories, info["log_gfn_reward"])
        updates, moments = optax.adam(learning_rate).update(gradient, moments)
        return key, optax.apply_updates(params, updates), moments

    def rollout(state: tuple, _: float) -> tuple:
        key, params, _ = state
        key, sample_key = jax.random.split(key)
        trajectories, _ = sample(sample_key, params["layers"], work["batch_size"])
        # Part of the state, so that the compiler leaves out nothing that a loss would read.
        return key, params, trajectories

    @partial(jax.jit, donate_argnums=0)
    def iterate(state: tuple, count: int, learning_rate: float) -> tuple:
        body = {"step": step, "rollout": rollout}[task["level"]]
        return jax.lax.fori_loop(0, count, lambda _, state: body(state, learning_rate), state)

    @jax.jit
    def mean_length(key: jax.Array, layers: list, bias: float) -> jax.Array:
        *hidden, (weight, last_bias) = layers
        layers = [*hidden, (weight, last_bias.at[forward - 1].set(bias))]
        return sample(key, layers, SAMPLE)[1]["trajectory_length"].mean()

    sizes = [inputs, *[work["width"]] * work["depth"], forward + backward]
    layers = initial_layers(layer_key, sizes)

    def find() -> float:
        return stop_bias(lambda bias: mean_length(layer_key, layers, bias), work["target_length"])

    stop = given_stop(task, find, layers[-1][1][forward - 1])
    reached = None if "cold" in task else float(mean_length(env_key, layers, stop))
    layers[-1] = (layers[-1][0], layers[-1][1].at[forward - 1].set(stop))

    params = {"layers": layers, "log_z": jnp.zeros(())}
    if task["level"] == "step":
        state = key, params, optax.adam(0.0).init(params)
    else:
        shapes, _ = jax.eval_shape(lambda: sample(key, layers, work["batch_size"]))
        state = key, params, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def run(iterations: int) -> None:
        nonlocal state
        state = jax.block_until_ready(iterate(state, iterations, 0.0))

    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    facts = {
        "version": version("gfnx"),
        "parameters": parameters,
        "mean_length": reached,
        "stop": float(stop),
    }
    return run, facts


if __name__ == "__main__":
    serve(prepare)
