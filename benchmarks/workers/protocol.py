"""How a worker talks to speed.py: line by line, in any Python, with the standard library only.

A worker is started as `python worker.py TASK`, where TASK is a JSON object with the keys work,
level, threads and options. Once warm it says so: ready, version, parameters, mean_length and
compile_s. Each line it is then sent is a number of seconds to work for, answered by the iterations
done and the seconds they took; `end` is answered by the peak memory. The end of its input ends it.
With `cold` in the task, a number of batches, it does these and says done; `stop` is the bias of the
stop logit then, which is found if it is not given.
"""

import json
import math
import os
import resource
import sys
from collections.abc import Callable, Iterator
from time import perf_counter

WARM_UP = 0.5  # seconds
CALLS_PER_SECOND = 10  # of `run`: often enough to stop in time, too seldom to cost anything


class Harness:
    """What stands at the other end of the pipes."""

    def __init__(self):
        self.task = json.loads(sys.argv[1])
        # A library that prints must not break the conversation: what goes to standard output from
        # here on, from Python or from C, is sent to standard error.
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **message: object) -> None:
        print(json.dumps(message), file=self._answers, flush=True)

    def turns(self) -> Iterator[float]:
        """The seconds to work for, turn by turn."""
        for line in sys.stdin:
            if line.strip() == "end":
                self.say(peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
                return
            yield float(line)


def repeat(run: Callable[[int], None], seconds: float, calls_of: int) -> dict[str, float]:
    """Call `run` for about so many seconds, `calls_of` iterations a call."""
    iterations, start = 0, perf_counter()
    while (elapsed := perf_counter() - start) < seconds:
        run(calls_of)
        iterations += calls_of
    return {"iterations": iterations, "seconds": elapsed}


def serve(
    prepare: Callable[[dict], tuple[Callable[[int], None], dict]], harness: Harness | None = None
) -> None:
    """Be a worker whose `prepare(task)` gives `run` and the facts to say when ready.

    `run(n)` does n iterations and returns once they are finished.
    """
    harness = harness or Harness()
    run, facts = prepare(harness.task)
    if (batches := harness.task.get("cold")) is not None:
        run(batches)
        harness.say(done=True, **facts)
        return
    start = perf_counter()
    run(3)  # ours compiles at the second iteration
    compile_s = perf_counter() - start
    warm = repeat(run, WARM_UP, 1)
    calls_of = max(1, round(warm["iterations"] / warm["seconds"] / CALLS_PER_SECOND))
    harness.say(ready=True, compile_s=compile_s, **facts)
    for seconds in harness.turns():
        harness.say(**repeat(run, seconds, calls_of))


def given_stop(task: dict, find: Callable[[], float], start: float) -> float:
    """The bias of the stop logit: as the task says, found for its length, or as it starts."""
    if task.get("stop") is not None:
        return task["stop"]
    return start if task["work"]["target_length"] is None else find()


def stop_bias(mean_length: Callable[[float], float], target: float) -> float:
    """The bias of the stop logit with which trajectories are `target` moves long on average."""
    bias = 0.0
    for _ in range(7):
        # The moves before the stop are nearly proportional to exp(-bias), less so at the border,
        # so that every correction leaves a fraction of the error.
        bias += math.log((mean_length(bias) - 1) / (target - 1))
    return bias
