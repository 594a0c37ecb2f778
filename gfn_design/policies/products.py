"""Products of matrices, the same numbers as ``x @ weight + bias`` in the time they need."""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_SLOTS = 4  # up to so many, adding up rows is fastest,
FEW_SLOTS_COMPILED = 8  # and up to so many in a compiled graph, but for its gradient
FEW_COLUMNS = 96  # up to so many, a one-hot product is
FEW_COMPILED = 256  # likewise for gradients in a compiled graph, which add up rows one by one
NARROW = 64  # a product of so many columns is fast, as is one
WIDE, LANES = 16, 8  # of at least so many, if they are a multiple of this
WIDENED_ROWS = 128  # rows of a product that without a compiler gain by being made as wide
FEW_ROWS = 128  # a product of fewer rows is taken in blocks of columns, one for each thread,
BLOCK_COLUMNS = 64  # of at least so many columns


class SlotEmbedding(nn.Module):
    """One-hot encoding of every slot times a matrix; a blank slot adds nothing.

    Args:
        slot_sizes: Values each slot of the flattened state can take.
        width: Numbers in the output.
    """

    offsets: Tensor
    slots: Tensor
    values: Tensor

    def __init__(self, slot_sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.columns, sizes = sum(slot_sizes), torch.tensor(slot_sizes)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes, persistent=False)
        slots = torch.arange(len(sizes)).repeat_interleave(sizes)
        self.register_buffer("slots", slots, persistent=False)  # the slot of each column
        values = torch.arange(self.columns) - self.offsets[slots]
        self.register_buffer("values", values, persistent=False)
        # The last row is what a blank slot points at: zero, and without a gradient.
        bound = 1 / math.sqrt(self.columns)  # as nn.Linear begins
        weight = torch.empty(self.columns + 1, width).uniform_(-bound, bound)
        weight[-1] = 0
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, states: Tensor) -> Tensor:
        """``int64[batch, *state_shape]`` to ``float[batch, width]``."""
        states = states.flatten(1)
        slots, product = states.shape[1], self.columns <= FEW_COLUMNS
        if not torch.compiler.is_compiling():
            product = product and slots > FEW_SLOTS
        elif torch.is_grad_enabled():
            product = self.columns <= FEW_COMPILED
            if product and slots <= FEW_SLOTS_COMPILED:
                with torch.no_grad():  # the answer from rows, and its gradient from a product
                    answer = self._sum_in_one_kernel(states)
                return answered(self.one_hot(states), self.weight[:-1], self.bias, answer)
        elif slots <= FEW_SLOTS_COMPILED:
            return self._sum_in_one_kernel(states)
        if product:
            return affine(self.one_hot(states), self.weight[:-1], self.bias)
        return self._sum(states)

    def one_hot(self, states: Tensor) -> Tensor:
        """``float[batch, columns]``: 1 at the value of each slot."""
        one_hot = states.flatten(1).index_select(1, self.slots) == self.values
        return one_hot.to(self.weight.dtype)

    def rows(self, states: Tensor) -> Tensor:
        """Which row of the matrix each slot adds, ``int64[batch, slots]``; the last of a blank."""
        states = states.flatten(1)
        return (states + self.offsets).masked_fill(states < 0, self.columns)

    def _sum(self, states: Tensor) -> Tensor:
        rows, blank = self.rows(states), self.columns
        if states.shape[1] <= FEW_SLOTS:
            return F.embedding(rows, self.weight, padding_idx=blank).sum(1) + self.bias
        summed = F.embedding_bag(rows, self.weight, mode="sum", padding_idx=blank)
        return summed + self.bias

    def _sum_in_one_kernel(self, states: Tensor) -> Tensor:
        total: Tensor = self.bias
        for row in self.rows(states).unbind(1):
            total = total + F.embedding(row, self.weight)
        return total


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight + bias``: `bias` is ``float[outputs]``, and `weight` ``float[inputs, outputs]``.

    On a CPU a product of a few columns takes several times as long as one that fills vectors, so
    that a narrow weight is made as wide; a single column has a fast product of its own. In a
    compiled graph the bias is added by the kernel that goes on from the product: Inductor makes one
    call of a sum like this, which copies the bias into place first, so that it must not see one.
    """
    compiling, outputs = torch.compiler.is_compiling(), weight.shape[1]
    if compiling or len(x) >= WIDENED_ROWS:
        weight = _widened(weight)
        if weight.shape[1] > outputs:
            return (x @ weight)[:, :outputs] + bias
    if compiling:
        return (_in_column_blocks(x, weight)[None] + bias)[0]
    return torch.addmm(bias, x, weight)


def _in_column_blocks(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight``, of few rows as a product of some columns for each thread.

    One product of few rows keeps two threads busy for little more than half of the time.
    """
    outputs, blocks = weight.shape[1], _threads()
    pays = (
        blocks > 1
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()  # the gradient would be of blocks as well, to be added up
        and outputs % blocks == 0
        and outputs // blocks >= BLOCK_COLUMNS
        # A graph of any number of rows would be compiled anew for few and for many, if it asked.
        and _surely_few(x)
    )
    if not pays:
        return x @ weight
    columns = weight.unflatten(1, (blocks, -1)).transpose(0, 1)
    return torch.bmm(x.expand(blocks, *x.shape), columns).transpose(0, 1).flatten(1)


def _surely_few(x: Tensor) -> bool:
    """Whether a graph that is compiled knows that there are few rows."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # late: it is large

    return bool(statically_known_true(len(x) < FEW_ROWS))


def _threads() -> int:
    """How many can each have a product of their own, which MKL lets them."""
    return torch.get_num_threads() if torch.backends.mkl.is_available() else 1


# As torch.compiler.assume_constant_result marks it, which imports Dynamo.
_threads._dynamo_marked_constant = True  # type: ignore[attr-defined]


def product_of_few_columns(x: Tensor, y: Tensor) -> Tensor:
    """``x @ y``, laid out as usual, where `y` may have few columns."""
    wide = _widened(y)
    return x @ y if wide is y else (x @ wide)[:, : y.shape[1]].contiguous()


def _widened(x: Tensor) -> Tensor:
    """With zeros for columns, where a product with as many columns as `x` takes longer on a CPU."""
    columns = x.shape[1]
    wide = max(WIDE, columns + -columns % LANES)
    if 1 < columns < wide <= NARROW and x.device.type == "cpu":
        return F.pad(x, (0, wide - columns))
    return x


def answered(x: Tensor, weight: Tensor, bias: Tensor, answer: Tensor) -> Tensor:
    """`answer`, ``float[batch, outputs]``, with the gradient of ``x @ weight + bias``."""
    assert len(answer) == len(x)
    # A view: Dynamo takes the weight itself for one that needs no gradient, and gives zero.
    return cast(Tensor, _Answered.apply(x, weight.view_as(weight), bias, answer))


class _Answered(torch.autograd.Function):
    """``answer``, with the gradient of ``x @ weight + bias``."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, answer: Tensor) -> Tensor:
        return answer.view_as(answer)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        of_weight = (x.t() @ _widened(gradient))[:, : gradient.shape[1]]
        return gradient @ weight.t(), of_weight, gradient.sum(0), None
