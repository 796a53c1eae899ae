"""A server's socket and its life: from the address to the answered last request."""

import errno
import logging
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from pictorch.config import UserError
from pictorch.deploy.server.connection import bounded
from pictorch.deploy.server.limits import Limits

BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; port 0 is any free one. Raises UserError where that cannot be."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host}: expected a name or an address of this machine: {reason}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is taken by another program; give another --port, or --port 0 for any free one"
            ) from None
        raise UserError(
            f"cannot listen on {host}, port {port}: {error.strerror}; give another --host or --port"
        ) from None
    return listener


def address(listener: socket.socket) -> str:
    """Return the listening socket's address as a link that opens on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Server(uvicorn.Server):
    """uvicorn's server, which here leaves the process's signals to `serve`."""

    asked: int | None = None
    ready: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so: from here on a signal is one to `handle_exit`."""
        await super().startup(sockets)
        if self.started:
            self.ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Answer what is under way and end; a second signal ends at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.asked = sig


def server_of(app: ASGIApp, limits: Limits) -> Server:
    """Return the server of an application within the limits; `serve` runs it."""
    return Server(
        uvicorn.Config(
            app,
            http=bounded(limits),
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.head_seconds),
            timeout_graceful_shutdown=int(limits.stop_seconds),
        )
    )


def serve(app: ASGIApp, listener: socket.socket, limits: Limits, ready: Callable[[], None]) -> int | None:
    """Answer until a signal asks to stop, then what is under way; return which signal it was.

    `ready` is called when a first request would be answered, and a signal heard.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it tells of each form that a stranger garbles
    server = server_of(app, limits)
    server.ready = ready
    try:
        server.run(sockets=[listener])
    except SystemExit:  # how uvicorn says that the application did not start, after its traceback
        raise RuntimeError("the server did not start") from None
    return server.asked
