"""The whole server over real HTTP: kinds of bodies, answers, limits, times, headers, and its end."""

import base64
import contextlib
import io
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
import torch
from PIL import Image

import pictorch
from pictorch import api, runs
from pictorch.config import UserError
from pictorch.deploy.predict import Predictor
from pictorch.deploy.server import application, listening
from pictorch.deploy.server.limits import Limits, allowed_hosts, is_loopback
from tests.deploy.server.serving import Serving, bomb, picture, serving, text_of, until


@pytest.fixture(scope="module")
def served(small_run: api.Result) -> Iterator[Serving]:
    with serving(small_run.run_dir) as one:
        yield one


@pytest.fixture(scope="module")
def client(served: Serving) -> Iterator[httpx.Client]:
    with served.client() as one:
        yield one


def files(*raws: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("files", (f"{place}.png", raw, "image/png")) for place, raw in enumerate(raws)]


def expected(served: Serving, raw: bytes, top_k: int) -> dict[str, Any]:
    [one] = served.predictor([Image.open(io.BytesIO(raw))], top_k=top_k)
    return {"classes": list(one.classes), "probabilities": pytest.approx(one.probabilities, abs=1e-6)}


def error_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error"}
    return str(response.json()["error"])


def test_files_json_and_bytes_get_the_predictors_answers(served: Serving, client: httpx.Client) -> None:
    raws = [picture(seed, (20, 30)) for seed in range(3)]
    form = client.post("/predict", files=files(*raws), data={"top_k": "3"})
    assert form.status_code == 200
    assert form.json() == {"predictions": [{"source": f"{i}.png", **expected(served, raws[i], 3)} for i in range(3)]}
    words = {"images": [text_of(raws[0]), "data:image/png;base64," + text_of(raws[1])], "top_k": 2}
    assert client.post("/predict", json=words).json() == {
        "predictions": [{"source": f"images[{i}]", **expected(served, raws[i], 2)} for i in range(2)]
    }
    for kind in ("image/png", "image/*", "application/octet-stream"):
        plain = client.post("/predict", content=raws[2], headers={"content-type": kind})
        assert plain.json() == {"predictions": [{"source": "image", **expected(served, raws[2], 5)}]}
    assert client.post("/predict?top_k=10", files=files(raws[0])).json() == {
        "predictions": [{"source": "0.png", **expected(served, raws[0], 10)}]
    }


def test_of_several_images_each_has_its_own_answer_or_error(client: httpx.Client) -> None:
    answer = client.post("/predict", files=files(picture(), b"no image", bomb(), picture()[:60], b""))
    assert answer.status_code == 200
    assert [one.get("status", 200) for one in answer.json()["predictions"]] == [200, 415, 413, 422, 422]
    assert [one["source"] for one in answer.json()["predictions"]] == [f"{i}.png" for i in range(5)]
    for raw, status in ((b"no image", 415), (bomb(), 413), (picture()[:60], 422), (b"", 422)):
        assert error_of(client.post("/predict", files=files(raw)), status).startswith("0.png: ")


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        ({"json": {}}, 422, "expected at least one image, got none"),
        ({"json": {"images": []}}, 422, "expected at least one image, got none"),
        ({"json": {"images": ["?"]}}, 422, "images[0]: expected the bytes of an image as base64"),
        ({"json": {"images": [7]}}, 422, "images[0]: Input should be a valid string"),
        ({"json": {"images": ["aGk="], "top_k": 0}}, 422, "top_k: expected a number of 1 to 1000"),
        ({"json": {"image": []}}, 422, "image: unknown key; expected images, urls or top_k"),
        ({"json": {"urls": ["http://x.org/"]}}, 403, "urls: this server fetches no addresses; send the image itself"),
        ({"json": ["aGk="] * 2}, 422, "the body: Input should be an object"),
        ({"json": {"images": ["aGk="] * 33}}, 422, "expected at most 32 images in a request, got more"),
        ({"files": files(*[b"x"] * 33)}, 422, "expected at most 32 images in a request, got more"),
        ({"files": {"image": b"x"}}, 422, "image: expected files of the name files, and top_k"),
        ({"files": files(b"x"), "data": {"top_k": "many"}}, 422, "top_k: expected a whole number, got 'many'"),
        ({"data": {"top_k": "3"}}, 415, "Content-Type: expected multipart/form-data, application/json, image/* or"),
        ({"content": b"x"}, 415, "Content-Type: expected multipart/form-data"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "the body is no JSON: EOF"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "the body is no multipart"),
        ({"params": {"top_k": "0"}, "json": {}}, 422, "top_k: Input should be greater than or equal to 1"),
        ({"params": {"topk": "3"}, "json": {}}, 422, "topk: unknown parameter; expected top_k"),
        ({"content": b"x", "headers": {"content-encoding": "gzip"}}, 415, "Content-Encoding: expected a body as it is"),
    ],
)
def test_mistakes_are_one_sentence(client: httpx.Client, words: dict[str, Any], status: int, why: str) -> None:
    assert error_of(client.post("/predict", **words), status).startswith(why)


def test_what_is_not_there(client: httpx.Client) -> None:
    assert error_of(client.get("/nothing"), 404) == "GET /nothing: there is nothing here"
    refused = client.get("/predict")
    assert error_of(refused, 405) == "GET /predict: another method is expected here"
    assert refused.headers["allow"] == "POST"


def test_head_is_get_without_its_body(client: httpx.Client) -> None:
    for path in ("/", "/health", "/predict"):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers["content-length"] == str(len(whole.content))
        assert head.headers["content-type"] == whole.headers["content-type"]


def test_what_it_says_of_itself(served: Serving, client: httpx.Client, small_run: api.Result) -> None:
    health = client.get("/health").json()
    assert (health["ready"], health["model"], health["dataset"]) == (True, "resnet_preact", "digits")
    assert health["versions"]["pictorch"] == pictorch.__version__
    assert client.get("/classes").json() == {"classes": [str(digit) for digit in range(10)]}
    card = client.get("/card").json()
    assert card["test"]["test_error"] == small_run.test_error
    assert card["test"]["test_images"] == 355
    before = served.metric("pictorch_images_total")
    client.post("/predict", files=files(picture(), b"?"))
    assert served.metric("pictorch_images_total") == before + 2
    assert served.metric("pictorch_waiting_images") == 0
    assert served.metric('pictorch_requests_total{method="GET",path="/card",status="200"}') >= 1
    client.get("/invented")
    assert "invented" not in client.get("/metrics").text


def test_every_answer_has_the_headers_of_security(client: httpx.Client) -> None:
    for answer in (client.get("/"), client.get("/health"), client.get("/nothing"), client.post("/predict")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


def test_a_name_that_is_not_this_servers_is_refused(served: Serving, client: httpx.Client) -> None:
    for host in ("evil.example", f"evil.example:{served.port}", "localhost.evil.example", "[::2]:80", "127.0.0.1.x"):
        assert error_of(client.get("/health", headers={"host": host}), 400).startswith("Host: this server does not")
    for host in ("localhost", f"LOCALHOST:{served.port}", "127.0.0.1", "[::1]:80"):
        assert client.get("/health", headers={"host": host}).status_code == 200


def test_pages_of_other_sites_may_not_ask(served: Serving, client: httpx.Client, small_run: api.Result) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1", "http://[", f"http://localhost:{served.port}"):
        refused = client.post("/predict", files=files(picture()), headers={"origin": origin})
        assert error_of(refused, 403).startswith("Origin: pages of ")
    own = client.post("/predict", files=files(picture()), headers={"origin": served.url.rstrip("/")})
    assert own.status_code == 200
    with serving(small_run.run_dir, origins=("https://friend.example",)) as other, other.client() as asking:
        friend = {"origin": "https://friend.example"}
        answer = asking.post("/predict", files=files(picture()), headers=friend)
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        preflight = {
            **friend,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        assert asking.options("/predict", headers=preflight).status_code == 200
        assert error_of(asking.post("/predict", files=files(b"")), 422)
        stranger = {"origin": "https://evil.example"}
        assert error_of(asking.post("/predict", files=files(picture()), headers=stranger), 403)


def test_addresses_by_which_a_server_is_called() -> None:
    assert allowed_hosts("127.0.0.1", ["Box.Lan"]) == {"localhost", "127.0.0.1", "::1", "box.lan"}
    assert allowed_hosts("0.0.0.0", []) is None
    assert allowed_hosts("0.0.0.0", ["box.lan"]) == {"box.lan"}
    assert [is_loopback(host) for host in ("127.0.0.2", "::1", "LocalHost", "0.0.0.0", "10.0.0.1")] == [True] * 3 + [
        False
    ] * 2


def test_a_heat_map_of_one_image(served: Serving, client: httpx.Client) -> None:
    raw = picture(3)
    best = expected(served, raw, 1)
    found = client.post("/explain", files=files(raw)).json()
    assert found["class_name"] == best["classes"][0]
    assert [found["probability"]] == best["probabilities"]
    other = client.post("/explain?class_index=4", content=raw, headers=PNG).json()
    assert (other["class_index"], other["class_name"]) == (4, "4")
    for address in (found["input"], found["overlay"], other["overlay"]):
        image = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
        assert image.width == image.height >= 8
    assert found["overlay"] != other["overlay"]
    assert error_of(client.post("/explain?class_index=10", content=raw, headers=PNG), 422).startswith("class_index: ")
    assert error_of(client.post("/explain", files=files(raw, raw)), 422) == "expected one image to explain, got 2"
    assert error_of(client.post("/explain", files=files(raw[:60])), 422).startswith("0.png: this image cannot be read")


# ---- limits ----


@contextlib.contextmanager
def limited(run: api.Result, **limits: Any) -> Iterator[tuple[Serving, httpx.Client]]:
    with serving(run.run_dir, replace(Limits(), **limits)) as one, one.client() as client:
        yield one, client


def exchange(served: Serving, *pieces: bytes, pause: float = 0.0, seconds: float = 20.0) -> bytes:
    """Send bytes as they are; return all that comes back until the server hangs up or says no more."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=seconds) as plain:
        for piece in pieces:
            try:
                plain.sendall(piece)
            except OSError:
                break
            time.sleep(pause)
        got = b""
        with contextlib.suppress(OSError):
            while chunk := plain.recv(65536):
                got += chunk
        return got


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nConnection: close\r\n"


def test_bytes_are_counted_while_they_come(small_run: api.Result) -> None:
    with limited(small_run, body_bytes=10_000) as (served, client):
        assert error_of(client.post("/predict", files=files(bytes(20_000))), 413).startswith("expected a request of at")
        chunked = error_of(
            client.post("/predict", content=iter([bytes(6000)] * 2), headers={"content-type": "image/png"}), 413
        )
        assert chunked == "expected a request of at most 10000 bytes; send less at once, or smaller images"
        # The length alone is enough, and a client that waits to be let in is told so before it sends anything.
        waiting = HEAD + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
        answer = exchange(served, waiting)
        assert answer.startswith(b"HTTP/1.1 413")
        assert client.post("/predict", files=files(picture())).status_code == 200


def test_all_bodies_together_are_bounded_and_given_back(small_run: api.Result) -> None:
    with limited(small_run, held_bytes=50_000) as (served, client):
        with socket.create_connection(("127.0.0.1", served.port)) as slow:
            slow.sendall(HEAD + b"Content-Length: 60000\r\n\r\n" + bytes(45_000))
            refused = until_refused(client, 503, content=bytes(20_000))
            assert refused.headers["retry-after"] == "1"
        until(lambda: client.post("/predict", content=bytes(20_000), headers=PNG).status_code == 415)


PNG = {"content-type": "image/png"}


def until_refused(client: httpx.Client, status: int, **words: Any) -> httpx.Response:
    """Ask until the answer has the status."""
    answers: list[httpx.Response] = []

    def there() -> bool:
        answers.append(client.post("/predict", headers=PNG, **words))
        return answers[-1].status_code == status

    until(there)
    error_of(answers[-1], status)
    return answers[-1]


def test_requests_under_way_are_bounded_by_all_and_by_address(small_run: api.Result) -> None:
    for bounds, status in (({"requests": 3}, 503), ({"client_requests": 3}, 429)):
        with limited(small_run, **bounds) as (served, client), contextlib.ExitStack() as stack:
            for _ in range(3):
                slow = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
                slow.sendall(HEAD + b"Content-Length: 9\r\n\r\n")
            assert until_refused(client, status, content=b"x").headers["retry-after"] == "1"
            stack.close()
            until(lambda client=client: client.get("/health").status_code == 200)


def test_connections_are_bounded(small_run: api.Result) -> None:
    with limited(small_run, connections=5) as (served, client), contextlib.ExitStack() as stack:
        assert client.get("/health").status_code == 200
        many = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(12)]
        time.sleep(0.2)
        with httpx.Client(base_url=served.url, trust_env=False) as late, pytest.raises(httpx.TransportError):
            late.get("/health")
        sixth = many[5]
        sixth.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while chunk := sixth.recv(65536):
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 503")
        assert b'{"error": "too many connections; try again in a second"}' in answer


def test_slow_heads_slow_bodies_and_silence_are_hung_up_on(small_run: api.Result) -> None:
    with limited(small_run, head_seconds=1.0, read_seconds=1.0) as (served, client):
        began = time.monotonic()
        assert exchange(served, b"GET /hea") == b""
        assert exchange(served, *[b"G"] * 30, pause=0.1) == b""
        body = exchange(served, HEAD + b"Content-Length: 90\r\n\r\n", *[b"x"] * 30, pause=0.1)
        assert body.startswith(b"HTTP/1.1 408")
        assert b"the request was not here within 1 seconds" in body
        assert time.monotonic() - began < 15
        assert client.get("/health").status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(small_run: api.Result) -> None:
    with limited(small_run, answer_seconds=0.3, waiting_images=1) as (served, client):
        plain = served.predictor.logits
        gate = threading.Event()

        def held(pixels: Any) -> Any:
            gate.wait(20)
            return plain(pixels)

        served.predictor.logits = held  # type: ignore[method-assign]
        try:
            assert error_of(client.post("/predict", content=picture(), headers=PNG), 504).startswith("this took longer")
        finally:
            gate.set()
        until(lambda: client.post("/predict", content=picture(), headers=PNG).status_code == 200)
        assert error_of(client.post("/predict", files=files(picture(), picture())), 503).startswith("too many images")


def test_what_is_not_http_is_told_so_in_json(served: Serving) -> None:
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ):
        answer = exchange(served, nonsense + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "this is not a valid HTTP request"}
    torn = HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    assert exchange(served, torn).startswith(b"HTTP/1.1 400")


def test_many_at_once_get_the_answers_that_they_get_alone(served: Serving) -> None:
    raws = [picture(seed) for seed in range(40)]
    with served.client() as client:
        alone = [client.post("/predict", content=raw, headers=PNG).json() for raw in raws]
        before = served.metric("pictorch_batch_images_count")
        with ThreadPoolExecutor(40) as pool:
            together = list(pool.map(lambda raw: client.post("/predict", content=raw, headers=PNG).json(), raws))
    assert served.metric("pictorch_batch_images_count") <= before + 40
    for one, other in zip(alone, together, strict=True):
        [one], [other] = one["predictions"], other["predictions"]
        assert one["classes"] == other["classes"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


# ---- listening ----


def test_a_taken_port_and_a_host_that_is_not_there() -> None:
    with listening.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert listening.address(listener) == f"http://127.0.0.1:{port}/"
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is taken by another program; give another --po"):
            listening.listen("127.0.0.1", port)
    with pytest.raises(
        UserError, match=r"--host no\.such\.name\.invalid: expected a name or an address of this machine"
    ):
        listening.listen("no.such.name.invalid", 0)
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1, port 0: .*; give another --host or --port"):
        listening.listen("192.0.2.1", 0)


def test_a_network_that_answers_no_numbers_is_not_served(small_run: api.Result) -> None:
    predictor = Predictor(small_run.run_dir)
    for parameter in predictor.model.parameters():
        parameter.data.fill_(float("nan"))
    predictor.network = predictor.model  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"model\.safetensors: this network answers in numbers that are not finite"):
        application.create(runs.open(small_run.run_dir), predictor, Limits(), application.Settings())


def test_an_answer_that_is_no_number_is_told_in_words(small_run: api.Result) -> None:
    with serving(small_run.run_dir) as served, served.client() as client:
        served.predictor.logits = lambda pixels: torch.full((len(pixels), 10), float("nan"))  # type: ignore[method-assign]
        why = error_of(client.post("/predict", files=files(picture())), 422)
    assert why == "0.png: the network's answer to this image is not finite"


def test_a_server_that_is_asked_to_end_answers_first(small_run: api.Result) -> None:
    with serving(small_run.run_dir) as served:
        plain = served.predictor.logits

        def slow(pixels: Any) -> Any:
            time.sleep(0.5)
            return plain(pixels)

        served.predictor.logits = slow  # type: ignore[method-assign]
        with ThreadPoolExecutor(1) as pool, served.client() as client:
            answer = pool.submit(client.post, "/predict", content=picture(), headers=PNG)
            until(lambda: served.metric("pictorch_waiting_images") == 1)
            served.server.handle_exit(signal.SIGTERM, None)
            assert answer.result().status_code == 200
        with served.client() as late, pytest.raises(httpx.TransportError):
            late.get("/health")
