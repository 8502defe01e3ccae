"""Who is next: SQLite orders, claims and lists runs. It may be lost at any time and is made again from the folders."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from lab.errors import LabError
from lab.places import beside
from lab.store import Store, Stored

VERSION = 3  # of the table; an index of another one is made again
SCHEMA = (
    "DROP TABLE IF EXISTS runs",
    """CREATE TABLE runs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL, condition TEXT NOT NULL, elsewhere INTEGER NOT NULL,
    study TEXT NOT NULL, created REAL NOT NULL, position INTEGER NOT NULL, turn INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX by_condition ON runs (condition, owner)",
    f"PRAGMA user_version = {VERSION}",
)
# The owner who has waited longest since a claim of theirs comes first, then that owner's oldest run. Runs here and
# runs elsewhere do not take each other's slots or turns.
CLAIM = """
UPDATE runs SET condition = 'claimed', turn = (SELECT COALESCE(MAX(turn), 0) + 1 FROM runs)
WHERE id = (
    SELECT r.id FROM runs r
    WHERE r.condition = 'queued'
      AND (SELECT COUNT(*) FROM runs WHERE condition IN ('claimed', 'running') AND elsewhere = r.elsewhere)
          < CASE r.elsewhere WHEN 0 THEN :slots ELSE :slots_elsewhere END
      AND (SELECT COUNT(*) FROM runs WHERE condition IN ('claimed', 'running') AND elsewhere = r.elsewhere
           AND owner = r.owner) < CASE r.elsewhere WHEN 0 THEN :each ELSE :each_elsewhere END
    ORDER BY (SELECT MAX(turn) FROM runs WHERE owner = r.owner AND elsewhere = r.elsewhere), r.position LIMIT 1
) RETURNING id
"""
PUT = """
INSERT INTO runs (id, owner, title, condition, elsewhere, study, created, position)
VALUES (:id, :owner, :title, :condition, :elsewhere, :study, :created, (SELECT COALESCE(MAX(position), 0) + 1 FROM runs))
ON CONFLICT (id) DO UPDATE SET owner = :owner, title = :title, condition = :condition
"""
WAIT = 30  # seconds for a writer before this one


class Queue:
    """The index beside the run folders; every call is one transaction."""

    def __init__(self, store: Store):
        self.store, self.path = store, beside(store.root) / "queue.sqlite"

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction; the first one reads the folders, whether the index is new or its file was lost."""
        try:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    self._fill(connection)
                yield connection
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise LabError(f"The list of runs cannot be read or written: {error}.") from None

    def _fill(self, connection: sqlite3.Connection) -> None:
        for statement in SCHEMA:
            connection.execute(statement)
        for run in sorted(self.store.all(), key=lambda run: run.about.created):
            connection.execute(PUT, _line(run))

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._prepared()
        except sqlite3.OperationalError:  # locked, full, read-only
            raise
        except sqlite3.DatabaseError:  # not a database any more; the folders know everything
            os.replace(self.path, self.path.with_suffix(".damaged"))
            return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def put(self, run: Stored) -> None:
        """Write what the folder says; a new run comes last."""
        with self._open() as connection:
            connection.execute(PUT, _line(run))

    def put_back(self, run: Stored) -> None:
        """A run that stopped, failed or got lost waits again, as if it had never died; it goes on where it was saved."""
        run.ask_to_stop(False)
        run.keep_handle({})
        run.become("queued", deaths=0)
        self.put(run)

    def forget(self, run: str) -> None:
        """Take a deleted run out."""
        with self._open() as connection:
            connection.execute("DELETE FROM runs WHERE id = ?", (run,))

    def claim(self, slots: int, each: int, elsewhere: tuple[int, int] = (0, 0)) -> Stored | None:
        """The next run, which is now claimed: by nobody else. None where all slots are taken or nobody waits.

        slots: runs at once on this machine. each: those of one owner. elsewhere: both for runs on other machines.
        """
        limits = dict(zip(("slots_elsewhere", "each_elsewhere"), elsewhere, strict=True))
        with self._open() as connection:
            found = connection.execute(CLAIM, {"slots": slots, "each": each, **limits}).fetchone()
        return Stored(self.store.root / found["id"]) if found else None

    def lines(self, *conditions: str) -> list[dict[str, Any]]:
        """Runs as the index has them, the newest first; of these conditions, or all."""
        marks = ", ".join("?" * len(conditions))
        where = f"WHERE condition IN ({marks})" if conditions else ""
        with self._open() as connection:
            found = connection.execute(f"SELECT * FROM runs {where} ORDER BY position DESC", conditions)
            return [dict(line) for line in found]


def _line(run: Stored) -> dict[str, Any]:
    about, condition = run.about, run.state.condition
    if condition == "queued" and run.handle:  # it was started, and has not said so yet
        condition = "claimed"
    return {
        "id": run.id,
        "owner": about.owner,
        "title": about.title,
        "condition": condition,
        "elsewhere": run.is_elsewhere,
        "study": about.study,
        "created": about.created,
    }
