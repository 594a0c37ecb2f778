"""Sequences that are a few substitutions away from a given one."""

from collections.abc import Sequence as Texts

import torch
from torch import Tensor

from gfn_design.environments.graph import ActionLayout, Graph, GraphEnvironment, dense_to_graph
from gfn_design.environments.sequences.constraints import Constraint
from gfn_design.environments.sequences.language import Language
from gfn_design.environments.sequences.letters import ALPHABETS, Letters
from gfn_design.environments.sequences.rules import Rules
from gfn_design.errors import InputError


class Edits(GraphEnvironment):
    """All sequences within so many substitutions of a wild type, itself included or not.

    A state is the new letter at each place, -1 where it is as in the wild type. Action c L + j
    puts letter c at place j, which has been left alone so far; the last action stops. Backward
    action j takes the change at place j back: a sequence has as many parents as changes, and all
    orders of making them lead to it.

    Args:
        wild_type: The sequence to start from.
        at_most: Substitutions, at least 1.
        positions: Where they may be, as residues are numbered, from 1; a text such as
            ``3,17-25``, or a list; None is anywhere.
        letters: Which letters may be put there; None is all of the alphabet.
        alphabet: ``protein``, ``DNA``, ``RNA``, or a string of letters; None is DNA or RNA if the
            wild type holds their letters alone, else protein.
        at_least: Substitutions that every object has.
        constraints: What every object meets; no change is legal after which it no longer can.
    """

    codes: Tensor
    choices: Tensor
    weights: Tensor

    def __init__(
        self,
        wild_type: str,
        at_most: int = 5,
        positions: str | list[int] | None = None,
        letters: str | None = None,
        alphabet: str | None = None,
        at_least: int = 0,
        constraints: list[Constraint] | None = None,
    ) -> None:
        super().__init__()
        alphabet = alphabet or alphabet_of(wild_type)
        self.letters = Letters(tuple(ALPHABETS.get(alphabet.lower(), alphabet)))
        self.symbols, self.alphabet = self.letters.symbols, alphabet
        self.wild_type = self.letters.read("".join(wild_type.split()))
        self.length, size = len(self.wild_type), len(self.symbols)
        self.min_length, self.at_most, self.at_least = self.length, at_most, at_least
        self.constraints = tuple(constraints or ())
        choices = self._choices(positions, letters)
        n_open = int(choices.any(1).sum())
        if not 0 <= at_least <= at_most <= n_open or at_most < 1:
            raise InputError(
                f"Edits needs at_most from 1 to {n_open}, the number of positions that may change, "
                f"and at_least from 0 to at_most, got {at_most} and {at_least}"
            )
        if at_least and self.constraints:
            raise InputError(
                "whether constraints can be met by no fewer than some substitutions is not known; "
                "leave out at_least, or the constraints"
            )
        self.register_buffer("choices", choices, persistent=False)
        codes = torch.tensor([self.symbols.index(letter) for letter in self.wild_type])
        self.register_buffer("codes", codes, persistent=False)
        self.max_steps, self.slot_sizes = at_most + 1, (size,) * self.length
        self.n_actions, self.n_backward_actions = size * self.length + 1, self.length
        self.language = self._language()
        self.n_slots, self.node_sizes, self.edge_sizes = self.length, (2 * size, self.length), (2,)
        self.forward_layout = ActionLayout(graph=self.n_actions)
        self.backward_layout = ActionLayout(graph=self.n_backward_actions)
        count = (size + 1) ** self.length
        self.n_states = count if count < 2**40 else None
        places = [(size + 1) ** j if self.n_states else 0 for j in range(self.length)]
        self.register_buffer("weights", torch.tensor(places), persistent=False)

    def _choices(self, positions: str | list[int] | None, letters: str | None) -> Tensor:
        """Which letters may be put where: ``bool[length, letters]``."""
        if bad := [letter for letter in self.wild_type if letter not in self.symbols]:
            raise InputError(
                f"wild_type holds '{bad[0]}', which is not in the alphabet {' '.join(self.symbols)}"
            )
        if not self.wild_type:
            raise InputError("wild_type must hold a letter at least, got ''")
        some = self.letters.read(letters) if letters else "".join(self.symbols)
        if bad := [letter for letter in some if letter not in self.symbols]:
            raise InputError(f"letters: '{bad[0]}' is not in the alphabet {' '.join(self.symbols)}")
        open_places = range(1, self.length + 1) if positions is None else places_of(positions)
        if bad_places := [p for p in open_places if not 1 <= p <= self.length]:
            raise InputError(
                f"positions are numbered from 1 to {self.length}, the length of the wild type, "
                f"got {bad_places[0]}"
            )
        choices = torch.zeros(self.length, len(self.symbols), dtype=torch.bool)
        for place in open_places:
            for letter in some:
                if letter != self.wild_type[place - 1]:
                    choices[place - 1, self.symbols.index(letter)] = True
        return choices

    def _language(self) -> Language | None:
        if not self.constraints:
            return None
        language = Language(self.letters, self.length, self.length, self.constraints)
        self.language = language
        if not self._moves_and_stop(self.initial(1))[0].any() and not self._stops(self.initial(1)):
            named = " and ".join(f"'{constraint}'" for constraint in self.constraints)
            raise InputError(
                f"no sequence within {self.at_most} substitutions of the wild type meets {named}; "
                "allow more of them, or other positions and letters"
            )
        return language

    def extra_repr(self) -> str:
        text = f"wild_type='{self.wild_type}', at_most={self.at_most}"
        where = self.choices.any(1).nonzero().flatten() + 1
        if len(where) < self.length:
            text += f", positions={','.join(map(str, where.tolist()))}"
        some = self.choices.any(0)
        if not bool(some.all()):
            text += (
                f", letters='{''.join(s for s, x in zip(self.symbols, some, strict=True) if x)}'"
            )
        text += f", alphabet='{self.alphabet}'"
        if self.at_least:
            text += f", at_least={self.at_least}"
        if self.constraints:
            text += f", constraints=[{'; '.join(map(str, self.constraints))}]"
        return text

    def initial(self, n: int) -> Tensor:
        return torch.full((n, self.length), -1, device=self.codes.device)

    def letters_of(self, states: Tensor) -> Tensor:
        """The sequences that states are: ``int64[batch, length]``, a number for each letter."""
        return torch.where(states >= 0, states, self.codes)

    def states_of(self, letters: Tensor) -> Tensor:
        """The states that sequences are; see `letters_of`."""
        return letters.masked_fill(letters == self.codes, -1)

    def rules(self) -> Rules:
        """Which sequences there are: a letter that is not the wild type's is a substitution."""
        language = self.language or Language(self.letters, self.length, self.length)
        new = self.codes.cpu()[:, None] != torch.arange(len(self.symbols))
        fits = (language.fits.cpu() & (self.choices.cpu() | ~new)).numpy()
        return Rules(language, fits, new.long().numpy(), (self.at_least, self.at_most))

    def _moves_and_stop(self, states: Tensor) -> tuple[Tensor, Tensor]:
        changed = (states >= 0).sum(1)
        moves = self.choices & (states < 0)[..., None] & (changed < self.at_most)[:, None, None]
        if self.language is not None:
            moves = moves & (self._costs_in_all(states) <= self.at_most)
        return moves.transpose(1, 2).flatten(1), changed >= self.at_least

    def _costs_in_all(self, states: Tensor) -> Tensor:
        """Substitutions of the cheapest object that has a letter at a place, or inf."""
        assert self.language is not None
        letters = torch.arange(len(self.symbols), device=states.device)
        here = self.letters_of(states)[..., None] == letters
        possible = self.language.fits & (here | (self.choices & (states < 0)[..., None]))
        costs = (~here | (states >= 0)[..., None]).float().masked_fill(~possible, torch.inf)
        return self.language.least_costs(costs)

    def _stops(self, states: Tensor) -> Tensor:
        """Whether the sequence of each state is an object."""
        enough = (states >= 0).sum(1) >= self.at_least
        if self.language is None:
            return enough
        written = self.letters_of(states)
        state = self.language.state_of(written)
        fits = self.language.fits[torch.arange(self.length, device=states.device), written].all(1)
        return enough & self.language.ends[self.length, state] & fits

    def legal(self, states: Tensor) -> Tensor:
        moves, _ = self._moves_and_stop(states)
        return torch.cat([moves, self._stops(states)[:, None]], 1)

    def legal_backward(self, states: Tensor) -> Tensor:
        return states >= 0

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        place, letter = actions[:, None] % self.length, actions[:, None] // self.length
        return states.scatter(1, place, letter), place[:, 0]

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        place = backward_actions[:, None]
        letter = states.gather(1, place).clamp(min=0)
        return states.scatter(1, place, -1), (letter * self.length + place)[:, 0]

    def log_ways(self, states: Tensor) -> Tensor:
        return ((states >= 0).sum(-1).double() + 1).lgamma()

    def to_graph(self, states: Tensor) -> Graph:
        """The chain of letters: which letter, and whether it is new; neighbours are joined."""
        n, place = len(states), torch.arange(self.length, device=states.device)
        letter = self.letters_of(states) + len(self.symbols) * (states >= 0)
        way = place - place[:, None]
        joined = (way.abs() == 1).expand(n, -1, -1)
        nodes = torch.stack([letter, place.expand_as(states)], 2)
        edges = (way < 0).long().expand(n, -1, -1)[..., None]
        return dense_to_graph(
            torch.ones_like(states, dtype=torch.bool), nodes, joined, edges, states[:, :0]
        )

    def decode(self, states: Tensor) -> list[str]:
        return ["".join(self.symbols[i] for i in row) for row in self.letters_of(states).tolist()]

    def encode(self, texts: Texts[str]) -> Tensor:
        rows = []
        for text in texts:
            read = self.letters.read("".join(text.split()))
            if len(read) != self.length:
                raise InputError(
                    f"'{text}' has {len(read)} letters, and the wild type {self.length}"
                )
            row = [
                -1 if a == b else self._code(text, a)
                for a, b in zip(read, self.wild_type, strict=True)
            ]
            rows.append(row)
        states = torch.tensor(rows, dtype=torch.int64).view(-1, self.length)
        states = states.to(self.codes.device)
        changed = (states >= 0).sum(1)
        for text, n in zip(texts, changed.tolist(), strict=True):
            if n > self.at_most:
                raise InputError(
                    f"'{text}' is {n} substitutions from the wild type, expected at most "
                    f"{self.at_most}"
                )
        return states

    def _code(self, text: str, letter: str) -> int:
        if letter not in self.symbols:
            raise InputError(
                f"'{text}' holds '{letter}', which is not in the alphabet {' '.join(self.symbols)}"
            )
        return self.symbols.index(letter)

    def changes(self, states: Tensor) -> list[str]:
        """What differs from the wild type, as ``A23V T65S``; empty where nothing does."""
        return [
            " ".join(
                f"{self.wild_type[place]}{place + 1}{self.symbols[letter]}"
                for place, letter in enumerate(row)
                if letter >= 0
            )
            for row in states.tolist()
        ]

    def columns(self, texts: Texts[str]) -> dict[str, list[str]]:
        """What differs from the wild type."""
        return {"changes": self.changes(self.encode(texts))}

    def state_index(self, states: Tensor) -> Tensor:
        return ((states + 1) * self.weights).sum(-1)


def alphabet_of(text: str) -> str:
    """What a text of letters is most likely written in."""
    letters = {*"".join(text.split()).upper()}
    return "DNA" if letters <= {*"ACGT"} else "RNA" if letters <= {*"ACGU"} else "protein"


def places_of(text: str | list[int]) -> list[int]:
    """Positions of a list, or of a text such as ``3,17-25``, in order.

    Raises:
        InputError: It is none.
    """
    if not isinstance(text, str):
        return sorted(set(map(int, text)))
    places = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(f"positions must be such as '3,17-25', got '{text}'")
        if dash and int(last) < int(first):
            raise InputError(f"positions: '{part.strip()}' runs backwards, got '{text}'")
        places |= {*range(int(first), int(last or first) + 1)}
    return sorted(places)
