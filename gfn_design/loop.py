"""Training steps and their updates in one compiled loop: no Python runs between two batches.

Of a step on a batch of 16, Python would take a third. What a step changes, the weights and Adam's
means, goes round in the loop; all else goes in before it, and comes out after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.optim import Adam

from gfn_design.compiled import ON_CPU, Losses, compiled, loss_of, repeat_while
from gfn_design.divergence import are_finite, diverged
from gfn_design.sampling.noise import TRAINING
from gfn_design.sampling.trajectories import Reward
from gfn_design.training_step import Noise, Parts, collect, losses, recorder_of

if TYPE_CHECKING:
    from gfn_design.gflownet import GFlowNet

Values = tuple[Tensor, ...]
ALIGNED = 16  # numbers: a line of the cache
LARGE = 2**14  # numbers: to copy so many costs more than a kernel of their own


class NotCompiledError(Exception):
    """A loop cannot be compiled."""


class Group(NamedTuple):
    """Parameters that Adam updates alike, in one tensor: kernels for each take long to compile.

    Large ones have a group to themselves, so that their gradients are not copied.

    Attributes:
        place: Which of Adam's own groups they are from.
        names: Of the parameters.
        shapes: Of the parameters.
    """

    place: int
    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    def flat(self, tensors: Iterable[Tensor]) -> Tensor:
        """One for each parameter, end to end, each beginning at a multiple of `ALIGNED`."""
        if len(self.names) == 1:  # itself: a view
            return next(iter(tensors)).flatten()
        pieces = []
        for x in tensors:
            pieces.append(x.flatten())
            if gap := -x.numel() % ALIGNED:
                pieces.append(x.new_zeros(gap))
        return torch.cat(pieces)

    def parts(self, flat: Tensor) -> list[Tensor]:
        """The inverse of `flat`, as views."""
        if len(self.names) == 1:
            return [flat.view(self.shapes[0])]
        sizes = [shape.numel() for shape in self.shapes]
        places = flat.split([n + -n % ALIGNED for n in sizes])
        shaped = zip(places, sizes, self.shapes, strict=True)
        return [place[:n].view(shape) for place, n, shape in shaped]


class Learned(NamedTuple):
    """What is left of the batches of a loop.

    Attributes:
        objects: ``int64[batches, n, *state_shape]``.
        log_reward: ``float[batches, n]``.
        losses: Of the last batch, by name.
    """

    objects: Tensor
    log_reward: Tensor
    losses: Losses


class Loop:
    """Takes batch after batch, each with an update by Adam.

    Args:
        module: Its step is `static`, and it has taken a batch already.
        optimizer: One that `suits`.
    """

    def __init__(self, module: GFlowNet, optimizer: Adam) -> None:
        assert module.loss_names is not None
        self.module, self.optimizer, self.names = module, optimizer, module.loss_names
        self.reward, self.step = module.state_reward(), _Step(module.parts)
        names = {p: name for name, p in self.step.named_parameters()}
        apart = [
            (place, some)
            for place, group in enumerate(optimizer.param_groups)
            for some in _apart(group["params"])
        ]
        self.parameters = [some for _, some in apart]
        self.groups = tuple(
            Group(place, tuple(names[p] for p in some), tuple(p.shape for p in some))
            for place, some in apart
        )
        self.run = compiled(learn, dynamic=False, fullgraph=True, **ON_CPU)
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

    def learn(self, batches: int, next_batch: Callable[[], object]) -> None:
        """Learn from batches, and count them in the module.

        Args:
            batches: At most the module's `burst`.
            next_batch: Called between batches; it may change what Adam's groups say.

        Raises:
            NotCompiledError: The loop could not be compiled. As then, where a reward is refused
                (InputError), no weight has changed; but `next_batch` has been called, and
                exploration counted on, for all batches but the last.
        """
        began, module, exploration = monotonic(), self.module, self.module.exploration
        noise, scales, explored = [], [], []
        states = [[self.optimizer.state[p] for p in group] for group in self.parameters]
        time = int(states[0][0]["step"])
        for batch in range(batches):
            noise.append(module.noise(module.batch_size, TRAINING, module.draws + batch))
            scales.append(
                [_scales(group, time + batch + 1) for group in self.optimizer.param_groups]
            )
            explored.append([] if exploration is None else [*map(float, exploration.buffers())])
            if batch < batches - 1:
                next_batch()
                if exploration is not None:
                    exploration.next_batch()
        changing = [
            [[p.detach() for p in group] for group in self.parameters],
            [[state["exp_avg"] for state in group] for group in states],
            [[state["exp_avg_sq"] for state in group] for group in states],
        ]
        inputs = [_padded(rows, module.burst) for rows in (torch.stack(noise), scales, explored)]
        state = [
            tuple(group.flat(x) for group, x in zip(self.groups, kind, strict=True))
            for kind in changing
        ]

        def run(batches: int) -> tuple[Any, ...]:
            return self.run(
                self.step,
                self.reward,
                self.groups,
                torch.tensor(batches),
                *inputs,
                *state,
                torch.zeros(len(self.names)),
            )

        try:
            *new, objects, log_reward, found = run(batches)
        except Exception as error:  # whatever a compiler chain may raise
            if self.compiled:
                raise
            raise NotCompiledError(str(error) or type(error).__name__) from error
        # Before anything has changed, for a reward may be none; without the rest of the buffers.
        named = dict(zip(self.names, found.unbind(), strict=True))
        if not are_finite((*new[0], found)):
            self._refuse(run, batches)
        module.accept(Learned(objects[:batches].clone(), log_reward[:batches].clone(), named))
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

    def _refuse(self, run: Callable[[int], tuple[Any, ...]], batches: int) -> None:
        """Say after which of some batches the weights are no numbers; none has been changed.

        Raises:
            DivergenceError: Always, but where a reward is at fault (InputError).
        """
        good, bad = 0, batches
        while bad - good > 1:
            middle = (good + bad) // 2
            values, *_, found = run(middle)
            learned = (*values, found)
            good, bad = (middle, bad) if are_finite(learned) else (good, middle)
        *_, objects, log_reward, found = run(bad)
        objects, log_reward = objects[:bad].flatten(0, 1), log_reward[:bad]
        self.module.check_rewards(objects, log_reward.flatten())
        losses = dict(zip(self.names, found.tolist(), strict=True))
        number = self.module.draws + bad
        raise diverged(number, losses, log_reward[-1], self.optimizer.param_groups[0]["lr"])


def _apart(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The small ones together, and each large one by itself."""
    small = [p for p in parameters if p.numel() < LARGE]
    large = [[p] for p in parameters if p.numel() >= LARGE]
    return [small, *large] if small else large


def _scales(group: dict[str, Any], time: int) -> list[float]:
    """What `adam` needs of a group for update number `time`.

    Found out here: a kernel would find the powers anew for each parameter.
    """
    beta1, beta2 = group["betas"]
    growth = (1 - beta2**time) ** -0.5
    return [group["lr"] / (1 - beta1**time), growth, 1 - beta1, 1 - beta2, group["eps"]]


def _padded(rows: Any, n: int) -> Tensor:
    """So many rows, of which those that are not given are zero."""
    x = torch.as_tensor(rows, dtype=torch.float32)
    return torch.cat([x, x.new_zeros(n - len(x), *x.shape[1:])])


class _Step(nn.Module):
    """The loss of a batch that is drawn, with parameters that `functional_call` can replace."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts
        for name, part in parts._asdict().items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)

    def forward(self, reward: Reward, noise: Tensor) -> tuple[Tensor, Values]:
        parts = self.parts
        recorder = recorder_of(parts, noise.device)
        batch = collect(parts, reward, Noise(noise), recorder)
        known = None if recorder is None else recorder.record(batch.drawn.objects, parts.opening)
        found = losses(*parts[:5], batch, parts.opening, known=known)
        drawn, each = batch.drawn, torch.stack([*found.values()])
        return loss_of(found), (drawn.objects, drawn.log_reward.float(), each)


def learn(
    step: _Step,
    reward: Reward,
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
        `values`, `means` and `squares` after the last update; all objects and their log R as in
        `Learned`; and the losses of the last batch.
    """
    exploration = step.parts.exploration
    knobs = [] if exploration is None else [name for name, _ in exploration.named_buffers()]

    def body(
        done: Tensor,
        values: Values,
        means: Values,
        squares: Values,
        objects: Tensor,
        log_reward: Tensor,
        found: Tensor,
    ) -> Any:
        row = done.view(1)
        uniform, scale, knob = (x.index_select(0, row)[0] for x in (noise, scales, explored))
        fixed = {f"exploration.{name}": x for name, x in zip(knobs, knob.unbind(), strict=True)}

        def loss(trained: dict[str, Tensor]) -> Any:
            return functional_call(step, trained | fixed, (reward, uniform))

        trained = {
            name: x
            for group, flat in zip(groups, values, strict=True)
            for name, x in zip(group.names, group.parts(flat), strict=True)
        }
        gradients, (built, rewarded, found) = grad(loss, has_aux=True)(trained)
        updated = [
            adam(scale[group.place], group.flat(gradients[name] for name in group.names), *state)
            for group, *state in zip(groups, values, means, squares, strict=True)
        ]
        return (
            done + 1,
            *(tuple(x) for x in zip(*updated, strict=True)),
            objects.index_copy(0, row, built[None]),
            log_reward.index_copy(0, row, rewarded[None]),
            found,
        )

    source = step.parts.environment.initial(noise.shape[1])
    objects = source.new_zeros(len(noise), *source.shape)
    log_reward = noise.new_zeros(noise.shape[:2])
    start = (torch.zeros_like(batches), values, means, squares, objects, log_reward, found)
    with torch.no_grad():
        _, *learned = repeat_while(lambda done, *_: done < batches, body, start)
    return tuple(learned)


def adam(
    scales: Tensor, gradient: Tensor, value: Tensor, mean: Tensor, square: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters after an update, and the means that Adam keeps (Kingma and Ba 2015).

    Args:
        scales: ``float[5]``: the learning rate, corrected for the first mean's beginning at zero;
            what the root of the second is multiplied by for the same reason; the share of a new
            gradient in either mean; and what is added to the root.
        gradient: Of the parameters.
        value: The parameters.
        mean: Of their gradients.
        square: Mean of the gradients' squares.
    """
    rate, growth, new, new_square, eps = scales.unbind()
    mean = mean + new * (gradient - mean)
    square = square + new_square * (gradient.square() - square)
    return value - rate * mean / (square.sqrt() * growth + eps), mean, square
