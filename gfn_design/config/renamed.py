"""Options that had another name in the release before: one sentence says the new one."""

from collections.abc import Mapping
from typing import Any, Protocol

from gfn_design.errors import InputError

MOVED = {  # option of GFlowNet -> group, its class, option there
    "network": ("networks", "Networks", "network"),
    "critic": ("networks", "Networks", "critic"),
    "backward_objective": ("backward", "LearnedBackward", "objective"),
    "batch_size": ("batches", "Batches", "size"),
    "updates": ("batches", "Batches", "updates"),
    "replay": ("batches", "Batches", "replay"),
    "exploration": ("batches", "Batches", "exploration"),
    "search": ("batches", "Batches", "search"),
    "lr": ("optimiser", "Optimiser", "lr"),
    "critic_lr": ("optimiser", "Optimiser", "critic_lr"),
    "log_z_lr": ("optimiser", "Optimiser", "log_z_lr"),
    "optimizer": ("optimiser", "Optimiser", "factory"),
    "schedule": ("optimiser", "Optimiser", "schedule"),
    "compiled": ("speed", "Speed", "compiled"),
    "burst": ("speed", "Speed", "batches_per_step"),
}
TOP = {"start": "fine_tune", "seed": "draw_seed"}  # likewise, which stayed where it was
BACKWARD = {
    "uniform": "UniformBackward",
    "max_entropy": "MaxEntropyBackward",
    "learned": "LearnedBackward",
    "shared": "LearnedBackward with shared: true",
}
ARGUMENTS = {("Exploration", "heads"): "members"}  # class, its argument -> what it is called
VALUES = {("critic_loss", "pieces"): "sub_balance"}  # argument, its value -> what it is called


def check_attributes(kind: type, names: Mapping[str, str]) -> None:
    """Refuse a class that overrides what had another name in the release before.

    Args:
        kind: The class.
        names: Old name -> name now.

    Raises:
        InputError: It does.
    """
    for old, new in names.items():
        if old in vars(kind):
            raise InputError(f"{kind.__name__}: '{old}' is '{new}' now")


def of_argument(kind: str, name: str) -> str | None:
    """What an argument of a class is called now; None if it had no other name."""
    return ARGUMENTS.get((kind, name))


def of_option(name: str) -> str | None:
    """What an option of `GFlowNet` is now, in Python; None if it had no other name."""
    if name in TOP:
        return TOP[name]
    if name == "exact_limit":
        return "the attribute model.exact_limit"
    if name not in MOVED:
        return None
    group, kind, option = MOVED[name]
    return f"{group}={kind}({option}=...)"


def of_key(key: str) -> str | None:
    """What a key of a configuration is now; None if it had no other name."""
    section, _, name = key.partition(".")
    *_, part, argument = ("", *key.replace(".init_args", "").split("."))
    if now := of_argument(part.capitalize(), argument):
        return f"'{now}'"
    if section != "model":
        return None
    if name in TOP:
        return f"model.{TOP[name]}"
    if name == "exact_limit":
        return "'exact_limit', outside of model,"
    if name == "backward_objective":
        return "'objective' of model.backward: LearnedBackward"
    if name not in MOVED:
        return None
    group, _, option = MOVED[name]
    return f"model.{group}.{option}"


class Place(Protocol):
    """The key of a value in a configuration, and what is said of it."""

    def error(self, text: str) -> InputError:
        """A sentence that says where it was written."""


def check_key(key: Place) -> None:
    """Refuse a key of the release before."""
    if now := of_key(str(key)):
        raise key.error(f"'{key}' is {now} now")


def check_value(key: Place, value: Any) -> None:
    """Refuse a backward policy as the release before wrote it."""
    if str(key) == "model.backward" and isinstance(value, str) and value in BACKWARD:
        raise key.error(f"'{key}' {value} is {BACKWARD[value]} now")


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run of the release before, as it is written now."""
    config = dict(config)
    if not isinstance(model := config.get("model"), Mapping):
        return config
    model, found = dict(model), dict[str, Any]()
    if "exact_limit" in model:
        config["exact_limit"] = model.pop("exact_limit")
    kind, objective = model.get("backward"), model.pop("backward_objective", None)
    if isinstance(kind, str) and kind in BACKWARD:
        model["backward"] = {"class_path": BACKWARD[kind].split()[0]}
        arguments = {"shared": True} if kind == "shared" else {}
        arguments |= {} if objective is None else {"objective": objective}
        model["backward"] |= {"init_args": arguments} if arguments else {}
    for name, value in model.items():
        if name in MOVED:
            group, _, option = MOVED[name]
            found.setdefault(group, {})[option] = value
        else:
            found[TOP.get(name, name)] = value
    return config | {"model": _renamed(found)}


def _renamed(value: Any) -> Any:
    """A part of a configuration, whose classes call their arguments as they do now."""
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    kind, new = str(value.get("class_path", "")).rpartition(".")[2], dict[str, Any]()
    for name, item in value.items():
        if name == "init_args" and isinstance(item, Mapping):
            item = {of_argument(kind, key) or key: x for key, x in item.items()}
        known = isinstance(item, str) and VALUES.get((name, item))
        new[name] = known or _renamed(item)
    return new
