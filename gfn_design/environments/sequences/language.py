"""Which sequences are allowed: constraints put together, and what may still be written."""

import math
from collections.abc import Sequence as Many

import numpy as np
import torch
from torch import Tensor, nn

from gfn_design.environments.sequences.automaton import (
    Automaton,
    Bools,
    anything,
    minimised,
    product,
)
from gfn_design.environments.sequences.constraints import Constraint
from gfn_design.environments.sequences.letters import Letters
from gfn_design.errors import InputError


class Language(nn.Module):
    """Sequences of some lengths that meet some constraints.

    What is left open by the letters that are written is known exactly, by a table of automaton
    states and numbers of letters. So no letter is ever allowed that cannot be gone on from.

    Args:
        letters: The alphabet.
        shortest: Letters of the shortest sequence.
        longest: Letters of the longest.
        constraints: All of them are met.

    Attributes:
        following: ``int64[states, letters]``, the automaton.
        completable: ``bool[longest + 1, states]``, whether so many letters that lead to a state are
            the beginning of a sequence, or all of it.
        ends: ``bool[longest + 1, states]``, whether they are one.
        fits: ``bool[longest, letters]``, which letters a place may hold at all.

    Raises:
        InputError: No sequence meets all constraints; the sentence names those that clash.
    """

    following: Tensor
    completable: Tensor
    ends: Tensor
    fits: Tensor

    def __init__(
        self, letters: Letters, shortest: int, longest: int, constraints: Many[Constraint] = ()
    ) -> None:
        super().__init__()
        self.shortest, self.longest = shortest, longest
        self.letters, self.constraints = letters, tuple(constraints)
        for constraint in constraints:
            constraint.check(letters, shortest, longest)
        automaton, fits = self._compiled(self.constraints)
        completable, ends = tables(automaton, fits, shortest)
        if not completable[0, 0]:
            raise InputError(self._clash())
        for name, table in (
            ("following", automaton.following),
            ("completable", completable),
            ("ends", ends),
            ("fits", fits),
        ):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def _compiled(self, constraints: Many[Constraint]) -> tuple[Automaton, Bools]:
        """One automaton for all of them, and what fits the places."""
        size = len(self.letters.symbols)
        fits = np.ones((self.longest, size), dtype=bool)
        machines = []
        for constraint in constraints:
            fits &= constraint.fits(self.letters, self.longest)
            machines.append(constraint.automaton(self.letters, self.longest))
        whole = anything(size)
        for machine in sorted(machines, key=lambda machine: machine.n_states):
            whole = minimised(product(whole, machine))
        return whole, fits

    def _meets(self, constraints: Many[Constraint]) -> bool:
        automaton, fits = self._compiled(constraints)
        return bool(tables(automaton, fits, self.shortest)[0][0, 0])

    def _clash(self) -> str:
        """A sentence on constraints that clash, none of which could be left out of it."""
        clash = list(self.constraints)
        for constraint in self.constraints:
            rest = [other for other in clash if other is not constraint]
            if not self._meets(rest):
                clash = rest
        lengths = f"{self.shortest} to {self.longest}"
        if self.shortest == self.longest:
            lengths = str(self.longest)
        if len(clash) == 1:
            return f"no sequence of {lengths} letters meets '{clash[0]}'; loosen it"
        named = " and ".join(f"'{constraint}'" for constraint in clash)
        return f"no sequence of {lengths} letters meets {named} together; loosen one of them"

    @property
    def n_states(self) -> int:
        """Of the automaton."""
        return len(self.following)

    @property
    def is_everything(self) -> bool:
        """Whether all sequences of these lengths are allowed."""
        return not self.constraints

    def state_of(self, written: Tensor) -> Tensor:
        """The automaton's state after the letters that are written, ``int64[batch]``.

        Args:
            written: ``int64[batch, longest]``, -1 after the last letter.
        """
        state = torch.zeros_like(written[:, 0])
        for letter in written.unbind(1):
            state = torch.where(letter < 0, state, self.following[state, letter.clamp(min=0)])
        return state

    def legal(self, written: Tensor) -> tuple[Tensor, Tensor]:
        """Which letter may come next, ``bool[batch, letters]``, and whether none need to.

        Args:
            written: ``int64[batch, longest]``, -1 after the last letter.
        """
        state, n = self.state_of(written), (written >= 0).sum(1)
        place = n.clamp(max=self.longest - 1)
        after = self.following[state]
        goes_on = self.completable[place[:, None] + 1, after] & self.fits[place]
        return goes_on & (n < self.longest)[:, None], self.ends[n, state]

    def legal_anywhere(self, states: Tensor) -> Tensor:
        """Which letter may be written into which blank place, where all are filled in the end.

        Args:
            states: ``int64[batch, longest]``, -1 where blank.

        Returns:
            ``bool[batch, letters * longest]``, a letter's places together.
        """
        letters = torch.arange(self.fits.shape[1], device=states.device)
        blank = (states < 0)[..., None]
        possible = self.fits & (blank | (states[..., None] == letters))
        costs = torch.zeros_like(possible, dtype=torch.float32).masked_fill(~possible, torch.inf)
        legal = self.least_costs(costs).isfinite() & blank
        return legal.transpose(1, 2).flatten(1)

    def least_costs(self, costs: Tensor) -> Tensor:
        """What the cheapest sequence costs that holds a letter at a place: as `costs`, or inf.

        Args:
            costs: Of each letter at each place, ``float[batch, longest, letters]``; a sequence,
                which has the longest length, costs their sum.
        """
        n, places, n_letters = costs.shape
        letters = range(n_letters)
        to = [self.following[:, letter].expand(n, -1) for letter in letters]
        # Of states of the automaton: the least cost to the end, and from the start.
        ends = self.ends[self.longest].expand(n, -1)
        rest = torch.zeros_like(ends, dtype=costs.dtype).masked_fill(~ends, torch.inf)
        after = [rest]
        for place in reversed(range(places)):
            ways = [rest.gather(1, to[c]) + costs[:, place, c, None] for c in letters]
            rest = torch.stack(ways).amin(0)
            after.append(rest)
        before = torch.full_like(rest, torch.inf).index_fill(1, to[0].new_zeros(1), 0)
        found = []
        for place in range(places):
            rest = after[places - 1 - place]
            through = [before + costs[:, place, c, None] for c in letters]
            found.append(
                torch.stack([(through[c] + rest.gather(1, to[c])).amin(1) for c in letters], 1)
            )
            blank = torch.full_like(before, torch.inf)
            for c in letters:
                blank = blank.scatter_reduce(1, to[c], through[c], "amin")
            before = blank
        return torch.stack(found, 1)

    def log_size(self) -> float:
        """log of the number of sequences, in nats; -inf of 0 cannot be."""
        following, fits = self.following.numpy(force=True), self.fits.numpy(force=True)
        ends, log_scale = self.ends.numpy(force=True), 0.0
        weight = ends[self.longest].astype(float)
        for place in reversed(range(self.longest)):
            weight = (weight[following] * fits[place]).sum(1)
            weight = weight + ends[place] * math.exp(-log_scale)
            top = float(weight.max())
            weight, log_scale = weight / top, log_scale + math.log(top)
        return math.log(weight[0]) + log_scale


def tables(automaton: Automaton, fits: Bools, shortest: int) -> tuple[Bools, Bools]:
    """What can be completed, and what is complete; see `Language`."""
    longest, n = len(fits), automaton.n_states
    lengths = np.arange(longest + 1)
    ends = np.broadcast_to(automaton.accepts, (longest + 1, n)) & (lengths >= shortest)[:, None]
    completable = ends.copy()
    for place in reversed(range(longest)):
        goes_on = completable[place + 1][automaton.following] & fits[place]
        completable[place] |= goes_on.any(1)
    return completable, ends
