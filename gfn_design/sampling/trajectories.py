"""Trajectories: how they are stored, drawn and scored.

Dimension 0 is the batch, dimension 1 is time. A trajectory is always stored from the source to
its object, however it was drawn. `alive` says where a step is real; elsewhere is padding.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gfn_design.compiled import repeat_while
from gfn_design.environments.base import Environment
from gfn_design.policies.policy import Policy
from gfn_design.sampling.distinct import Opening, Visited, distinct, each


class Trajectories(NamedTuple):
    """A batch of complete trajectories, padded at the end to the longest one.

    Attributes:
        states: ``int64[batch, steps + 1, *state_shape]``; the object fills the padding.
        actions: ``int64[batch, steps]``; step t leads from ``states[:, t]`` to the next.
        backward_actions: ``int64[batch, steps]``, undoing them; 0 at a stop and in padding.
        alive: ``bool[batch, steps]``, where a step is taken.
        log_reward: ``float[batch]``, log R of the objects, in nats; less `Environment.log_copies`
            in what is learned from.
    """

    states: Tensor
    actions: Tensor
    backward_actions: Tensor
    alive: Tensor
    log_reward: Tensor

    @property
    def objects(self) -> Tensor:
        """The finished states: ``int64[batch, *state_shape]``."""
        return self.states[:, -1]


class Scored(NamedTuple):
    """What an objective sees of trajectories; all that has a time is ``[batch, steps]``.

    `log_pf`, `log_pb` and `value` are exactly 0 where not `alive`, so that sums over time need no
    mask.

    Attributes:
        log_pf: log P_F of each action, in nats.
        log_pb: log P_B of the backward action undoing it; 0 at a stop. Of a policy with a prior,
            the prior's log P_F of each action.
        value: The critic's value of the state each step leaves; zeros without a critic.
        alive: Where a step is taken.
        stops: The last step of each trajectory, at which its reward is paid.
        moves: Where a step leads to another state, that is does not stop.
        log_reward: ``[batch]``, log R of the objects.
        backward_value: The backward critic's value of the state each step enters, 0 at a stop.
        log_policy: ``[batch, steps, n_actions]``, log P_F of all actions; None if nobody asked.
        log_reward_at: ``[batch, steps]``, log R of the state each step leaves; None if nobody
            asked.
        log_guide: ``[batch, steps]``, log P_G of each step; None without a guide.
        edges: See `edge_flows`; None if nobody asked.
        weight: ``[batch, steps]``, how much the error of each step counts, where steps of a
            `PrioritizedReplay` are among them; None is 1.
    """

    log_pf: Tensor
    log_pb: Tensor
    value: Tensor
    alive: Tensor
    stops: Tensor
    moves: Tensor
    log_reward: Tensor
    backward_value: Tensor | None = None
    log_policy: Tensor | None = None
    log_reward_at: Tensor | None = None
    log_guide: Tensor | None = None
    edges: Tensor | None = None
    weight: Tensor | None = None

    def detach(self) -> "Scored":
        """The same numbers as constants."""
        return Scored._make(x if x is None else x.detach() for x in self)


FEW_ACTIONS = 24  # of which all partial sums are found one by one


def choose(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Draw one action per row by inverting the distribution function: ``int64[batch]``.

    What may not be chosen never is. Of a row of NaNs, as a broken network gives, it is the first
    action that may.

    Args:
        log_probs: ``[batch, actions]``, -inf for what may not be chosen.
        uniform: ``[batch]``, in [0, 1).
    """
    p = log_probs.exp()
    n = p.shape[-1]
    if torch.compiler.is_compiling() and n <= FEW_ACTIONS:  # part of the kernels around it
        up_to = torch.ones(n, n, dtype=torch.bool, device=p.device).tril()
        cumulative = (p[:, None] * up_to).sum(-1)
    else:
        cumulative = p.cumsum(-1)
    upper = (uniform[:, None] * cumulative[:, -1:]).nan_to_num(0.0)
    return (cumulative <= upper).sum(-1)


BLOCK = 8  # steps between two looks at how many trajectories have stopped
SPAN = 8 * BLOCK  # steps that `walk_on` takes at most,
LONG_SPAN = 2 * SPAN  # and with so few trajectories that none are dropped
FEWEST = 32  # trajectories up to which dropping some saves nothing
FEWEST_ON_GPU = 1024  # where a step of hundreds should take as long as one of few


def walk(
    environment: Environment,
    policy: "Sampler",
    state: Tensor,
    going: Tensor,
    uniform: Tensor,
    opening: Opening | None = None,
    head: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take a few steps forward; a trajectory that stops stays where it is.

    What runs depends on nothing but the shapes of the arguments, so it can be compiled.

    Args:
        environment: What is built.
        policy: Its forward policy decides.
        state: ``int64[batch, *state_shape]``.
        going: ``bool[batch]``, which trajectories have not stopped yet.
        uniform: The randomness, ``float[batch, steps]`` in [0, 1).
        opening: If these are the first steps, the states that they may leave.
        head: ``int64[batch]``, which head of the policy decides; None is their mean.

    Returns:
        The states after each step, the actions, the backward actions undoing them, both 0 where
        there are none, and which trajectories were going before each step and after the last:
        ``bool[batch, steps + 1]``.
    """
    states, actions, undone, alive = [], [], [], [going]
    ask = policy.forward_log_probs if head is None else policy.head_log_probs
    if opening is not None:
        known = ask(opening.states, environment.legal(opening.states))
    for time, u in enumerate(uniform.unbind(1)):
        if opening is not None and time < opening.steps:
            log_probs = known.index_select(0, opening.rows(environment.state_index(state)))
        else:
            log_probs = ask(state, environment.legal(state))
        if head is not None:
            log_probs = log_probs[torch.arange(len(head), device=head.device), head]
        action = choose(log_probs, u)
        actions.append(action)
        if environment.fixed_length:
            state, undo = environment.step(state, action)
        else:
            going = going & (action != environment.stop)
            after, undo = environment.step(state, action.where(going, 0))
            state = after.where(going.view(-1, *[1] * (state.dim() - 1)), state)
        states.append(state)
        undone.append(undo)
        alive.append(going)
    after, taken, undoing, was = (torch.stack(x, 1) for x in (states, actions, undone, alive))
    if not environment.fixed_length:
        taken, undoing = taken.where(was[:, :-1], 0), undoing.where(was[:, 1:], 0)
    return after, taken, undoing, was


def walk_on(
    environment: Environment,
    policy: "Sampler",
    state: Tensor,
    going: Tensor,
    uniform: Tensor,
    few: Tensor,
    opening: Opening | None = None,
    head: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Take blocks of steps until few trajectories are going; see `walk`.

    Args:
        environment: What is built.
        policy: Its forward policy decides.
        state: ``int64[batch, *state_shape]``.
        going: ``bool[batch]``, which trajectories have not stopped yet.
        uniform: The randomness, ``float[batch, steps]``; steps are a multiple of `BLOCK`.
        few: ``int64[]``, with how many trajectories going it stops, after a block at least.
        opening: See `walk`.
        head: See `walk`.

    Returns:
        What `walk` returns, of which the last is ``bool[batch, steps]`` before each step, and which
        trajectories are going after the last. Behind the steps that were taken there are zeros.
    """
    n, steps = uniform.shape

    def block(at: Tensor, state: Tensor, going: Tensor, first: Opening | None) -> list[Any]:
        some = uniform.index_select(1, at)
        *new, was = walk(environment, policy, state, going, some, first, head)
        return [new[0][:, -1].clone(), was[:, -1].clone(), *new, was[:, :-1]]

    def more(time: Tensor, state: Tensor, going: Tensor, *_: Tensor) -> Tensor:
        return (time < steps) & (going.sum() > few)

    def another(time: Tensor, state: Tensor, going: Tensor, *taken: Tensor) -> tuple[Tensor, ...]:
        at = time + torch.arange(BLOCK, device=time.device)
        state, going, *new = block(at, state, going, None)
        written = [x.index_copy(1, at, y) for x, y in zip(taken, new, strict=True)]
        return time + BLOCK, state, going, *written

    at = torch.arange(BLOCK, device=state.device)
    state, going, *new = block(at, state, going, opening)
    rest = steps - BLOCK
    taken = [torch.cat([x, x.new_zeros(n, rest, *x.shape[2:])], 1) for x in new]
    time = torch.full_like(few, BLOCK)
    _, _, going, *taken = repeat_while(more, another, (time, state, going, *taken))
    states, actions, undone, alive = taken
    return states, actions, undone, alive, going


class Walks(NamedTuple):
    """How steps are taken: the functions of these names, or what a compiler made of them."""

    walk: Callable[..., Any] = walk
    walk_on: Callable[..., Any] = walk_on


Reward = Callable[[Tensor], Tensor]  # log R of objects


class Sampler(Protocol):
    """What draws trajectories: a policy, or one that explores."""

    def forward_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """See `Policy`."""

    def head_log_probs(self, states: Tensor, legal: Tensor) -> Tensor:
        """See `Policy`."""


@torch.no_grad()
def sample(
    environment: Environment,
    policy: Sampler,
    uniform: Tensor,
    opening: Opening | None = None,
    walks: Walks = Walks(),  # noqa: B008 # immutable
    head: Tensor | None = None,
) -> Trajectories:
    """Draw trajectories from the forward policy; their `log_reward` is left at zero.

    Args:
        environment: What is built.
        policy: Its forward policy decides.
        uniform: The randomness, ``float[batch, max_steps]`` in [0, 1); equal numbers give equal
            trajectories.
        opening: The states that the first steps may leave, if it pays to know them.
        walks: What takes the steps.
        head: ``int64[batch]``, which head of the policy each trajectory follows; None is the mean
            of all.
    """
    n, limit = uniform.shape
    longest = limit + -limit % BLOCK  # trajectory, in whole blocks
    if not environment.fixed_length:  # wherever a span begins, it is whole
        uniform = F.pad(uniform, (0, min(LONG_SPAN, longest)))
    state = objects = environment.initial(n)
    states, actions, undone, alive = [objects[:, None]], [], [], []
    rows = torch.arange(n, device=state.device)  # which trajectories `state` is about
    going = torch.ones_like(rows, dtype=torch.bool)
    fewest = FEWEST_ON_GPU if state.is_cuda else FEWEST
    time = 0
    while time < limit:
        first = opening if time == 0 else None
        if environment.fixed_length or state.is_cuda:
            block = uniform[:, time : time + BLOCK]
            *taken, was = walks.walk(environment, policy, state, going, block, first, head)
            if state.is_cuda:  # the next call may overwrite them
                *taken, was = (x.clone() for x in (*taken, was))
            going = was[:, -1].contiguous()
            taken = [*taken, was[:, :-1]]
        else:
            few, span = (len(rows) // 2, SPAN) if len(rows) > fewest else (0, LONG_SPAN)
            *taken, going = walks.walk_on(
                environment,
                policy,
                state,
                going,
                uniform[:, time : time + min(span, longest)],
                torch.tensor(few),
                first,
                head,
            )
        after, action, undo, was = taken
        if not environment.fixed_length:
            steps = int(was.any(0).sum())
            after, action, undo, was = (x[:, :steps] for x in taken)
        state, time = after[:, -1].contiguous(), time + action.shape[1]
        if len(rows) < n:  # put these among all
            still = objects[:, None].expand(-1, after.shape[1], *objects.shape[1:])
            after, blank = still.index_copy(0, rows, after), action.new_zeros(n, action.shape[1])
            action, undo = blank.index_copy(0, rows, action), blank.index_copy(0, rows, undo)
            was = blank.bool().index_copy(0, rows, was)
        objects = after[:, -1]
        states.append(after)
        actions.append(action)
        undone.append(undo)
        alive.append(was)
        if not environment.fixed_length:
            left, size = sum(going.tolist()), len(rows)
            if not left:
                break
            while size > fewest and 2 * left <= size:  # halves, for few different shapes
                size //= 2
            if size < len(rows):
                keep = going.to(torch.uint8).argsort(descending=True, stable=True)[:size]
                rows, state, going, uniform = rows[keep], state[keep], going[keep], uniform[keep]
                head = None if head is None else head[keep]
    return _join(states, actions, undone, alive)


def _join(*parts: list[Tensor]) -> Trajectories:
    """Trajectories of the states, actions, backward actions and `alive` of blocks of steps."""
    states, actions, undone, alive = (torch.cat(blocks, 1) for blocks in parts)
    nothing = torch.zeros(len(states), device=states.device)
    return Trajectories(states, actions, undone, alive, nothing)


def concatenate(first: Trajectories, second: Trajectories) -> Trajectories:
    """The trajectories of two batches in one."""
    steps = max(first.actions.shape[1], second.actions.shape[1])
    parts = []
    for batch in (first, second):
        more = steps - batch.actions.shape[1]
        end = batch.states[:, -1:].expand(-1, more, *batch.states.shape[2:])
        padded = [F.pad(x, (0, more)) for x in batch[1:4]]
        parts.append((torch.cat([batch.states, end], 1), *padded, batch.log_reward))
    return Trajectories(*(torch.cat(pair) for pair in zip(*parts, strict=True)))


@torch.no_grad()
def sample_backward(
    environment: Environment, policy: Policy, objects: Tensor, uniform: Tensor
) -> Trajectories:
    """Draw a history of each object from the backward policy, stored from the source on.

    Args:
        environment: What is built.
        policy: Its backward policy decides.
        objects: ``int64[batch, *state_shape]``.
        uniform: The randomness, ``float[batch, max_steps]`` in [0, 1).
    """
    n, state = len(objects), objects.clone()
    visited: list[Tensor] = [state]
    undone: list[Tensor] = []
    redo: list[Tensor] = []
    if environment.fixed_length:  # all walk equally far
        for u in uniform.unbind(1):
            undo = choose(policy.backward_log_probs(state, environment.legal_backward(state)), u)
            state, action = environment.backward_step(state, undo)
            visited.append(state)
            undone.append(undo)
            redo.append(action)
        states, actions, backward_actions = (
            torch.stack(x[::-1], 1) for x in (visited, redo, undone)
        )
        alive = torch.ones_like(actions, dtype=torch.bool)
        log_reward = torch.zeros(n, device=state.device)
        return Trajectories(states, actions, backward_actions, alive, log_reward)
    walking = environment.legal_backward(state).any(-1)
    length = torch.zeros(n, dtype=torch.int64, device=state.device)
    while walking.any():
        rows = walking.nonzero().squeeze(1)
        here = state[rows]
        legal = environment.legal_backward(here)
        undo = choose(policy.backward_log_probs(here, legal), uniform[rows, len(undone)])
        before, action = environment.backward_step(here, undo)
        state = state.index_copy(0, rows, before)
        undone.append(torch.zeros_like(length).index_copy(0, rows, undo))
        redo.append(torch.zeros_like(length).index_copy(0, rows, action))
        visited.append(state)
        length = length + walking
        walking = environment.legal_backward(state).any(-1)
    # Turn time round: what was undone in step k of m was done in step m - 1 - k.
    moves = len(undone)
    steps = moves + 1
    time = torch.arange(steps + 1, device=state.device)
    back = (length[:, None] - time).clamp(min=0)  # states: 0 steps back from the object in padding
    row = torch.arange(n, device=state.device)[:, None]
    states = torch.stack(visited, 1)[row, back]
    built = time[:-1] < length[:, None]
    edge = (length[:, None] - 1 - time[:-1]).clamp(min=0)
    pick = [torch.stack(x, 1)[row, edge] if x else back[:, :-1] for x in (redo, undone)]
    actions = pick[0].masked_fill(~built, 0)
    backward_actions = pick[1].masked_fill(~built, 0)
    alive = time[:-1] <= length[:, None]
    actions = actions.masked_fill(alive & ~built, environment.stop)
    log_reward = torch.zeros(n, device=state.device)
    return Trajectories(states, actions, backward_actions, alive, log_reward)


def visited(
    environment: Environment,
    policy: Policy,
    trajectories: Trajectories,
    opening: Opening | None = None,
) -> Visited:
    """The states that trajectories meet, each as often as the policy must be asked about it."""
    states, actions, _, alive, _ = trajectories
    moves = alive if environment.fixed_length else alive & (actions != environment.stop)
    if policy.shared:  # one evaluation of every state for both policies
        real = torch.cat([alive[:, :1], moves], 1)
        some, where = distinct(environment, states, real, opening)
        return Visited(some, where[:, :-1], some, where[:, 1:])
    left, left_at = distinct(environment, states[:, :-1], alive, opening)
    if environment.n_backward_actions == 1:
        return Visited(left, left_at, left, left_at)
    if opening is None:
        return Visited(left, left_at, *distinct(environment, states[:, 1:], moves))
    return Visited(left, left_at, *each(states[:, 1:]))


def score(
    environment: Environment,
    policy: Policy,
    trajectories: Trajectories,
    opening: Opening | None = None,
    all_actions: bool = False,
    learns: Tensor | None = None,
    relative: bool = True,
    seen: Visited | None = None,
    known: Sequence[Tensor] | None = None,
) -> Scored:
    """Log-probabilities and values along trajectories under the present policy, with gradients.

    Padding never reaches a network, and a state that was visited often is evaluated once; see
    `distinct`, also for the opening.

    Args:
        environment: What is built.
        policy: Whose probabilities are asked.
        trajectories: However they were drawn.
        opening: See `distinct`.
        all_actions: Also give ``Scored.log_policy``.
        learns: ``bool[batch, heads]``; then each trajectory is scored once for every head that
            learns from it, by that head, and what is said of it ordered likewise.
        relative: Where the policy has a prior, ``Scored.log_pb`` is the prior's log P_F, by which
            every condition of balance, log P_F = log P_B + log R - log Z over a trajectory, asks
            for prior times reward (Venkatraman et al. 2024, relative trajectory balance).
        seen: What `visited` says of these trajectories, where it is known.
        known: What each layer of the forward policy, an `MLP` with one head, gives of the states
            in `seen`, ``float[n, width]`` each; nothing of it is computed again. See `Recorder`.
    """
    _, actions, backward_actions, alive, log_reward = trajectories
    moves = alive if environment.fixed_length else alive & (actions != environment.stop)
    seen = visited(environment, policy, trajectories, opening) if seen is None else seen
    left, left_at, entered, entered_at = seen
    recorded = {} if known is None else {"known": known}
    if policy.shared:
        legal, legal_backward = environment.legal(left), environment.legal_backward(left)
        pf, pb = policy.log_probs(left, legal, legal_backward, **recorded)
        log_pb = _pick(pb, entered_at, backward_actions)
    else:
        ask = policy.forward_log_probs if learns is None else policy.head_log_probs
        pf = ask(left, environment.legal(left), **recorded)
        log_pb = pf.new_zeros(alive.shape)
        if environment.n_backward_actions > 1:
            pb = policy.backward_log_probs(entered, environment.legal_backward(entered))
            log_pb = _pick(pb, entered_at, backward_actions)
    chosen_from = left_at
    if learns is not None:
        row, head = learns.nonzero(as_tuple=True)
        left_at, actions, alive, moves = left_at[row], actions[row], alive[row], moves[row]
        log_pb, log_reward = log_pb[row], log_reward[row]
        pf, chosen_from = pf.flatten(0, 1), left_at * policy.heads + head[:, None]
    log_pf, value = _pick(pf, chosen_from, actions), _along(policy.value(left), left_at)
    backward_value = None
    if policy.backward_critic is not None and learns is None:
        backward_value = _along(policy.backward_value(entered), entered_at)
    undone = moves
    prior = getattr(policy, "prior", None)  # tables that stand in for a policy have none
    if relative and prior is not None:
        of_prior = prior.forward_log_probs(left, environment.legal(left))
        log_pb = _pick(of_prior, left_at, actions)
        undone = alive  # a stop has a probability as well
    if not environment.fixed_length:
        log_pf, value = log_pf.where(alive, 0), value.where(alive, 0)
        log_pb = log_pb.where(undone, 0)
        backward_value = None if backward_value is None else backward_value.where(moves, 0)
    goes_on = torch.cat([alive[:, 1:], torch.zeros_like(alive[:, :1])], dim=1)
    log_policy = pf[chosen_from] if all_actions else None
    stops = alive & ~goes_on
    return Scored(
        log_pf, log_pb, value, alive, stops, moves, log_reward, backward_value, log_policy
    )


def edge_flows(environment: Environment, policy: Policy, trajectories: Trajectories) -> Tensor:
    """Log flows, where the forward policy's logits are log flows of edges: ``[3, batch, steps]``.

    Of the edge that each step takes; into the state that it enters, over all its parents; and out
    of that state, a stop included (-inf where there is no way on). The latter two are 0 at a stop.
    """
    states, actions, _, alive, _ = trajectories
    moves = alive if environment.fixed_length else alive & (actions != environment.stop)
    left, left_at = distinct(environment, states[:, :-1], alive)
    logits = policy.forward_logits(left).float().where(environment.legal(left), -torch.inf)
    taken = _pick(logits, left_at, actions).where(alive, 0)
    entered, entered_at = distinct(environment, states[:, 1:], moves)
    logits = policy.forward_logits(entered).float().where(environment.legal(entered), -torch.inf)
    out = _along(logits.logsumexp(1), entered_at).where(moves, 0)
    row, undo = environment.legal_backward(entered).nonzero(as_tuple=True)
    parent, action = environment.backward_step(entered[row], undo)
    edge = policy.forward_logits(parent).float().gather(1, action[:, None])[:, 0]
    table = edge.new_full((len(entered), environment.n_backward_actions), -torch.inf)
    into = table.index_put((row, undo), edge).logsumexp(1)
    return torch.stack([taken, _along(into, entered_at).where(moves, 0), out])


def _along(values: Tensor | None, rows: Tensor) -> Tensor:
    """The value of the state at each step; zeros where there is no network for it."""
    if values is None:
        return torch.zeros_like(rows, dtype=torch.float32)
    return values.float().gather(0, rows.flatten()).view(rows.shape)


def _pick(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``table[rows, columns]``; `gather` has the cheaper gradient."""
    flat = (rows * table.shape[1] + columns).flatten()
    return table.flatten().gather(0, flat).view(rows.shape)
