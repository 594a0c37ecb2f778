"""Strings of bits with rewards around a code-book: a task whose difficulty is chosen."""

from typing import Literal

import torch
from torch import Tensor, nn

from gfn_design.data.base import DataModule, check_one_length
from gfn_design.environments.base import Environment
from gfn_design.environments.sequences.sequence import Sequence
from gfn_design.errors import InputError
from gfn_design.rewards.reward import LogReward, Reward

WORDS = ("00000000", "11111111", "11110000", "00001111", "00111100")  # of Malkin et al. (2022)
GROUPS, MEMBERS = 4, 16  # of the code-book of neighbours


class BitsData(DataModule):
    """log R(x) = -exponent * d(x), d being the least number of bits that differ from a mode.

    ``words`` is the task of Malkin et al. (2022) as Tiapkin et al. (2024) have it: each mode is a
    string of words drawn from five of 8 bits. ``neighbours`` is a small one: 64 modes in four
    groups of consecutive numbers, g floor((2^n - 64) / 5) + k for g = 1 to 4 and k = 0 to 15.

    Args:
        codebook: ``words`` or ``neighbours``.
        n_modes: How many modes of words; there are 5^(n / 8) in all.
        exponent: The inverse temperature beta: 2 for long strings of words, 0.1 for 16 bits with
            neighbours.
        near: A mode counts as near where an object differs from it in at most so many bits.
        seed: Of the draw of modes.
    """

    def __init__(
        self,
        codebook: Literal["words", "neighbours"] = "words",
        n_modes: int = 60,
        exponent: float = 2.0,
        near: int = 30,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if codebook not in ("words", "neighbours"):
            raise InputError(f"codebook must be words or neighbours, got '{codebook}'")
        if n_modes < 1 or exponent <= 0 or near < 0:
            given = f"{n_modes}, {exponent} and {near}"
            raise InputError(f"n_modes, exponent and near must be positive, got {given}")
        self.codebook, self.n_modes, self.exponent = codebook, n_modes, exponent
        self.near, self.seed = near, seed

    def make_reward(self, environment: Environment) -> Reward:
        spelling = bits_of(environment)
        return LogReward(ModeDistance(self._modes(environment), spelling), 1 / self.exponent)

    def modes(self, environment: Environment) -> Tensor:
        return _symbols(self._modes(environment), bits_of(environment))

    def measure(
        self, environment: Environment, objects: Tensor, probability: Tensor, wanted: Tensor | None
    ) -> dict[str, float]:
        """Of samples, how many modes have one nearby."""
        if wanted is not None:
            return {}
        distance = ModeDistance(self._modes(environment), bits_of(environment)).to_each(objects)
        return {"modes_near": float((distance.min(0).values <= self.near).sum())}

    def held_out(self, environment: Environment) -> Tensor:
        """The test set of Tiapkin et al. (2024): each mode with 0, 1, ... n - 1 bits flipped.

        Returns:
            ``int64[modes * n, *state_shape]``; which bits is drawn anew for each.
        """
        modes = self._modes(environment)
        n = modes.shape[1]
        generator = torch.Generator().manual_seed(self.seed + 1)
        order = torch.rand(len(modes), n, n, generator=generator).argsort(-1)
        flipped = order < torch.arange(n)[:, None]  # i of n ranks are below i
        return _symbols((modes[:, None] ^ flipped).flatten(0, 1), bits_of(environment))

    def _modes(self, environment: Environment) -> Tensor:
        """The modes bit by bit: ``int64[modes, bits]``."""
        n = len(environment.slot_sizes) * bits_of(environment).shape[1]
        if self.codebook == "neighbours":
            return _neighbours(n)
        if n % 8:
            raise InputError(f"codebook words needs a multiple of 8 bits, got {n}; set length")
        if self.n_modes > len(WORDS) ** (n // 8):
            most = len(WORDS) ** (n // 8)
            raise InputError(f"{n} bits have {most} modes of words, got n_modes={self.n_modes}")
        return _words(n // 8, self.n_modes, self.seed)


def bits_of(environment: Environment) -> Tensor:
    """How the symbols of `environment` are written: ``int64[V, k]``, k bits each.

    Raises:
        InputError: It builds no strings of bits.
    """
    symbols = environment.symbols if isinstance(environment, Sequence) else ()
    k = len(symbols[0]) if symbols else 0
    if set(symbols) != {f"{word:0{k}b}" for word in range(2**k)}:
        raise InputError(
            "BitsData needs a Sequence with alphabet bits, bits2, bits4 or bits8, got "
            f"{environment.describe()}"
        )
    check_one_length("BitsData", environment)
    return torch.tensor([[int(bit) for bit in symbol] for symbol in symbols])


def _symbols(bits: Tensor, spelling: Tensor) -> Tensor:
    """Strings of bits as numbers of symbols: ``int64[n, bits]`` to ``int64[n, length]``."""
    places = 2 ** torch.arange(spelling.shape[1]).flip(0)
    number = torch.empty(len(spelling), dtype=torch.int64)
    number[(spelling * places).sum(1)] = torch.arange(len(spelling))
    return number[(bits.unflatten(1, (-1, len(places))) * places).sum(2)]


def _words(length: int, n_modes: int, seed: int) -> Tensor:
    """Different strings of words, in the order in which they were drawn."""
    generator = torch.Generator().manual_seed(seed)
    spelled = torch.tensor([[int(bit) for bit in word] for word in WORDS])
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < n_modes:
        drawn[tuple(torch.randint(len(WORDS), (length,), generator=generator).tolist())] = None
    return spelled[torch.tensor(list(drawn))].flatten(1)


def _neighbours(n: int) -> Tensor:
    """Four groups of 16 consecutive numbers, highest bit first."""
    if not 7 <= n < 63:
        raise InputError(f"codebook neighbours needs 7 to 62 bits, got {n}; set length")
    step = (2**n - GROUPS * MEMBERS) // (GROUPS + 1)
    numbers = step * torch.arange(1, GROUPS + 1)[:, None] + torch.arange(MEMBERS)
    return numbers.flatten()[:, None] >> torch.arange(n).flip(0) & 1


class ModeDistance(nn.Module):
    """-d(x): less the number of bits in which a string differs from the nearest mode.

    Args:
        modes: ``int64[modes, bits]``.
        spelling: ``int64[V, k]``, the bits of each symbol.
    """

    modes: Tensor
    spelling: Tensor

    def __init__(self, modes: Tensor, spelling: Tensor) -> None:
        super().__init__()
        self.register_buffer("modes", modes.float(), persistent=False)
        self.register_buffer("spelling", spelling.float(), persistent=False)

    def to_each(self, objects: Tensor) -> Tensor:
        """Bits that differ from each mode: ``float[batch, modes]``."""
        bits = self.spelling[objects].flatten(1)
        return bits.sum(1, keepdim=True) + self.modes.sum(1) - 2 * bits @ self.modes.T

    def forward(self, objects: Tensor) -> Tensor:
        return -self.to_each(objects).min(1).values
