"""What of a module's options does not go together: one sentence for each."""

from typing import Any, NamedTuple

from torch import nn

from gfn_design.environments.base import Environment
from gfn_design.environments.walks import every_state_is_an_object
from gfn_design.errors import InputError
from gfn_design.objectives.base import BackwardObjective, Objective
from gfn_design.sampling.prioritized import PrioritizedReplay
from gfn_design.training.condition_ranges import Conditions
from gfn_design.training.fine_tuning import FineTuning
from gfn_design.training.options import (
    Backward,
    Batches,
    LearnedBackward,
    Networks,
    Optimiser,
    Speed,
)


class Setting(NamedTuple):
    """All that must go together, as a `GFlowNet` takes it."""

    environment: Environment
    objective: Objective
    networks: Networks
    backward: Backward
    batches: Batches
    optimiser: Optimiser
    fine_tune: FineTuning | None
    speed: Speed
    conditions: Conditions | None = None

    @property
    def members(self) -> int:
        """Of an ensemble of forward policies."""
        return 1 if self.batches.exploration is None else self.batches.exploration.members


def check(setting: Setting) -> None:
    """Refuse what does not go together.

    Raises:
        InputError: It does not; the sentence says what to change.
    """
    _check_kinds(setting)
    _check_factories(setting.networks)
    for rule in (
        _check_backward,
        _check_objective,
        _check_batches,
        _check_ensemble,
        _check_region,
        _check_conditions,
    ):
        rule(setting)
    copy_rate(setting.objective, setting.backward.learns_by)
    if setting.fine_tune is not None:
        setting.fine_tune.check(
            setting.objective, setting.backward.kind, setting.backward.learns_by
        )


def _check_kinds(setting: Setting) -> None:
    """Each part is one of its kind, and made already."""
    kinds: tuple[tuple[type, str], ...] = (
        (Environment, "Sequence('DNA', 8)"),
        (Objective, "TrajectoryBalance()"),
        (Networks, "Networks(network=partial(MLP, width=64))"),
        (Backward, "UniformBackward()"),
        (Batches, "Batches(size=64)"),
        (Optimiser, "Optimiser(lr=1e-3)"),
        (FineTuning, "FineTuning('runs/before')"),
        (Speed, "Speed(compiled=True)"),
        (Conditions, "Conditions(exponent='1..16')"),
    )
    for name, (kind, example), part in zip(Setting._fields, kinds, setting, strict=True):
        if isinstance(part, kind) or (name in ("fine_tune", "conditions") and part is None):
            continue
        given = f"the class {part.__name__}" if isinstance(part, type) else repr(part)
        article = "an" if kind.__name__[0] in "EO" else "a"
        raise InputError(
            f"GFlowNet: {name} must be {article} {kind.__name__} such as {example}, got {given}"
        )


def _check_factories(networks: Networks) -> None:
    """What builds networks is called, and is none itself."""
    for name in ("network", "critic"):
        given = getattr(networks, name, None)
        if isinstance(given, nn.Module) or not callable(given):
            raise InputError(
                f"GFlowNet: networks.{name} must build a network from an environment and a number "
                f"of outputs, as MLP or partial(MLP, width=64) does, got {given!r:.60}"
            )


def _check_backward(setting: Setting) -> None:
    """A backward policy that nothing trains is not learned."""
    objective, learns_by = setting.objective, setting.backward.learns_by
    anchored = setting.fine_tune is not None and setting.fine_tune.anchored
    learned = isinstance(setting.backward, LearnedBackward)
    if not anchored and learned and learns_by is None and not objective.trains_backward:
        raise InputError(
            f"{type(objective).__name__} does not train a backward policy; "
            "set backward: UniformBackward, or give LearnedBackward an objective"
        )
    if learns_by is not None and setting.batches.updates > 1 and learns_by.on_policy:
        raise InputError(
            f"{type(learns_by).__name__} takes one update for each batch, got "
            f"updates={setting.batches.updates}"
        )


def _check_objective(setting: Setting) -> None:
    """An objective can learn from what is built, and from so few."""
    environment, objective, name = setting[0], setting.objective, type(setting.objective).__name__
    if objective.scores_states and environment.several_states:
        raise InputError(
            f"{name} asks the reward of every state, and in "
            f"{environment.describe()} several states are one object, and some are none"
        )
    if objective.scores_states and not every_state_is_an_object(environment):
        raise InputError(
            f"{name} needs an environment all of whose states are objects, "
            f"got {environment.describe()}"
        )
    if setting.batches.size < objective.least_batch:
        raise InputError(
            f"{name} compares the trajectories of a batch; set batches.size "
            f"to {objective.least_batch} or more, got {setting.batches.size}"
        )


def _check_batches(setting: Setting) -> None:
    """An objective can learn from such batches."""
    objective, (size, updates, replay, exploration, search) = setting.objective, _of(setting)
    name = type(objective).__name__
    if objective.on_policy:
        others = {"replay": replay, "exploration": exploration, "search": search}
        if what := ", ".join(key for key, part in others.items() if part is not None):
            raise InputError(f"{name} learns from its own policy alone; leave out {what}")
        if updates > 1 and not objective.repeats:
            raise InputError(f"{name} takes one update for each batch, got updates={updates}")
    if objective.scores_states and replay is not None:
        raise InputError(
            f"{name} needs the reward of every state, and a replay keeps objects; leave out replay"
        )
    if isinstance(replay, PrioritizedReplay) and not objective.single_steps:
        raise InputError(
            f"{name} does not learn from single steps, which "
            "PrioritizedReplay keeps; take Replay, or the objective SoftQ"
        )
    if search is not None:
        search.check(setting.environment, size)


def _of(setting: Setting) -> tuple[Any, ...]:
    batches = setting.batches
    return batches.size, batches.updates, batches.replay, batches.exploration, batches.search


def _check_ensemble(setting: Setting) -> None:
    """An ensemble can do what is asked of it."""
    if setting.members == 1:
        return
    if setting.objective.value_kind == "edges" or setting.backward.kind == "shared":
        raise InputError(
            "the members of an ensemble learn from probabilities, by themselves; leave out "
            "exploration.members, or FlowMatching and a shared backward policy"
        )
    if isinstance(setting.batches.replay, PrioritizedReplay):
        raise InputError(
            "the errors of PrioritizedReplay are those of one policy; leave out exploration.members"
        )
    if setting.fine_tune is not None:
        raise InputError(
            "an ensemble cannot be fine-tuned, nor another policy become one; "
            "leave out exploration.members or fine_tune"
        )


def _check_region(setting: Setting) -> None:
    """A trust region is about a policy of its own, and is an optimizer itself."""
    if not setting.objective.brings_optimizer:
        return
    if setting.backward.kind == "shared":
        raise InputError(
            "a trust region needs a forward policy that is not shared; set shared: false, or "
            "backward: UniformBackward"
        )
    if setting.optimiser.factory is not None:
        raise InputError("a trust region brings its own optimizer; leave out optimiser.factory")


def _check_conditions(setting: Setting) -> None:
    """A conditioned policy learns from what it drew at those settings, and from nothing else."""
    if setting.conditions is None:
        return
    objective, batches = setting.objective, setting.batches
    others = {
        "batches.replay": batches.replay,
        "batches.search": batches.search,
        "batches.exploration": batches.exploration,
        "an objective of the backward policy": setting.backward.learns_by,
        "fine_tune": setting.fine_tune,
        "a slow copy": objective.copy_rate,
    }
    if what := ", ".join(name for name, part in others.items() if part is not None):
        raise InputError(f"conditions do not go with {what}; leave that out")
    name = type(objective).__name__
    if objective.value_kind == "edges" or objective.scores_states or objective.brings_optimizer:
        raise InputError(
            f"conditions do not go with {name}; take TrajectoryBalance, SubTrajectoryBalance or "
            "ActorCritic"
        )


def copy_rate(objective: Objective, backward_objective: BackwardObjective | None) -> float | None:
    """How far the slow copy of the policy goes at each update; None without one.

    Raises:
        InputError: Two objectives want two copies.
    """
    parts = (objective, backward_objective)
    rates = {x.copy_rate for x in parts if x is not None and x.copy_rate is not None}
    if len(rates) > 1:
        given = " and ".join(map(str, sorted(rates)))
        raise InputError(
            "objective and the objective of the backward policy have one slow copy between them; "
            f"give both the same rate, got {given}"
        )
    return rates.pop() if rates else None


def learns_once(setting: Setting) -> bool:
    """Whether each batch is learned from once, and nothing besides."""
    batches, fine_tune = setting.batches, setting.fine_tune
    return (
        batches.updates == 1
        and batches.replay is None
        and (fine_tune is None or fine_tune.known is None)
    )


def check_trainer(objective: Objective, takes_gradients: bool, trainer: Any) -> None:
    """Refuse a Trainer that would silently train otherwise than it seems.

    Raises:
        InputError: It would.
    """
    if objective.brings_optimizer and trainer.accumulate_grad_batches > 1:
        raise InputError(
            "a trust region is about one batch; set trainer.accumulate_grad_batches: 1, and a "
            "larger batches.size"
        )
    if takes_gradients and getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise InputError(
            "a compiled step finds its gradient before the loss is scaled; set "
            "speed.compiled: false, or trainer.precision: bf16-mixed"
        )
