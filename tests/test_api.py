"""The API: the public operations under their names, with the same results, and a sentence for what is refused."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from asking import files_below
from gradio_client import Client
from gradio_client.exceptions import AppError

from lab.ops import OPERATIONS, final
from lab.ui import build, launch_options

pytestmark = [  # pandas on what Gradio does with it
    pytest.mark.filterwarnings("ignore:.*no_silent_downcasting"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]
QUICK = {"sampler": {"kind": "ddpm", "steps": 2}, "n": 1}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the real page is served."""
    page, port = build(), free_port()
    page.launch(server_port=port, prevent_thread_lock=True, quiet=True, **launch_options())
    yield f"http://127.0.0.1:{port}"
    page.close(verbose=False)


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def called(client: Client, name: str, /, **options: Any) -> Any:
    """The result of an operation over the API."""
    return client.predict(options, api_name=f"/{name}")["result"]


def over_json(result: Any) -> Any:
    """A result as it looks after a journey: tuples become lists."""
    return json.loads(json.dumps(result, allow_nan=False))


def refusal(client: Client, name: str, options: Any) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(options, api_name=f"/{name}")
    text = str(caught.value)
    assert "\n" not in text and text.endswith((".", "?")), text
    assert not any(word in text for word in ("Traceback", "object at 0x", "function "))
    return text


def post(address: str, name: str, body: str) -> str:
    """The answer to a hand-written request."""
    request = urllib.request.Request(
        f"{address}/gradio_api/call/{name}", body.encode(), {"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(request, timeout=30))["event_id"]
    with urllib.request.urlopen(f"{request.full_url}/{event}", timeout=30) as answer:
        return answer.read().decode()


# What is offered ---------------------------------------------------------------------------------------------------


def test_the_page_describes_itself_in_plain_data():
    """A component whose option is mistaken for an event puts an object there, with the whole lab behind it."""
    props = [c["props"] for c in build().get_config_file()["components"] if c["type"] != "state"]
    pad = next(p for p in props if "backdrop" in p)
    assert (pad["size"], pad["backdrop"]) == (32, "")
    assert not [p for each in props for p in each.values() if callable(p)]


def test_exactly_the_public_operations_are_offered_by_name(client):
    offered = client.view_api(return_format="dict", print_info=False)
    public = {f"/{name}": operation for name, operation in OPERATIONS.items() if operation.public}
    assert set(offered["named_endpoints"]) == set(public)
    assert offered["unnamed_endpoints"] == {}
    for name, endpoint in offered["named_endpoints"].items():
        assert [parameter["parameter_name"] for parameter in endpoint["parameters"]] == ["options"]
        assert endpoint["description"] == public[name].fn.__doc__.split("\n")[0]


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if not operation.public])
def test_what_is_made_of_paths_of_the_server_is_not_offered(client, name):
    assert name in {
        *("train", "watch", "attend", "work", "bench", "compile", "keep", "user"),
        *("export", "import", "publish"),
    }
    with pytest.raises(ValueError, match="Cannot find"):
        client.predict({}, api_name=f"/{name}")


# The same as in this process ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("list", {}),
        ("list", {"what": "triggers"}),
        ("describe", {"checkpoint": "mnist-grey-box-hat"}),
        ("look", {}),
        ("look", {"trigger": "stop_sign", "target": "shoe", "sampler": "ddim", "clip": "x0", "seed": 5}),
        ("explore", QUICK),
        ("sample", {**QUICK, "trigger": "grey_box", "clip": "x0"}),
        ("castle", {"what": "story"}),
        ("study", {}),
        ("hub", {}),
    ],
)
def test_an_answer_is_the_operations_own(client, name, options):
    assert called(client, name, **options) == over_json(final(OPERATIONS[name](**options)))


def test_a_painting_can_be_used_after_it_was_sent(client):
    assert called(client, "paint", pixels=[[3, 4, "#808080"]], name="dot") == {"name": "dot"}
    assert called(client, "list", what="pictures") == OPERATIONS["list"](what="pictures") == [{"name": "dot"}]
    options = {"trigger": {"kind": "own", "name": "dot", "form": "masked"}}
    look = called(client, "look", **options)
    assert look["meter"]["changed"] == 3  # in each channel
    assert look == over_json(OPERATIONS["look"](**options))


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("list", {"what": "nothing"}, "nothing"),
        ("list", {"wat": 1}, "wat"),
        ("hub", {"allow_pickle": True}, "allow_pickle"),
        ("describe", {"checkpoint": "../assets"}, "no checkpoint"),
        ("look", {"trigger": "grey_bx"}, "did you mean 'grey_box'?"),
        ("look", {"trigger": {"kind": "grey_box", "size": 31}}, "does not fit"),
        ("look", {"trigger": {"kind": "own", "name": "../../x"}}, "name"),
        ("look", {"a": "", "b": ""}, "slot A or B"),
        ("explore", {"n": 10**30}, "n is "),
        ("explore", {"sampler": "lms", "clip": "x0"}, "lms has no clip 'x0'"),
        ("paint", {"pixels": [[99, 0, "#ffffff"]]}, "below 32"),
        ("paint", {"pixels": [[0, 0, "#ffffff"]], "name": "../up"}, "a-z"),
        ("sample", {"out": "/tmp/x"}, "no option called 'out'"),
        ("sample", {"trigger_file": "/etc/passwd"}, "trigger_file"),
        ("castle", {"what": "study", "do": "export", "out": "/tmp/x"}, "no option called 'out'"),
        ("castle", {"generated": {"kind": "folder", "path": ""}}, "not a folder of images"),
        ("study", {"what": "run", "launcher": "ray"}, "launcher"),
        ("discard", {"checkpoint": "mnist-clean"}, "stays"),
        ("look", [1, 2], "one JSON object"),
        ("explore", "hello", "one JSON object"),
    ],
    ids=str,
)
def test_bad_options_get_the_operations_sentence(client, name, options, hint, lab_home):
    assert hint in refusal(client, name, options)
    assert files_below(lab_home) == []


def test_nan_and_null_get_a_sentence(address):
    for body in ('{"data": [{"seed": NaN}]}', '{"data": [{"seed": 1e999}]}', '{"data": [null]}'):
        answer = post(address, "look", body)
        assert answer.startswith("event: error")
        assert "Traceback" not in answer and "object at 0x" not in answer
        assert json.loads(answer.split("data: ", 1)[1])["error"].endswith(".")


def test_the_lab_survives_what_it_refused(client):
    assert called(client, "list", what="samplers")[0]["name"] == "ddpm"
