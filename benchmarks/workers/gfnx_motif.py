"""gfnx on the motif of motif_30.py: trajectory balance as in its baselines, by the same rewards.

    python gfnx_motif.py PROBLEM.npz LOG_Q.npy

Writes log of the probability with which the trained policy builds each object of the problem.
"""

import sys
from functools import partial

import gfnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from gfnx.environment import sequence
from gfnx_worker import initial_layers, network

LETTERS, WIDTH, DEPTH = 4, 256, 2
RATE, FASTER = 1e-3, 100.0  # log Z goes so much faster, at 0.1 as in the baselines


class Motif(gfnx.TFBind8RewardModule):
    """The best window on either strand, on levels."""

    def __init__(self, problem: dict):
        self.odds, self.edges, self.log_rewards = (
            jnp.asarray(problem[name], jnp.float32) for name in ("odds", "edges", "log_rewards")
        )

    def init(self, rng_key, dummy_state):
        return {}

    def log_reward(self, state, env_params):
        tokens, width = state.tokens, self.odds.shape[0]
        starts = jnp.arange(tokens.shape[-1] - width + 1)
        windows = tokens[..., starts[:, None] + jnp.arange(width)]
        twins = 3 - windows[..., ::-1]
        place = jnp.arange(width)
        values = [self.odds[place, words].sum(-1) for words in (windows, twins)]
        best = jnp.maximum(*values).max(-1)
        return self.log_rewards[jnp.searchsorted(self.edges, best, side="right")]

    def reward(self, state, env_params):
        return jnp.exp(self.log_reward(state, env_params))


def main(problem_path: str, output: str) -> None:
    problem = dict(np.load(problem_path))
    length, batch, steps = (int(problem[name]) for name in ("length", "batch", "steps"))
    tokens = {"bos_token": LETTERS, "eos_token": LETTERS + 1, "pad_token": LETTERS + 2}
    env = sequence.FixedAutoregressiveSequenceEnvironment(
        Motif(problem), max_length=length, nchar=LETTERS, ntoken=LETTERS + 3, **tokens
    )
    key, env_key, layer_key = jax.random.split(jax.random.key(int(problem["seed"])), 3)
    env_params = env.init(env_key)
    forward = env.action_space.n
    inputs = length * (LETTERS + 1)

    def encode(observed):
        one_hot = jax.nn.one_hot(observed[..., 1:], LETTERS + 1)  # the first is the beginning
        return one_hot.reshape(*one_hot.shape[:-2], inputs)

    def policy(_, observed, layers):
        return network(layers, encode(observed))[:, :forward], {}

    def loss(params, trajectories, log_reward):
        logits = network(params["layers"], encode(trajectories.obs))
        backward = jnp.zeros((*logits.shape[:-1], env.backward_action_space.n))
        both = {"forward_logits": logits[..., :forward], "backward_logits": backward}
        trajectories = trajectories.replace(info=both)
        log_pf, log_pb = gfnx.utils.forward_trajectory_log_probs(env, trajectories, env_params)
        return jnp.mean((FASTER * params["log_z"] + log_pf - log_pb - log_reward) ** 2)

    adam = optax.adam(RATE)

    @partial(jax.jit, donate_argnums=0)
    def iterate(state, count):
        def step(_, state):
            key, params, moments = state
            key, sample_key = jax.random.split(key)
            trajectories, info = gfnx.utils.forward_rollout(
                sample_key, batch, policy, params["layers"], env, env_params
            )
            gradient = jax.grad(loss)(params, trajectories.replace(info={}), info["log_gfn_reward"])
            updates, moments = adam.update(gradient, moments)
            return key, optax.apply_updates(params, updates), moments

        return jax.lax.fori_loop(0, count, step, state)

    layers = initial_layers(layer_key, [inputs, *[WIDTH] * DEPTH, forward])
    params = {"layers": layers, "log_z": jnp.zeros(())}
    state = key, params, adam.init(params)
    key, params, _ = jax.block_until_ready(iterate(state, steps))

    @jax.jit
    def log_q(objects):
        total = jnp.zeros(len(objects))
        for place in range(length):
            seen = jnp.where(jnp.arange(length) < place, objects, LETTERS + 2)
            observed = jnp.concatenate([jnp.full((len(objects), 1), LETTERS), seen], 1)
            logits = network(params["layers"], encode(observed))[:, :LETTERS]
            log_pf = jax.nn.log_softmax(logits)
            total += jnp.take_along_axis(log_pf, objects[:, place, None], 1)[:, 0]
        return total

    np.save(output, np.asarray(log_q(jnp.asarray(problem["objects"], jnp.int32)), np.float64))
    print(f"log Z {FASTER * float(params['log_z']):.3f}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
