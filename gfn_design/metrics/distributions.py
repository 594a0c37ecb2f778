"""How far what is sampled is from what should be.

Distributions are ``float64[n]`` and sum to one; logarithms are natural.
"""

import torch
from torch import Tensor


def total_variation(p: Tensor, q: Tensor) -> float:
    """D_TV: half the sum of absolute differences, in [0, 1]."""
    return float((p - q).abs().sum() / 2)


def jensen_shannon(p: Tensor, q: Tensor, smallest: float = 1e-20) -> float:
    """D_JSD in nats, in [0, log 2]; probabilities below `smallest` count as it."""
    p, q = p.clamp(min=smallest), q.clamp(min=smallest)
    middle = (p + q) / 2
    return float(((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2)


def reward_accuracy(p: Tensor, log_reward: Tensor, wanted: Tensor | None = None) -> float:
    """Mean reward under `p` over that under the target, R / Z or `wanted`; at most 1."""
    reward = (log_reward - log_reward.max()).exp()
    wanted = reward / reward.sum() if wanted is None else wanted
    return min(1.0, float((p * reward).sum() / (wanted * reward).sum()))


def effective_number(p: Tensor) -> float:
    """exp of the entropy: how many equally likely objects are as diverse as `p`."""
    return float((-(p * p.clamp(min=1e-300).log()).sum()).exp())


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's, in [-1, 1]; equal values share their mean rank. NaN if all of one are equal."""
    return float(torch.corrcoef(torch.stack([_ranks(x), _ranks(y)]))[0, 1])


def _ranks(x: Tensor) -> Tensor:
    _, place, count = x.unique(return_inverse=True, return_counts=True)
    return (count.cumsum(0) - (count - 1) / 2).double()[place]


def noise_floor(p: Tensor, samples: int) -> float:
    """The D_TV that a histogram of `samples` perfect draws from `p` has on average.

    Each count is close to normal where n p is large and close to Poisson where it is small; this
    takes the exact mean absolute deviation of a binomial count (de Moivre).
    """
    n = float(samples)
    top = (
        n * p
    ).floor() + 1  # mean |count - n p| = 2 top (1 - p) C(n, top) p^top (1 - p)^(n - top)
    total = torch.tensor(n, dtype=p.dtype)
    binomial = (total + 1).lgamma() - (top + 1).lgamma() - (total - top + 1).clamp(min=1).lgamma()
    log_mass = binomial + top * p.clamp(min=1e-300).log() + (n - top) * (-p).log1p()
    deviation = 2 * top * (1 - p) * log_mass.exp()
    return float(deviation[top <= n].sum() / n / 2)
