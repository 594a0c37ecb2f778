"""What two runs build together, in a file."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gfn_design.files.tables import write_table
from gfn_design.files.whole import whole_files
from gfn_design.results.composed import Composed

if TYPE_CHECKING:
    from gfn_design.designer import Designer


def write_composed(found: Composed, first: "Designer", second: "Designer", path: Path) -> int:
    """Write each distinct object once, by the sum of both log-rewards, and say how many there are.

    Columns: the object; `log_reward_A` and `log_reward_B`; `share_A`, the probability that A builds
    it with over that of both; `draws`; and what the data of both says of it, each with _A and _B.

    Args:
        found: In the order in which they were drawn.
        first: A.
        second: B.
        path: A CSV.

    Raises:
        InputError: It cannot be written.
    """
    environment = first.environment
    texts = environment.decode(found.objects)
    times = Counter(texts)
    place = {text: i for i, text in reversed(list(enumerate(texts)))}
    some = found.objects[list(place.values())]
    names, rewards = list(place), [m.log_reward(some).tolist() for m in (first, second)]
    order = sorted(range(len(names)), key=lambda i: (-(rewards[0][i] + rewards[1][i]), names[i]))
    shown = environment.smiles(some) if environment.molecules else names
    share = found.share[list(place.values())].tolist()
    columns = {
        "smiles" if environment.molecules else "sequence" if environment.symbols else "object": [
            shown[i] for i in order
        ],
        "log_reward_A": [f"{rewards[0][i]:.5g}" for i in order],
        "log_reward_B": [f"{rewards[1][i]:.5g}" for i in order],
        "share_A": [f"{share[i]:.4f}" for i in order],
        "draws": [str(times[names[i]]) for i in order],
    }
    for letter, module in (("A", first), ("B", second)):
        for name, cells in module.data.columns(environment, names).items():
            columns[f"{name}_{letter}"] = [cells[i] for i in order]
    with whole_files(path.parent) as part:
        write_table(part / path.name, columns)
    return len(names)
