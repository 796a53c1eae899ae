"""What stands before every route: who may ask, how much at once, in what time; and every refusal is JSON."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pictorch.deploy.server.limits import Limits, Refused, mebibytes

BODY = "pictorch.body"  # where a scope has the request's whole body
# MDN, "Practical security implementation guides". The page's own policy lets in a little more (page.py).
SECURITY = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Gone(Exception):
    """The client went away before its request was whole."""


@final
class Guard:
    """An ASGI application before another: the request's body is read here, whole and within the limits.

    `hosts` are the names that the server answers to (None: any), `origins` those of other web pages that may ask it.
    `done` is told the path, the method, the status and the seconds of each answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        *,
        hosts: frozenset[str] | None = None,
        origins: Iterable[str] = (),
        done: Callable[[str, str, int, float], None] = lambda *_: None,
    ) -> None:
        self.app, self.limits, self.hosts, self.origins, self.done = app, limits, hosts, frozenset(origins), done
        self.under_way: Counter[str] = Counter()
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        answer = Answer(send)
        started = asyncio.get_running_loop().time()
        try:
            await self.guarded(scope, receive, answer)
        except Gone:
            return None
        except Refused as refused:
            await answer.refuse(refused)
        finally:
            if answer.status:
                seconds = asyncio.get_running_loop().time() - started
                self.done(scope["path"], scope["method"], answer.status, seconds)

    async def guarded(self, scope: Scope, receive: Receive, answer: "Answer") -> None:
        """Admit the request, read its body and have it answered. Raises Refused and Gone."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        check_host(headers, self.hosts)
        check_origin(scope["method"], headers, self.origins)
        client = scope["client"][0] if scope.get("client") else ""
        self.check_crowd(client)
        self.under_way[client] += 1
        body = bytearray()
        try:
            if scope["method"] in ("POST", "PUT", "PATCH"):
                await self.read(headers, receive, body)
            # uvicorn sends a HEAD's answer without its body.
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            async with asyncio.timeout(self.limits.answer_seconds):
                await self.app({**scope, "method": method, BODY: body}, receive, answer)
        except TimeoutError:
            seconds = self.limits.answer_seconds
            raise Refused(504, f"this took longer than {seconds:g} seconds; send less at once, or try again") from None
        finally:
            self.held_bytes -= len(body)
            self.under_way[client] -= 1
            self.under_way += Counter()  # forgets the addresses of those who have gone

    def check_crowd(self, client: str) -> None:
        """Raise Refused where too many requests are under way."""
        if self.under_way.total() >= self.limits.requests:
            raise Refused(503, "too many requests are under way; try again in a second", retry_seconds=1)
        if self.under_way[client] >= self.limits.client_requests:
            most = self.limits.client_requests
            raise Refused(429, f"at most {most} requests of one address are answered at a time", retry_seconds=1)

    async def read(self, headers: Mapping[str, str], receive: Receive, body: bytearray) -> None:
        """Read the body to its end. Raises Refused as soon as it is too large or too slow, Gone where it breaks off."""
        most = self.limits.body_bytes
        if int(headers.get("content-length", 0)) > most:
            raise too_large(most)
        if headers.get("content-encoding", "identity") != "identity":
            raise Refused(415, "Content-Encoding: expected a body as it is, without compression")
        try:
            async with asyncio.timeout(self.limits.read_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > most:
                        raise too_large(most)
                    if self.held_bytes + len(chunk) > self.limits.held_bytes:
                        raise Refused(503, "too much is being sent at once; try again in a second", retry_seconds=1)
                    self.held_bytes += len(chunk)
                    body += chunk
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            seconds = self.limits.read_seconds
            raise Refused(408, f"the request was not here within {seconds:g} seconds") from None


@final
class Answer:
    """What an application sends, with the security headers; `status` is 0 until it has begun."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [(name.lower(), value) for name, value in message.get("headers", [])]
            names = {name for name, _ in own}
            added = [(name.encode(), value.encode()) for name, value in SECURITY.items() if name.encode() not in names]
            if b"cache-control" not in names:
                added.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*own, *added]}
        await self.send(message)

    async def refuse(self, refused: Refused) -> None:
        """Send a refusal. Raises it where another answer has begun, so that the connection is closed."""
        if self.status:
            raise refused
        content = json.dumps({"error": str(refused)}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content)), **refused.headers()}
        listed = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": refused.status, "headers": listed})
        await self({"type": "http.response.body", "body": content})


def check_host(headers: Mapping[str, str], hosts: frozenset[str] | None) -> None:
    """Raise Refused for a request to a name that is not this server's."""
    if hosts is None:
        return
    host = headers.get("host", "")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    if name.lower() not in hosts:
        raise Refused(400, f"Host: this server does not answer to {host[:100]!r}; start it with --allow-host to let it")


def check_origin(method: str, headers: Mapping[str, str], origins: frozenset[str]) -> None:
    """Raise Refused for what another site's page asks: it may not use the visitor's way to this server."""
    origin = headers.get("origin")
    if method in ("GET", "HEAD", "OPTIONS") or origin is None or origin in origins:
        return
    try:
        same = urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
    except ValueError:
        same = False
    if not same:
        raise Refused(403, f"Origin: pages of {origin[:100]!r} may not ask this server; start it with --allow-origin")


def too_large(most: int) -> Refused:
    return Refused(413, f"expected a request of at most {mebibytes(most)}; send less at once, or smaller images")
