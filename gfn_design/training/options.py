"""Options of a module that do not go together: one sentence for each."""

from gfn_design.environments.base import Environment
from gfn_design.environments.walks import every_state_is_an_object
from gfn_design.errors import InputError
from gfn_design.objectives.base import BackwardObjective, Objective
from gfn_design.sampling.exploration import Exploration
from gfn_design.sampling.local_search import LocalSearch
from gfn_design.sampling.prioritized import PrioritizedReplay
from gfn_design.sampling.replay import Replay


def check_objective(environment: Environment, objective: Objective, batch_size: int) -> None:
    """Refuse an objective that cannot learn from what is built, or from so few."""
    name = type(objective).__name__
    if objective.scores_states and environment.copies:
        raise InputError(
            f"{name} asks the reward of every state, and in "
            f"{environment.describe()} several states are one object, and some are none"
        )
    if objective.scores_states and not every_state_is_an_object(environment):
        raise InputError(
            f"{name} needs an environment all of whose states are objects, "
            f"got {environment.describe()}"
        )
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if batch_size < objective.least_batch:
        raise InputError(
            f"{name} compares the trajectories of a batch; set batch_size "
            f"to {objective.least_batch} or more, got {batch_size}"
        )


def check_backward(
    objective: Objective,
    backward: str,
    backward_objective: BackwardObjective | None,
    updates: int,
    anchored: bool,
) -> None:
    """Refuse a backward policy that nothing trains, or that is trained and not there."""
    learned = backward in ("learned", "shared")
    if not anchored and learned and backward_objective is None and not objective.trains_backward:
        raise InputError(
            f"{type(objective).__name__} does not train a backward policy; "
            "set backward: uniform, or a backward_objective"
        )
    if backward_objective is None:
        return
    name = type(backward_objective).__name__
    if not learned:
        raise InputError(
            f"{name} has no backward policy to train; set backward: learned (it is {backward})"
        )
    if updates > 1 and backward_objective.on_policy:
        raise InputError(f"{name} takes one update for each batch, got updates={updates}")


def check_batches(
    environment: Environment,
    objective: Objective,
    batch_size: int,
    updates: int,
    replay: Replay | None,
    exploration: Exploration | None,
    search: LocalSearch | None,
) -> None:
    """Refuse batches that the objective cannot learn from."""
    name = type(objective).__name__
    if updates < 1:
        raise InputError(f"updates must be at least 1, got {updates}")
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
        search.check(environment, batch_size)


def check_heads(
    heads: int, objective: Objective, backward: str, replay: Replay | None, tuned: bool
) -> None:
    """Refuse what several heads of a policy cannot do."""
    if heads == 1:
        return
    if objective.head == "edges" or backward == "shared":
        raise InputError(
            "several heads of a policy learn from probabilities, by themselves; leave out "
            "exploration.heads, or FlowMatching and backward: shared"
        )
    if isinstance(replay, PrioritizedReplay):
        raise InputError(
            "the errors of PrioritizedReplay are those of one policy; leave out exploration.heads"
        )
    if tuned:
        raise InputError(
            "a policy of several heads cannot be fine-tuned, nor another be given heads; "
            "leave out exploration.heads or start"
        )


def copy_rate(objective: Objective, backward_objective: BackwardObjective | None) -> float | None:
    """How far the slow copy of the policy goes at each update; None without one."""
    parts = (objective, backward_objective)
    rates = {x.copy_rate for x in parts if x is not None and x.copy_rate is not None}
    if len(rates) > 1:
        given = " and ".join(map(str, sorted(rates)))
        raise InputError(
            "objective and backward_objective have one slow copy between them; give both the "
            f"same rate, got {given}"
        )
    return rates.pop() if rates else None
