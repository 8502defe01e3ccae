"""Who is next: each run is claimed once, owners take turns, and a lost index is made again."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter

import pytest

from lab.attacks import BadDiffusion
from lab.errors import LabError
from lab.models import as_json
from lab.queue import Queue
from lab.recipe import Recipe
from lab.store import About, State, Store, Stored

RECIPE = Recipe(attack=BadDiffusion(poison_rate=0.1))
MANY = 10**6


@pytest.fixture
def queue() -> Queue:
    return Queue(Store())


def submitted(queue: Queue, owner: str = "ann", created: float = 0.0, kind: str = "process") -> Stored:
    run = queue.store.create(RECIPE, About(owner=owner, created=created, launcher={"kind": kind}))
    queue.put(run)
    return run


def test_the_oldest_is_claimed_first_and_only_once(queue):
    runs = [submitted(queue) for _ in range(3)]
    assert [queue.claim(MANY, MANY) for _ in range(4)] == [*runs, None]


def test_owners_take_turns(queue):
    ann = [submitted(queue, "ann") for _ in range(3)]
    bob, eve = submitted(queue, "bob"), submitted(queue, "eve")
    order = [queue.claim(MANY, MANY) for _ in range(5)]
    assert order == [ann[0], bob, eve, ann[1], ann[2]]


def test_slots_and_the_limit_of_one_owner_are_kept(queue):
    first, second = submitted(queue, "ann"), submitted(queue, "ann")
    other = submitted(queue, "bob")
    assert queue.claim(2, 1) == first
    assert queue.claim(2, 1) == other  # ann has one already
    assert queue.claim(2, 1) is None
    first.become("done")
    queue.put(first)
    assert queue.claim(2, 1) == second


def test_runs_elsewhere_have_slots_and_turns_of_their_own(queue):
    there = [submitted(queue, "ann", kind="ray") for _ in range(3)]
    here = submitted(queue, "ann"), submitted(queue, "bob")
    order = [queue.claim(1, 1, (2, 2)) for _ in range(4)]
    assert order == [there[0], there[1], here[0], None] or order == [there[0], here[0], there[1], None]
    here[0].become("done")
    queue.put(here[0])
    assert queue.claim(1, 1, (2, 2)) == here[1]
    assert queue.claim(9, 9, (9, 2)) is None  # two of ann's are there already
    assert queue.claim(9, 9, (9, 3)) == there[2]


def test_a_cluster_is_shared_by_turns_too(queue):
    ann = [submitted(queue, "ann", kind="ray") for _ in range(2)]
    bob = submitted(queue, "bob", kind="slurm")
    assert [queue.claim(0, 0, (MANY, MANY)) for _ in range(4)] == [ann[0], bob, ann[1], None]


def test_a_run_that_was_started_is_not_claimed_again_by_a_new_index_or_name(queue):
    run = submitted(queue)
    queue.claim(1, 1)
    run.keep_handle({"pid": 1})
    queue.put(run)
    assert queue.claim(2, 2) is None
    for path in queue.store.root.glob("queue.sqlite*"):
        path.unlink()
    assert Queue(queue.store).claim(2, 2) is None


def test_an_index_of_another_version_is_made_again(queue):
    run = submitted(queue)
    with queue._open() as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN elsewhere")
        connection.execute("PRAGMA user_version = 1")
    assert queue.claim(1, 1) == run


def test_eight_claimers_share_two_hundred_runs_of_twenty_owners_fairly(queue):
    for k in range(200):
        submitted(queue, f"owner-{k // 10}")
    claimed: list[Stored] = []

    def take() -> None:
        while run := queue.claim(MANY, MANY):
            claimed.append(run)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len({run.id for run in claimed}) == 200
    turns = sorted(queue.lines("claimed"), key=lambda line: line["turn"])
    for first in range(0, 200, 20):
        assert set(Counter(line["owner"] for line in turns[first : first + 20]).values()) == {1}


def test_a_lost_index_is_made_again_from_the_folders(queue):
    old, new = submitted(queue, created=1.0), submitted(queue, created=2.0)
    queue.claim(1, 1)
    for path in queue.store.root.glob("queue.sqlite*"):
        path.unlink()
    again = Queue(queue.store)
    assert [line["id"] for line in again.lines()] == [new.id, old.id]
    assert again.claim(1, 1) == old


def test_a_damaged_index_is_made_again(queue):
    run = submitted(queue)
    queue.path.write_bytes(b"not a database" * 1000)
    for path in queue.store.root.glob("queue.sqlite-*"):
        path.unlink()
    assert [line["id"] for line in Queue(queue.store).lines()] == [run.id]


def test_a_failure_inside_changes_nothing(queue):
    run = submitted(queue)
    with pytest.raises(sqlite3.IntegrityError), queue._open() as connection:
        connection.execute("DELETE FROM runs")
        connection.execute("INSERT INTO runs (id) VALUES ('x')")
    assert [line["id"] for line in queue.lines()] == [run.id]


def test_lines_are_those_of_a_condition(queue):
    run = submitted(queue)
    assert queue.lines("done") == [] and [line["title"] for line in queue.lines("queued")] == ["a run"]
    queue.forget(run.id)
    assert queue.lines() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_gets_a_sentence(queue):
    submitted(queue)
    queue.store.root.chmod(0o500)
    try:
        with pytest.raises(LabError, match="list of runs cannot"):
            queue.claim(1, 1)
    finally:
        queue.store.root.chmod(0o700)


def test_a_locked_index_gets_a_sentence(queue, monkeypatch):
    monkeypatch.setattr("lab.queue.WAIT", 0.01)
    submitted(queue)
    with queue._open(), pytest.raises(LabError, match="database is locked"):
        queue.claim(1, 1)


@pytest.mark.soak
def test_ten_thousand_runs_are_listed_without_their_folders(queue, monkeypatch):
    for k in range(10_000):  # as `create` and `put` leave them, in one transaction
        folder = queue.store.root / f"abcdef01-{k + 1}"
        folder.mkdir(parents=True)
        for name, model in (("about", About(created=float(k))), ("state", State(condition="done"))):
            (folder / f"{name}.json").write_bytes(as_json(model.model_dump(mode="json")))
        (folder / "recipe.json").write_bytes(b"{}")
    queue.lines()  # fills the index
    reading = Stored.state.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Stored, "state", property(lambda run: pytest.fail("a folder was read") or reading(run))
    )
    assert len(queue.lines()) == 10_000
