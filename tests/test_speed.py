"""What makes training fast changes nothing else: openings, distinct states, compilation, bursts.

A test that draws says how often it would fail by chance if its seed were not fixed. Two sums of
the same numbers in another order differ by rounding; an action is then drawn differently only if
its random number lies within that rounding of a bound, about once in a million draws.
"""

import csv
import logging
import shutil
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from common import model_of
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from gfn_design import (
    MLP,
    ActorCritic,
    DataModule,
    Exploration,
    FunctionData,
    GFlowNet,
    Hypergrid,
    HypergridData,
    InputError,
    Policy,
    Reward,
    Sequence,
    TrajectoryBalance,
    sample,
)
from gfn_design.fast.compiled import Compiled
from gfn_design.fast.compiled_loop import Loop
from gfn_design.fast.early_states import EarlyStates
from gfn_design.fast.log_probabilities import _distinct
from gfn_design.fast.log_probabilities import log_probabilities as log_probabilities_fast
from gfn_design.fast.recorded_layers import RecordedAnswers, _embedded
from gfn_design.fast.rollout import BLOCK, RollOut
from gfn_design.fast.step import loss_of, set_gradients
from gfn_design.policies.products import (
    FEW_COMPILED,
    FEW_ROWS,
    WIDENED_ROWS,
    SlotEmbedding,
    affine,
    answered,
)
from gfn_design.rewards.reward import TableScore
from gfn_design.runs.log import CSVLog, Progress
from gfn_design.runs.saving import SaveLast
from gfn_design.sampling.distinct_states import distinct
from gfn_design.sampling.noise import SEEDS, TRAINING, _entropy, uniform_noise
from gfn_design.tensors import one_of_each

CPU = torch.device("cpu")
FIXED = [
    Sequence("ABC", 5, "append"),
    Sequence("AB", 5, "prepend-append"),
    Sequence("AB", 4, "any"),
    Sequence("AB", BLOCK + 3, "append"),  # more steps than an opening has
]
ENVIRONMENTS = [Hypergrid(2, 5), Hypergrid(3, 4), *FIXED]


def tiny(environment, outputs):
    return MLP(environment, outputs, width=16, depth=1)


def noise(environment, n, *key):
    return uniform_noise((n, environment.max_steps), CPU, *(key or (0,)))


class TableData(DataModule):
    """A different reward, between 0.05 and 2, for every sequence."""

    def make_reward(self, environment):
        n = environment.slot_sizes[0] ** environment.length
        table = torch.rand(n, generator=torch.Generator().manual_seed(0)).square() * 2 + 0.05
        return Reward(TableScore(table, environment.length))


def looped(model):
    """Whether batches have been learned from in a compiled loop."""
    loops = model.engine.loops
    return loops is not None and loops.loop is not None and loops.loop.compiled


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("outputs", [1, 3, 16, 22])  # widened or not
def test_a_widened_product_is_the_same(outputs, compiled):
    torch.manual_seed(outputs)
    function = torch.compile(affine, dynamic=False, backend="aot_eager") if compiled else affine
    for rows in (2, WIDENED_ROWS):
        inputs = torch.randn(rows, 8), torch.randn(8, outputs), torch.randn(outputs)
        results = []
        for apply in (function, lambda x, w, b: x @ w + b):
            given = [x.clone().requires_grad_() for x in inputs]
            result = apply(*given)
            results.append([result, *torch.autograd.grad(result.sin().sum(), given)])
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("outputs", [1, 3, 16])
def test_a_known_product_is_not_made_again(outputs, compiled):
    """What is said to be known is believed, and has the gradient of the product."""
    torch.manual_seed(outputs)
    inputs = x, weight, bias = torch.randn(5, 8), torch.randn(8, outputs), torch.randn(outputs)

    def found(x, weight, bias, known):
        product = affine if known is None else partial(answered, answer=known)
        y = product(x, weight, bias)
        return y.sin().sum(), y

    gradient = torch.func.grad(found, (0, 1, 2), has_aux=True)
    find = torch.compile(gradient, fullgraph=True, backend="aot_eager") if compiled else gradient
    answer = x @ weight + bias
    expected, _ = gradient(*inputs, None)
    given, y = find(*inputs, answer)
    assert torch.equal(y, answer)
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(find(*inputs, answer + 1)[1], answer + 1)


@pytest.mark.parametrize(
    ("outputs", "threads", "in_blocks"),
    [(128, 2, True), (256, 4, True), (256, 3, False), (128, 4, False), (3, 2, False)],
)
def test_a_product_in_blocks_is_the_same(outputs, threads, in_blocks, monkeypatch):
    """A piece for each thread, if there are few rows and enough columns."""
    monkeypatch.setattr("gfn_design.policies.products._threads", lambda: threads)
    torch.manual_seed(outputs)
    for rows in (1, 16, FEW_ROWS):
        torch._dynamo.reset()
        codes = []

        def noted(graph, _, codes=codes):
            codes.append(graph.code)
            return graph

        x, weight, bias = torch.randn(rows, 8), torch.randn(8, outputs), torch.randn(outputs)
        with torch.no_grad():
            found = torch.compile(affine, fullgraph=True, backend=noted)(x, weight, bias)
        torch.testing.assert_close(found, x @ weight + bias)
        assert ("bmm" in codes[0]) == (in_blocks and rows < FEW_ROWS)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("values", [3, 30, 100])
@pytest.mark.parametrize("slots", [2, 6, 10])
def test_a_compiled_embedding_is_the_same(slots, values, is_known):
    """Answer and gradient, as a sum of rows or a product, with slots that are blank."""
    torch._dynamo.reset()
    torch.manual_seed(slots)
    embedding = SlotEmbedding((values,) * slots, 5)
    states = torch.randint(-1, values, (7, slots))
    expected = embedding(states)
    of_states = torch.autograd.grad(expected.sin().sum(), embedding.parameters())
    parameters = {name: p.detach() for name, p in embedding.named_parameters()}
    known = expected.detach() + 2 * torch.pi if is_known else None  # whose cosine is the same
    believed = is_known and slots * values <= FEW_COMPILED

    class Asked(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = embedding

        def forward(self, states):
            if known is None:
                return self.embedding(states)
            return _embedded(self.embedding, states, known)

    asked = Asked()

    def found(parameters):
        named = {f"embedding.{name}": x for name, x in parameters.items()}
        y = torch.func.functional_call(asked, named, (states,))
        return y.sin().sum(), y

    find = torch.compile(torch.func.grad(found, has_aux=True), fullgraph=True, backend="aot_eager")
    given, y = find(parameters)
    torch.testing.assert_close([*given.values()], [*of_states], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y, known if believed else expected)
    with torch.no_grad():
        ask = torch.compile(embedding, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(ask(states), expected)


def gflownet(kind=GFlowNet, environment=None, objective=None, **options):
    seed_everything(options.get("draw_seed", 0), verbose=False)
    options = {"network": tiny, "critic": tiny, "batch_size": 16, "lr": 5e-3} | options
    model = model_of(
        environment or Hypergrid(2, 4), objective or TrajectoryBalance(), kind=kind, **options
    )
    model.objective.calibrated.fill_(True)  # so that the first batch is as any other
    return model


def trainer(folder, **options):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "accelerator": "cpu",
        "default_root_dir": folder,
        "max_epochs": -1,
    }
    return Trainer(**(quiet | options))


# The states of an early.


def layers(environment):
    """The states that have been reached after 0, 1, ... moves and may be left, as sets."""
    slots = [range(size) for size in environment.slot_sizes]
    if isinstance(environment, Hypergrid):
        cells = list(product(*slots))
        return [{x for x in cells if sum(x) == moves} for moves in range(environment.max_steps)]
    length = environment.length
    if environment.order == "any":
        every = list(product(*[(-1, *slot) for slot in slots]))
        return [{x for x in every if length - x.count(-1) == k} for k in range(length)]
    return [
        {x + (-1,) * (length - k) for x in product(*slots[:k])} if k else {(-1,) * length}
        for k in range(length)
    ]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 9, 16, 40, 10**6])
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_early_states_has_the_states_that_its_steps_leave(environment, most):
    """All of them, once and in order; its steps end at the limit or before one that leaves more."""
    every = layers(environment)
    for limit in (1, 3, BLOCK, 1000):
        early = EarlyStates(environment, most, limit)
        steps = early.steps
        assert 1 <= steps <= min(limit, environment.max_steps)
        assert all(len(layer) <= most for layer in every[:steps])
        ended = steps == min(limit, environment.max_steps)
        assert ended or len(every[steps]) > most
        states = [tuple(state) for state in early.states.tolist()]
        assert len(states) == len(set(states))
        assert set(states) == set().union(*every[:steps])
        numbers = environment.state_index(early.states)
        assert (numbers.diff() > 0).all()
        shuffled = torch.randperm(len(states))
        assert torch.equal(early.rows(numbers[shuffled]), shuffled)
        assert early.rows(numbers.view(-1, 1)).shape == (len(states), 1)


def test_early_states_is_no_part_of_a_checkpoint_and_follows_its_module():
    model = gflownet(environment=Sequence("AB", 4, "any"))
    assert not [name for name in model.state_dict() if name.startswith("tables")]
    assert {"tables.0.states", "tables.0.keys"} <= {name for name, _ in model.named_buffers()}


class Spy(nn.Module):
    """Counts the states that a network is given."""

    def __init__(self, environment, outputs):
        super().__init__()
        self.network, self.rows = tiny(environment, outputs), 0

    def forward(self, states):
        self.rows += len(states)
        return self.network(states)


@pytest.mark.parametrize("most", [1, 10, 60])
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_early_states_leaves_the_draws_as_they_are(environment, most):
    """The same noise gives the same trajectories; fails by chance once in 1000."""
    policy = Policy(environment, Spy)
    early = EarlyStates(environment, most, BLOCK)
    for draw in range(3):
        uniform = noise(environment, 60, draw)
        without = sample(environment, policy, uniform)
        policy.forward_policy.rows = 0
        drawn = RollOut(environment, early).sample(policy, uniform)
        for left, right in zip(without, drawn, strict=True):
            assert torch.equal(left, right)
        if environment.fixed_length:
            late = 60 * (environment.max_steps - early.steps)
            assert policy.forward_policy.rows == len(early.states) + late


def weighted(steps):
    """A sum to which every entry contributes in its own way."""
    fields = (steps.log_pf, steps.log_pb, steps.value)
    generator = torch.Generator().manual_seed(0)
    return sum((torch.rand(x.shape, generator=generator) * x).sum() for x in fields)


@pytest.mark.parametrize("most", [1, 10, 60])
@pytest.mark.parametrize("backward", ["uniform", "learned", "shared"])
@pytest.mark.parametrize("environment", FIXED, ids=str)
def test_early_states_leaves_scores_and_gradients_as_they_are(environment, backward, most):
    policy = Policy(environment, tiny, backward, critic=tiny)
    drawn = sample(environment, policy, noise(environment, 60))
    results = []
    for early in (None, EarlyStates(environment, most, BLOCK)):
        policy.zero_grad()
        steps = log_probabilities_fast(environment, policy, drawn, early=early)
        weighted(steps).backward()
        results.append((steps, {k: p.grad.clone() for k, p in policy.named_parameters()}))
    for left, right in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(left, right)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-4)


# Distinct states.


def test_one_of_each_gives_places_of_equal_keys():
    keys = torch.tensor([7, 3, 7, 7, 0, 3])
    places, where = one_of_each(keys)
    assert torch.equal(keys[places], torch.tensor([0, 3, 7]))
    assert torch.equal(keys[places][where], keys)
    places, where = one_of_each(keys[:0])
    assert len(places) == len(where) == 0


class Unnumbered(Hypergrid):
    """A hypergrid that pretends that its states cannot be numbered."""

    def __init__(self, ndim, height):
        super().__init__(ndim, height)
        self.n_states = None

    def state_index(self, states):
        raise TypeError("not numbered")


@pytest.mark.parametrize("environment", [*ENVIRONMENTS, Unnumbered(2, 5)], ids=str)
def test_every_real_state_is_among_the_distinct_ones(environment):
    """Where they are numbered each once, padding with nonsense or not."""
    drawn = sample(environment, Policy(environment, tiny), noise(environment, 50))
    moves = drawn.alive
    if not environment.fixed_length:
        moves = drawn.alive & (drawn.actions != environment.stop)
    for states, real in (
        (drawn.states, torch.cat([drawn.alive[:, :1], moves], 1)),
        (drawn.states[:, :-1], drawn.alive),
        (drawn.states[:, 1:], moves),
    ):
        spoiled = states.where(real[..., None], -77)
        seen, where = distinct(environment, spoiled, real)
        assert where.shape == real.shape
        assert torch.equal(seen[where][real], states[real])
        assert not (seen == -77).any()
        if environment.n_states is None:
            assert len(seen) == real.sum()
        else:
            assert len(seen.unique(dim=0)) == len(seen)
            source = not real.all()  # it may stand for padding
            assert len(seen) <= len(states[real].unique(dim=0)) + source


@pytest.mark.parametrize("most", [1, 10, 60])
@pytest.mark.parametrize("environment", FIXED, ids=str)
def test_every_state_is_among_those_of_the_opening_and_the_later_ones(environment, most):
    """The number of states given to a network follows from shapes alone."""
    early = EarlyStates(environment, most, BLOCK)
    for draw in range(2):
        drawn = sample(environment, Policy(environment, tiny), noise(environment, 50, draw))
        for states in (drawn.states, drawn.states[:, :-1]):
            real = torch.ones(states.shape[:2], dtype=torch.bool)
            seen, where = _distinct(environment, states, real, early)
            assert torch.equal(seen[where], states)
            assert len(seen) == len(early.states) + 50 * (states.shape[1] - early.steps)


# Compilation.


def compiles(test):
    """A test that compiles: slow, and skipped where that is not possible."""
    for mark in (
        pytest.mark.slow,
        pytest.mark.usefixtures("_no_graphs"),
        pytest.mark.skipif(
            not (shutil.which("g++") or shutil.which("clang++")),
            reason="torch.compile needs a C++ compiler",
        ),
        # Inside torch: its compiler imports what torch calls deprecated, and looks at the
        # gradient of every tensor that it meets.
        pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
        pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    ):
        test = mark(test)
    return test


BOTH = (False, True)
SHORT = Sequence("AB", 3, "prepend-append")


def graphs():
    """How many graphs have been compiled since the last reset."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.fixture
def _no_graphs():
    """Begin and end without compiled code, of which torch keeps but a few for a function."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def gradients(model, losses, known):
    model.zero_grad()
    loss_of(losses, known).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_training(models, steps=20, tolerance=1e-3):
    """The same first batch and gradient, and the same weights after some steps, up to rounding."""
    (left, *ours), (right, *theirs) = (model.next_step() for model in models)
    left, right = left.drawn, right.drawn
    for name, a, b in zip(left._fields, left, right, strict=True):
        if name == "log_reward":
            torch.testing.assert_close(a, b)
        else:
            assert torch.equal(a, b), name
    torch.testing.assert_close(ours[0], theirs[0])
    mine, yours = gradients(models[0], *ours), gradients(models[1], *theirs)
    torch.testing.assert_close(mine, yours, rtol=1e-3, atol=1e-5)
    start = {name: p.detach().clone() for name, p in models[0].named_parameters()}
    for model in models:
        optimizer = model.configure_optimizers()
        for _ in range(steps):
            _, losses, known = model.next_step()
            set_gradients(optimizer, losses, known)
            optimizer.step()
    ends = [{name: p.detach() for name, p in model.named_parameters()} for model in models]
    torch.testing.assert_close(*ends, rtol=0, atol=tolerance)
    moved = {name: (ends[0][name] - p).abs().max() for name, p in start.items()}
    # A single number may have come back to where it was.
    assert all(x > 10 * tolerance for name, x in moved.items() if start[name].numel() > 1)


@compiles
@pytest.mark.parametrize(
    ("environment", "objective", "backward"),
    [
        (Sequence("AB", 3, "append"), TrajectoryBalance, "shared"),
        (SHORT, TrajectoryBalance, "shared"),
        (SHORT, ActorCritic, "uniform"),
    ],
    ids=["append", "prepend-append", "actor-critic"],
)
def test_a_compiled_training_step_is_the_same(environment, objective, backward):
    """In one graph for all batches; fails by chance once in 1000, when a draw is rounded over."""
    options = {"environment": environment, "backward": backward}
    plain, fast = (
        gflownet(objective=objective(), compiled=compiled, **options).use(TableData())
        for compiled in BOTH
    )
    assert_same_training([plain, fast])
    assert fast.engine.whole_step is not None
    assert fast.engine.whole_step.run is not fast.engine.whole_step.function  # it did compile
    assert graphs() == 1


@compiles
@pytest.mark.parametrize(
    ("order", "length", "explores", "numbered", "frozen"),
    [
        ("append", 4, False, True, False),
        ("append", BLOCK + 3, False, True, True),
        ("prepend-append", 4, True, True, True),
        ("any", 4, False, True, False),
        ("any", 4, True, False, True),
    ],
)
def test_what_a_roll_out_found_is_what_losses_would_find(
    order, length, explores, numbered, frozen, monkeypatch
):
    """In the order of the states that are asked about; where some layers do not learn as well."""
    environment = Sequence("AB" if length > 4 else "ABC", length, order)
    if not numbered:
        environment.n_states = None
    options = {"environment": environment, "backward": "shared", "compiled": True, "burst": 1}
    options["network"] = partial(MLP, width=16, depth=2)
    if explores:
        options["exploration"] = Exploration(epsilon=0.1, temperature=2.0)
    traced = torch.compile  # all but the kernels
    monkeypatch.setattr(
        torch, "compile", lambda run, options, **others: traced(run, backend="aot_eager", **others)
    )
    record, found = RecordedAnswers.of_distinct_states, []
    for records, error in ((True, 0), (True, 1), (False, 0)):
        torch._dynamo.reset()
        if not records:
            monkeypatch.setattr("gfn_design.fast.step.MLP", None)
        monkeypatch.setattr(
            RecordedAnswers,
            "of_distinct_states",
            lambda *x, error=error: [y * (1 + error) for y in record(*x)],
        )
        model = gflownet(**options).use(TableData())
        model.policy.forward_policy.embedding.requires_grad_(not frozen)
        batch, losses, known = model.next_step()
        assert model.engine.whole_step.run not in (
            None,
            model.engine.whole_step.function,
        )  # it did compile
        found.append((batch.drawn, losses, gradients(model, losses, known)))
    right, wrong, expected = found
    torch.testing.assert_close(right, expected, rtol=1e-4, atol=1e-5)
    assert len(right[-1]) == (5 if frozen else 7)
    assert not torch.allclose(loss_of(wrong[1]), loss_of(expected[1]))


class Twice(MLP):
    def forward(self, states):
        return 2 * super().forward(states)


@compiles
def test_a_network_that_gives_something_else_than_its_last_layer_is_not_recorded():
    options = {"environment": SHORT, "network": partial(Twice, width=16, depth=1), "burst": 1}
    plain, fast = (gflownet(compiled=compiled, **options).use(TableData()) for compiled in BOTH)
    assert_same_training([plain, fast], steps=2, tolerance=1e-4)
    assert fast.engine.whole_step.run is not fast.engine.whole_step.function


@compiles
def test_compiled_parts_do_the_same(monkeypatch):
    """Where lengths differ: a graph for roll-outs, one for the losses, and another if the sizes of
    the first batch happen to be equal; fails as above. Products of roll-outs are taken in pieces.
    """
    monkeypatch.setattr("gfn_design.policies.products._threads", lambda: 2)
    options = {"environment": Hypergrid(2, 8), "backward": "learned"}
    options["network"] = partial(MLP, width=128, depth=2)
    plain, fast = (
        gflownet(compiled=compiled, **options).use(HypergridData(r0=0.1)) for compiled in BOTH
    )
    assert_same_training([plain, fast])
    assert fast.engine.whole_step is None
    for part in (fast.engine.rollout.take_steps_until_few, fast.engine.losses_and_gradients):
        assert part.run is not part.function
    compiled = graphs()
    assert compiled in (2, 3)
    fast.load_state_dict(plain.state_dict())
    for n in (16, 5):  # another number is drawn without compiling anything
        for left, right in zip(plain(n, 1, 0), fast(n, 1, 0), strict=True):
            assert torch.equal(left, right)
    assert graphs() == compiled


def letters(texts):
    return [0.1 + text.count("A") for text in texts]


@compiles
def test_a_reward_in_python_is_called_between_compiled_parts():
    options = {"environment": Sequence("AB", 2, "append")}
    plain, fast = (
        gflownet(compiled=compiled, **options).use(FunctionData(letters)) for compiled in BOTH
    )
    assert_same_training([plain, fast], steps=5)
    assert fast.engine.whole_step.run is not fast.engine.whole_step.function
    assert 0 < graphs() <= 7


@compiles
def test_more_networks_than_torch_counts_on_are_compiled():
    """In one process, each with a graph of its own."""

    def double(x):
        return 2 * x

    with torch._dynamo.config.patch(recompile_limit=1):
        for n in range(2, 5):
            assert torch.equal(Compiled(double)(torch.ones(n)), torch.full((n,), 2.0))
    assert graphs() == 3


# Loops.


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]


@pytest.fixture
def _long(monkeypatch):
    """A burst is never cut short on a slow machine."""
    monkeypatch.setattr("gfn_design.fast.several_batches.SECONDS", 1e9)


@pytest.mark.parametrize("compiled", BOTH)
def test_who_waits_for_a_compiler_is_told(compiled, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gfn_design.fast.compiled.compiled", lambda run, *_, **__: run)
    model = gflownet(environment=SHORT, compiled=compiled)
    options = {"max_steps": 1, "enable_progress_bar": True, "callbacks": [Progress()]}
    trainer(tmp_path, **options).fit(model, datamodule=TableData())
    assert ("compiling" in capsys.readouterr().out) == compiled


class EachEnd(Callback):
    """Wants to see every batch, and says nothing of bursts."""

    def __init__(self):
        self.ends = []

    def on_train_batch_end(self, trainer, *_):
        self.ends.append(trainer.global_step)


def in_bursts(folder, compiled, data, **options):
    """A run of 60 batches, and the last row of its log."""
    model = gflownet(compiled=compiled, burst=50, **deepcopy(options))
    log = CSVLog(folder / f"{compiled}.csv")
    run = trainer(folder, max_steps=60, logger=log, log_every_n_steps=25)
    run.fit(model, datamodule=data)
    return model, run, [*log.rows.values()][-1]


@compiles
@pytest.mark.usefixtures("_long")
@pytest.mark.parametrize(
    "options",
    [
        {"environment": Sequence("AB", 3, "append")},
        {"environment": SHORT, "backward": "shared"},
        {"environment": SHORT, "objective": ActorCritic()},
        {
            "environment": SHORT,
            "exploration": Exploration(epsilon=0.3, temperature=1.5, decay=0.97),
            "schedule": partial(StepLR, step_size=7, gamma=0.8),
            "optimizer": partial(torch.optim.Adam, betas=(0.8, 0.99), eps=1e-6),
        },
        {
            "environment": SHORT,
            # Whose momentum changes with every batch as well.
            "schedule": partial(OneCycleLR, max_lr=[0.01, 0.1], total_steps=60),
        },
    ],
    ids=["append", "prepend-append", "actor-critic", "explores, with a schedule", "one cycle"],
)
def test_a_loop_learns_the_same(options, tmp_path, monkeypatch):
    """Weights, log and counts; fails by chance once in 300, when a draw is rounded over."""
    # Numbers: some parameters have as many.
    monkeypatch.setattr("gfn_design.fast.parameter_groups.OWN_KERNEL_NUMBERS", 64)
    (plain, before, row), (fast, after, new) = (
        in_bursts(tmp_path, compiled, TableData(), **options) for compiled in BOTH
    )
    assert looped(fast)
    assert graphs() == 1
    torch.testing.assert_close(fast.state_dict(), plain.state_dict(), rtol=1e-3, atol=1e-4)
    for name in ("draws", "trajectories", "reward_calls"):
        assert getattr(fast.tally, name) == getattr(plain.tally, name) > 0
    assert torch.equal(fast.tally.seen.keys, plain.tally.seen.keys)
    assert before.global_step == after.global_step == 60
    (left,), (right,) = before.optimizers, after.optimizers
    states = [optimizer.state_dict()["state"] for optimizer in (left, right)]
    torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)
    for name in ("lr", "betas"):
        now = [[group[name] for group in optimizer.param_groups] for optimizer in (left, right)]
        assert now[0] == now[1]
    new.pop("log_z"), row.pop("log_z")  # a loop logs the one after the update
    assert new == pytest.approx(row, rel=1e-3, abs=1e-3)


class HoleData(DataModule):
    """The score of 'BBBBBB', of 729 objects, is no number."""

    def make_reward(self, environment):
        n = environment.slot_sizes[0] ** environment.length
        table = torch.ones(n).index_fill(0, torch.tensor(n // 2), torch.nan)
        return Reward(TableScore(table, environment.length))


@compiles
@pytest.mark.usefixtures("_long")
def test_nothing_is_learned_from_a_loop_whose_reward_is_refused(tmp_path, monkeypatch):
    """Fails by chance once in 15: if 'BBBBBB' is in a batch before loops are of several."""
    monkeypatch.setattr("gfn_design.fast.parameter_groups.OWN_KERNEL_NUMBERS", 64)
    model = gflownet(environment=Sequence("ABC", 6), compiled=True, burst=50)
    run, before = Loop.run, {}

    def noted(loop, noise, tally, next_batch):
        states = [loop.optimizer.state[p] for group in loop.parameters for p in group]
        tensors = [*model.parameters(), *(x for state in states for x in state.values())]
        before.update(batches=len(noise), tensors=tensors, values=[x.clone() for x in tensors])
        run(loop, noise, tally, next_batch)

    monkeypatch.setattr(Loop, "run", noted)
    with pytest.raises(InputError, match="the reward of 'BBBBBB' is not a positive number"):
        trainer(tmp_path, max_steps=500).fit(model, datamodule=HoleData())
    assert before["batches"] > 1
    assert len(before["tensors"]) == 4 * len([*model.parameters()])
    assert all(map(torch.equal, before["tensors"], before["values"]))


@compiles
def test_a_reward_that_no_loop_can_hold_is_said_once(monkeypatch, tmp_path, caplog):
    """Batches are compiled by themselves then, each but once, and nothing is lost or done twice."""
    monkeypatch.setattr("gfn_design.fast.compiled._said", set())
    options = {"environment": SHORT}
    (plain, *_), (fast, *_) = (
        in_bursts(tmp_path, compiled, FunctionData(letters), **options) for compiled in BOTH
    )
    assert not looped(fast)
    assert fast.tally.draws == plain.tally.draws == 60
    assert fast.tally.reward_calls == plain.tally.reward_calls
    torch.testing.assert_close(fast.state_dict(), plain.state_dict(), rtol=1e-3, atol=1e-4)
    said = [text for text in warned(caplog) if "a loop over batches cannot" in text]
    assert len(said) == 1
    assert "this score is found in Python" in said[0]
    assert 0 < graphs() <= 7  # around the reward, for all batches


@compiles
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 0.1},
        {"precision": "bf16-mixed"},
        {"callbacks": [EachEnd()]},
        {"accumulate_grad_batches": 2},
    ],
    ids=["clipping", "precision", "callback", "accumulation"],
)
def test_what_a_loop_cannot_do_is_done_without(options, tmp_path):
    model = gflownet(compiled=True, burst=50, environment=SHORT)
    trainer(tmp_path, max_steps=5, **options).fit(model, datamodule=TableData())
    assert not looped(model)
    assert model.tally.draws == 5 * options.get("accumulate_grad_batches", 1)


# Where nothing can be compiled.


class NoCompilerError(Exception):
    """What a compiler chain might raise."""


@pytest.fixture
def _no_compiler(monkeypatch):
    monkeypatch.setattr("gfn_design.fast.compiled._said", set())

    def compiled(function, **_):
        def fail(*arguments):
            raise NoCompilerError("\nno compiler here\nin much detail")

        return fail

    monkeypatch.setattr(torch, "compile", compiled)


@pytest.mark.usefixtures("_no_compiler")
def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(caplog):
    called = []

    def double(x):
        called.append(x)
        return 2 * x

    function = Compiled(double)
    assert [function(x) for x in (1, 2, 3)] == [2, 4, 6]
    assert called == [1, 2, 3]
    assert warned(caplog) == ["double cannot be compiled: no compiler here"]


@pytest.mark.parametrize("works", BOTH)
def test_an_exception_of_the_function_itself_is_raised_as_it_is(works, monkeypatch, caplog):
    """And the next call tries the compiled function again."""
    mine, calls = InputError("mine"), []

    def compiled(function, **_):
        def run(*arguments):
            calls.append(arguments)
            if not works:
                raise NoCompilerError
            return function(*arguments)

        return run

    def fail(good):
        if not good:
            raise mine
        return good

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr("gfn_design.fast.compiled._said", set())
    function = Compiled(fail)
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            function(0)
        assert caught.value is mine
    assert warned(caplog) == []
    assert [function(3), function(4)] == [3, 4]
    assert calls == [(0,), (0,), (3,), (4,)][: 4 if works else 3]
    assert warned(caplog) == ([] if works else ["fail cannot be compiled: NoCompilerError"])


@pytest.mark.usefixtures("_no_compiler")
@pytest.mark.parametrize("environment", [SHORT, Sequence("AB", 3, "append")], ids=str)
def test_training_without_a_compiler_is_training_uncompiled(environment, tmp_path, caplog):
    """One line says so, whatever else cannot be compiled for the same reason."""
    models = [gflownet(environment=environment, compiled=compiled) for compiled in BOTH]
    for model in models:
        trainer(tmp_path, max_steps=5).fit(model, datamodule=TableData())
    assert_equal(*(model.state_dict() for model in models))
    lines = [line for line in warned(caplog) if "compiled" in line]
    assert lines == ["a loop over batches cannot be compiled: no compiler here"]


@pytest.mark.usefixtures("_no_compiler")
def test_where_lengths_differ_one_line_says_that_there_is_no_compiler(tmp_path, caplog):
    trainer(tmp_path, max_steps=2).fit(gflownet(compiled=True), datamodule=HypergridData())
    lines = [line for line in warned(caplog) if "compiled" in line]
    assert lines == ["take_steps_until_few cannot be compiled: no compiler here"]


# Bursts.


def assert_equal(left, right):
    """To the last bit."""
    torch.testing.assert_close(left, right, rtol=0, atol=0)


class Scheduled(GFlowNet):
    """Its learning rates fall every third step."""

    def __init__(self, *args, **options):
        schedule = partial(StepLR, step_size=3, gamma=0.8)
        options["optimiser"] = replace(options["optimiser"], schedule=schedule)
        super().__init__(*args, **options)


class Watch(Callback):
    """After which steps Lightning ended a batch, and validated."""

    sees_several_batches = True

    def __init__(self):
        self.ends, self.validations = [], []

    def on_train_batch_end(self, trainer, *_):
        self.ends.append(trainer.global_step)

    def on_validation_end(self, trainer, *_):
        self.validations.append(trainer.global_step)


class Saver(SaveLast):
    """Notes when it saved."""

    def __init__(self, path, every):
        super().__init__(path, every)
        self.steps = []

    def _save(self, trainer):
        super()._save(trainer)
        self.steps.append(trainer.global_step)


USUAL = {"max_steps": 23, "log_every_n_steps": 4, "val_check_interval": 6, "limit_val_batches": 1}
DUE = [4, 5, 6, 8, 10, 12, 15, 16, 18, 20, 23]  # multiples of 4, 5 (a checkpoint) and 6; the end


def fit(folder, burst, kind=Scheduled, objective=None, more=(), resume=None, **options):
    """Train, and give all that has a count or a value; and what Lightning's callbacks saw."""
    folder.mkdir(exist_ok=True)
    model = gflownet(kind, objective=objective, burst=burst)
    log = CSVLog(folder / "log.csv", resume and 10)
    keep = ModelCheckpoint(
        folder, "{step}", save_top_k=-1, every_n_train_steps=5, every_n_epochs=None
    )
    last, watch = Saver(folder / "last", 5), Watch()
    run = trainer(
        folder,
        logger=log,
        enable_checkpointing=True,
        callbacks=[keep, last, watch, *more],
        **(USUAL | options),
    )
    run.fit(model, datamodule=HypergridData(), ckpt_path=resume, weights_only=True)
    with log.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    (optimizer,) = run.optimizers
    model.tally.seen.update(lambda keys: keys)
    loop = run.fit_loop.epoch_loop
    progress = loop.batch_progress.state_dict()
    progress.pop("is_last_batch")  # of the loader, which a burst does not ask for more
    exact = {
        "weights": dict(model.state_dict()),
        "optimizer": [dict(state) for state in optimizer.state.values()],
        "found": model.tally.seen.keys,
    }
    counts = {
        "steps": (run.global_step, loop.total_batch_idx, loop._batches_that_stepped),
        "progress": progress,
        "optimization": loop.automatic_optimization.optim_progress.optimizer.step.state_dict(),
        "epochs": run.current_epoch,
        "drawn": (model.tally.draws, model.tally.trajectories),
        "rates": [group["lr"] for group in optimizer.param_groups],
        "scheduled": [config.scheduler.state_dict() for config in run.lr_scheduler_configs],
        "rows": rows,
        "checkpoints": sorted(path.name for path in folder.glob("*.ckpt")),
        "saved": last.steps,
        "validations": watch.validations,
    }
    return exact, counts, watch


def assert_same_run(left, right):
    assert_equal(left[0], right[0])
    for name, value in left[1].items():
        assert value == right[1][name], name


@pytest.mark.usefixtures("_long")
@pytest.mark.parametrize("objective", [TrajectoryBalance, ActorCritic])
def test_bursts_end_where_something_is_due_and_change_nothing(objective, tmp_path):
    """Weights, optimizer, counts, log, checkpoints, validations and learning rates are equal."""
    one = fit(tmp_path / "one", 1, objective=objective())
    many = fit(tmp_path / "many", 50, objective=objective())
    assert_same_run(one, many)
    assert one[2].ends == list(range(1, 24))
    assert many[2].ends == DUE
    counts = many[1]
    assert counts["steps"] == (23, 22, 23)
    assert counts["drawn"] == (23, 23 * 16)
    assert [int(row["step"]) for row in counts["rows"]] == sorted(
        {0} | {int(row["step"]) for row in one[1]["rows"]}
    )
    assert counts["saved"] == [5, 10, 15, 20, 23]
    assert counts["checkpoints"] == [f"step={step}.ckpt" for step in (10, 15, 20, 5)]
    assert counts["validations"] == [6, 12, 18]
    assert counts["rates"] == pytest.approx([5e-3 * 0.8**7, *counts["rates"][1:]])
    few = fit(tmp_path / "few", 3, objective=objective())
    assert_same_run(one, few)


class Hook(Callback):
    """Counts gradients, and changes them."""

    def __init__(self):
        self.calls = 0

    def on_after_backward(self, trainer, pl_module):
        self.calls += 1
        for parameter in pl_module.parameters():
            parameter.grad.mul_(-1)


class Stepping(Scheduled):
    """Overrides what a bare step would leave out."""

    def on_before_optimizer_step(self, optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad.sign_()


@pytest.mark.usefixtures("_long")
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 0.01},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 2},
        {"precision": "bf16-mixed"},
        {"precision": "bf16-true"},
        {"precision": "64-true"},
        {"kind": Stepping},
        {"val_check_interval": 0.25},
        {"check_val_every_n_epoch": None},
        {"max_steps": -1, "max_epochs": 1, "limit_train_batches": 30},
        {"max_steps": 50, "max_epochs": 3, "limit_train_batches": 7, "val_check_interval": 1.0},
        {
            "max_steps": 23,
            "limit_train_batches": 7,
            "val_check_interval": 10,
            "check_val_every_n_epoch": None,
        },
        {"log_every_n_steps": 0},
        {"limit_val_batches": 0},
    ],
    ids=str,
)
def test_bursts_change_nothing_under_other_options(options, tmp_path):
    one, many = (fit(tmp_path / str(burst), burst, **options) for burst in (1, 50))
    assert_same_run(one, many)
    if "accumulate_grad_batches" in options:
        assert many[2].ends == one[2].ends
        assert many[1]["drawn"][0] == 46
    else:
        assert len(many[2].ends) < len(one[2].ends)


@pytest.mark.usefixtures("_long")
def test_a_callback_that_sees_gradients_sees_each(tmp_path):
    hooks = [Hook(), Hook()]
    one, many = (
        fit(tmp_path / str(burst), burst, more=[hook])
        for burst, hook in zip((1, 50), hooks, strict=True)
    )
    assert_same_run(one, many)
    assert [hook.calls for hook in hooks] == [23, 23]
    assert many[2].ends == DUE
    plain = fit(tmp_path / "plain", 50)
    assert not torch.equal(
        plain[0]["weights"]["objective.log_z"], one[0]["weights"]["objective.log_z"]
    )


@pytest.mark.usefixtures("_long")
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* not empty")
@pytest.mark.parametrize("saved_by", [1, 50])
def test_a_resumed_run_with_bursts_ends_as_an_uninterrupted_one(saved_by, tmp_path):
    """From a checkpoint after 10 of 23 steps, to the last bit, with the same log."""
    whole = fit(tmp_path / "whole", 1)
    fit(tmp_path / "part", saved_by)
    resumed = fit(tmp_path / "part", 50, resume=str(tmp_path / "part" / "step=10.ckpt"))
    assert_equal(whole[0], resumed[0])
    for name in ("drawn", "rates", "scheduled", "rows", "epochs"):
        assert whole[1][name] == resumed[1][name], name
    assert whole[1]["steps"] == resumed[1]["steps"]
    assert resumed[1]["saved"] == [15, 20, 23]
    assert resumed[1]["validations"] == [12, 18]
    assert resumed[2].ends == DUE[5:]


@compiles
@pytest.mark.usefixtures("_long")
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* not empty")
@pytest.mark.parametrize("burst", [1, 50])
def test_a_resumed_compiled_run_ends_as_an_uninterrupted_one(burst, tmp_path):
    """To the last bit, but where its first batch was part of a loop before: up to rounding there,
    which fails by chance once in 300.
    """
    keep = ModelCheckpoint(
        tmp_path, "{step}", save_top_k=-1, every_n_train_steps=10, every_n_epochs=None
    )
    models = []
    for path in (None, tmp_path / "step=10.ckpt"):
        model = gflownet(environment=SHORT, compiled=True, burst=burst)
        run = trainer(
            tmp_path, max_steps=20, enable_checkpointing=True, callbacks=[keep], logger=False
        )
        run.fit(model, datamodule=TableData(), ckpt_path=path, weights_only=True)
        models.append(model)
    whole, resumed = models
    assert looped(whole) == looped(resumed) == (burst > 1)
    assert whole.tally.draws == resumed.tally.draws == 20
    near = {"rtol": 1e-3, "atol": 1e-4} if looped(whole) else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), **near)


@pytest.mark.parametrize(("seconds", "wanted"), [(0.0, [*range(2, 24)]), (1e9, [23])])
def test_a_burst_ends_soon_after_its_time_is_over(seconds, wanted, monkeypatch, tmp_path):
    """The first carries two batches; then it is known how long they take."""
    monkeypatch.setattr("gfn_design.fast.several_batches.SECONDS", seconds)
    watch = Watch()
    run = trainer(tmp_path, max_steps=23, callbacks=[watch])
    run.fit(gflownet(burst=50), datamodule=HypergridData())
    assert watch.ends == wanted


def test_a_run_with_bursts_ends_in_time(tmp_path):
    """Within a second and a burst or two, with counts that agree."""
    model = gflownet(Scheduled, burst=50)
    run = trainer(tmp_path, max_steps=-1, max_time={"seconds": 1})
    run.fit(model, datamodule=HypergridData())
    steps = run.global_step
    assert steps > 3
    assert model.tally.draws == steps
    assert model.tally.trajectories == 16 * steps
    assert run.lr_scheduler_configs[0].scheduler.last_epoch == steps


class Plateau(GFlowNet):
    """Halves its learning rates where log Z does not grow."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0)
        config = {"scheduler": scheduler, "interval": "step", "monitor": "log_z", "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": config}


@pytest.mark.usefixtures("_long")
@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned")  # until the first log
@pytest.mark.parametrize("why", ["a callback", "a scheduler", "a monitor of the learning rate"])
def test_what_looks_at_every_batch_gets_every_batch(why, tmp_path):
    watch, more = Watch(), []
    if why == "a callback":
        more = [EachEnd()]
    if why == "a monitor of the learning rate":
        more = [LearningRateMonitor("step")]
    model = gflownet(Plateau if why == "a scheduler" else GFlowNet, burst=50)
    log = CSVLog(tmp_path / "log.csv")
    run = trainer(tmp_path, max_steps=9, callbacks=[watch, *more], logger=log, log_every_n_steps=4)
    run.fit(model, datamodule=HypergridData())
    assert watch.ends == [*range(1, 10)]
    if why == "a callback":
        assert more[0].ends == watch.ends
    if why == "a monitor of the learning rate":
        assert sum("lr-Adam/policy" in row for row in log.rows.values()) == 2


@pytest.mark.usefixtures("_long")
def test_a_callback_that_ends_a_run_ends_it_at_the_end_of_a_burst(tmp_path):
    class Stop(Callback):
        sees_several_batches = True

        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step >= 11

    model = gflownet(burst=5)
    run = trainer(tmp_path, max_steps=100, callbacks=[Stop()])
    run.fit(model, datamodule=HypergridData())
    assert run.global_step == model.tally.draws == 15


# What training leads to.


class Curve(Callback):
    """D_TV at each validation."""

    def __init__(self):
        self.values = []

    def on_validation_end(self, trainer, pl_module):
        self.values.append(float(trainer.callback_metrics["D_TV"]))


def curve(folder, seed, **options):
    """D_TV after every 50 of 300 batches."""
    watch, precision = Curve(), options.pop("precision", "32-true")
    options = {"environment": SHORT, "backward": "shared", "batch_size": 32, "burst": 1} | options
    model = gflownet(draw_seed=seed, **options)
    run = trainer(
        folder,
        max_steps=300,
        val_check_interval=50,
        limit_val_batches=1,
        precision=precision,
        callbacks=[watch],
    )
    run.fit(model, datamodule=TableData())
    return torch.tensor(watch.values)


@pytest.fixture(scope="module")
def plain_curves(tmp_path_factory):
    curves = [curve(tmp_path_factory.mktemp("plain"), seed) for seed in range(3)]
    assert all(values[-1] < 0.3 * values[0] for values in curves)
    return curves


def assert_same_curves(left, right, tolerance):
    for ours, theirs in zip(left, right, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@compiles
def test_compiled_training_learns_the_same(plain_curves, tmp_path):
    """D_TV of three seeds to 0.002; fails by chance once in 100, when a draw is rounded over."""
    fast = [curve(tmp_path, seed, compiled=True) for seed in range(3)]
    assert graphs() == 1  # for three models
    assert_same_curves(plain_curves, fast, 2e-3)


def test_training_in_bursts_learns_the_same(plain_curves, tmp_path):
    fast = [curve(tmp_path, seed, burst=50) for seed in range(3)]
    assert_same_curves(plain_curves, fast, 0)


def test_training_on_distinct_states_learns_the_same(plain_curves, monkeypatch, tmp_path):
    """As on every state of a batch, to 0.002; fails by chance once in 100."""

    def every(environment, states, real):
        return states.flatten(0, 1), torch.arange(real.numel()).view(real.shape)

    monkeypatch.setattr("gfn_design.fast.log_probabilities.distinct", every)
    slow = [curve(tmp_path, seed) for seed in range(3)]
    assert_same_curves(plain_curves, slow, 2e-3)


def test_training_without_early_states_learns_the_same(plain_curves, monkeypatch, tmp_path):
    """To 0.002; fails by chance once in 100."""
    monkeypatch.setattr("gfn_design.fast.engine.EarlyStates", lambda *_: None)
    slow = [curve(tmp_path, seed) for seed in range(3)]
    assert_same_curves(plain_curves, slow, 2e-3)


def test_training_in_reduced_precision_learns_nearly_the_same(plain_curves, tmp_path):
    """D_TV to 0.02: networks compute with eight bits, so some actions are drawn differently."""
    short = [curve(tmp_path, seed, precision="bf16-mixed") for seed in range(3)]
    assert_same_curves(plain_curves, short, 0.02)
    assert not any(torch.equal(a, b) for a, b in zip(plain_curves, short, strict=True))


def test_training_with_shorter_products_learns_nearly_the_same(plain_curves, tmp_path):
    """D_TV to 0.02, as above; equal curves where the chip has no such products."""
    torch.set_float32_matmul_precision("medium")
    try:
        short = [curve(tmp_path, seed) for seed in range(3)]
    finally:
        torch.set_float32_matmul_precision("highest")
    assert_same_curves(plain_curves, short, 0.02)


# Noise.


def test_noise_differs_across_the_draws_that_share_seeds_and_those_that_do_not():
    """In two streams; fails by chance once in 10,000, as two draws may share 32 bits."""
    draws = [*range(SEEDS + 5), *range(2 * SEEDS - 3, 2 * SEEDS + 3), *range(10**6, 10**6 + 3)]
    keys = [(seed, TRAINING, 0, draw) for seed in (0, 1) for draw in draws]
    drawn = torch.stack([uniform_noise((4,), CPU, *key) for key in keys])
    assert len(drawn.unique(dim=0)) == len(keys)
    _entropy.cache_clear()
    for key, once in reversed(list(zip(keys, drawn, strict=True))):
        assert torch.equal(uniform_noise((4,), CPU, *key), once)
