"""Distinct objects from a trained module, best first."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import estimated_log_probability
from gfn_design.sampling.histories import sample_backward
from gfn_design.sampling.noise import CANDIDATES
from gfn_design.sampling.seen_objects import object_keys

if TYPE_CHECKING:
    from gfn_design.designer import Designer

_log = logging.getLogger(__name__)
DRAWS_PER_CANDIDATE = 100  # after so many draws for each one asked for, there are no more


class Candidate(NamedTuple):
    """One object that the forward policy built.

    Attributes:
        rank: 1 for the largest reward.
        text: As the environment writes it.
        score: What the reward is made of, before clip, exponent and scale.
        reward: R(x).
        log_reward: log R(x), in nats.
        draws: How often it was drawn.
        log_probability: log of the probability with which it is built, in nats, as estimated from
            a few of its histories; its other states, if it has any, count as equally likely.
        smiles: Canonical SMILES, of a molecule.
        path: Of a molecule, the SMILES that it grew through.
    """

    rank: int
    text: str
    score: float
    reward: float
    log_reward: float
    draws: int
    log_probability: float
    smiles: str | None = None
    path: str | None = None


def texts_of(candidates: Sequence[Candidate]) -> list[str]:
    """Candidates as proxies and scorers read them."""
    return [c.smiles if c.smiles is not None else c.text for c in candidates]


class _Drawn(NamedTuple):
    """Distinct objects, in the order in which they were first drawn."""

    texts: list[str]
    states: Tensor  # int64[n, steps + 1, *state_shape], the object fills the padding
    draws: list[int]


def draw_candidates(module: "Designer", n: int, nth: int = 0) -> tuple[list[Candidate], int]:
    """Draw until `n` distinct objects are there, and rank them by reward.

    What the environment rejects is left out; a line in the log says how much, and why.

    Args:
        module: A trained module with a reward at hand.
        n: How many distinct objects; fewer come back if `DRAWS_PER_CANDIDATE` n draws (at least
            10,000) do not hold as many.
        nth: Another number draws other objects.

    Returns:
        The candidates, best first, and the number of draws they took.
    """
    return draw(module, n, nth)[:2]


class Draw(NamedTuple):
    """What was drawn.

    Attributes:
        candidates: Distinct objects, best first.
        draws: How many it took.
        rejected: How many of these the environment rejects.
    """

    candidates: list[Candidate]
    draws: int
    rejected: int


@torch.no_grad()
def draw(module: "Designer", n: int, nth: int = 0) -> Draw:
    """`draw_candidates`, and how many draws were rejected."""
    environment = module.environment
    drawn, draws, rejected = _distinct(module, n, nth)
    if module.data.room() is not None:
        drawn = _affordable(module, drawn)
    objects = drawn.states[:, -1].to(module.device)
    score, log_reward = module.score_objects(objects)
    log_probability = estimated_log_probability(
        module, objects
    ) + environment.log_states_per_object(objects)
    smiles: list[str | None] = [None] * len(objects)
    paths = smiles
    if environment.molecules:
        smiles = list(environment.smiles(objects))
        paths = [_path(environment.decode, states) for states in drawn.states]
    best = sorted(range(len(objects)), key=lambda i: (-float(log_reward[i]), drawn.texts[i]))
    candidates = [
        Candidate(
            rank,
            drawn.texts[i],
            float(score[i]),
            float(log_reward[i].exp()),
            float(log_reward[i]),
            drawn.draws[i],
            float(log_probability[i]),
            smiles[i],
            paths[i],
        )
        for rank, i in enumerate(best[:n], 1)
    ]
    return Draw(candidates, draws, rejected)


def _distinct(module: "Designer", n: int, nth: int) -> tuple[_Drawn, int, int]:
    """The first `n` distinct objects, how many draws that took, and how many were rejected."""
    environment, batch = module.environment, max(256, min(n, 4096))
    limit = max(10_000, DRAWS_PER_CANDIDATE * n)
    text_of: dict[int, str] = {}  # the text of each state, by its key
    row_of: dict[str, int] = {}  # the place of each object, by its text
    kept: list[Tensor] = []
    counts: list[int] = []
    rejected: Counter[str] = Counter()
    draws = turn = 0
    while len(row_of) < n and draws < limit:
        states = module.draw(batch, CANDIDATES, nth * 2**32 + turn).states
        if environment.rejects:
            reasons = environment.rejected_for(states[:, -1])
            rejected.update(reason for reason in reasons if reason is not None)
            states = states[[reason is None for reason in reasons]]
        keys = object_keys(environment, states[:, -1]).tolist()
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in text_of}
        if first:
            text_of.update(
                zip(first, environment.decode(states[list(first.values()), -1]), strict=True)
            )
        fresh = []
        for i, key in enumerate(keys):
            text = text_of[key]
            if text in row_of:
                counts[row_of[text]] += 1
            elif len(row_of) < n:
                row_of[text] = len(row_of)
                counts.append(1)
                fresh.append(i)
        kept.append(states[fresh].cpu())
        draws, turn = draws + batch, turn + 1
    if rejected:
        why = ", ".join(f"{reason} ({count:,})" for reason, count in rejected.most_common())
        _log.warning("rejected %s of %s draws: %s", f"{rejected.total():,}", f"{draws:,}", why)
    longest = max(part.shape[1] for part in kept)
    found = _Drawn(list(row_of), torch.cat([_padded(x, longest) for x in kept]), counts)
    return found, draws, rejected.total()


def _affordable(module: "Designer", drawn: _Drawn) -> _Drawn:
    """What was drawn and can still be scored, and all that has been scored before."""
    environment = module.environment
    good = module.data.affordable(environment, drawn.states[:, -1])
    if left_out := len(good) - sum(good):
        _log.warning("%s of the designs drawn are left out: the budget is spent", f"{left_out:,}")
    texts = [text for text, fits in zip(drawn.texts, good, strict=True) if fits]
    draws = [n for n, fits in zip(drawn.draws, good, strict=True) if fits]
    objects: list[Tensor] = []
    for text in module.data.scored_texts():
        try:
            state = environment.encode([text])
        except InputError:  # scorers read it otherwise than the environment does
            continue
        if (name := environment.decode(state)[0]) not in texts:
            texts.append(name)
            draws.append(0)
            objects.append(state)
    parts = [drawn.states[good]]
    if objects:  # how they were built is not kept: each in one of its ways
        halves = torch.full((len(objects), environment.max_steps), 0.5, device=module.device)
        ways = sample_backward(environment, module.policy, torch.cat(objects), halves)
        parts.append(ways.states.cpu())
    longest = max(part.shape[1] for part in parts)
    return _Drawn(texts, torch.cat([_padded(x, longest) for x in parts]), draws)


def _padded(states: Tensor, length: int) -> Tensor:
    """Trajectories of `length` states, the object filling up."""
    more = states[:, -1:].expand(-1, length - states.shape[1], *states.shape[2:])
    return torch.cat([states, more], 1)


def _path(decode: Callable[[Tensor], list[str]], states: Tensor) -> str:
    """What was there after each step, without repeats: ``c1ccccc1 > Cc1ccccc1``."""
    return " > ".join(dict.fromkeys(text for text in decode(states) if text))


def smiles_of(candidates: list[Candidate], module: "Designer") -> list[str] | None:
    """The SMILES of what is, or spells, a molecule; None of anything else."""
    if module.environment.molecules:
        return [c.smiles or "" for c in candidates]
    columns = module.data.columns(module.environment, [c.text for c in candidates])
    return columns.get("smiles")
