"""The contract of an environment, as a test that any environment can be run through.

The rules of each state are in `check_states`; here states are found, and the whole graph tested.
"""

import math
from functools import partial
from itertools import cycle, islice, product

import torch
import torch.nn.functional as F
from torch import Tensor

from gfn_design.contract.check_states import (
    ENVIRONMENT_RULES,
    NAME_RULES,
    STATE_RULES,
    ContractError,
    Tested,
    length_is_right,
)
from gfn_design.contract.graph_rules import GRAPH_RULES, explore, new_states
from gfn_design.environments.base import Environment
from gfn_design.policies.mlp import MLP
from gfn_design.policies.policy import Policy
from gfn_design.sampling.log_probabilities import log_probabilities
from gfn_design.sampling.trajectories import Trajectories, sample

__all__ = ["ContractError", "check_environment"]

LONGEST_WALK = 256  # steps of a random walk


def check_environment(
    environment: Environment, examples: int = 100, brute_force_limit: int = 20_000
) -> None:
    """Test everything that `Environment` promises; it returns silently if all of it holds.

    The states nearest to the source are checked one by one; if that is the whole graph, so are
    its paths and flows. Random walks then reach states at any depth, and a walk that meets a
    broken rule is shrunk to the shortest that does.

    Args:
        environment: What is tested, on any device.
        examples: How many random walks are drawn.
        brute_force_limit: States of the largest graph that is checked whole.

    Raises:
        ContractError: A rule is broken.
    """
    tested = Tested(environment)
    for rule in ENVIRONMENT_RULES:
        rule(tested)
    graph = explore(tested, brute_force_limit)
    for name_rule in NAME_RULES:
        name_rule(tested, graph.states)
    for graph_rule in GRAPH_RULES if graph.whole else ():
        graph_rule(tested, graph)
    _random_walks(tested, examples)
    _padding_never_leaks(tested)


# ---- Finding states: all near the source, and walks to any depth -------------------------------


def _random_walks(tested: Tested, examples: int) -> None:
    import hypothesis  # late, for it is slow to import
    from hypothesis import strategies

    longest = min(tested.environment.max_steps, LONGEST_WALK)
    lists = partial(strategies.lists, strategies.integers(0, 2**16), max_size=longest)
    at_least = (0, longest // 2, longest)  # by itself Hypothesis seldom draws a long list

    @hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )
    @hypothesis.given(strategies.one_of(*(lists(min_size=size) for size in at_least)))
    def walk(choices: list[int]) -> None:
        states = _walk(tested, choices)
        for rule in STATE_RULES:
            rule(tested, states[:: math.ceil(len(states) / tested.at_once)])
        for rule in NAME_RULES:
            rule(tested, states)

    walk()


def _walk(tested: Tested, choices: list[int]) -> Tensor:
    """The states met by the chosen legal actions, forward and then back to the source.

    Beyond the farthest one all children are met too: names that confuse states confuse siblings.
    """
    met = [tested.environment.initial(1)]

    def move(method: str, choice: int) -> bool:
        actions = tested.moves(method, met[-1])[0].nonzero()
        if len(actions):
            met.append(tested.ask(method, met[-1], actions[choice % len(actions)])[0])
        return len(actions) > 0

    length_is_right(tested, met[0], 0)
    for steps, choice in enumerate(choices, 1):
        if not move("step", choice):
            break
        length_is_right(tested, met[-1], steps)
    row, action = tested.moves("step", met[-1]).nonzero(as_tuple=True)
    children, _ = tested.ask("step", met[-1][row], action)
    for choice in islice(cycle([*choices, 0]), tested.environment.max_steps):
        if not move("backward_step", choice):
            break
    rule = "every way back ends at the source, within max_steps"
    tested.agree(rule, met[-1], met[0], met[-1])
    return new_states(torch.cat([*met, children]), {})


# ---- Rules of the whole graph ------------------------------------------------------------------


def _padding_never_leaks(tested: Tested) -> None:
    """A trajectory is as likely alone as among others, whatever is written in its padding."""
    environment, random = tested.environment, torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        policy = Policy(environment, partial(MLP, width=8, depth=1), backward="learned")
    policy.to(environment.device)
    uniform = torch.rand(8, environment.max_steps, generator=random).to(environment.device)
    draw = partial(sample, environment, policy)
    drawn = tested.attempt("trajectories can be drawn", draw, uniform)
    littered = _litter(environment, drawn, random)
    in_batches = [log_probabilities(environment, policy, batch) for batch in (drawn, littered)]
    for row, steps in enumerate(drawn.alive.sum(1).tolist()):
        states, actions, undo, alive, log_reward = (x[row : row + 1] for x in drawn)
        states, actions = states[:, : steps + 1], actions[:, :steps]
        cut = Trajectories(states, actions, undo[:, :steps], alive[:, :steps], log_reward)
        alone = log_probabilities(environment, policy, cut)
        for name, said in product(("log_pf", "log_pb"), in_batches):
            found = getattr(said, name)[row : row + 1]
            expected = F.pad(getattr(alone, name), (0, found.shape[1] - steps))
            rule = f"padding never leaks into {name}"
            tested.agree(rule, found, expected, cut.objects, tolerance=1e-4)


def _litter(environment: Environment, drawn: Trajectories, random: torch.Generator) -> Trajectories:
    """The same with random numbers, in range, where nothing is alive."""
    littered, dead = Trajectories(*(x.clone() for x in drawn)), ~drawn.alive
    after = littered.states[:, 1:]
    sizes = torch.tensor(environment.slot_sizes).view(after.shape[2:])
    number = torch.randint(2**31, after.shape, generator=random)
    after[dead] = (number % (sizes + 1) - 1).to(after)[dead]
    number = number.flatten(2)[..., 0].to(after)[dead]
    littered.actions[dead] = number % environment.n_actions
    littered.backward_actions[dead] = number % environment.n_backward_actions
    return littered
