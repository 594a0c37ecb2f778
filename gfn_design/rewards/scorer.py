"""Scores of texts from functions that may fail: each paid for once, counted, within a budget."""

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import torch
import torch.distributed

from gfn_design.errors import InputError
from gfn_design.rewards.answers import Row, ScoringError
from gfn_design.rewards.asker import Asker, DoubtError, Policy, Worker
from gfn_design.rewards.store import NAME, ScoreStore

LONG = 1.0  # seconds: what takes longer is asked for in portions, each of which is kept
CHEAP = 1e-3  # seconds for a text; what takes less is sooner found again than looked up


class BudgetSpentError(InputError):
    """More objects were to be scored than are allowed."""


class Scorer:
    """Has workers score the texts that it has not seen before.

    Args:
        name: Who scores, as sentences begin with it.
        workers: Each takes an equal part of the texts.
        width: Each answer is a list of so many numbers; None: a number.
        retries: How often a text is tried again.
        failed: ``stop`` raises for the first text that cannot be scored; ``floor`` goes on without
            its numbers, logs the first such text and counts all.
        cache_size: Texts whose numbers are kept in memory, the latest ones; with 0 none are kept on
            the disk either.
        budget: How many texts may be scored in all; None is any number.
        who: What scores, by its content, for the scores on the disk.

    Attributes:
        asker: Gives the texts to the workers.
        failures: Texts that were asked for and could not be scored.
    """

    def __init__(
        self,
        name: str,
        workers: Sequence[Worker],
        width: int | None = None,
        retries: int = 0,
        failed: Policy = "stop",
        cache_size: int = 100_000,
        budget: int | None = None,
        who: str = "",
    ) -> None:
        if cache_size < 0:
            raise InputError(f"cache_size must not be negative, got {cache_size}")
        if budget is not None and (budget < 1 or not cache_size):
            raise InputError(
                f"budget must be at least 1, with a cache_size above 0, got {budget} and "
                f"{cache_size}"
            )
        self.asker = Asker(name, workers, width, retries, failed)
        self.name, self.cache_size = name, cache_size
        self.budget, self.who = budget, who or name
        self.failures = 0
        self.store: ScoreStore | None = None
        self._cache: OrderedDict[str, Row | None] = OrderedDict()
        self._asked: set[int] = set()  # hashes of the texts asked for so far
        self._asked_anew = 0  # without a cache
        self._seconds = 0.0  # that the latest texts took each
        self._portions = _Portions()

    @property
    def scored(self) -> int:
        """Texts that were asked for, each once; without a cache each call's distinct ones."""
        return len(self._asked) + self._asked_anew

    @property
    def room(self) -> int | None:
        """How many more texts may be scored; None is any number."""
        if self.budget is None:
            return None
        paid = len(self._asked) if self.store is None else max(len(self._asked), len(self.store))
        return max(0, self.budget - paid)

    def is_known(self, texts: Sequence[str]) -> list[bool]:
        """Whether texts need not be scored any more."""
        kept = {} if self.store is None else self.store.find(texts)
        return [text in self._cache or text in kept for text in texts]

    def texts(self) -> list[str]:
        """All that numbers are known of."""
        kept = [] if self.store is None else self.store.texts()
        return [*dict.fromkeys([*kept, *self._cache])]

    def __call__(self, texts: Sequence[str]) -> list[Row | None]:
        """The numbers of each text, None where there are none.

        Raises:
            InputError: A text cannot be scored, and the policy is to stop; or the budget is spent.
        """
        distinct = dict.fromkeys(texts)
        known = {text: self._cache[text] for text in distinct if text in self._cache}
        fresh = [text for text in distinct if text not in known]
        if fresh and self.store is not None:
            known |= self.store.find(fresh)
            fresh = [text for text in fresh if text not in known]
        if self.room is not None and len(fresh) > self.room:
            raise BudgetSpentError(
                f"{self.name} has a budget of {self.budget:,} scored objects, of which "
                f"{self.room:,} are left, and {len(fresh):,} more are wanted; give a larger budget"
            )
        try:
            known |= self._paid(fresh)
        except BaseException as error:  # Ctrl-C too: an answer that is still to come would be
            self._forget(error)  # taken for that of the next question
            self.close()
            raise
        self._note(distinct, known)
        return [known[text] for text in texts]

    def _note(self, texts: Iterable[str], known: Mapping[str, Row | None]) -> None:
        """Count what was asked for, and keep it."""
        if not self.cache_size:
            self._asked_anew += len(known)
            self.failures += sum(row is None for row in known.values())
            return
        for text in texts:
            if (key := _key(text)) not in self._asked:
                self._asked.add(key)
                self.failures += known[text] is None
            self._cache[text] = known[text]
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)

    def _paid(self, fresh: list[str]) -> dict[str, Row | None]:
        """Have texts scored, and keep on the disk what took its time."""
        shared = self.store is not None and _ranks() > 1
        theirs: list[str] = []
        if fresh and shared and self.store is not None:
            fresh, theirs = self.store.claim(fresh)
        found: dict[str, Row | None] = {}
        try:
            while len(found) < len(fresh):
                found |= self._scored_and_kept(fresh[len(found) :], shared)
        except BaseException:
            if shared and self.store is not None:
                self.store.give_up([text for text in fresh if text not in found])
            raise
        if theirs and self.store is not None:
            others, given_up = self.store.wait_for(theirs)
            found |= others | (self._paid(given_up) if given_up else {})
        return found

    def _scored_and_kept(self, texts: list[str], shared: bool) -> dict[str, Row | None]:
        """Some of the texts, the first: as many as are worth losing if this process is killed."""
        some, began = texts, monotonic()
        if not self._keeps_each() and self.store is not None:
            some = texts[: max(len(self.asker.workers), self._portions.size)]
        found = dict(zip(some, self.asker(some), strict=True))
        took = monotonic() - began
        self._seconds = took / len(found)
        self._portions.learn(len(found), took)
        if self.store is not None and (shared or self._is_worth_keeping()):
            self.store.add(found, self.asker.names)
        return found

    def _keeps_each(self) -> bool:
        """Have workers that can do so say each answer when it arrives, and keep that."""
        able = [worker for worker in self.asker.workers if hasattr(worker, "arrived")]
        for worker in able:
            worker.arrived = self._arrived
        return bool(able)

    def _arrived(self, text: str, answer: Any) -> None:
        if self.store is not None:
            with suppress(ScoringError):  # which is found out when all are there
                row = self.asker.row(answer)
                self.store.add({text: row}, self.asker.names)

    def keep_in(self, folder: Path) -> None:
        """Keep what is scored, and look up what was, in a folder."""
        if self.cache_size and self.store is None:
            self.store = ScoreStore(folder / NAME, self.who)
            self.asker.names = self.asker.names or self.store.names()
            if self._cache and self._is_worth_keeping():
                self.store.add(self._cache, self.asker.names)

    def begin(self) -> None:
        """Take up what processes that were killed have left undone."""
        if self.store is not None:
            self.store.give_up()

    def _is_worth_keeping(self) -> bool:
        return self._seconds > CHEAP or self.budget is not None

    def state_dict(self) -> dict[str, Any]:
        """What was asked for so far, for a checkpoint."""
        asked = torch.tensor(sorted(self._asked), dtype=torch.int64)
        return {"asked": asked, "anew": self._asked_anew, "failures": self.failures}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on from a checkpoint; what was asked for since then is asked for again."""
        self._asked, self._asked_anew = set(state["asked"].tolist()), int(state["anew"])
        self.failures = int(state["failures"])

    def settle(self) -> None:
        """Make sure that nobody has said more than was asked.

        Raises:
            InputError: Somebody has, so the latest scores may be those of others.
        """
        try:
            self.asker.settle()
        except DoubtError as error:
            self._forget(error)
            raise

    def _forget(self, error: BaseException) -> None:
        """Drop scores that may be those of other texts."""
        if isinstance(error, DoubtError):
            for text in error.texts:
                self._cache.pop(text, None)
            if self.store is not None:
                self.store.forget(error.texts)

    def close(self) -> None:
        """End the workers' processes; the next call starts new ones."""
        self.asker.close()
        if self.store is not None:
            self.store.close()


class _Portions:
    """How many texts to ask for in one go, so that a kill loses about a second's worth.

    Pieces are halved while that makes them quicker: where a call takes as long for one text as for
    many, there is nothing to win.

    Attributes:
        size: Texts of the next call.
    """

    def __init__(self) -> None:
        self.size = sys.maxsize
        self._least = 1  # smaller portions are no quicker
        self._larger = (0, 0.0)  # a number of texts, and the seconds they took

    def learn(self, n: int, took: float) -> None:
        """So many texts took so many seconds."""
        larger, seconds = self._larger
        if larger >= 2 * n and took > 0.75 * seconds:
            self._least, self.size, self._larger = larger, sys.maxsize, (0, 0.0)
        elif took > LONG and n > self._least:
            self.size, self._larger = max(self._least, n // 2), (n, took)
        elif took < LONG / 4 and n >= self.size:
            self.size, self._larger = 2 * self.size, (0, 0.0)


def _key(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _ranks() -> int:
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if spread else 1
