"""Molecules grown from fragments, joined at attachment points."""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gfn_design.environments.graph import ActionLayout, Graph, GraphEnvironment
from gfn_design.environments.molecules.attachment import mark
from gfn_design.environments.molecules.block_rows import (
    graph_of_blocks,
    with_block,
    without_block,
)
from gfn_design.environments.molecules.ends import Limits, block_tables
from gfn_design.environments.molecules.forbidden import listed_patterns
from gfn_design.environments.molecules.spelling import Assembly
from gfn_design.environments.molecules.vocabulary import Fragment, marked, vocabulary
from gfn_design.environments.numbering import Enumerated
from gfn_design.errors import InputError


class Fragments(Enumerated, GraphEnvironment):
    """Molecules of up to `max_blocks` fragments, each joined to one that is there already.

    A block is a fragment in a molecule. The first one exposes all its points. From then on two
    actions add a block: the first picks an open point of a block, the second a fragment and which
    of its points goes there; the bond takes the place of a hydrogen at both ends. One action may
    stop where at least `min_blocks` are there and nothing is picked.

    Where fragments have link types (those that `gfn-design mine` cuts have), only ends are joined
    that BRICS would join, and points that fit nothing stay closed.

    A state lists the blocks in depth-first order from the first one, children by the point of
    their parent, so the order in which they were added leaves no trace. With S = `max_blocks` it is
    four rows of S slots, -1 where there is no block (fragment; slot of the parent; the parent's
    point; own point), and then the slot and the point that are picked. Taking any leaf off undoes
    its addition.

    Which block came first does leave a trace, as do equivalent points and other fragments that make
    the same molecule: `log_states_per_object` counts the states of each molecule, exactly.

    Args:
        fragments: ``druglike``, ``seh_72``, ``seh_105`` or a file (see `vocabulary`), a list of
            SMILES with points marked by ``[*]``, or of `Fragment`.
        max_blocks: Of a molecule, the core included.
        min_blocks: Of a molecule, likewise.
        core: A SMILES with points marked by ``[*]``: the first block of every molecule.
        forbidden: SMARTS of substructures, or names of lists of them: ``unstable`` (peroxides, N-N,
            N-O and N-S, ...) and ``reactive`` (aldehydes, thiols, acyl ureas, ...). A fragment that
            brings one along wherever it is used is left out; molecules that come to hold one
            otherwise are rejected at the end.
        numbered: Number the states, for exact evaluation, if there are at most so many.
        closed: Stop only where no point that something fits is left open, where a hydrogen would
            be: of mined fragments the series has something at every point. A block is added only
            if blocks enough are left to cap all open points.
        frequency: Power of how often fragments were found by which molecules weigh, from 0: the
            reward is multiplied by (count / mean count)^frequency of each fragment. 0 asks for the
            reward alone, 1 for molecules as usual as those that the fragments were mined from.
    """

    molecules = True
    several_states = True

    sizes: Tensor
    pair_of: Tensor
    first_pair: Tensor
    begins: Tensor
    pair_opens: Tensor
    pair_fragment: Tensor
    pair_point: Tensor
    kind_of: Tensor
    fits: Tensor

    def __init__(
        self,
        fragments: str | list[str] | tuple[Fragment, ...] = "druglike",
        max_blocks: int = 9,
        min_blocks: int = 1,
        core: str | None = None,
        forbidden: list[str] | None = None,
        numbered: int = 20_000,
        closed: bool = False,
        frequency: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= min_blocks <= max_blocks:
            raise InputError(
                f"min_blocks must be from 1 to max_blocks, got {min_blocks} and {max_blocks}"
            )
        if not 0 <= frequency < math.inf:
            raise InputError(f"frequency must be a number from 0, got {frequency}")
        name = fragments if isinstance(fragments, str) else "fragments"
        listed: list[Fragment] = []
        if isinstance(fragments, str):
            listed += vocabulary(fragments)
        else:
            for i, it in enumerate(fragments, 1):
                where = f"{name}, fragment {i}"
                listed.append(it if isinstance(it, Fragment) else marked(str(it), where))
        self.max_blocks, self.min_blocks = max_blocks, min_blocks
        self.name, self.n_slots = name, max_blocks
        patterns = listed_patterns(forbidden or ())
        self.assembly = Assembly(listed, name, min_blocks, max_blocks, core, patterns, closed)
        self.closed, self.rejects = closed, bool(forbidden)
        self.frequency, self.weighs = frequency, frequency > 0
        self.every = self.assembly.pieces  # the core, if there is one, last
        self.core = self.every[-1] if core is not None else None
        self.pieces = self.every[: len(self.every) - (core is not None)]
        self.max_points = max(len(piece.fragment.points) for piece in self.every)
        limits = Limits(min_blocks, max_blocks, closed, name)
        for label, table in block_tables(self.pieces, self.core, limits).items():
            self.register_buffer(label, table, persistent=False)
        self.n_actions = self.n_slots * self.max_points + len(self.pair_point) + 1
        self.n_backward_actions = self.n_slots + 1
        self.max_steps = 2 * max_blocks - (self.core is not None)
        slots, points = self.n_slots, self.max_points
        self.slot_sizes = (
            *(len(self.every),) * slots,
            *(slots,) * slots,
            *(points,) * (2 * slots),
            slots,
            points,
        )
        self._make_layout()
        self.number_states(numbered)

    def extra_repr(self) -> str:
        names = "\n".join(_name(piece.fragment) for piece in self.every)
        digest = hashlib.sha256(names.encode()).hexdigest()[:12]
        core = "" if self.core is None else f", core='{mark(self.core.fragment)}'"
        return (
            f"fragments={len(self.pieces)} ({digest}), max_blocks={self.max_blocks}, "
            f"min_blocks={self.min_blocks}{core}{', closed' if self.closed else ''}"
        )

    # ---- Blocks as tensors ---------------------------------------------------------------------

    def _blocks(self, states: Tensor) -> Tensor:
        """Fragment, parent, the parent's point, own point: ``int64[batch, 4, n_slots]``."""
        return states[:, :-2].unflatten(1, (4, self.n_slots))

    def _points(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Which points there are and which are open: ``bool[batch, n_slots, max_points]`` each."""
        fragment, parent, at, own = blocks.unbind(1)
        slots, points = self.n_slots, self.max_points
        there = torch.arange(points, device=blocks.device) < self.sizes[fragment + 1][..., None]
        grows = self.kind_of[fragment + 1] > 0
        nowhere = slots * points
        slot = torch.arange(slots, device=blocks.device)
        ends = [
            (parent * points + at).masked_fill(parent < 0, nowhere),
            (slot * points + own).masked_fill(own < 0, nowhere),
        ]
        taken = torch.zeros_like(there.flatten(1), dtype=torch.int64)
        taken = torch.cat([taken, taken[:, :1]], 1).scatter(1, torch.cat(ends, 1), 1)
        return there, there & grows & (taken[:, :-1].unflatten(1, (slots, points)) == 0)

    def initial(self, n: int) -> Tensor:
        state = torch.full((n, 4 * self.n_slots + 2), -1, device=self.sizes.device)
        if self.core is not None:
            state[:, 0] = len(self.pieces)
        return state

    def legal(self, states: Tensor) -> Tensor:
        blocks, picked = self._blocks(states), states[:, -2:-1] >= 0
        count = (blocks[:, 0] >= 0).sum(1, keepdim=True)
        is_open = self._points(blocks)[1].flatten(1)
        left = is_open.sum(1, keepdim=True)
        opens = left - 1 + self.pair_opens
        # A block must leave something open to grow at, as long as the molecule is too small.
        grows = (count + 1 >= self.min_blocks) | (opens > 0)
        stops = (count >= self.min_blocks) & ~picked
        if self.closed:
            # There must be as many blocks left as are then open, and a cap for the last of them.
            grows = grows & (count + 1 + opens <= self.max_blocks)
            stops = stops & (left == 0)
        slot, point = states[:, -2].clamp(min=0), states[:, -1].clamp(min=0)
        rows = torch.arange(len(states), device=states.device)
        kind = self.kind_of[blocks[rows, 0, slot] + 1, point]
        joins = picked & grows & self.fits[kind]
        kinds = self.kind_of[blocks[:, 0] + 1].flatten(1)
        # A point may be picked if something fits that leaves enough to grow at.
        may = (grows.float() @ self.fits.T.float()).gather(1, kinds) > 0
        return torch.cat(
            [
                is_open & may & ~picked & (count < self.max_blocks),
                torch.where(count == 0, self.begins, joins),
                stops,
            ],
            1,
        )

    def legal_backward(self, states: Tensor) -> Tensor:
        blocks, picked = self._blocks(states), states[:, -2:-1] >= 0
        fragment, parent = blocks[:, 0], blocks[:, 1]
        children = fragment.new_zeros(len(fragment), self.n_slots + 1)
        children = children.scatter(1, parent.masked_fill(parent < 0, self.n_slots), 1)[:, :-1]
        leaf = (fragment >= 0) & (children == 0)
        if self.core is not None:
            leaf = leaf & (parent >= 0)
        return torch.cat([leaf & ~picked, picked], 1)

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        slots, points = self.n_slots, self.max_points
        action, picked = actions[:, None], states[:, -2:]
        picks = action < slots * points
        chosen = torch.cat([action // points, action % points], 1)
        after_pick = torch.cat([states[:, :-2], chosen], 1)
        # Where the new block goes: behind the blocks that hang on earlier points of its parent.
        pair = (action - slots * points).clamp(0, len(self.pair_point) - 1)
        fragment, own = self.pair_fragment[pair], self.pair_point[pair]
        blocks = self._blocks(states)
        parent, at = picked[:, :1], picked[:, 1:]
        root = blocks[:, 0, :1] < 0
        own = own.masked_fill(root, -1)
        moved, place = with_block(blocks, torch.stack([fragment, parent, at, own], 1))
        after_join = torch.cat([moved.flatten(1), torch.full_like(picked, -1)], 1)
        undo = torch.where(picks, slots, place)
        return torch.where(picks, after_pick, after_join), undo[:, 0]

    def backward_step(self, states: Tensor, backward_actions: Tensor) -> tuple[Tensor, Tensor]:
        slots, points = self.n_slots, self.max_points
        undo, picked = backward_actions[:, None], states[:, -2:]
        unpicks = undo == slots
        before_pick = torch.cat([states[:, :-2], torch.full_like(picked, -1)], 1)
        pick = (picked[:, :1] * points + picked[:, 1:]).clamp(min=0)
        place = undo.clamp(max=slots - 1)
        blocks = self._blocks(states)
        moved, off = without_block(blocks, place)
        fragment, parent, at, own = off[:, :, None].unbind(1)
        before_join = torch.cat([moved.flatten(1), parent, at], 1)
        kind = fragment.clamp(min=0)
        pair = self.pair_of[kind * points + own.clamp(min=0)]
        join = slots * points + torch.where(parent < 0, self.first_pair[kind], pair)
        return (
            torch.where(unpicks, before_pick, before_join),
            torch.where(unpicks, pick, join)[:, 0],
        )

    # ---- Molecules as text ---------------------------------------------------------------------

    def decode(self, states: Tensor) -> list[str]:
        """Canonical SMILES, with a hydrogen at every open point; empty at a source without core."""
        return self.assembly.smiles(states[:, :-2].tolist())

    def encode(self, texts: Sequence[str]) -> Tensor:
        """A state of each molecule, of as few blocks as can be; stereo marks are not read.

        Raises:
            InputError: A text is no SMILES, or the molecule cannot be built.
        """
        rows = [[*self.assembly.row(text), -1, -1] for text in texts]
        states = torch.tensor(rows, dtype=torch.int64, device=self.sizes.device)
        return states.view(-1, 4 * self.n_slots + 2)

    def log_states_per_object(self, objects: Tensor) -> Tensor:
        copies = self.assembly.log_states_per_object(self.decode(objects))
        return torch.tensor(copies, dtype=torch.float64, device=objects.device)

    def rejected_for(self, objects: Tensor) -> list[str | None]:
        return self.assembly.forbidden_in(self.decode(objects))

    def log_weight(self, objects: Tensor) -> Tensor:
        usual = self.assembly.log_frequency(self.decode(objects))
        return self.frequency * torch.tensor(usual, dtype=torch.float64, device=objects.device)

    # ---- Molecules as graphs -------------------------------------------------------------------

    def _make_layout(self) -> None:
        points = self.max_points
        self.forward_layout = ActionLayout(node=points, graph=len(self.pair_point) + 1)
        self.backward_layout = ActionLayout(node=1, graph=1)
        self.node_sizes = (len(self.every), *(4,) * points)
        self.edge_sizes = (points, points, 2)
        self.graph_sizes = (2, self.n_slots + 1)

    def to_graph(self, states: Tensor) -> Graph:
        """The states as a graph of blocks.

        A node says which fragment it is, and of each point whether it is missing (0), open (1),
        taken (2) or picked (3); an edge the points at its start and end, and whether it leads from
        child to parent; a state whether a point is picked, and how many blocks there are.
        """
        blocks = self._blocks(states)
        return graph_of_blocks(blocks, states[:, -2:], *self._points(blocks))


def _name(fragment: Fragment) -> str:
    """A fragment as it is known by: without link types as it was before there were any."""
    return str(tuple(fragment[: 4 if fragment.links else 3]))
