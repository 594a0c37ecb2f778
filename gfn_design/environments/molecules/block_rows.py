"""Molecules as rows of blocks: one more, one less, and as graphs.

Blocks are ``int64[batch, 4, slots]``: fragment, slot of the parent, the parent's point, own point,
and -1 where there is no block.
"""

import torch
from torch import Tensor

from gfn_design.environments.graph import Graph


def with_block(blocks: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks with a new one, behind those that hang on earlier points of its parent.

    Args:
        blocks: ``int64[batch, 4, slots]``: fragment, slot of the parent, its point, own point.
        new: ``int64[batch, 4, 1]``.

    Returns:
        The blocks, and the slot of the new one: ``int64[batch, 1]``.
    """
    parent, at = new[:, 1], new[:, 2]
    slots = blocks.shape[2]
    slot = torch.arange(slots, device=blocks.device)
    beyond = (blocks[:, 1] < parent) | ((blocks[:, 1] == parent) & (blocks[:, 2] > at))
    beyond = (beyond & (slot > parent)) | (blocks[:, 0] < 0)
    place = torch.where(beyond, slot, slots - 1).amin(1, keepdim=True)
    moved = blocks.gather(2, (slot - (slot > place).long())[:, None].expand_as(blocks))
    up = (moved[:, 1] >= place).long()
    moved = torch.stack([moved[:, 0], moved[:, 1] + up, moved[:, 2], moved[:, 3]], 1)
    return moved.where((slot != place)[:, None], new), place


def without_block(blocks: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks without the one in the slot `place`, ``int64[batch, 1]``, and that one.

    Returns:
        The blocks, and the one that was taken off: ``int64[batch, 4]``.
    """
    off = blocks.gather(2, place[:, None].expand(-1, 4, -1))[..., 0]
    slot = torch.arange(blocks.shape[2], device=blocks.device)
    source = slot + (slot >= place).long()
    padded = torch.cat([blocks, torch.full_like(blocks[..., :1], -1)], 2)
    moved = padded.gather(2, source[:, None].expand_as(blocks))
    down = (moved[:, 1] > place).long()
    return torch.stack([moved[:, 0], moved[:, 1] - down, moved[:, 2], moved[:, 3]], 1), off


def graph_of_blocks(blocks: Tensor, picked: Tensor, there: Tensor, is_open: Tensor) -> Graph:
    """The graph of `Fragments.to_graph`.

    Args:
        blocks: ``int64[batch, 4, slots]``: fragment, slot of the parent, its point, own point.
        picked: The slot and the point that are picked, ``int64[batch, 2]``; -1 if none.
        there: Which points there are, ``bool[batch, slots, points]``.
        is_open: Which of them are open.
    """
    fragment, parent, at, own = blocks.unbind(1)
    slots, points = there.shape[1:]
    code = there.long() + (there & ~is_open).long()
    spot = torch.arange(slots * points, device=blocks.device).view(slots, points)
    chosen = (picked[:, :1] * points + picked[:, 1:])[..., None]
    code = code.masked_fill((spot == chosen) & (picked[:, :1, None] >= 0), 3)
    present = fragment >= 0
    batch, slot = present.nonzero(as_tuple=True)
    number = (present.flatten().cumsum(0) - 1).view_as(present)
    nodes = torch.cat([fragment[batch, slot][:, None], code[batch, slot]], 1)
    row, child = (parent >= 0).nonzero(as_tuple=True)
    up = torch.stack([number[row, child], number[row, parent[row, child]]])
    ends = torch.stack([own[row, child], at[row, child]], 1)
    ends = torch.cat([ends, ends.flip(1)])
    upward = torch.arange(len(ends), device=blocks.device)[:, None] < len(ends) // 2
    features = torch.cat([ends, upward.long()], 1)
    whole = torch.stack([(picked[:, 0] >= 0).long(), present.sum(1)], 1)
    return Graph(nodes, torch.cat([up, up.flip(0)], 1), features, batch, slot, whole)
