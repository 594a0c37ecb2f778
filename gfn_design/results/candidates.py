"""Distinct objects from a trained module, best first, in files that other tools open."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.environments.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.evaluation.evaluate import estimated_log_probability
from gfn_design.files.objects import read_molecules, write_aside
from gfn_design.files.tables import write_table
from gfn_design.files.whole import whole_files
from gfn_design.sampling.noise import CANDIDATES
from gfn_design.sampling.rollout import sample_backward
from gfn_design.sampling.seen_objects import object_keys

if TYPE_CHECKING:
    from gfn_design.designer import Designer

_log = logging.getLogger(__name__)
DRAWS_PER_CANDIDATE = 100  # after so many draws for each one asked for, there are no more
PICTURED = 24  # molecules in a picture, at most
CAPTIONED = 2  # terms below each, at most


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


class _Drawn(NamedTuple):
    """Distinct objects, in the order in which they were first drawn."""

    texts: list[str]
    states: Tensor  # int64[n, steps + 1, *state_shape], the object fills the padding
    draws: list[int]


@torch.no_grad()
def draw_candidates(module: "Designer", n: int, draw: int = 0) -> tuple[list[Candidate], int]:
    """Draw until `n` distinct objects are there, and rank them by reward.

    What the environment rejects is left out; a line in the log says how much, and why.

    Args:
        module: A trained module with a reward at hand.
        n: How many distinct objects; fewer come back if `DRAWS_PER_CANDIDATE` n draws (at least
            10,000) do not hold as many.
        draw: Another number draws other objects.

    Returns:
        The candidates, best first, and the number of draws they took.
    """
    environment = module.environment
    drawn, draws = _distinct(module, n, draw)
    if module.data.room() is not None:
        drawn = _affordable(module, drawn)
    objects = drawn.states[:, -1].to(module.device)
    score, log_reward = module.score_objects(objects)
    log_probability = estimated_log_probability(module, objects) + environment.log_copies(objects)
    smiles: list[str | None] = [None] * len(objects)
    paths = smiles
    if environment.molecules:
        smiles = list(environment.smiles(objects))
        paths = [_path(environment.decode, states) for states in drawn.states]
    best = sorted(range(len(objects)), key=lambda i: (-float(log_reward[i]), drawn.texts[i]))
    return [
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
    ], draws


def _distinct(module: "Designer", n: int, draw: int) -> tuple[_Drawn, int]:
    """The first `n` distinct objects of as many draws as that takes, and how many that is."""
    environment, batch = module.environment, max(256, min(n, 4096))
    limit = max(10_000, DRAWS_PER_CANDIDATE * n)
    text_of: dict[int, str] = {}  # the text of each state, by its key
    row_of: dict[str, int] = {}  # the place of each object, by its text
    kept: list[Tensor] = []
    counts: list[int] = []
    rejected: Counter[str] = Counter()
    draws = turn = 0
    while len(row_of) < n and draws < limit:
        states = module.draw(batch, CANDIDATES, draw * 2**32 + turn).states
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
    return _Drawn(list(row_of), torch.cat([_padded(x, longest) for x in kept]), counts), draws


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


def write_candidates(
    candidates: list[Candidate],
    module: "Designer",
    folder: Path,
    reference: Path | None = None,
    column: str | None = None,
) -> list[Path]:
    """Write ``candidates.csv``, and what else such objects are usually kept in.

    Sequences of letters go to ``candidates.fasta``; molecules to ``candidates.smi``,
    ``candidates.sdf`` (with all columns as properties) and a picture of the first, and have columns
    that describe them (see `gfn_design.results.molecules`). The data may have columns of its own.
    All files take their places together, when all are on the disk.

    Args:
        candidates: In the order in which they are written.
        module: That drew them.
        folder: Made if missing.
        reference: A file of known molecules, of which the nearest is told.
        column: Of the reference, that of SMILES; None finds it.

    Returns:
        The files.

    Raises:
        InputError: They cannot be written; or the reference cannot be read, or is given where
            objects are no molecules.
    """
    with whole_files(folder) as part:
        files = write_into(part, candidates, module, reference, column)
    return [folder / file.name for file in files]


def write_into(
    folder: Path,
    candidates: list[Candidate],
    module: "Designer",
    reference: Path | None = None,
    column: str | None = None,
) -> list[Path]:
    """What `write_candidates` writes, into a folder that is there."""
    environment, texts = module.environment, [c.text for c in candidates]
    more, smiles = module.data.columns(environment, texts), smiles_of(candidates, module)
    terms = [name for name in more if name != "smiles"][:CAPTIONED]
    if reference is not None and smiles is None:
        raise InputError(f"{reference}: a reference is for molecules, which these are not")
    if smiles is not None:
        from gfn_design.results.molecules import describe

        known = None if reference is None else read_molecules(reference, column)
        more = {"smiles": smiles} | more | describe(smiles, known and known.rows)
    if environment.molecules:
        more["path"] = [c.path or "" for c in candidates]
    names = {"rank": [str(c.rank) for c in candidates]}
    if not (environment.molecules and type(environment).smiles is Environment.smiles):
        names["sequence" if isinstance(environment, Sequence) else "object"] = texts
    table = names | more | _numbers(candidates)
    files = [folder / "candidates.csv"]
    write_table(files[0], table)
    if smiles is not None and known is not None and known.aside:
        files.append(folder / "reference_set_aside.csv")
        write_aside(known.aside, files[-1])
    if isinstance(environment, Sequence) and not environment.separator:
        files.append(folder / "candidates.fasta")
        lines = (f">candidate_{c.rank} reward={c.reward:.6g}\n{c.text}\n" for c in candidates)
        files[-1].write_text("".join(lines))
    if smiles:
        files += _write_molecules(folder, candidates, smiles, table, terms)
    return files


def _write_molecules(
    folder: Path,
    candidates: list[Candidate],
    smiles: list[str],
    table: dict[str, list[str]],
    terms: list[str],
) -> list[Path]:
    from gfn_design.results.molecules import draw_grid, write_sdf

    smi, sdf, png = (folder / f"candidates.{kind}" for kind in ("smi", "sdf", "png"))
    lines = (f"{text} candidate_{c.rank}\n" for text, c in zip(smiles, candidates, strict=True))
    smi.write_text("".join(lines))
    write_sdf(sdf, smiles, table)
    legends = [
        ", ".join(
            [f"{c.rank}: score {c.score:.3g}", *(f"{name} {table[name][i]}" for name in terms)]
        )
        for i, c in enumerate(candidates[:PICTURED])
    ]
    png.write_bytes(draw_grid(smiles[:PICTURED], legends))
    return [smi, sdf, png]


def _numbers(candidates: list[Candidate]) -> dict[str, list[str]]:
    """The columns that every candidate has."""
    table = {
        name: [f"{getattr(c, name):.6g}" for c in candidates]
        for name in ("score", "reward", "log_reward", "log_probability")
    }
    return table | {"draws": [str(c.draws) for c in candidates]}
