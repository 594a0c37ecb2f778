"""Networks that read patterns of adjacent slots."""

import pytest
import torch

from gfn_design import (
    Hypergrid,
    InputError,
    PatternMLP,
    Sequence,
)
from gfn_design.environments.base import Environment
from gfn_design.policies.patterns import Patterns
from gfn_design.training.natural_gradient import fisher_product


def some_states(environment: Environment) -> torch.Tensor:
    """All states within a few random trajectories, the source first."""
    generator = torch.Generator().manual_seed(0)
    state = environment.initial(40)
    states = [state]
    for _ in range(environment.max_steps):
        legal = environment.legal(state)[:, : environment.n_moves].float()
        going = legal.any(-1)
        action = torch.multinomial(legal + ~going[:, None], 1, generator=generator)[:, 0]
        after, _ = environment.step(state, action)
        state = after.where(going.view(-1, *[1] * (state.dim() - 1)), state)
        states.append(state)
    return torch.cat(states)


ENVIRONMENTS = [
    Sequence("DNA", 5, "append"),
    Sequence("DNA", 5, "prepend-append"),
    Sequence("ABC", 4, "any"),
    Hypergrid(3, 4),
]


@pytest.mark.parametrize("longest", [1, 2, 3, 9])
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_patterns_have_numbers_of_their_own(environment, longest):
    """Equal numbers exactly where a window holds the same symbols, 0 where a slot is blank."""
    sizes = environment.slot_sizes
    patterns = Patterns(sizes, longest)
    states = some_states(environment)
    windows = [
        range(start, start + size)
        for size in range(1, min(longest, len(sizes)) + 1)
        for start in range(len(sizes) - size + 1)
    ]
    numbers = patterns(states)
    assert numbers.shape == (len(states), len(windows)) == (len(states), patterns.windows[-1])
    seen = {}
    for state, row in zip(states.flatten(1).tolist(), numbers.tolist(), strict=True):
        for window, number in zip(windows, row, strict=True):
            symbols = tuple(state[slot] for slot in window)
            if -1 in symbols:
                assert number == 0
            else:
                assert 0 < number < patterns.count[len(window)]
                assert number >= patterns.count[len(window) - 1]
                assert seen.setdefault(number, (window, symbols)) == (window, symbols)
    assert len(set(seen.values())) == len(seen)


@pytest.mark.parametrize("table", [0, 2, 5])
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_the_network_is_what_it_says(environment, table):
    """One-hot vectors of all patterns, by hand, times the matrices."""
    torch.manual_seed(0)
    network = PatternMLP(environment, 3, width=8, depth=2, longest=2, table=table, table_rate=4)
    if table:
        torch.nn.init.normal_(network.table.weight[1:])
    states = some_states(environment)
    rows = network.patterns(states)

    def summed(module, windows):
        one_hot = torch.zeros(len(states), len(module.weight))
        for row, numbers in zip(one_hot, rows[:, :windows].tolist(), strict=True):
            for number in numbers:
                row[number] += number > 0
        return one_hot @ module.weight

    first, last = network.layers
    x = summed(network.embedding, network.patterns.windows[2]) + network.bias
    wanted = last(first(x.relu()).relu())
    if table:
        most = min(table, len(environment.slot_sizes))
        wanted = wanted + 4 * summed(network.table, network.patterns.windows[most])
    torch.testing.assert_close(network(states), wanted)
    network(states).square().sum().backward()
    blank = network.embedding.weight
    assert not blank[0].any()
    assert not blank.grad[0].any()


def test_a_table_says_nothing_at_first_and_can_fit_anything():
    """Every prefix has a row of its own, so any policy on a tree is within reach."""
    torch.manual_seed(0)
    environment = Sequence("AB", 4, "append")
    states = some_states(environment).unique(dim=0)
    network = PatternMLP(environment, 2, width=1, depth=1, longest=1, table=4, table_rate=1)
    assert not network.table.weight.any()
    rows = network.patterns(states)[:, : network.known]
    one_hot = torch.zeros(len(states), len(network.table.weight))
    one_hot.scatter_(1, rows, 1.0)
    filled = states[:, 0] >= 0  # the source has its bias
    assert int(torch.linalg.matrix_rank(one_hot[filled][:, 1:])) == int(filled.sum())


def test_a_trust_region_can_differentiate_the_network_twice():
    """The Fisher product is J^T (diag p - p p^T) J, by the Jacobian of the logits."""
    torch.manual_seed(0)
    environment = Sequence("AB", 3, "append")
    network = PatternMLP(environment, 2, width=3, longest=2, table=2).double()
    states = some_states(environment).unique(dim=0)
    legal = environment.legal(states)
    states, legal = states[legal.any(1)], legal[legal.any(1)]
    weight = torch.rand(len(states), dtype=torch.float64)
    product, log_p = fisher_product(network, states, legal, weight)
    names, values = zip(*network.named_parameters(), strict=True)

    def logits(*parameters):
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(network, named, (states,))

    jacobian = torch.autograd.functional.jacobian(logits, values)
    jacobian = torch.cat([part.flatten(2) for part in jacobian], 2)  # state, action, parameter
    p = log_p.exp()
    middle = weight[:, None, None] * (p.diag_embed() - p[:, :, None] * p[:, None])
    v = torch.randn(jacobian.shape[2], dtype=torch.float64)
    wanted = torch.einsum("sap,sab,sbq,q->p", jacobian, middle, jacobian, v)
    torch.testing.assert_close(product(v), wanted)


@pytest.mark.parametrize(("longest", "table"), [(0, 0), (1, -1)])
def test_what_is_no_pattern_is_refused(longest, table):
    with pytest.raises(InputError, match="longest must be at least 1 and table not negative"):
        PatternMLP(Sequence("AB", 3), 2, longest=longest, table=table)
