"""Position weight matrices of DNA-binding proteins as scores."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfn_design.rewards.jaspar import Motif


class MotifScore(nn.Module):
    """How strongly a factor binds a sequence, the best possible site counting as 1.

    The sum over all positions, and both strands, of exp(log-odds of the site - the largest
    possible log-odds): the relative occupancy of a weakly bound sequence (Stormo 2000). Sites lie
    inside the sequence; of a motif that is wider, the most informative columns that fit are kept.

    Args:
        motif: The factor's matrix.
        length: Letters in each sequence.
        both_strands: Also read the reverse complement.
        pseudocount: Added to every count, so that a letter never seen is not impossible.
    """

    kernel: Tensor

    def __init__(
        self, motif: Motif, length: int, both_strands: bool = True, pseudocount: float = 1.0
    ) -> None:
        super().__init__()
        counts = torch.from_numpy(motif.counts) + pseudocount
        log_odds = (4 * counts / counts.sum(0)).log()
        if log_odds.shape[1] > length:
            information = (counts / counts.sum(0) * log_odds).sum(0)
            start = int(information.unfold(0, length, 1).sum(1).argmax())
            log_odds = log_odds[:, start : start + length]
        log_odds = log_odds - log_odds.max(0).values
        strands = [log_odds, log_odds.flip(0, 1)] if both_strands else [log_odds]
        self.register_buffer("kernel", torch.stack(strands).float(), persistent=False)

    def forward(self, objects: Tensor) -> Tensor:
        letters = F.one_hot(objects, 4).transpose(1, 2).to(self.kernel.dtype)
        return F.conv1d(letters, self.kernel).exp().sum((1, 2))
