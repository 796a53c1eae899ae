"""A request's body -> named images: multipart files, JSON with base64 or addresses, or one image as it is."""

import base64
import binascii
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, final

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from pictorch.deploy.server.images import shown
from pictorch.deploy.server.limits import Limits, Refused

KINDS = "multipart/form-data, application/json, image/* or application/octet-stream"
PIECE = 2**18  # bytes that a parser takes at a time, others having a turn in between
NO_URLS = "urls: this server fetches no addresses; send the image itself, or start the server with --allow-urls"


@final
@dataclass(frozen=True)
class Sent:
    """An image of a request: what it is called there, and where its bytes come from. `load` may raise Refused.

    It is called in a thread; one that fetches may wait long for others.
    """

    name: str
    load: Callable[[], bytes | bytearray]
    fetches: bool = False


@final
@dataclass(frozen=True)
class Asked:
    """What a request's body says; what it does not say is None."""

    images: list[Sent] = field(default_factory=list)
    top_k: int | None = None


@final
class ImagesAsJson(BaseModel):
    """The body of kind application/json. `openapi` says the same with its bounds."""

    model_config = ConfigDict(extra="forbid")

    images: list[str] = []
    urls: list[str] = []
    top_k: int | None = None


def kind(headers: Mapping[str, str]) -> str:
    """Return the body's kind without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def parse(
    headers: Mapping[str, str], body: bytearray, limits: Limits, fetch: Callable[[str], bytes] | None
) -> Asked:
    """Return what a body holds; `fetch` is None where no addresses are fetched.

    Raises Refused: 400 where it is not what its Content-Type says, 403 for addresses, 415 for another kind, 422 for
    what is well written and yet makes no sense, or too many images.
    """
    what = kind(headers)
    if what == "multipart/form-data":
        asked = await of_form(headers, body, limits)
    elif what == "application/json":
        asked = of_json(body, fetch)
    elif what.startswith("image/") or what == "application/octet-stream":
        asked = Asked([Sent("image", lambda: body)])
    else:
        raise Refused(415, f"Content-Type: expected {KINDS}, got {what[:80]!r}")
    if not asked.images:
        raise Refused(422, "expected at least one image, got none")
    if len(asked.images) > limits.images:
        raise too_many(limits)
    if asked.top_k is not None and not 1 <= asked.top_k <= limits.top_k:
        raise Refused(422, f"top_k: expected a number of 1 to {limits.top_k}")
    return asked


def too_many(limits: Limits) -> Refused:
    return Refused(422, f"expected at most {limits.images} images in a request, got more")


def of_json(body: bytearray, fetch: Callable[[str], bytes] | None) -> Asked:
    try:
        asked = ImagesAsJson.model_validate_json(bytes(body))
    except ValidationError as error:
        explain(error)
    if asked.urls and fetch is None:
        raise Refused(403, NO_URLS)
    images = [Sent(name, partial(decoded, text, name)) for name, text in numbered(asked.images)]
    if fetch is not None:
        images += [Sent(shown(url), partial(fetch, url), fetches=True) for url in asked.urls]
    return Asked(images, asked.top_k)


def numbered(texts: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"images[{place}]", text) for place, text in enumerate(texts)]


def explain(error: ValidationError) -> NoReturn:
    """Raise Refused with the first thing that is wrong."""
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "json_invalid":
        raise Refused(400, f"the body is no JSON: {first['ctx']['error']}") from None
    place = "".join(f"[{part}]" if isinstance(part, int) else part for part in first["loc"])
    if first["type"] == "extra_forbidden":
        raise Refused(422, f"{shown(place)}: unknown key; expected images, urls or top_k") from None
    raise Refused(422, f"{place or 'the body'}: {first['msg']}") from None


def decoded(text: str, name: str) -> bytes:
    """Return the bytes of base64, also of a data: address. Raises Refused."""
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(422, f"{name}: expected the bytes of an image as base64") from None


@final
class InMemory(MultiPartParser):
    """starlette's parser, which otherwise writes what is larger than 1 MiB to the disk."""

    spool_max_size = 2**40  # the body is bounded, and in memory already


async def of_form(headers: Mapping[str, str], body: bytearray, limits: Limits) -> Asked:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), PIECE):
            yield bytes(body[start : start + PIECE])

    parser = InMemory(Headers(headers), pieces(), max_files=limits.images, max_fields=8, max_part_size=1024)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise too_many(limits) from None
        raise Refused(400, f"the body is no multipart/form-data: {error.message}") from None
    # A charset that Python knows and that is none of text.
    except (ValueError, LookupError):
        raise Refused(400, "the body is no multipart/form-data: it cannot be read") from None
    images: list[Sent] = []
    top_k = None
    try:
        for name, value in form.multi_items():
            if name == "files" and isinstance(value, UploadFile):
                content = await value.read()
                images.append(Sent(shown(value.filename or f"files[{len(images)}]"), partial(bytes, content)))
            elif name == "top_k" and isinstance(value, str):
                top_k = number(value)
            else:
                raise Refused(422, f"{shown(name)}: expected files of the name files, and top_k")
    finally:
        await form.close()
    return Asked(images, top_k)


def number(text: str) -> int:
    """Return the number that a field of a form says. Raises Refused."""
    try:
        return int(text) if len(text) < 10 else int("none")
    except ValueError:
        raise Refused(422, f"top_k: expected a whole number, got {shown(text)!r}") from None


def schema(limits: Limits, *, images: int, urls: bool) -> dict[str, Any]:
    """Return what OpenAPI says of the bodies that `parse` takes, with so many images at most."""
    top_k = {"type": "integer", "minimum": 1, "maximum": limits.top_k, "description": "How many classes of each."}
    bounds = {"type": "array", "minItems": 1, "maxItems": images}
    image = {"type": "string", "format": "binary"}
    encoded = {"type": "string", "format": "byte", "contentEncoding": "base64"}
    of_images = {**bounds, "items": encoded, "description": "The bytes of images as base64."}
    as_json: dict[str, Any] = {
        "type": "object",
        "properties": {"images": of_images, "top_k": top_k},
        "required": ["images"],
        "additionalProperties": False,
    }
    if urls:
        address = {"type": "string", "format": "uri", "pattern": "^https?://"}
        as_json["properties"]["urls"] = {**bounds, "items": address, "description": "Where images are."}
        del as_json["required"]
        as_json["anyOf"] = [{"required": ["images"]}, {"required": ["urls"]}]
    form = {
        "type": "object",
        "properties": {"files": {**bounds, "items": image, "description": "Image files."}, "top_k": top_k},
        "required": ["files"],
        "additionalProperties": False,
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": as_json},
            "image/*": {"schema": image},
            "application/octet-stream": {"schema": image},
        },
    }
