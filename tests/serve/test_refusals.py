"""What a server does not take, in whose words it says so, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import openai
import pytest
import uvicorn
from tests.serve.conftest import KEY, serving

from embedge._serve.connections import connections
from embedge._serve.options import ServeOptions
from embedge.cli.main import main
from embedge.errors import ParamsError

BEARER = {"authorization": f"Bearer {KEY}"}
SLOW = {"inputs": ["the river house music " * 150] * 1000, "truncate": True}
"""Takes a second or so to tokenise."""


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.address, headers=BEARER, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def one_at_a_time(bundles):
    with serving(bundles["embed"], "--max-requests", "1") as running:
        yield running
        assert running.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/embeddings", b'{"model": ', 400, "not JSON"),
        ("/v1/embeddings", b"\xff\xfe", 400, "not JSON"),
        ("/v1/embeddings", b"", 400, "not JSON"),
        ("/v1/embeddings", b"[" * 100_000, 400, "takes"),
        ("/v1/embeddings", b'{"model": "tiny-embed", "input": 3}', 400, "$.input"),
        ("/v1/embeddings", b'{"model": "tiny-embed", "input": []}', 400, "empty"),
        ("/v1/embeddings", b'{"model": "tiny-embed", "input": ["a", 1]}', 400, "texts and numbers"),
        ("/v1/embeddings", b'{"model": "tiny-embed", "input": [999999]}', 400, "999999"),
        ("/v1/embeddings", b'{"model": "tiny-embed", "input": "a", "dimension": 2}', 400, "dimension"),
        ("/v1/embeddings", b'{"model": "tiny-classify", "input": "a"}', 400, "tiny-classify"),
        ("/v1/embeddings", b'{"model": "tiny-embed", "input": "nan"}', 500, "NaN"),
        ("/v1/nothing", b"{}", 404, "POST /v1/embeddings"),
    ],
)
def test_openai_words(http, path, body, status, words) -> None:
    response = http.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == status
    error = response.json()["error"]
    assert words in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/embed", {"inputs": ["a"] * 1025}, 413, "1,025 entries"),
        ("/embed", {"inputs": "a", "prompt_name": "nothing"}, 422, "nothing"),
        ("/embed", {"inputs": "a", "model": "x"}, 404, "tiny-embed"),
        ("/rerank", {"query": "a"}, 422, "texts"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "pair"),
        ("/predict", {"inputs": [["a", "b", "c"]]}, 422, "a list of 3 texts"),
        (
            "/rerank",
            {"query": "a", "texts": ["b"], "truncate": True, "truncation_direction": "Left"},
            422,
            "not offered for pairs",
        ),
        ("/nothing", {}, 404, "POST /embed"),
    ],
)
def test_tei_words(http, path, body, status, words) -> None:
    response = http.post(path, json=body)
    assert response.status_code == status
    assert words in response.json()["error"]
    assert "error_type" in response.json()


def test_too_many_inputs_by_openai_and_cohere(http) -> None:
    many = ["a"] * 1025
    assert http.post("/v1/embeddings", json={"model": "tiny-embed", "input": many}).status_code == 422
    response = http.post("/v2/rerank", json={"query": "a", "documents": many, "model": "tiny-cross_encoder"})
    assert (response.status_code, set(response.json())) == (422, {"message"})


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"max_tokens_per_doc": 3}, "max_tokens_per_doc=3 is not offered; expected 32 or more"),
        ({"top_n": 0}, "top_n=0 is not possible; expected 1 or more"),
    ],
)
def test_cohere_words(http, field, words) -> None:
    body = {"query": "a", "documents": ["b"], "model": "tiny-cross_encoder"}
    assert http.post("/v2/rerank", json=body | {"max_tokens_per_doc": 32, "top_n": 1}).status_code == 200
    response = http.post("/v2/rerank", json=body | field)
    assert (response.status_code, set(response.json())) == (400, {"message"})
    assert words in response.json()["message"]


def test_a_body_of_ten_megabytes(http) -> None:
    for sized in (b"x" * 10_000_000, (b"x" * 1_000_000 for _ in range(10))):
        response = http.post("/embed", content=sized, headers={"content-type": "application/json"})
        assert response.status_code == 413
        assert "8,000,000 bytes" in response.json()["error"]
    assert http.post("/embed", json={"inputs": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"content-type": "text/plain"}, "content-type is 'text/plain'; expected application/json"),
        ({"content-type": "application/json; charset=utf-16"}, "charset is 'utf-16'; expected utf-8"),
        ({"content-encoding": "gzip"}, "content-encoding is 'gzip'; expected a body that is not compressed"),
    ],
)
def test_a_body_that_is_said_to_be_something_else(http, stated, words) -> None:
    refused = http.post("/embed", content="{}", headers={"content-type": "application/json"} | stated)
    assert (refused.status_code, words in refused.json()["error"]) == (415, True)
    stated = {"content-type": 'Application/JSON; charset="UTF-8"', "content-encoding": "identity"}
    assert http.post("/embed", content='{"inputs": "a"}', headers=stated).status_code == 200


def test_what_a_refusal_quotes_is_one_printable_line(http) -> None:
    named = {"model": "模型\n\x1b[31m" + "x" * 100_000, "input": "a"}
    refused = http.post("/v1/embeddings", json=named)
    message = refused.json()["error"]["message"]
    assert refused.status_code == 404
    assert "模型" in message
    assert message.isprintable()
    assert len(message) < 4000


def test_a_method_that_there_is_not(http) -> None:
    refused = http.put("/embed", json={})
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert "PUT /embed is not served" in refused.json()["error"]


def test_keys(server, http) -> None:
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key="another", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError, match="missing or wrong"):
        client.embeddings.create(model="tiny-embed", input="a")
    for path in ("/info", "/metrics", "/v1/models"):
        assert httpx.get(server.address + path).status_code == 401
        assert http.get(path).status_code == 200
    assert httpx.get(f"{server.address}/health").status_code == 200
    for given, status in ((f"bearer {KEY}", 200), (f"BEARER  {KEY}", 200), (f"Basic {KEY}", 401), (KEY, 401)):
        answer = httpx.get(f"{server.address}/info", headers={"authorization": given})
        assert answer.status_code == status, given


def test_pages_of_a_browser_are_kept_out(one_at_a_time) -> None:
    """Whose requests have a type that needs no leave, or a name that leads here."""
    address = f"{one_at_a_time.address}/embed"
    assert httpx.post(address, content=b'{"inputs": "a"}').status_code == 415
    assert httpx.post(address, json={"inputs": "a"}, headers={"host": "a.example:80"}).status_code == 403
    assert httpx.post(address, json={"inputs": "a"}, headers={"host": "localhost"}).status_code == 200
    assert httpx.post(address, json={"inputs": "a"}, headers={"host": "LocalHost.:80"}).status_code == 200
    with connected(one_at_a_time.address) as client:
        client.sendall(head(0).replace(b"host: localhost", b"host: localhost\r\nhost: a.example"))
        assert client.recv(100).startswith((b"HTTP/1.1 403", b"HTTP/1.1 400"))


def test_half_of_a_surrogate_pair_is_called_so(one_at_a_time) -> None:
    """As JavaScript writes a text that was cut in the middle of an emoji."""
    for body in (b'{"inputs": "a\\ud83d"}', b'{"inputs": "\\ud83d more"}', b'{"inputs": "\\udc00"}'):
        answer = httpx.post(
            f"{one_at_a_time.address}/embed", content=body, headers={"content-type": "application/json"}
        )
        assert (answer.status_code, "half of a surrogate pair" in answer.text) == (400, True)
    cut = httpx.post(
        f"{one_at_a_time.address}/embed",
        content=b'{"inputs": "a',
        headers={"content-type": "application/json"},
    )
    assert "truncated" in cut.text


def connected(address: str) -> socket.socket:
    return socket.create_connection((urlsplit(address).hostname, urlsplit(address).port))


@pytest.mark.parametrize(
    ("sent", "answers"),
    [(b"", 0), (b"GET / HTTP/1.1\r\nhost: loc", 0), (b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET", 1)],
)
def test_a_connection_without_a_whole_head_is_closed(sent, answers) -> None:
    """Also one whose first request was answered."""

    async def application(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def received() -> bytes:
        config = uvicorn.Config(application, http=connections(0.2), lifespan="off", log_level="error")
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(sent)
        found = b""
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.wait_for(reader.read(1000), 30):
                found += piece
        writer.close()
        server.should_exit = True
        await running
        return found

    assert asyncio.run(received()).count(b" 204 ") == answers


def head(size: int) -> bytes:
    lines = [
        "POST /embed HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        f"content-length: {size}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def until(address: str, text: str) -> None:
    """Ask until the server's counts say something, which takes as long as the machine takes."""
    for _ in range(1000):
        if text in httpx.get(f"{address}/metrics").text:
            return
        time.sleep(0.01)
    pytest.fail(f"no {text} in {httpx.get(f'{address}/metrics').text}")


def test_a_full_queue(one_at_a_time) -> None:
    address = one_at_a_time.address
    with connected(address) as first:
        first.sendall(head(100))
        until(address, "in_flight 1")
        second = httpx.post(f"{address}/embed", json={"inputs": "a"})
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert second.json()["error_type"] == "Overloaded"
    until(address, "in_flight 0")
    assert httpx.post(f"{address}/embed", json={"inputs": "a"}).status_code == 200


def test_a_client_that_goes_is_not_computed_for(one_at_a_time) -> None:
    address = one_at_a_time.address
    body = json.dumps(SLOW).encode()
    with connected(address) as client:
        client.sendall(head(len(body)) + body)
        until(address, "in_flight 1")
    until(address, 'path="/embed",status="499"')
    assert httpx.post(f"{address}/embed", json={"inputs": "a"}).status_code == 200


def test_what_is_under_way_is_answered_before_the_end(bundles) -> None:
    with serving(bundles["embed"]) as running, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{running.address}/embed", json=SLOW, timeout=30)
        until(running.address, "in_flight 1")
        assert running.stop() == 0
        assert len(answer.result().json()) == 1000
        assert running.process.stderr.read() == ""


def test_what_cannot_be_served_is_one_sentence(server, bundles, monkeypatch, capsys) -> None:
    monkeypatch.delenv("EMBEDGE_API_KEY", raising=False)
    port = str(urlsplit(server.address).port)
    embed = str(bundles["embed"])
    for arguments, words in {
        (embed, "--port", port): f"port {port} of 127.0.0.1 is in use",
        (embed, embed, "--port", "0"): "two bundles are named 'tiny-embed'",
        (embed, "--host", "0.0.0.0"): "no API key is set",
        (embed, "--host", "192.0.2.1", "--api-key", "k"): "nothing can listen at 192.0.2.1 port 8080",
        (embed, "--host", "nowhere.invalid", "--api-key", "k"): "nothing can listen at nowhere.invalid",
        ("nothing-there", "--port", "0"): "nothing-there",
    }.items():
        assert main(["serve", *arguments]) == 1
        said = capsys.readouterr().err
        assert said.startswith("embedge: "), said
        assert words in said
        assert len(said.splitlines()) == 1


def test_without_the_extra_it_is_named(bundles, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(bundles["embed"])]) == 1
    said = capsys.readouterr().err
    assert said == "embedge: uvicorn is not installed. Install it with: pip install 'embedge[serve]'\n"


def test_options() -> None:
    assert ServeOptions(host="::1").host == "::1"
    assert ServeOptions(host="0.0.0.0", api_key="k").api_key == "k"
    for wrong in ({"port": 70000}, {"max_requests": 0}, {"api_key": " "}, {"host": "example.org"}):
        with pytest.raises(ParamsError):
            ServeOptions(**wrong)
