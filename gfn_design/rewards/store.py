"""Scores that were paid for, in one file of a run: no expensive one is ever paid twice."""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gfn_design.errors import InputError
from gfn_design.rewards.answers import Row

NAME = "scores.sqlite"
PATIENCE = 0.05  # seconds between two looks at what another process is scoring
SOME = 500  # texts of one question to the database


class ScoreStore:
    """Rows of numbers by who gave them and of what text; None is a text that cannot be scored.

    Several processes may share it. Who wants to score a text claims it first, so that no two score
    the same. A claim ends with the process that made it, or when the run begins again.

    Args:
        path: The file, made when there is something to keep.
        who: Says by its content who scores: another function, or the same after a change, has
            scores of its own.
    """

    def __init__(self, path: Path, who: str) -> None:
        self.path, self.who = path, who
        self._db: sqlite3.Connection | None = None

    def find(self, texts: Sequence[str]) -> dict[str, Row | None]:
        """What is known of texts."""
        if self._db is None and not self.path.exists():
            return {}
        return {
            text: None if row == "null" else tuple(json.loads(row))
            for text, row in self._rows(texts)
            if row is not None
        }

    def texts(self) -> list[str]:
        """All that something is known of, the first by name first."""
        if self._db is None and not self.path.exists():
            return []
        query = "SELECT text FROM scores WHERE who = ? AND row IS NOT NULL ORDER BY text"
        return [text for (text,) in self._read(query, self.who)]

    def names(self) -> tuple[str, ...]:
        """What the numbers of a row are called; nothing if they have no names."""
        if self._db is None and not self.path.exists():
            return ()
        found = self._read("SELECT names FROM names WHERE who = ?", self.who)
        return tuple(json.loads(found[0][0])) if found else ()

    def claim(self, texts: Sequence[str]) -> tuple[list[str], list[str]]:
        """Which of the texts this process is to score, and which others are scoring, or have."""
        me = f"{socket.gethostname()}:{os.getpid()}"
        with self._writing() as db:
            there = {
                text: (owner, is_done)
                for some in _parts(texts)
                for text, owner, is_done in db.execute(
                    f"SELECT text, owner, row IS NOT NULL FROM scores WHERE who = ? AND text IN "
                    f"({', '.join('?' * len(some))})",
                    (self.who, *some),
                )
            }
            others = {
                text
                for text, (owner, is_done) in there.items()
                if is_done or (_lives(owner) and owner != me)
            }
            mine = [text for text in texts if text not in others]
            db.executemany(
                "INSERT INTO scores VALUES (?, ?, NULL, ?) ON CONFLICT DO UPDATE SET owner = "
                "excluded.owner WHERE row IS NULL",
                [(self.who, text, me) for text in mine],
            )
        return mine, [text for text in texts if text in others]

    def wait_for(self, texts: Sequence[str]) -> tuple[dict[str, Row | None], list[str]]:
        """What others have found of texts, and which they gave up."""
        found: dict[str, Row | None] = {}
        while True:
            found |= self.find([text for text in texts if text not in found])
            rest = [text for text in texts if text not in found]
            mine, rest = self.claim(rest) if rest else ([], [])
            if not rest or mine:
                return found, [*mine, *rest]
            time.sleep(PATIENCE)

    def add(self, rows: Mapping[str, Row | None], names: Sequence[str] = ()) -> None:
        """Keep rows, and what their numbers are called."""
        with self._writing() as db:
            if names:
                kept = (self.who, json.dumps(names))
                db.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", kept)
            db.executemany(
                "INSERT INTO scores VALUES (?, ?, ?, '') ON CONFLICT DO UPDATE SET row = "
                "excluded.row, owner = ''",
                [(self.who, text, json.dumps(row)) for text, row in rows.items()],
            )

    def forget(self, texts: Iterable[str]) -> None:
        """Drop rows, and claims."""
        if self._db is None and not self.path.exists():
            return
        with self._writing() as db:
            db.executemany(
                "DELETE FROM scores WHERE who = ? AND text = ?", [(self.who, x) for x in texts]
            )

    def give_up(self, texts: Iterable[str] | None = None) -> None:
        """Drop claims on texts, or all claims: those of processes that are no more."""
        if self._db is None and not self.path.exists():
            return
        unfinished = "DELETE FROM scores WHERE who = ? AND row IS NULL"
        with self._writing() as db:
            if texts is None:
                db.execute(unfinished, (self.who,))
            else:
                db.executemany(f"{unfinished} AND text = ?", [(self.who, x) for x in texts])

    def __len__(self) -> int:
        if self._db is None and not self.path.exists():
            return 0
        query = "SELECT COUNT(*) FROM scores WHERE who = ? AND row IS NOT NULL"
        return int(self._read(query, self.who)[0][0])

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
        self._db = None

    def _rows(self, texts: Sequence[str]) -> Iterator[tuple[str, str | None]]:
        for some in _parts(texts):
            yield from self._read(
                f"SELECT text, row FROM scores WHERE who = ? AND text IN "
                f"({', '.join('?' * len(some))})",
                self.who,
                *some,
            )

    def _read(self, query: str, *values: str) -> list[Any]:
        try:
            return self._open().execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS scores (who TEXT, text TEXT, row TEXT, owner TEXT, "
                    "PRIMARY KEY (who, text)) WITHOUT ROWID"
                )
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS names (who TEXT PRIMARY KEY, names TEXT)"
                )
            except sqlite3.Error as error:
                raise self._broken(error) from error
        return self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        db = self._open()
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> InputError:
        return InputError(
            f"{self.path}: scores cannot be kept there ({error}); make room, or put back a copy, "
            "or remove the file to score anew"
        )


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(texts), SOME):
        yield texts[first : first + SOME]


def _lives(owner: str) -> bool:
    """Whether the process that claimed a text is there; of other machines that is believed."""
    host, _, number = owner.rpartition(":")
    if host != socket.gethostname():
        return bool(host)
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True
