"""What OpenAPI says is what the server does: schemathesis asks by the document, and holds each answer against it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pictorch import api
from tests.conftest import required_in_ci
from tests.deploy.server.serving import Serving, picture, serving, text_of

OPERATIONS = [
    ("POST", "/predict"),
    ("POST", "/explain"),
    *(("GET", p) for p in ("/health", "/metrics", "/classes", "/card")),
]
EXAMPLES = 40


@pytest.fixture(scope="module")
def served(small_run: api.Result) -> Iterator[Serving]:
    with serving(small_run.run_dir) as one:
        yield one


@pytest.fixture(scope="module")
def schemathesis() -> Any:
    try:
        import schemathesis
    except ImportError:
        required_in_ci('schemathesis is not installed (pip install "pictorch[test,serve]")')
    # "Bytes of an image" is beyond JSON schema: where a valid body is wanted, these are some.
    valid = st.builds(picture, st.integers(0, 5), kind=st.sampled_from(["PNG", "JPEG", "GIF"]))
    schemathesis.openapi.format("binary", valid)
    schemathesis.openapi.format("byte", valid.map(text_of))
    for kind in ("image/*", "application/octet-stream"):
        schemathesis.openapi.media_type(kind, valid)
    return schemathesis


def test_the_document_is_whole(served: Serving) -> None:
    with served.client() as client:
        document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    found = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert found == set(OPERATIONS)
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["description"]
            for status, response in operation["responses"].items():
                if status != "200":
                    assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
    kinds = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert kinds["application/json"]["schema"]["required"] == ["images"]
    assert json.dumps(document).count("HTTPValidationError") == 0


def test_addresses_are_in_the_document_where_they_are_fetched(small_run: api.Result) -> None:
    with serving(small_run.run_dir, fetch=lambda url: picture()) as served, served.client() as client:
        [kinds] = [client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]]
        assert "urls" in kinds["application/json"]["schema"]["properties"]
        assert client.post("/predict", json={"urls": ["http://example.org/"]}).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "asked"),
    # Nothing can be wrong about a request without parameters.
    [(*one, "valid") for one in OPERATIONS] + [(*one, "invalid") for one in OPERATIONS if one[0] == "POST"],
)
def test_answers_conform_to_the_document(
    served: Serving, schemathesis: Any, method: str, path: str, asked: str
) -> None:
    document = schemathesis.openapi.from_url(f"{served.url}openapi.json")
    operation = document[path][method]
    mode = schemathesis.GenerationMode.POSITIVE if asked == "valid" else schemathesis.GenerationMode.NEGATIVE
    statuses: list[int] = []

    @examples_of(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        response = case.call(base_url=served.url.rstrip("/"))
        statuses.append(response.status_code)
        case.validate_response(response)

    ask()
    assert len(statuses) >= (EXAMPLES // 2 if method == "POST" else 1)
    if asked == "valid":
        assert set(statuses) == {200}
    else:
        assert 400 <= min(statuses) <= max(statuses) < 500


def examples_of(strategy: Any) -> Any:
    from hypothesis import given

    def decorate(function: Any) -> Any:
        suppressed = list(HealthCheck)
        return settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=suppressed, database=None)(
            given(case=strategy)(function)
        )

    return decorate


def test_the_server_is_whole_afterwards(served: Serving) -> None:
    with served.client() as client:
        answer: httpx.Response = client.post("/predict", content=picture(), headers={"content-type": "image/png"})
    assert answer.status_code == 200
    assert served.metric('pictorch_requests_total{method="POST",path="/predict",status="500"}') == 0
