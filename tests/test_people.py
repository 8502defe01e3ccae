"""Who asks decides what is there: files, runs, models, and how much at once."""

from __future__ import annotations

import contextvars
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from cachetools import TTLCache

from lab import pictures, users
from lab.errors import LabError
from lab.models import find, names
from lab.ops import OPERATIONS, final
from lab.people import OPERATOR, Person, acting_as, admit, checked, owned_by, who
from lab.settings import Settings
from lab.store import About, Store
from lab.supervisor import Supervisor
from lab.ui.door import in_turn, visitor
from lab.ui.runs import run_choices
from lab.users import Users
from lab.worker import work

ADA, BO = Person("ada", "student"), Person("bo", "student")
TEACHER = Person("tess", "teacher")
SHORT = {"steps": 2, "batch": 2, "base": "mnist-clean", "previews": 0}
DOT = [[3, 4, "#808080"]]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No supervisor starts."""
    for place in ("lab.ops.jobs.ensure", "lab.ops.grid.ensure", "lab.worker.ensure"):
        monkeypatch.setattr(place, lambda store: None)


def submitted(person: Person, **options) -> str:
    with acting_as(person):
        return OPERATIONS["submit"](**{**SHORT, **options})["run"]


# Runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["show", "watch", "again", "stop", "resume", "delete", "rename", "diff"])
def test_a_run_of_somebody_else_is_as_unknown_as_one_that_never_was(quiet, name):
    run, own = submitted(ADA), submitted(BO, seed=1)

    def said(asked: str) -> str:
        options = {"a": own, "b": asked} if name == "diff" else {"run": asked}
        with acting_as(BO), pytest.raises(LabError) as caught:
            final(OPERATIONS[name](**options, **({"title": "mine"} if name == "rename" else {})))
        return str(caught.value).replace(asked, "RUN")

    assert said(run) == said("00000000-1") != ""
    assert Store().get(run).state.condition == "queued"
    assert Store().get(run).about.title != "mine"


def test_owners_list_their_own_runs_and_teachers_and_the_operator_all(quiet):
    runs = {submitted(ADA): "ada", submitted(BO, seed=1): "bo"}
    for person, seen in ((ADA, {"ada"}), (BO, {"bo"}), (TEACHER, {"ada", "bo"}), (OPERATOR, {"ada", "bo"})):
        with acting_as(person):
            found = {line["name"]: line["owner"] for line in OPERATIONS["runs"]()}
            assert found == {run: owner for run, owner in runs.items() if owner in seen}
            titles = " ".join(title for title, _ in run_choices()[0])
            assert {owner for owner in ("ada", "bo") if f"· {owner} ·" in titles} == seen - {person.name}


def test_a_teacher_can_stop_a_run_and_it_stays_its_owners(quiet):
    run = submitted(ADA)
    with acting_as(TEACHER):
        OPERATIONS["stop"](run=run)
        OPERATIONS["rename"](run=run, title="seen")
    assert Store().get(run).is_asked_to_stop and Store().get(run).about.owner == "ada"


def test_a_worker_finds_its_owners_pictures_and_leaves_the_model_with_them(quiet, fresh_accelerate):
    with acting_as(ADA):
        OPERATIONS["paint"](pixels=DOT, name="dot")
    attack = {"kind": "baddiffusion", "trigger": {"kind": "own", "name": "dot", "form": "masked"}}
    run = submitted(ADA, attack=attack, title="mine")
    state = work(Store().get(run).folder)
    assert (state.condition, state.checkpoint) == ("done", "mine"), state.error
    assert who() == OPERATOR
    assert "mine" not in names()
    with acting_as(ADA):
        assert find("mine") == ADA.home / "checkpoints" / "mine"
    with acting_as(BO), pytest.raises(LabError, match="no checkpoint"):
        final(OPERATIONS["explore"](b="mine", n=1, sampler={"kind": "ddpm", "steps": 1}))


def test_a_supervisor_starts_a_run_as_its_owner(quiet, monkeypatch):
    submitted(ADA)
    seen = []
    fake = SimpleNamespace(start=lambda run: seen.append(who().name) or {"pid": os.getpid()}, slow=0)
    monkeypatch.setattr("lab.supervisor.launcher_of", lambda run: fake)
    Supervisor(Store()).look()
    assert seen == ["ada"] and who() == OPERATOR


# Pictures, sets, models ---------------------------------------------------------------------------------------------


def test_pictures_of_one_name_are_two_peoples_own():
    shades = {}
    for person, colour in ((ADA, "#101010"), (BO, "#f0f0f0")):
        with acting_as(person):
            OPERATIONS["paint"](pixels=[[3, 4, colour]], name="dot")
            options = {"a": "", "b": "mnist-clean", "trigger": {"kind": "own", "name": "dot"}}
            shades[person.name] = OPERATIONS["look"](**options)["trigger"]
            assert OPERATIONS["list"](what="pictures") == [{"name": "dot"}]
    assert shades["ada"] != shades["bo"]
    assert pictures.kept_names() == []


def test_models_of_one_name_do_not_share_what_is_remembered(tiny):
    for person, scale in ((ADA, 1.0), (BO, 2.0)):
        with acting_as(person):
            for parameter in tiny.unet.parameters():
                parameter.data.mul_(scale)
            tiny.save(person.home / "checkpoints" / "net")
            os.utime(person.home / "checkpoints" / "net" / "unet" / "config.json", (1, 1))
    drawn = []
    for person in (ADA, BO):
        with acting_as(person):
            view = final(
                OPERATIONS["explore"](
                    a="", b="net", n=1, controls=False, sampler={"kind": "ddpm", "steps": 2}, target="hat"
                )
            )
            drawn.append(view["columns"][0]["rows"][0]["image"])
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("submit", {**SHORT, "base": "../../tmp/x"}),
        ("submit", {**SHORT, "dataset": {"kind": "folder", "path": "/etc"}}),
        ("submit", {**SHORT, "launcher": {"kind": "ray"}}),
        ("plan", {**SHORT, "base": "/etc/x"}),
        ("compare", {"checkpoints": ["/etc"], "n": 1}),
        ("evaluate", {"checkpoint": "./x", "n": 1}),
        ("evaluate", {"n": 1, "reference": {"kind": "folder", "path": "/etc"}}),
        ("study", {"what": "export", "name": "poison-rates", "out": "/tmp/x"}),
        ("study", {"what": "plan", "name": "x", "base": "/etc/x"}),
        ("castle", {"checkpoint": "/etc/x"}),
        ("castle", {"what": "replicate", "clean": "./x"}),
        ("castle", {"generated": {"kind": "folder", "path": "/etc"}}),
        ("castle", {"dataset": {"kind": "folder", "path": "/etc"}}),
        ("castle", {"what": "study", "do": "export", "out": "/tmp/x"}),
        ("castle", {"what": "study", "do": "run", "launcher": "ray"}),
        ("sample", {"checkpoint": "/etc/x"}),
        ("sample", {"out": "/tmp/x"}),
        ("sample", {"trigger_file": "/etc/passwd"}),
    ],
)
@pytest.mark.parametrize("person", [ADA, TEACHER, Settings().person("", "teacher")], ids=lambda p: p.name)
def test_only_the_command_line_names_paths_and_places(quiet, name, options, person):
    with acting_as(person), pytest.raises(LabError, match="own command line"):
        final(OPERATIONS[name](**options))


# How much -----------------------------------------------------------------------------------------------------------


def test_a_request_that_is_too_large_or_too_soon_is_refused_with_a_sentence():
    ada = Person("ada-at-once", "student", most=100, pace=2)
    with acting_as(ada):
        with pytest.raises(LabError, match="101 images × steps; at most 100"):
            admit(101, trains=False)
        admit(100, trains=False)
        admit(1, trains=False)
        for _ in range(5):
            admit(0, trains=False)  # what samples nothing costs nothing
        with pytest.raises(LabError, match=r"wait \d+ seconds"):
            admit(1, trains=False)
    with acting_as(replace(ada, name="another")):
        admit(1, trains=False)


@pytest.mark.parametrize(
    ("train", "role", "may"),
    [
        ("auto", "student", True),
        ("auto", "visitor", False),
        ("everybody", "visitor", True),
        ("teachers", "student", False),
        ("teachers", "teacher", True),
        ("nobody", "teacher", False),
    ],
)
def test_who_may_train(quiet, train, role, may):
    person = Settings(host="0.0.0.0", train=train).person("somebody", role)
    assert person.trains is may
    for name, options in (("submit", SHORT), ("hide", {"picture": "x"}), ("resume", {"run": "00000000-1"})):
        with acting_as(person):
            if may:
                continue
            with pytest.raises(LabError, match="not open to you"):
                OPERATIONS[name](**options)


def test_a_local_lab_has_one_owner_without_bounds():
    person = Settings().person("whoever", "visitor")
    assert (person.name, person.most, person.pace, person.trains) == ("local", None, None, True)
    assert person.home == OPERATOR.home


def test_settings_come_from_the_environment_and_flags_come_first(monkeypatch):
    read = Settings.read({"LAB_PORT": "7000", "LAB_PACE": "5", "LAB_TEACHERS": "a,b"}, port="7001", pace=None)
    assert (read.host, read.port, read.pace, read.teachers) == ("127.0.0.1", 7001, 5, ("a", "b"))
    assert Settings.read({"SPACE_ID": "x/y"}).host == "0.0.0.0"
    with pytest.raises(LabError, match="login is one of"):
        Settings.read({"LAB_LOGIN": "magic"})
    monkeypatch.delenv("OAUTH_CLIENT_ID", raising=False)
    with pytest.raises(LabError, match="on a Space"):
        Settings.read({"LAB_LOGIN": "oauth"})


# Users --------------------------------------------------------------------------------------------------------------


def test_users_log_in_and_nothing_shows_a_hash(lab_home):
    added = OPERATIONS["user"](what="add", name="ada", password="correct horse")
    OPERATIONS["user"](what="add", name="tess", password="battery staple", role="teacher")
    assert added == [{"name": "ada", "state": "student"}]
    people, stored = Users(), (lab_home / "users.json").read_text()
    assert people.accepts("ada", "correct horse") and not people.accepts("ada", "battery staple")
    assert not people.accepts("nobody", "correct horse") and not people.accepts("ada", "x" * 10_000)
    assert "correct" not in stored and stat.S_IMODE((lab_home / "users.json").stat().st_mode) == 0o600
    assert OPERATIONS["user"](what="remove", name="ada") == [{"name": "tess", "state": "teacher"}]
    assert not people.accepts("ada", "correct horse")


def test_after_ten_wrong_passwords_a_name_lets_nobody_in_for_a_minute(monkeypatch):
    tried = TTLCache(100, users.PAUSE, timer=lambda: now)
    monkeypatch.setattr(users, "_TRIED", tried)
    now = 0.0
    for name in ("ada", "bo"):
        Users().add(name, "correct horse", "student")
    for _ in range(users.WRONG):
        assert not Users().accepts("ada", "battery staple")
    assert not Users().accepts("ada", "correct horse") and Users().accepts("bo", "correct horse")
    now = users.PAUSE + 1
    assert Users().accepts("ada", "correct horse") and "ada" not in tried


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"name": "../x", "password": "12345678"}, "letters, digits"),
        ({"name": "Local", "password": "12345678"}, "not 'local'"),
        ({"name": "ada", "password": "short"}, "8 to 256"),
    ],
)
def test_bad_users_are_refused(options, hint):
    with pytest.raises(LabError, match=hint):
        OPERATIONS["user"](what="add", **options)


def test_a_damaged_file_of_users_lets_nobody_in(lab_home):
    lab_home.mkdir()
    (lab_home / "users.json").write_text('{"ada": 5}')
    with pytest.raises(LabError, match="damaged"):
        Users().accepts("ada", "correct horse")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "\u202eada", "local", "x" * 61, 5, None])
def test_names_that_are_no_folders_are_refused(name):
    with pytest.raises(LabError, match="name is 1 to 60"):
        checked(name)


# Turns --------------------------------------------------------------------------------------------------------------


def test_everybodys_first_request_comes_before_anybodys_second():
    waiting = ["a1", "a2", "a3", "b1", "c1", "b2"]
    assert in_turn(waiting, lambda event: event[0]) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_visitors_are_told_apart_by_a_cookie_and_without_one_are_nobody_twice():
    ada, bo = (SimpleNamespace(cookies={"lab-visitor": cookie}) for cookie in ("one", "two"))
    nobody = SimpleNamespace(cookies={})
    assert visitor(ada) == visitor(ada) != visitor(bo)
    assert visitor(nobody) != visitor(nobody)


def test_a_person_is_not_carried_into_another_thread_by_chance():
    with acting_as(ADA), ThreadPoolExecutor(1) as pool:
        assert pool.submit(contextvars.copy_context().run, who).result() == ADA
    assert who() == owned_by("local") == OPERATOR
    assert About().owner == "local"
