"""Training steps and their updates in one compiled loop: no Python runs between two batches.

Of a step on a batch of 16, Python would take a third. What a step changes, the weights and Adam's
means, goes round in the loop; all else goes in before it, and comes out after it.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad
from torch.optim import Adam

from gfn_design.fast.adam import adam, scales_of
from gfn_design.fast.compiled import ON_CPU, compiled, repeat_while
from gfn_design.fast.parameter_groups import Group, apart
from gfn_design.fast.rollout import RollOut
from gfn_design.fast.step import EngineOfBatch, OfParts, drawn
from gfn_design.sampling.exploration import Exploration
from gfn_design.sampling.trajectories import LogRewardFunction
from gfn_design.training.divergence import are_finite, diverged
from gfn_design.training.engine import Noise, Parts, total_loss
from gfn_design.training.tally import StepsTaken, Tally

Values = tuple[Tensor, ...]


class NotCompiledError(Exception):
    """A loop cannot be compiled."""


class Loop:
    """Takes batch after batch, each with an update by Adam.

    Args:
        parts: What learns; lengths are fixed, and each batch is learned from once.
        rollout: Draws.
        reward: log R of objects.
        optimizer: One that `suits`.
        names: Of the losses.
        most: Batches at a time.
    """

    def __init__(
        self,
        parts: Parts,
        rollout: RollOut,
        reward: LogRewardFunction,
        optimizer: Adam,
        names: list[str],
        most: int,
    ) -> None:
        self.reward, self.step = reward, _Step(parts, rollout)
        self.optimizer, self.names, self.most = optimizer, names, most
        named = {p: name for name, p in self.step.named_parameters()}
        several = [
            (place, some)
            for place, group in enumerate(optimizer.param_groups)
            for some in apart(group["params"])
        ]
        self.parameters = [some for _, some in several]
        self.groups = tuple(
            Group(place, tuple(named[p] for p in some), tuple(p.shape for p in some))
            for place, some in several
        )
        self.graph = compiled(run_steps, dynamic=False, fullgraph=True, **ON_CPU)
        self.compiled = False
        self.seconds: float | None = None  # that a batch takes

    @staticmethod
    def suits(optimizer: Any) -> bool:
        """Whether a loop does what this optimizer would, which has made an update already."""
        return type(optimizer) is Adam and all(
            not (group["weight_decay"] or group["amsgrad"] or group["maximize"])
            and not isinstance(group["lr"], Tensor)
            and all(p.dtype == torch.float32 and p in optimizer.state for p in group["params"])
            for group in optimizer.param_groups
        )

    def room(self, seconds: float) -> int:
        """How many batches go into so many seconds; 1 until one that compiled nothing was timed."""
        return 1 if self.seconds is None else max(1, int(min(seconds / self.seconds, 1e9)))

    def run(self, noise: list[Tensor], tally: Tally, next_batch: Callable[[], object]) -> None:
        """Learn from batches, and count them.

        Args:
            noise: The randomness of each, ``float[n, steps]``; at most `most`.
            tally: Counts them before any weight has changed, or refuses what cannot be counted.
            next_batch: Called between batches; it may change what Adam's groups say.

        Raises:
            NotCompiledError: The loop could not be compiled. As then, where a reward is refused
                (InputError), no weight has changed; but `next_batch` has been called, and
                exploration counted on, for all batches but the last.
        """
        began, batches, exploration = monotonic(), len(noise), self.step.parts.exploration
        states = [[self.optimizer.state[p] for p in group] for group in self.parameters]
        scales, explored = self._scales(int(states[0][0]["step"]), batches, next_batch)
        changing = [
            [[p.detach() for p in group] for group in self.parameters],
            [[state["exp_avg"] for state in group] for group in states],
            [[state["exp_avg_sq"] for state in group] for group in states],
        ]
        inputs = [_padded(rows, self.most) for rows in (torch.stack(noise), scales, explored)]
        state = [
            tuple(group.flat(x) for group, x in zip(self.groups, kind, strict=True))
            for kind in changing
        ]

        def run(batches: int) -> tuple[Any, ...]:
            n, losses = torch.tensor(batches), torch.zeros(len(self.names))
            return self.graph(self.step, self.reward, self.groups, n, *inputs, *state, losses)

        try:
            *new, objects, log_reward, found = run(batches)
        except Exception as error:  # whatever a compiler chain may raise
            if self.compiled:
                raise
            raise NotCompiledError(str(error) or type(error).__name__) from error
        # Before anything has changed, for a reward may be none; without the rest of the buffers.
        named = dict(zip(self.names, found.unbind(), strict=True))
        if not are_finite((*new[0], found)):
            self._refuse(run, batches, tally)
        tally.record_many(
            StepsTaken(objects[:batches].clone(), log_reward[:batches].clone(), named)
        )
        for kind, flats in zip(changing, new, strict=True):
            for group, old, flat in zip(self.groups, kind, flats, strict=True):
                torch._foreach_copy_(old, group.parts(flat))
        steps = [state["step"] for group in states for state in group]
        torch._foreach_add_(steps, float(batches))
        if exploration is not None:
            exploration.next_batch()
        if self.compiled:
            self.seconds = (monotonic() - began) / batches
        self.compiled = True

    def _scales(
        self, time: int, batches: int, next_batch: Callable[[], object]
    ) -> tuple[list[Any], list[Any]]:
        """What Adam and exploration are at each of the next batches."""
        exploration: Exploration | None = self.step.parts.exploration
        scales, explored = [], []
        for batch in range(batches):
            groups = self.optimizer.param_groups
            scales.append([scales_of(group, time + batch + 1) for group in groups])
            explored.append([] if exploration is None else [*map(float, exploration.buffers())])
            if batch < batches - 1:
                next_batch()
                if exploration is not None:
                    exploration.next_batch()
        return scales, explored

    def _refuse(self, run: Callable[[int], tuple[Any, ...]], batches: int, tally: Tally) -> None:
        """Say after which of some batches the weights are no numbers; none has been changed.

        Raises:
            DivergenceError: Always, but where a reward is at fault (InputError).
        """
        good, bad = 0, batches
        while bad - good > 1:
            middle = (good + bad) // 2
            values, *_, found = run(middle)
            good, bad = (middle, bad) if are_finite((*values, found)) else (good, middle)
        *_, objects, log_reward, found = run(bad)
        objects, log_reward = objects[:bad].flatten(0, 1), log_reward[:bad]
        tally.check_rewards(objects, log_reward.flatten())
        losses = dict(zip(self.names, found.tolist(), strict=True))
        number = tally.draws + bad
        raise diverged(number, losses, log_reward[-1], self.optimizer.param_groups[0]["lr"])


def _padded(rows: Any, n: int) -> Tensor:
    """So many rows, of which those that are not given are zero."""
    x = torch.as_tensor(rows, dtype=torch.float32)
    return torch.cat([x, x.new_zeros(n - len(x), *x.shape[1:])])


class _Step(OfParts):
    """The loss of a batch that is drawn."""

    def forward(self, reward: LogRewardFunction, noise: Tensor) -> tuple[Tensor, Values]:
        parts, rollout = self.parts, self.rollout
        batch, known = drawn(parts, rollout, Noise(noise), reward)
        losses = EngineOfBatch(parts, rollout, known).losses(batch)
        each = torch.stack([*losses.values()])
        built, log_reward = batch.drawn.objects, batch.drawn.log_reward.float()
        return total_loss(losses), (built, log_reward, each)


def _updated(
    step: _Step,
    reward: LogRewardFunction,
    groups: tuple[Group, ...],
    state: list[Values],
    uniform: Tensor,
    scale: Tensor,
    fixed: dict[str, Tensor],
) -> tuple[Any, Values]:
    """What Adam makes of parameters and its means by one batch, and what that was."""

    def loss(trained: dict[str, Tensor]) -> Any:
        return functional_call(step, trained | fixed, (reward, uniform))

    trained = {
        name: x
        for group, flat in zip(groups, state[0], strict=True)
        for name, x in zip(group.names, group.parts(flat), strict=True)
    }
    gradients, batch = grad(loss, has_aux=True)(trained)
    updated = [
        adam(scale[group.place], group.flat(gradients[name] for name in group.names), *own)
        for group, *own in zip(groups, *state, strict=True)
    ]
    return updated, batch


def run_steps(
    step: _Step,
    reward: LogRewardFunction,
    groups: tuple[Group, ...],
    batches: Tensor,
    noise: Tensor,
    scales: Tensor,
    explored: Tensor,
    values: Values,
    means: Values,
    squares: Values,
    found: Tensor,
) -> tuple[Any, ...]:
    """As many training steps as `batches` says, each with an update by Adam.

    Args:
        step: What is learned from a batch.
        reward: log R of objects.
        groups: Of parameters.
        batches: ``int64[]``, at most the number of rows of `noise`.
        noise: ``float[most, n, steps]`` in [0, 1), the randomness of every batch.
        scales: ``float[most, Adam's groups, 5]``, see `adam`.
        explored: ``float[most, k]``, the k buffers of an `Exploration`, if there is one.
        values: Of the parameters of each group.
        means: Of their gradients.
        squares: Means of the squares of their gradients.
        found: ``float[losses]``, of any value.

    Returns:
        The three after the last update; objects, their log R and losses as in `StepsTaken`.
    """
    exploration = step.parts.exploration
    knobs = [] if exploration is None else [name for name, _ in exploration.named_buffers()]

    def body(done: Tensor, *state: Any) -> Any:
        *kinds, objects, log_reward, _ = state
        row = done.view(1)
        uniform, scale, knob = (x.index_select(0, row)[0] for x in (noise, scales, explored))
        fixed = {f"exploration.{name}": x for name, x in zip(knobs, knob.unbind(), strict=True)}

        updated, (built, rewarded, losses) = _updated(
            step, reward, groups, kinds, uniform, scale, fixed
        )
        return (
            done + 1,
            *(tuple(x) for x in zip(*updated, strict=True)),
            objects.index_copy(0, row, built[None]),
            log_reward.index_copy(0, row, rewarded[None]),
            losses,
        )

    source = step.parts.environment.initial(noise.shape[1])
    objects = source.new_zeros(len(noise), *source.shape)
    log_reward = noise.new_zeros(noise.shape[:2])
    start = (torch.zeros_like(batches), values, means, squares, objects, log_reward, found)
    with torch.no_grad():
        _, *learned = repeat_while(lambda done, *_: done < batches, body, start)
    return tuple(learned)
