"""RL-U as the paper states it, in plain PyTorch, beside ours: the same learning curve, or not?

    python benchmarks/plain_rl_u.py --seeds 12

Shares no code with the package but what `ours` calls: networks are nn.Linear over one-hot rows, the
roll-out is a loop, advantages are a reverse scan, and the exact distribution is found diagonal by
diagonal. Prints the exact D_TV of both, with its spread over seeds. Hypergrid 256x256, R0 = 0.01,
networks of 4 x 256 (policy) and 2 x 256 (critic), batches of 128; a seed takes a minute of one core
for each of the two.
"""

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from lightning.pytorch import seed_everything
from torch import nn

from gfn_design import MLP, ActorCritic, Batches, GFlowNet, Hypergrid, HypergridData, Networks
from gfn_design.fast.step import set_gradients

HEIGHT, BATCH, EVERY = 256, 128, 25
CELLS = torch.cartesian_prod(torch.arange(HEIGHT), torch.arange(HEIGHT))


def log_reward(cells):
    off = 10 * (2 * cells - (HEIGHT - 1)).abs()  # in whole numbers: two cells lie on a bound
    outer, mode = off > 5 * (HEIGHT - 1), (off > 6 * (HEIGHT - 1)) & (off < 8 * (HEIGHT - 1))
    return (0.01 + 0.5 * outer.all(1) + 2.0 * mode.all(1)).double().log()


def legal(states):
    return torch.cat([states < HEIGHT - 1, torch.ones_like(states[..., :1]).bool()], -1)


def distance(logits):
    """D_TV of the policy with these logits of every cell."""
    p = logits.masked_fill(~legal(CELLS), -torch.inf).double().softmax(-1).view(HEIGHT, HEIGHT, 3)
    mass = torch.zeros(HEIGHT, HEIGHT, dtype=torch.float64)
    mass[0, 0] = 1
    for diagonal in range(2 * HEIGHT - 1):
        x = torch.arange(max(0, diagonal - HEIGHT + 1), min(diagonal, HEIGHT - 1) + 1)
        y = diagonal - x
        down, right = x < HEIGHT - 1, y < HEIGHT - 1
        mass[x[down] + 1, y[down]] += mass[x[down], y[down]] * p[x[down], y[down], 0]
        mass[x[right], y[right] + 1] += mass[x[right], y[right]] * p[x[right], y[right], 1]
    target = log_reward(CELLS).softmax(0).view(HEIGHT, HEIGHT)
    return float((mass * p[..., 2] - target).abs().sum() / 2)


def perceptron(depth, outputs):
    sizes = [2 * HEIGHT] + [256] * depth
    layers = [x for a, b in pairwise(sizes) for x in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(256, outputs))


def one_hot(states):
    return F.one_hot(states, HEIGHT).flatten(-2).float()


@torch.no_grad()
def draw(policy):
    """States, actions and whether each step is one of a trajectory; and the last cells."""
    state, going, steps = torch.zeros(BATCH, 2, dtype=torch.long), torch.ones(BATCH).bool(), []
    while going.any():
        logits = policy(one_hot(state)).masked_fill(~legal(state), -torch.inf)
        action = torch.distributions.Categorical(logits=logits).sample()
        steps.append((state, action, going))
        going = going & (action < 2)
        state = state + F.one_hot(action, 3)[:, :2] * going[:, None]
    return *(torch.stack(x, 1) for x in zip(*steps, strict=True)), state


def plain(seed, batches):
    """D_TV before every `EVERY`-th batch and after the last."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    policy, critic, log_z = perceptron(4, 3), perceptron(2, 1), nn.Parameter(torch.zeros(()))
    rates = [{"params": policy.parameters(), "lr": 1e-3}, {"params": [log_z], "lr": 0.1}]
    actor, judge = torch.optim.Adam(rates), torch.optim.Adam(critic.parameters(), lr=5e-3)
    rows, curve = one_hot(CELLS), []
    for batch in range(batches + 1):
        if batch % EVERY == 0:
            with torch.no_grad():
                curve.append(distance(policy(rows)))
        states, actions, real, ends = draw(policy)
        seen, chosen = one_hot(states[real]), actions[real]
        logits = policy(seen).masked_fill(~legal(states[real]), -1e5)
        taken = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
        log_pf = torch.zeros(real.shape).masked_scatter(real, taken)
        entered = states[real] + F.one_hot(chosen, 3)[:, :2]
        undone = -(entered > 0).sum(-1).clamp(min=1).float().log()
        log_pb = torch.zeros(real.shape).masked_scatter(real, undone.where(chosen < 2, 0))
        gain = (log_reward(ends).float().clamp(min=-12) - log_z.detach())[:, None]
        cost = log_pf.detach() - log_pb - gain.where(real & (actions == 2), 0)
        value = torch.zeros(real.shape).masked_scatter(real, critic(seen)[:, 0])
        following = F.pad(value.detach()[:, 1:], (0, 1))
        difference = cost + following - value.detach()
        advantage, target = torch.zeros(real.shape), torch.zeros(real.shape)
        ahead = rest = torch.zeros(BATCH)
        for time in reversed(range(real.shape[1])):
            advantage[:, time] = ahead = difference[:, time] + 0.99 * ahead
            target[:, time] = rest = cost[:, time] + rest
        advantage = (advantage - advantage[real].mean()).where(real, 0)
        loss = (advantage * log_pf).sum(1).mean() + log_z * cost.sum(1).mean()
        for optimizer, x in (
            (judge, ((target - value).square() * real).sum(1).mean()),
            (actor, loss),
        ):
            optimizer.zero_grad()
            x.backward()
            optimizer.step()
    return curve


def ours(seed, batches):
    """The same of `GFlowNet`."""
    torch.set_num_threads(1)
    seed_everything(seed, verbose=False)
    networks = partial(MLP, width=256, depth=4), partial(MLP, width=256, depth=2)
    environment = Hypergrid(2, HEIGHT)
    model = GFlowNet(
        environment, ActorCritic(), Networks(*networks), batches=Batches(BATCH), draw_seed=seed
    )
    model.use(HypergridData(r0=0.01))
    optimizer, curve = model.configure_optimizers(), []
    for batch in range(batches + 1):
        if batch % EVERY == 0:
            with torch.no_grad():
                curve.append(distance(model.policy.forward_logits(CELLS)))
        _, losses, gradients = model.next_step()
        set_gradients(optimizer, losses, gradients)
        optimizer.step()
    return curve


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("a spread needs at least 2 seeds")
    with ProcessPoolExecutor(given.processes) as pool:
        jobs = [
            [pool.submit(run, seed, given.batches) for seed in range(given.seeds)]
            for run in (plain, ours)
        ]
        curves = [[job.result() for job in several] for several in jobs]
    print("| trajectories | plain: mean, sd | ours: mean, sd | difference, standard errors |")
    print("| --- | --- | --- | --- |")
    for i, (left, right) in enumerate(zip(*(zip(*x, strict=True) for x in curves), strict=True)):
        (a, s), (b, t) = ((statistics.mean(x), statistics.stdev(x)) for x in (left, right))
        error = ((s**2 + t**2) / given.seeds) ** 0.5
        cells = f"{a:.3f}, {s:.3f} | {b:.3f}, {t:.3f} | {(b - a) / max(error, 1e-9):+.1f}"
        print(f"| {i * EVERY * BATCH:,} | {cells} |")
