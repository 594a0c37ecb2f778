"""Functions that score on the workers of a Dask cluster (the extra ``dask``)."""

import json
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from gfn_design.errors import InputError
from gfn_design.rewards.answers import Refusal, ScoringError, call, told
from gfn_design.rewards.sources import content_of


class DaskWorker:
    """Has each text scored as a task of its own, wherever there is a worker free.

    What a worker that dies had begun is begun again by another; what has arrived is not.

    Args:
        address: Of the scheduler, such as ``tcp://10.0.0.1:8786``.
        path: Where the workers find the function, ``file.py:name`` or ``package.module.name``.
        arguments: See `gfn_design.rewards.sources.importable`.
        timeout: Seconds that a text may take while it is worked on, waiting included; None waits.

    Attributes:
        arrived: Called with each text and its answer, as soon as that is there.
    """

    arrived: Callable[[str, Any], None] | None = None

    def __init__(
        self, address: str, path: str, arguments: dict[str, Any], timeout: float | None
    ) -> None:
        self.address, self.path, self.arguments = address, path, arguments
        self.timeout = timeout
        self._connected: Any = None

    def __call__(self, texts: list[str]) -> Callable[[], list[Any]]:
        client = self._client()
        given, content = json.dumps(self.arguments, sort_keys=True), content_of(self.path)
        submit = partial(client.submit, score_one, self.path, given, content, pure=False)
        return partial(self._gathered, texts, [submit(text) for text in texts])

    def close(self) -> None:
        """Let go of the cluster, and of what it was asked for."""
        if self._connected is not None:
            self._connected.close()
        self._connected = None

    def _gathered(self, texts: list[str], futures: list[Any]) -> list[Any]:
        """The answers in the order of the texts, as they come."""
        from distributed import as_completed

        place = {future.key: i for i, future in enumerate(futures)}
        answers: list[Any] = [Refusal(f"took longer than {self.timeout} s")] * len(texts)
        try:
            for future in as_completed(futures, timeout=self.timeout):
                i = place[future.key]
                try:
                    answers[i] = future.result()
                except Exception as error:  # the function's own, or that its workers died
                    answers[i] = Refusal(str(told(error)))
                future.release()  # or it is found again when its worker dies
                if self.arrived is not None:
                    self.arrived(texts[i], answers[i])
        except TimeoutError:
            self._client().cancel(futures)
        return answers

    def _client(self) -> Any:
        if self._connected is None:
            try:
                from distributed import Client
            except ImportError as error:
                raise InputError(
                    "dask needs the packages dask and distributed: pip install 'gfn-design[dask]'"
                ) from error
            try:
                self._connected = Client(self.address, timeout=10, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:
                raise InputError(
                    f"no Dask scheduler answers at '{self.address}' ({error}); give the address "
                    "that it printed, such as tcp://10.0.0.1:8786"
                ) from error
        return self._connected


def score_one(path: str, arguments: str, content: str, text: str) -> Any:
    """What a function answers to one text; runs on a worker of the cluster.

    Args:
        path: As in `DaskWorker`.
        arguments: Likewise, as JSON.
        content: What `content_of` says of the function where it was asked for; a file that was
            changed since the worker has imported it, or another one there, is refused.
        text: The text.
    """
    function, loaded = _found(path, arguments)
    if content != loaded:
        raise ScoringError(
            f"is not the same on a worker of the cluster ({path}); restart the workers after a "
            "change, and give them the same files"
        )
    return call(function, [text])[0]


@cache
def _found(path: str, arguments: str) -> tuple[Callable[[list[str]], Any], str]:
    from gfn_design.config import import_class

    found, content = import_class(path), content_of(path)
    given = json.loads(arguments)
    if isinstance(found, type):
        return found(**given), content
    return (partial(found, **given) if given else found), content
