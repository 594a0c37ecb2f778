"""Distinct objects from a trained module, best first, in files that other tools open."""

import csv
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from gfn_design.environments.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.sampling.found import object_keys
from gfn_design.sampling.noise import CANDIDATES

if TYPE_CHECKING:
    from gfn_design.gflownet import GFlowNet

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
    """

    rank: int
    text: str
    score: float
    reward: float
    log_reward: float
    draws: int


@torch.no_grad()
def draw_candidates(module: "GFlowNet", n: int, draw: int = 0) -> tuple[list[Candidate], int]:
    """Draw until `n` distinct objects are there, and rank them by reward.

    Args:
        module: A trained module with a reward at hand.
        n: How many distinct objects; fewer come back if `DRAWS_PER_CANDIDATE` n draws (at least
            10,000) do not hold as many.
        draw: Another number draws other objects.

    Returns:
        The candidates, best first, and the number of draws they took.
    """
    environment, batch = module.environment, max(256, min(n, 4096))
    limit = max(10_000, DRAWS_PER_CANDIDATE * n)
    objects = environment.initial(0).cpu()
    keys, counts = torch.empty(2, 0, dtype=torch.int64)
    draws = turn = 0
    rejected: Counter[str] = Counter()
    while len(objects) < n and draws < limit:
        drawn = module.draw(batch, CANDIDATES, draw * 2**32 + turn).objects
        if environment.rejects:
            reasons = environment.rejected_for(drawn)
            rejected.update(reason for reason in reasons if reason is not None)
            drawn = drawn[[reason is None for reason in reasons]]
        objects = torch.cat([objects, drawn.cpu()])
        keys = torch.cat([keys, object_keys(environment, drawn).cpu()])
        counts = torch.cat([counts, torch.ones(len(drawn), dtype=torch.int64)])
        # Every object once, where it was first drawn; of the last turn only what is still needed.
        unique, place = keys.unique(return_inverse=True)
        counts = torch.zeros_like(unique).index_add_(0, place, counts)
        first = torch.full_like(unique, len(keys))
        first.scatter_reduce_(0, place, torch.arange(len(keys)), "amin")
        kept = first.argsort()[:n]
        objects, keys, counts = objects[first[kept]], unique[kept], counts[kept]
        draws, turn = draws + batch, turn + 1
    if rejected:
        why = ", ".join(f"{reason} ({count:,})" for reason, count in rejected.most_common())
        _log.warning("rejected %s of %s draws: %s", f"{rejected.total():,}", f"{draws:,}", why)
    objects = objects.to(module.device)
    score, log_reward = module.score_objects(objects)
    texts = environment.decode(objects)
    best = sorted(range(len(texts)), key=lambda i: (-float(log_reward[i]), texts[i]))
    return [
        Candidate(
            rank,
            texts[i],
            float(score[i]),
            float(log_reward[i].exp()),
            float(log_reward[i]),
            int(counts[i]),
        )
        for rank, i in enumerate(best, 1)
    ], draws


def write_candidates(candidates: list[Candidate], module: "GFlowNet", folder: Path) -> list[Path]:
    """Write ``candidates.csv`` and, for sequences of letters, ``candidates.fasta``.

    The data may have columns of its own, such as the SMILES of a chain of blocks.
    Each file is written beside its place and then moved there, so that none is ever half written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{folder}: is a file; choose another --output") from error
    letters = isinstance(module.environment, Sequence) and not module.environment.separator
    column = "sequence" if isinstance(module.environment, Sequence) else "object"
    more = module.data.columns(module.environment, [c.text for c in candidates])
    path = folder / "candidates.csv"
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", column, *more, "score", "reward", "log_reward", "draws"])
        for i, c in enumerate(candidates):
            texts = [c.text, *(values[i] for values in more.values())]
            numbers = (f"{x:.6g}" for x in (c.score, c.reward, c.log_reward))
            writer.writerow([c.rank, *texts, *numbers, c.draws])
    part.replace(path)
    if not letters:
        return [path]
    fasta = folder / "candidates.fasta"
    part.write_text(
        "".join(f">candidate_{c.rank} reward={c.reward:.6g}\n{c.text}\n" for c in candidates)
    )
    part.replace(fasta)
    return [path, fasta]
