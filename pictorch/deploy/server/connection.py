"""uvicorn's connection with what it lacks: a time for a request's head, a bound on connections, errors as JSON."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pictorch.deploy.server.limits import Limits

JSON_TYPE = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")


class Connection(H11Protocol):
    """One client. uvicorn makes it; `limits` are the class's, set by `bounded`."""

    limits: ClassVar[Limits] = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.head_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        if len(self.connections) > 2 * self.limits.connections:
            transport.abort()
        elif len(self.connections) > self.limits.connections:
            self.app = busy
        self.watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # uvicorn leaves this timer running where the connection ended by an error.
        self._unset_keepalive_if_required()
        self.stop_timer()

    def watch(self) -> None:
        """Bound the time in which no request is under way: a head that comes slowly, a body that nobody reads."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.stop_timer()
        elif self.head_timer is None and not self.transport.is_closing():
            self.head_timer = self.loop.call_later(self.limits.head_seconds, self.transport.abort)

    def stop_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def send_400_response(self, msg: str) -> None:
        """Say that this is not HTTP, if no answer has begun, and hang up."""
        if self.cycle is not None:
            # Whoever answers the request that the nonsense came in must not answer on this connection any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        content = json.dumps({"error": "this is not a valid HTTP request"}).encode()
        headers = [JSON_TYPE, CLOSE, (b"content-length", str(len(content)).encode())]
        events = (h11.Response(status_code=400, headers=headers), h11.Data(data=content), h11.EndOfMessage())
        try:
            for event in events:
                self.transport.write(self.conn.send(event))
        except h11.LocalProtocolError:
            pass  # an answer was under way
        self.transport.close()


def bounded(limits: Limits) -> type[Connection]:
    """Return the protocol with these limits, for `uvicorn.Config(http=...)`."""
    return type("BoundedConnection", (Connection,), {"limits": limits})


async def busy(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """Answer that there are too many connections."""
    content = json.dumps({"error": "too many connections; try again in a second"}).encode()
    headers = [JSON_TYPE, CLOSE, (b"retry-after", b"1"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": content})
