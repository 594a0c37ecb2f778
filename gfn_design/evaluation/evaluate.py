"""One report on a trained module: exact where states can be numbered, sampled elsewhere."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfn_design.environments.sequences.edits import Edits
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.evaluation.exact import Target, terminating_distribution
from gfn_design.evaluation.probabilities import MOST, log_probability
from gfn_design.evaluation.transfer import TransferTarget, total_variation_from
from gfn_design.metrics import distributions as metrics
from gfn_design.sampling.histories import sample_backward
from gfn_design.sampling.noise import EVALUATION, HELD_OUT, uniform_noise
from gfn_design.sampling.seen_objects import object_keys
from gfn_design.sampling.trajectories import Trajectories

if TYPE_CHECKING:
    from gfn_design.designer import Designer

SAMPLES = 2048  # trajectories of a sampled evaluation
TESTED = 512  # objects held out that a sampled evaluation tests on
HISTORIES = 10  # of each of them
TARGET_SAMPLES = 10_000  # objects of a target that is known, by which D_TV errs by 0.005 at most
BOUND_SAMPLES = 1000  # of them, where it is only bounded
MOST_TOGETHER = 2000  # objects whose histories are summed together,
MOST_NUMBERS = 100_000_000  # and of the states that they meet, numbers: 800 MB


class Evaluation(NamedTuple):
    """How far what is sampled is from the target.

    Attributes:
        metrics: Numbers by name.
        target: The exact target, None where the environment is too large to enumerate.
        probability: Exact probability of each of the target's objects, ``float64[n]``.
    """

    metrics: dict[str, float]
    target: Target | None
    probability: Tensor | None


@torch.no_grad()
def evaluate(module: "Designer") -> Evaluation:
    """Compare what the forward policy builds with the target.

    Exactly, where the environment has at most ``module.exact_limit`` states: `D_TV`, `D_JSD` (in
    nats), `log_z_error` (absolute), `accuracy` (of the mean reward), `effective` (number of
    equally likely objects as diverse), `target_effective`. Elsewhere from samples: `mean_score`,
    `mean_reward`, `mean_log_reward`, `log_z_bound` (a lower bound on log Z that is reached at the
    target) and `distinct_share`, and where the data holds out objects, `correlation` (Spearman's)
    of their probability with their reward. Where an automaton follows the reward, there is what
    `beyond_enumeration` says. Either way what the data measures besides, and `modes` and
    `modes_known`, where it knows modes. Of a policy anchored to a prior, the target is prior times
    reward, and log Z that of their product.
    """
    target = module.target
    probability, wanted = None, None
    if target is not None:
        result, probability = _exactly(module, target)
        objects, wanted = target.objects, target.probability
        weight = probability
    else:
        drawn = module.draw(SAMPLES, EVALUATION, module.tally.draws)
        result, objects = _by_samples(module, drawn), drawn.objects.cpu()
        weight = torch.full((SAMPLES,), 1 / SAMPLES, dtype=torch.float64)
        if (transfer := module.transfer_target) is not None:
            result |= beyond_enumeration(module, transfer)
    result |= module.data.measure(module.environment, objects, weight, wanted)
    if module.modes is not None:
        result["modes"] = float(module.tally.seen.count(module.modes))
        result["modes_known"] = float(len(module.modes))
    return Evaluation(result, target, probability)


def _exactly(module: "Designer", target: Target) -> tuple[dict[str, float], Tensor]:
    """What is known where all objects are listed, and the probability of each."""
    _, probability = terminating_distribution(module.environment, module.policy)
    probability = target.of_objects(probability.cpu())
    wanted = target.probability
    return {
        "D_TV": metrics.total_variation(probability, wanted),
        "D_JSD": metrics.jensen_shannon(probability, wanted),
        "log_z_error": abs(module.log_z - target.log_z),
        "accuracy": metrics.reward_accuracy(probability, target.log_reward, wanted),
        "effective": metrics.effective_number(probability),
        "target_effective": metrics.effective_number(wanted),
    }, probability


def _by_samples(module: "Designer", drawn: Trajectories) -> dict[str, float]:
    """What trajectories of the policy tell."""
    environment = module.environment
    scores, log_r = module.score_objects(drawn.objects)
    steps = module.engine.log_probabilities(module.policy, drawn)
    of_state = log_r.double() - module.task.log_states_per_object(drawn.objects)
    bound = (of_state + (steps.log_pb - steps.log_pf).sum(1)).mean()
    result = {
        "mean_score": float(scores.double().mean()),
        "mean_reward": float(log_r.exp().mean()),
        "mean_log_reward": float(log_r.mean()),
        "log_z_bound": float(bound),
        "distinct_share": len(object_keys(environment, drawn.objects).unique()) / SAMPLES,
    }
    held = module.data.held_out(environment)
    if held is not None and module.policy.prior is None:
        some = held[:: max(1, len(held) // TESTED)].to(module.device)
        found = estimated_log_probability(module, some)
        found = found + environment.log_states_per_object(some)  # as if all were equally likely
        result["correlation"] = metrics.rank_correlation(found, module.log_reward(some))
    return result


@torch.no_grad()
def beyond_enumeration(module: "Designer", target: TransferTarget) -> dict[str, float]:
    """What the exact target says of a policy where objects are too many to list.

    `log_z_error`, `target_hit_rate` (the exact probability of what is as wanted) and, where all
    histories of an object can be summed, so that its probability is known, `D_TV` by objects of
    the target, with its standard error `D_TV_error`. Where they cannot, `D_TV_bound`: probabilities
    are estimated by some histories of each, and the distance is expected to be too large, if
    anything.
    """
    environment = module.environment
    result = {
        "log_z_error": abs(module.log_z - target.log_z),
        "target_hit_rate": target.share(target.automaton.all_hit),
    }
    assert isinstance(environment, Sequence | Edits)  # none else has letters
    rng = np.random.default_rng([module.draw_seed, EVALUATION])
    letters, log_reward = target.sample(TARGET_SAMPLES, rng)
    objects = environment.states_of(torch.from_numpy(letters).to(module.device))
    log_q, name = log_probability_of(module, objects), "D_TV"
    if log_q is None:
        some = slice(0, BOUND_SAMPLES)
        log_q, name = estimated_log_probability(module, objects[some]), "D_TV_bound"
        log_reward = log_reward[some]
    found = total_variation_from(log_q.numpy(force=True), log_reward - target.log_z)
    result[name], result[f"{name}_error"] = found
    return result


def log_probability_of(module: "Designer", objects: Tensor) -> Tensor | None:
    """log of the probability that each object is built, in nats: ``float64[n]``.

    None where its histories meet too many states.
    """
    environment, policy = module.environment, module.policy
    if environment.n_backward_actions > 1:
        parts = []
        together = MOST_NUMBERS // (MOST * objects[0].numel())
        for some in objects.split(max(1, min(MOST_TOGETHER, together))):
            found = log_probability(environment, policy, some)
            if found is None:
                return None
            parts.append(found)
        return torch.cat(parts)
    log_q = []
    for part in objects.split(1024):  # histories take memory
        nothing = torch.zeros(len(part), environment.max_steps, device=module.device)
        drawn = sample_backward(environment, policy, part, nothing)
        log_q.append(module.engine.log_probabilities(policy, drawn).log_pf.double().sum(1))
    return torch.cat(log_q)


@torch.no_grad()
def estimated_log_probability(module: "Designer", objects: Tensor) -> Tensor:
    """log of the probability with which each state is built, in nats: ``float64[n]``.

    The mean of P_F / P_B over histories drawn from the backward policy, which is unbiased; see
    Zhang et al. (2022), arXiv:2202.01361.
    """
    environment, estimates = module.environment, []
    for turn, part in enumerate(objects.split(64)):  # histories take memory
        several = part.repeat_interleave(HISTORIES, 0)
        shape = (len(several), environment.max_steps)
        noise = uniform_noise(shape, objects.device, module.draw_seed, HELD_OUT, 0, turn)
        drawn = sample_backward(environment, module.policy, several, noise)
        steps = module.engine.log_probabilities(module.policy.without_prior(), drawn)
        ratio = (steps.log_pf.double() - steps.log_pb.double()).sum(1)
        estimates.append(ratio.view(-1, HISTORIES).logsumexp(1) - math.log(HISTORIES))
    return torch.cat(estimates)
