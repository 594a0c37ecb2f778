"""Roll-outs that drop what has stopped, ask about early states once, and may be compiled."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gfn_design.environments.base import Environment
from gfn_design.fast.compiled import Compiled, repeat_while
from gfn_design.fast.early_states import EarlyAnswers, EarlyStates
from gfn_design.fast.threads import FEW_TRAJECTORIES, one_thread
from gfn_design.sampling.exploration import FollowsMember
from gfn_design.sampling.trajectories import Sampler, Trajectories, choose, keep
from gfn_design.tensors import where_rows

FEW_ACTIONS = 24  # of which all partial sums are found one by one
BLOCK = 8  # steps between two looks at how many trajectories have stopped
SPAN = 8 * BLOCK  # steps that `take_steps_until_few` takes at most,
LONG_SPAN = 2 * SPAN  # and with so few trajectories that none are dropped
MIN_ROWS = 32  # trajectories up to which dropping some saves nothing
MIN_ROWS_ON_GPU = 1024  # where a step of hundreds should take as long as one of few


def choose_within_a_kernel(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """As `choose`, as part of the kernels around it, where a graph is compiled."""
    n = log_probs.shape[-1]
    if not torch.compiler.is_compiling() or n > FEW_ACTIONS:
        return choose(log_probs, uniform)
    p = log_probs.exp()
    up_to = torch.ones(n, n, dtype=torch.bool, device=p.device).tril()
    cumulative = (p[:, None] * up_to).sum(-1)
    upper = (uniform[:, None] * cumulative[:, -1:]).nan_to_num(0.0)
    return (cumulative <= upper).sum(-1)


def _answering_early(environment: Environment, policy: Sampler, early: EarlyStates) -> Sampler:
    if isinstance(policy, FollowsMember):
        inner: Any = EarlyAnswers(environment, policy.policy, early)  # type: ignore[arg-type]
        return FollowsMember(inner, policy.member)
    return EarlyAnswers(environment, policy, early)


def take_steps(
    environment: Environment,
    policy: Sampler,
    state: Tensor,
    going: Tensor,
    uniform: Tensor,
    early: EarlyStates | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take a few steps forward; a trajectory that stops stays where it is.

    What runs depends on nothing but the shapes of the arguments, so it can be compiled.

    Args:
        environment: What is built.
        policy: Its forward policy decides.
        state: ``int64[batch, *state_shape]``.
        going: ``bool[batch]``, which trajectories have not stopped yet.
        uniform: The randomness, ``float[batch, steps]`` in [0, 1).
        early: If these are the first steps, the states that they may leave.

    Returns:
        The states after each step, the actions, the backward actions undoing them, both 0 where
        there are none, and which trajectories were going before each step and after the last:
        ``bool[batch, steps + 1]``.
    """
    states, actions, undone, alive = [], [], [], [going]
    if early is not None:
        policy = _answering_early(environment, policy, early)
    for u in uniform.unbind(1):
        log_probs = policy.forward_log_probs(state, environment.legal(state))
        action = choose_within_a_kernel(log_probs, u)
        actions.append(action)
        if environment.fixed_length:
            state, undo = environment.step(state, action)
        else:
            going = going & (action != environment.stop)
            after, undo = environment.step(state, action.where(going, 0))
            state = where_rows(going, after, state)
        states.append(state)
        undone.append(undo)
        alive.append(going)
    after, taken, undoing, was = (torch.stack(x, 1) for x in (states, actions, undone, alive))
    if not environment.fixed_length:
        taken, undoing = taken.where(was[:, :-1], 0), undoing.where(was[:, 1:], 0)
    return after, taken, undoing, was


def take_steps_until_few(
    environment: Environment,
    policy: Sampler,
    state: Tensor,
    going: Tensor,
    uniform: Tensor,
    few: Tensor,
    early: EarlyStates | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Take blocks of steps until few trajectories are going; see `take_steps`.

    Args:
        environment: What is built.
        policy: Its forward policy decides.
        state: ``int64[batch, *state_shape]``.
        going: ``bool[batch]``, which trajectories have not stopped yet.
        uniform: The randomness, ``float[batch, steps]``; steps are a multiple of `BLOCK`.
        few: ``int64[]``, with how many trajectories going it stops, after a block at least.
        early: See `take_steps`.

    Returns:
        What `take_steps` returns, of which the last is ``bool[batch, steps]`` before each step, and
        which trajectories are going after the last. Behind the steps that were taken there are
        zeros.
    """
    n, steps = uniform.shape

    def block(at: Tensor, state: Tensor, going: Tensor, first: EarlyStates | None) -> list[Any]:
        some = uniform.index_select(1, at)
        *new, was = take_steps(environment, policy, state, going, some, first)
        return [new[0][:, -1].clone(), was[:, -1].clone(), *new, was[:, :-1]]

    def more(time: Tensor, state: Tensor, going: Tensor, *_: Tensor) -> Tensor:
        return (time < steps) & (going.sum() > few)

    def another(time: Tensor, state: Tensor, going: Tensor, *taken: Tensor) -> tuple[Tensor, ...]:
        at = time + torch.arange(BLOCK, device=time.device)
        state, going, *new = block(at, state, going, None)
        written = [x.index_copy(1, at, y) for x, y in zip(taken, new, strict=True)]
        return time + BLOCK, state, going, *written

    at = torch.arange(BLOCK, device=state.device)
    state, going, *new = block(at, state, going, early)
    rest = steps - BLOCK
    taken = [torch.cat([x, x.new_zeros(n, rest, *x.shape[2:])], 1) for x in new]
    time = torch.full_like(few, BLOCK)
    _, _, going, *taken = repeat_while(more, another, (time, state, going, *taken))
    states, actions, undone, alive = taken
    return states, actions, undone, alive, going


class RollOut:
    """Draws batches.

    Args:
        environment: What is built.
        early: The states that the first steps may leave, if it pays to know them.
        compiled: Compile what takes the steps.
    """

    def __init__(
        self, environment: Environment, early: EarlyStates | None = None, compiled: bool = False
    ) -> None:
        self.environment, self.early, self.compiled = environment, early, compiled
        # Its kernels are small; products of matrices use all threads all the same.
        alone: dict[str, Any] = {"cpp.threads": 1}
        self.take_steps: Any = take_steps
        self.take_steps_until_few: Any = take_steps_until_few
        if compiled:
            self.take_steps = Compiled(take_steps, replayed=True, **alone)
            self.take_steps_until_few = Compiled(take_steps_until_few, dynamic=None, **alone)

    def sample(self, policy: Sampler, uniform: Tensor) -> Trajectories:
        """As `gfn_design.sampling.trajectories.sample`."""
        few = not self.compiled and len(uniform) <= FEW_TRAJECTORIES
        if torch.compiler.is_compiling() or uniform.is_cuda or not few:
            return self._sample(policy, uniform)
        with one_thread():
            return self._sample(policy, uniform)

    @torch.no_grad()
    def _sample(self, policy: Sampler, uniform: Tensor) -> Trajectories:
        environment, limit = self.environment, uniform.shape[1]
        longest = limit + -limit % BLOCK  # trajectory, in whole blocks
        if not environment.fixed_length:  # wherever a span begins, it is whole
            uniform = F.pad(uniform, (0, min(LONG_SPAN, longest)))
        state = environment.initial(len(uniform))
        going = torch.ones(len(state), dtype=torch.bool, device=state.device)
        drawn, early, time = _Drawn(state), self.early, 0
        while time < limit:
            span = uniform[:, time : time + min(LONG_SPAN, longest)]
            *taken, going = self._span(policy, state, going, span, early)
            if not environment.fixed_length:
                steps = int(taken[-1].any(0).sum())
                taken = [x[:, :steps] for x in taken]
            drawn.add(*taken)
            state, time, early = taken[0][:, -1].contiguous(), time + taken[1].shape[1], None
            if environment.fixed_length:
                continue
            left = sum(going.tolist())
            if not left:
                break
            size = _size(len(state), left, MIN_ROWS_ON_GPU if state.is_cuda else MIN_ROWS)
            if size < len(state):
                rows = going.to(torch.uint8).argsort(descending=True, stable=True)[:size]
                state, going, uniform = state[rows], going[rows], uniform[rows]
                policy = keep(policy, rows)
                drawn.keep(rows)
        return drawn.trajectories()

    def _span(
        self,
        policy: Sampler,
        state: Tensor,
        going: Tensor,
        uniform: Tensor,
        early: EarlyStates | None,
    ) -> tuple[Tensor, ...]:
        """States, actions, backward actions, who was going before each step, and who is after."""
        if self.environment.fixed_length or state.is_cuda:
            block = uniform[:, :BLOCK]
            *taken, was = self.take_steps(self.environment, policy, state, going, block, early)
            if state.is_cuda:  # the next call may overwrite them
                *taken, was = (x.clone() for x in (*taken, was))
            return (*taken, was[:, :-1], was[:, -1].contiguous())
        few, steps = (len(state) // 2, SPAN) if len(state) > MIN_ROWS else (0, LONG_SPAN)
        span = uniform[:, :steps]
        answer: tuple[Tensor, ...] = self.take_steps_until_few(
            self.environment, policy, state, going, span, torch.tensor(few), early
        )
        return answer


class _Drawn:
    """What has been drawn so far, of all trajectories."""

    def __init__(self, source: Tensor) -> None:
        self.objects = source
        self.rows: Tensor | None = None  # those that are still drawn; None: all
        self.blocks: list[list[Tensor]] = [[source[:, None]], [], [], []]

    def keep(self, rows: Tensor) -> None:
        """Of those that were still drawn, these are."""
        self.rows = rows if self.rows is None else self.rows[rows]

    def add(self, after: Tensor, action: Tensor, undo: Tensor, was: Tensor) -> None:
        """Put a few steps of some trajectories among all."""
        if self.rows is not None:
            objects, rows = self.objects, self.rows
            still = objects[:, None].expand(-1, after.shape[1], *objects.shape[1:])
            blank = action.new_zeros(len(objects), action.shape[1])
            after = still.index_copy(0, rows, after)
            action, undo = blank.index_copy(0, rows, action), blank.index_copy(0, rows, undo)
            was = blank.bool().index_copy(0, rows, was)
        self.objects = after[:, -1]
        for blocks, block in zip(self.blocks, (after, action, undo, was), strict=True):
            blocks.append(block)

    def trajectories(self) -> Trajectories:
        """All of it."""
        states, actions, undone, alive = (torch.cat(blocks, 1) for blocks in self.blocks)
        nothing = torch.zeros(len(states), device=states.device)
        return Trajectories(states, actions, undone, alive, nothing)


def _size(size: int, left: int, fewest: int) -> int:
    """With how many of `size` trajectories to go on, of which `left` are going."""
    while size > fewest and 2 * left <= size:  # halves, for few different shapes
        size //= 2
    return size
