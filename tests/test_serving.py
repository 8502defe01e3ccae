"""A served lab: who gets in, what is whose over page, API, MCP and files, and what strangers can send."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import PASSWORD, Apart, Client, served, served_apart

from lab.errors import LabError
from lab.ops import OPERATIONS, Operation
from lab.people import Person
from lab.settings import Settings
from lab.store import Store
from lab.users import Users
from lab.variants import Options, Registry

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no_silent_downcasting"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
PUBLIC = {name: operation for name, operation in OPERATIONS.items() if operation.public}
SMALL = {"sampler": {"kind": "ddpm", "steps": 2}, "n": 1, "controls": False, "a": ""}
TRAIN = {"steps": 2, "batch": 2, "base": "mnist-clean", "previews": 0}
BAD = ("Traceback", "object at 0x", 'File "', "site-packages")


@pytest.fixture(scope="module", autouse=True)
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One lab for the whole module, with two students and a teacher, and without supervisors."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("served")
        patch.setenv("LAB_HOME", str(home))
        patch.setenv("HF_HUB_OFFLINE", "1")  # whatever is sent, no test asks the real Hub
        for place in ("lab.ops.jobs.ensure", "lab.ops.grid.ensure"):
            patch.setattr(place, lambda store: None)
        for name, role in (("ada", "student"), ("bo", "student"), ("tess", "teacher")):
            Users().add(name, PASSWORD, role)  # type: ignore[arg-type]
        yield home


@pytest.fixture(autouse=True)
def lab_home(module_home: Path) -> Path:
    """Instead of a fresh one for each test."""
    return module_home


@pytest.fixture(scope="module")
def address(module_home: Path) -> Iterator[str]:
    with served(Settings(login="users", mcp=True, pace=10_000)) as address:
        yield address


@pytest.fixture(scope="module")
def apart(module_home: Path) -> Iterator[Apart]:
    """The same lab in a process of its own."""
    with served_apart(Settings(login="users", pace=10_000)) as lab:
        yield lab


@pytest.fixture(scope="module")
def ada(address: str) -> Client:
    return Client(address, "ada")


@pytest.fixture(scope="module")
def bo(address: str) -> Client:
    return Client(address, "bo")


@pytest.fixture(scope="module")
def run(ada: Client) -> str:
    """A run of Ada's."""
    result, error = ada.call("submit", TRAIN)
    assert not error
    assert set(result) == {"run", "title"}  # no folder of the server
    return result["run"]


# Who gets in -------------------------------------------------------------------------------------------------------


def test_nobody_gets_in_without_a_login_but_the_doctor(address):
    stranger = Client(address)
    for path in ("/config", "/gradio_api/info", "/gradio_api/file=README.md"):
        assert stranger.get(path)[0] == 401
    assert stranger.post("/gradio_api/call/list", {"data": [{}]})[0] == 401
    assert stranger.get("/healthz") == (200, '{"status":"ok"}')
    status, text = stranger.get("/readyz")
    assert status == 200 and all(json.loads(text).values())


def test_readiness_says_what_is_missing(address, monkeypatch):
    monkeypatch.setenv("LAB_USERS", "/nowhere/users.json")
    status, text = Client(address).get("/readyz")
    assert status == 503 and not json.loads(text)["login"]


def test_who_is_removed_is_out_at_once(address):
    Users().add("eve", PASSWORD, "student")
    eve = Client(address, "eve")
    assert eve.call("list", {})[0]
    Users().remove("eve")
    assert "Log in first" in eve.call("list", {})[1]


# What is whose -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["show", "again", "stop", "resume", "rename", "delete", "diff"])
def test_a_run_of_somebody_else_is_unknown_over_the_api(bo, run, name):
    def said(asked: str) -> str:
        options = {"a": asked, "b": asked} if name == "diff" else {"run": asked}
        result, error = bo.call(name, {**options, **({"title": "x"} if name == "rename" else {})})
        assert result is None
        return error.replace(asked, "RUN")

    assert said(run) == said("00000000-1")
    assert "There is no run" in said(run)
    assert not Store().get(run).is_asked_to_stop


def test_lists_hold_ones_own_and_a_teachers_all(address, ada, bo, run):
    mine = {line["name"] for line in ada.call("runs", {})[0]}
    all_of_them = {line["name"] for line in Client(address, "tess").call("runs", {})[0]}
    assert run in mine and run in all_of_them and bo.call("runs", {})[0] == []


def test_pictures_and_models_of_somebody_else_are_not_there(ada, bo):
    assert ada.call("paint", {"pixels": [[1, 1, "#ffffff"]], "name": "secret"})[0] == {"name": "secret"}
    assert bo.call("list", {"what": "pictures"})[0] == []
    own = {"kind": "own", "name": "secret", "form": "masked"}
    assert "no picture of your own" in bo.call("look", {"trigger": own})[1]
    assert ada.call("look", {"trigger": own})[0]["meter"]


@pytest.mark.parametrize(
    "name", ["stop_run", "resume_run", "delete_run", "call", "begin", "look", "show_in_explore"]
)
def test_the_pages_own_handlers_know_who_asks(address, bo, run, name):
    """A person can call what buttons call, with another run's id in it."""
    config = json.loads(bo.get("/config")[1])
    found = [each for each in config["dependencies"] if each["api_name"].startswith(name)]
    assert found
    for each in found:
        values = [run if k == 0 else None for k in range(len(each["inputs"]))]
        body = {"data": values, "fn_index": each["id"], "session_hash": "bo"}
        status, text = bo.post("/gradio_api/run/predict", body)
        assert "ada" not in text and "baddiffusion" not in text and "Traceback" not in text, (
            status,
            text[:300],
        )
    assert Store().get(run).state.condition == "queued" and not Store().get(run).is_asked_to_stop


def test_files_of_the_lab_are_served_to_nobody(ada, bo, run, module_home):
    files = [
        module_home / "runs" / run / "recipe.json",
        module_home / "users.json",
        Person("ada").home / "pictures" / "secret.png",
    ]
    for client in (ada, bo):
        for file in (*files, Path("/etc/passwd"), Path("README.md"), Path("lab/users.py").resolve()):
            for path in (f"/gradio_api/file={file}", f"/file={file}", f"/gradio_api/file=../{file}"):
                status, text = client.get(path)
                assert status in (403, 404), (path, status, text[:100])


def test_a_path_of_the_server_is_no_upload(bo, module_home):
    """Whoever hands a handler a file that was never uploaded gets nothing of it."""
    config = json.loads(bo.get("/config")[1])
    for each in (each for each in config["dependencies"] if each["api_name"].startswith("take")):
        file = {"path": str(module_home / "users.json"), "meta": {"_type": "gradio.FileData"}}
        body = {
            "data": [file] + ["x"] * (len(each["inputs"]) - 1),
            "fn_index": each["id"],
            "session_hash": "bo",
        }
        status, text = bo.post("/gradio_api/run/predict", body)
        assert status != 200 and "scrypt" not in text and "salt" not in text


# MCP ---------------------------------------------------------------------------------------------------------------


async def _mcp(
    address: str, calls: list[tuple[str, dict[str, Any]]], name: str = ""
) -> tuple[list[str], list[str]]:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    word = base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {word}"} if name else {}
    async with (
        streamablehttp_client(f"{address}/gradio_api/mcp/", headers=headers) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        found = [await session.call_tool(tool, arguments) for tool, arguments in calls]
        return tools, [str(each.content) for each in found]


def _asked(question: Any) -> Any:
    """Run it in a thread of its own: a browser of other tests keeps an event loop in this one."""
    with ThreadPoolExecutor(1) as one:
        return one.submit(asyncio.run, question).result()


def test_six_tools_over_mcp_know_who_asks(address, run):
    calls = [
        ("list_lab", {"what": "triggers"}),
        ("describe_model", {"checkpoint": "mnist-grey-box-hat"}),
        ("measure_model", {"checkpoint": "mnist-grey-box-hat", "images": 2, "steps": 2}),
        ("show_run", {"run": run}),
        ("list_runs", {}),
    ]
    tools, answers = _asked(_mcp(address, calls, "ada"))
    assert len(tools) == 6 and all(any(tool.endswith(name) for tool in tools) for name, _ in calls)
    assert "grey_box" in answers[0] and "backdoored" in answers[1] and "success" in answers[2]
    assert run in answers[3] and run in answers[4]
    _, of_bo = _asked(_mcp(address, calls[3:], "bo"))
    assert "There is no run" in of_bo[0] and run not in of_bo[1]
    _, of_nobody = _asked(_mcp(address, calls[4:]))
    assert "Log in first" in of_nobody[0]


def test_without_being_asked_for_there_is_no_mcp():
    with served(Settings()) as address:
        assert Client(address).get("/gradio_api/mcp/")[0] == 404


# What strangers can send -------------------------------------------------------------------------------------------


def fields_of(options: type[Options], closed: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every option that can be sent, those of variants too."""
    for name, field in options.model_fields.items():
        if name in closed:
            continue
        yield name, field
        for table in tables_in(field):
            for variant in table.values():
                yield from fields_of(variant)


def tables_in(field: Any) -> list[Registry]:
    found = [each for each in field.metadata if isinstance(each, Registry)]
    inner = [each for part in get_args(field.annotation) for each in getattr(part, "__metadata__", ())]
    return found + [each for each in inner if isinstance(each, Registry)]


@pytest.mark.parametrize("name", PUBLIC)
def test_no_operation_behind_the_api_takes_a_path_an_address_or_a_token(name):
    operation = PUBLIC[name]
    words = (
        "file",
        "folder",
        "out",
        "path",
        "address",
        "endpoint",
        "token",
        "host",
        "url",
        "owner",
        "launcher",
    )
    found = [
        each
        for each, _ in fields_of(operation.options, operation.closed)
        if each in words or each.endswith(tuple(f"_{word}" for word in words[:2] + words[3:]))
    ]
    # the data set `folder` is refused where it is named; tests/test_people.py holds that
    assert [each for each in found if each != "path"] == []
    assert found == [] or name in ("plan", "submit", "peek", "study", "castle")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
LOCAL_DATA = ("digits", "emoji", "uploaded", "folder")  # the others are downloaded


def variants(table: Registry) -> st.SearchStrategy:
    kinds = [each for each in table.values() if table.what != "dataset" or each.kind in LOCAL_DATA]
    return st.one_of(
        [
            st.builds(lambda kind, more: {"kind": kind, **more}, st.just(each.kind), options_of(each))
            for each in kinds
        ]
    )


def options_of(model: type[Options], closed: tuple[str, ...] = ()) -> st.SearchStrategy:
    """Some options with values that fit their schema or do not; what costs time is at most two."""
    fields = {name: field for name, field in model.model_fields.items() if name not in closed}
    return st.fixed_dictionaries({}, optional={name: value_of(name, field) for name, field in fields.items()})


def value_of(name: str, field: Any) -> st.SearchStrategy:
    if found := tables_in(field):
        return (
            variants(found[0]) | st.sampled_from(list(found[0]))
            if found[0].what != "dataset"
            else variants(found[0])
        )
    bounds = {type(each).__name__: each for each in field.metadata}
    low = getattr(bounds.get("Ge"), "ge", 0)
    if name in ("steps", "n", "batch", "epochs", "widths", "net"):
        return st.integers(1, 2) | JUNK.filter(lambda each: not isinstance(each, (int, float, str, dict)))
    if field.annotation is int:
        return st.integers(low, low + 1000) | JUNK
    if field.annotation is bool:
        return st.booleans() | JUNK
    names = st.sampled_from(["mnist-clean", "mnist-grey-box-hat", "../x", "", "pictures", "00000000-1"])
    return names | JUNK


def cheap(operation: Operation, options: Any) -> Any:
    """The same; where it is valid, and so may be computed, held to one image of each kind and two steps."""
    if not isinstance(options, dict) or any(name in operation.closed for name in options):
        return options
    try:
        checked = operation.options.of(**options)
    except LabError:
        return options  # refused before anything is computed
    few: dict[str, Any] = {"n": 1, "steps": 2, "batch": 2, "epochs": 0, "controls": False}
    held = {name: value for name, value in few.items() if name in operation.options.model_fields}
    if operation.name == "reveal":  # samples as many steps as the card says
        held["checkpoint"] = "../x"
    if operation.name == "study":  # others train a grid of models, or time one
        held["what"] = "status" if checked.what in ("run", "plan") else checked.what
    if operation.name == "castle":
        least = {"n": 4, "epochs": 1, "drawn": 20, "screened": 20, "examined": 10, "draws": 1}
        held |= {**least, "do": "status", "guidances": [1.0], "detectors": ["strip"]}
        if checked.what in ("detect", "classify"):  # they train classifiers of a whole set
            held["what"] = "story"
    for name in ("sampler", "samplers"):
        if (found := getattr(checked, name, None)) is not None:
            held[name] = [short(each) for each in found] if name == "samplers" else short(found)
    return {**options, **held}


def short(sampler: Any) -> dict[str, Any]:
    return {**sampler.model_dump(mode="json"), "steps": 2}


def fuzzed(client: Client, examples: int) -> dict[str, Counter[str]]:
    """Send as many inputs to each operation; counts how many were answered and refused, by operation."""
    return {name: fuzz(client, name, examples) for name in PUBLIC}


def fuzz(client: Client, name: str, examples: int) -> Counter[str]:
    """The same for one operation."""
    operation, counts = PUBLIC[name], Counter()
    junk = st.fixed_dictionaries({}, optional=dict.fromkeys(operation.options.model_fields, JUNK))
    # a part of the inputs gets as far as computing
    sound = st.just({"checkpoint": "mnist-clean"} if name == "describe" else {})

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(options=options_of(operation.options, operation.closed) | junk | JUNK | sound)
    def send(options: Any) -> None:
        result, error = client.call(name, cheap(operation, options))
        counts["answered" if result is not None else "refused"] += 1
        if result is None:
            assert error and "\n" not in error.strip() and error.rstrip().endswith((".", "?")), (
                options,
                error,
            )
            assert not any(word in error for word in BAD), (options, error)

    send()
    return counts


def test_whatever_is_sent_gets_an_answer_or_a_sentence_and_leaves_nothing(apart):
    """All is warm after a few inputs; whatever more of them leave in memory is left by every request."""
    client = Client(apart.address, "ada")
    fuzzed(client, 4)
    before = apart.resident()
    counts = fuzzed(client, 8)
    grown = apart.resident() - before
    assert sum(total.total() for total in counts.values()) > 6 * len(PUBLIC)
    assert all(total["refused"] for name, total in counts.items() if PUBLIC[name].options.model_fields)
    assert {name for name, total in counts.items() if total["answered"]} >= {
        "list",
        "describe",
        "peek",
        "evaluate",
        "compare",
        "plan",
        "submit",
        "runs",
        "explore",
        "look",
    }
    assert grown < 100  # with one of Gradio's sessions for each request it is 200
    assert Client(apart.address, "bo").call("list", {})[0] and client.get("/healthz")[0] == 200


@pytest.mark.soak
def test_ten_thousand_inputs(apart):
    client, count = Client(apart.address, "ada"), int(os.environ.get("LAB_SOAK_INPUTS", "10000"))
    fuzzed(client, 20)
    before = now = apart.resident()
    for name in PUBLIC:
        counts, last = fuzz(client, name, count // len(PUBLIC) + 1), now
        now = apart.resident()
        sys.stderr.write(f"\n{name}: {dict(counts)}, memory {now:.0f} MB {now - last:+.0f}")
    assert apart.resident() - before < 200
    assert client.get("/healthz")[0] == 200


def test_a_lab_that_nobody_asks_leaves_the_cores_alone(apart):
    assert Client(apart.address, "ada").get("/healthz")[0] == 200
    assert apart.awakenings(2) < 400  # a thousand with Gradio's own queue


# A class -----------------------------------------------------------------------------------------------------------


def crowd(address: str, count: int, seconds: float) -> dict[str, list[float]]:
    """People who sample again and again, some the same and some their own; seconds that each waited, by name."""
    waited: dict[str, list[float]] = {name: [] for name in people(count)}
    failed: list[str] = []
    clients = {name: Client(address, name) for name in waited}
    known, error = next(iter(clients.values())).call("explore", {**SMALL, "seed": 7})
    assert not error
    end = time.monotonic() + seconds

    def sit(k: int, name: str) -> None:
        turn = 0
        while time.monotonic() < end and not failed:
            begun, turn = time.monotonic(), turn + 1
            seed = 7 if turn % 2 else 1000 * k + turn
            result, error = clients[name].call("explore", {**SMALL, "seed": seed})
            if error or (seed == 7 and result["columns"] != known["columns"]):
                failed.append(error or "other pictures than a single user's")
            waited[name].append(time.monotonic() - begun)

    threads = [threading.Thread(target=sit, args=each) for each in enumerate(waited)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    return waited


def people(count: int) -> list[str]:
    """Students of the served lab, made where they are not there yet."""
    names, known = [f"student-{k}" for k in range(count)], Users().all()
    for name in names:
        if name not in known:
            Users().add(name, PASSWORD, "student")
    return names


def assert_fair(waited: dict[str, list[float]]) -> None:
    """Everybody was served, and nobody much more often than somebody else."""
    least, most = (choose(map(len, waited.values())) for choose in (min, max))
    assert least > 0 and most <= 2 * least + 2


def test_five_people_are_served_alike(apart):
    crowd(apart.address, 5, 1)
    before = apart.resident()
    waited = crowd(apart.address, 5, 4)
    assert_fair(waited)
    assert apart.resident() - before < 100


@pytest.mark.soak
def test_fifty_people_for_ten_minutes(apart):
    seconds = float(os.environ.get("LAB_SOAK_SECONDS", "600"))
    crowd(apart.address, 50, 10)
    before = apart.resident()
    waited = crowd(apart.address, 50, seconds)
    grown = apart.resident() - before
    times = sorted(each for some in waited.values() for each in some)
    p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
    sys.stderr.write(
        f"\n{len(times)} requests of {len(waited)} people, {min(map(len, waited.values()))} to "
        f"{max(map(len, waited.values()))} each, p50 {p50:.2f} s, p95 {p95:.2f} s, memory {before:.0f} MB +{grown:.0f}\n"
    )
    assert_fair(waited)
    assert grown < 200


def test_equal_requests_share_one_computation(address, monkeypatch):
    """The second of two equal requests finds what the first drew; they never draw at the same time."""
    from lab.explore import Exploration

    drawn = []
    draw = Exploration._draw
    monkeypatch.setattr(
        Exploration, "_draw", lambda self, *more: drawn.append(1) or (yield from draw(self, *more))
    )
    clients = [Client(address, name) for name in ("ada", "bo", "ada")]
    threads = [
        threading.Thread(target=each.call, args=("explore", {**SMALL, "seed": 4711})) for each in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 2  # clean and triggered, once each
