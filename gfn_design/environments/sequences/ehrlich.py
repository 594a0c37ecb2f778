"""Ehrlich functions (Stanton et al. 2024, arXiv:2407.00236): hard, closed, with a known optimum.

A string is worth how far several spaced motifs are present in it, and nothing if a letter follows
another that it may not follow.
"""

import math
from collections.abc import Sequence as Texts
from string import ascii_uppercase, digits

import numpy as np
import torch
from torch import Tensor

from gfn_design.environments.sequences.automaton import Automaton
from gfn_design.environments.sequences.constraints import Constraint
from gfn_design.environments.sequences.letters import Letters
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError

SYMBOLS = ascii_uppercase + digits
BAND = 0.4  # letters that may follow one, on either side of a shuffled circle, as a share of all
TEMPERATURE = 0.5  # of the random walk that motifs are cut from


class Transitions(Constraint):
    """Sequences in which no letter follows one that it may not follow.

    Args:
        banned: Letters, and all those that may not come right after each; ``{A: CG}``.
    """

    def __init__(self, banned: dict[str, str]) -> None:
        self.banned = dict(banned)

    def __str__(self) -> str:
        return "transitions " + " ".join(f"{a}!{b}" for a, b in self.banned.items() if b)

    def check(self, letters: Letters, shortest: int, longest: int) -> None:
        named = {*self.banned, *"".join(self.banned.values())}
        if unknown := sorted(named - {*letters.symbols}):
            raise InputError(
                f"transitions: '{unknown[0]}' is not in the alphabet {' '.join(letters.symbols)}"
            )

    def automaton(self, letters: Letters, longest: int) -> Automaton:
        n = len(letters.symbols)
        following = np.tile(np.arange(1, n + 1), (n + 2, 1))  # state 0, each last letter, too late
        following[n + 1] = n + 1
        for first, others in self.banned.items():
            for other in others:
                following[1 + letters.symbols.index(first), letters.symbols.index(other)] = n + 1
        accepts = np.ones((1, n + 2), dtype=bool)
        accepts[0, n + 1] = False
        return Automaton(following.astype(np.int64), accepts)


class EhrlichSequence(Sequence):
    """Strings of an Ehrlich function: those that have any worth, written from left to right.

    Its transitions are masks, so that every string is feasible. Equal arguments and seed give the
    function that pytorch-holo 0.0.5 gives.

    Args:
        n_letters: Letters of the alphabet: A to Z, then 0 to 9.
        length: Of all strings.
        n_motifs: Motifs.
        motif_length: Elements of each.
        quantization: Levels that the share of elements present is rounded down to; None takes
            `motif_length`.
        epistasis: How much worse motifs are that are present in part: a share p counts as
            p (1 + epistasis p (p - 1)); from 0 to 3.
        seed: Of transitions, motifs and spacings.

    Attributes:
        allowed: ``bool[letters, letters]``, whether the second may follow the first.
        motifs: ``int64[n_motifs, motif_length]``.
        offsets: ``int64[n_motifs, motif_length]``, where elements stand, the first at 0.

    Raises:
        InputError: Motifs do not fit, or arguments are out of range.
    """

    allowed: Tensor
    motifs: Tensor
    offsets: Tensor

    def __init__(
        self,
        n_letters: int = 4,
        length: int = 12,
        n_motifs: int = 2,
        motif_length: int = 4,
        quantization: int | None = None,
        epistasis: float = 0.0,
        seed: int = 0,
    ) -> None:
        levels = motif_length if quantization is None else quantization
        _check(n_letters, length, n_motifs, motif_length, levels, epistasis)
        generator = torch.Generator().manual_seed(seed)
        walk, allowed = transitions(n_letters, generator)
        symbols = SYMBOLS[:n_letters]
        banned = {
            first: "".join(x for x, ok in zip(symbols, row, strict=True) if not ok)
            for first, row in zip(symbols, allowed.tolist(), strict=True)
        }
        super().__init__(symbols, length, "append", None, [Transitions(banned)])
        self.given = n_letters, length, n_motifs, motif_length, quantization, epistasis, seed
        letters = walked(walk, n_motifs * motif_length, generator)
        room = (length - n_motifs * motif_length) // n_motifs
        offsets = [spaced(motif_length, room, generator) for _ in range(n_motifs)]
        self.levels, self.epistasis = levels, epistasis
        self.register_buffer("allowed", allowed, persistent=False)
        self.register_buffer("motifs", letters.view(n_motifs, motif_length), persistent=False)
        self.register_buffer("offsets", torch.stack(offsets), persistent=False)

    def extra_repr(self) -> str:
        names = (
            "n_letters",
            "length",
            "n_motifs",
            "motif_length",
            "quantization",
            "epistasis",
            "seed",
        )
        return ", ".join(f"{name}={x}" for name, x in zip(names, self.given, strict=True))

    def worth_of(self, present: Tensor) -> Tensor:
        """What a number of elements present is worth, ``int64[...]`` to ``float64[...]``."""
        together = math.ceil(self.motifs.shape[1] / self.levels)  # elements that count as one
        share = (present // together).double() * together / self.motifs.shape[1]
        return share * (1 + self.epistasis * share * (share - 1))

    def present(self, letters: Tensor) -> Tensor:
        """Elements of each motif where most of them are: ``int64[batch, motifs]``.

        Args:
            letters: ``int64[batch, length]``.
        """
        best = []
        for motif, offsets in zip(self.motifs, self.offsets, strict=True):
            windows = letters.unfold(1, int(offsets[-1]) + 1, 1)[..., offsets]
            best.append((windows == motif).sum(2).amax(1))
        return torch.stack(best, 1)

    def worth(self, letters: Tensor) -> Tensor:
        """The function, from 0 to 1, of feasible strings ``int64[batch, length]``: ``float64``."""
        return self.worth_of(self.present(letters)).prod(1)

    def is_feasible(self, letters: Tensor) -> Tensor:
        """Whether no letter follows one that it may not follow: ``bool[batch]``."""
        return self.allowed[letters[:, :-1], letters[:, 1:]].all(1)

    def solution(self) -> str:
        """A string of worth 1: motifs one after another, each letter repeated up to the next."""
        text: list[int] = []
        for motif, offsets in zip(self.motifs.tolist(), self.offsets.tolist(), strict=True):
            for letter, here, after in zip(motif, offsets, [*offsets[1:], None], strict=True):
                text += [letter] * (1 if after is None else after - here)
        text += text[-1:] * (self.length - len(text))
        return "".join(self.symbols[letter] for letter in text)

    def columns(self, texts: Texts[str]) -> dict[str, list[str]]:
        """How many elements of each motif are present."""
        present = self.present(self.encode(texts)).T.tolist()
        return {f"motif_{i}": list(map(str, found)) for i, found in enumerate(present, 1)}


def _check(
    n_letters: int, length: int, n_motifs: int, motif_length: int, levels: int, epistasis: float
) -> None:
    if not 4 <= n_letters <= len(SYMBOLS):
        raise InputError(f"n_letters must be from 4 to {len(SYMBOLS)}, got {n_letters}")
    if n_motifs < 1 or motif_length < 2:
        raise InputError(
            "n_motifs must be at least 1 and motif_length at least 2, got "
            f"{n_motifs} and {motif_length}"
        )
    if length < n_motifs * motif_length:
        raise InputError(
            f"{n_motifs} motifs of {motif_length} elements do not fit {length} letters"
        )
    if not 1 <= levels <= motif_length:
        raise InputError(f"quantization must be from 1 to {motif_length}, got {levels}")
    if motif_length % math.ceil(motif_length / levels):
        raise InputError(
            f"with quantization {levels} no motif of {motif_length} elements is ever whole; take a "
            "quantization that divides it"
        )
    if not 0 <= epistasis <= 3:
        raise InputError(
            f"epistasis must be from 0 to 3, beyond which more elements are worth less, got "
            f"{epistasis}"
        )


def transitions(n_letters: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random walk over letters: its probabilities, and which are not 0, ``[letters, letters]``.

    Each letter is followed by those near another on a circle, or by itself.
    """
    scores = torch.randn(n_letters, n_letters, generator=generator)
    places = torch.arange(n_letters)
    apart = (places[:, None] - places).abs()
    near = torch.minimum(apart, n_letters - apart) <= int(n_letters * BAND)
    near = near[torch.randperm(n_letters, generator=generator)] | torch.eye(n_letters).bool()
    walk = (scores / TEMPERATURE).softmax(-1).where(near, 0.0)
    return walk / walk.sum(-1, keepdim=True), near


def walked(walk: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Letters of a random walk that begins as it would be found after long: ``int64[steps]``."""
    n = len(walk)
    balance = torch.cat([torch.eye(n) - walk.T, torch.ones(1, n)]).double()
    wanted = torch.cat([torch.zeros(n), torch.ones(1)]).double()
    settled = torch.linalg.lstsq(balance, wanted[:, None]).solution[:, 0].clamp(min=0).float()
    letters = [torch.multinomial(settled, 1, replacement=True, generator=generator)]
    for _ in range(steps - 1):
        letters.append(torch.multinomial(walk[letters[-1]], 1, generator=generator)[:, 0])
    return torch.cat(letters)


def spaced(elements: int, room: int, generator: torch.Generator) -> Tensor:
    """Where elements of a motif stand, which share the room between them: ``int64[elements]``."""
    shares = torch.rand(elements - 1, generator=generator)
    shares /= shares.sum()
    steps = 1 + (room * shares).floor().long()
    return torch.cat([steps.new_zeros(1), steps.cumsum(0)])
