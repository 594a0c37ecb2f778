"""What is done with tensors in many places."""

import torch
from torch import Tensor


def one_of_each(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Places of one of each of the equal keys, and which of those every key is equal to."""
    unique, where = keys.unique(return_inverse=True)
    place = torch.arange(len(keys), device=keys.device)
    return torch.empty_like(unique).scatter_(0, where, place), where


def where_rows(rows: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Rows of `x` where true, of `y` elsewhere: ``bool[batch]``, and the shape of both."""
    return x.where(rows.view(-1, *[1] * (x.dim() - 1)), y)


def masked_log_softmax(logits: Tensor, legal: Tensor) -> Tensor:
    """log-softmax over the legal entries, -inf elsewhere, even where the logits are NaN."""
    return logits.where(legal, -torch.inf).log_softmax(-1).where(legal, -torch.inf)
