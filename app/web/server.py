"""uvicorn inside the worker's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from domain.errors import ConfigError

STOP_S = 0.5  # for requests in flight, before they are cancelled
CUT_OFF_S = 0.25  # for cancelled requests to end, and again for their connections


class _Server(uvicorn.Server):
    """Leaves signals to the worker and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class WebServer:
    """Serves one app on `host`:`port`; port 0 takes any free one. Start and stop once, in one loop."""

    def __init__(
        self, app: ASGIApp, host: str, port: int, *, tls_cert: Path | None = None, tls_key: Path | None = None
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._tls = (tls_cert, tls_key)
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The bound port, once started."""
        return self._port

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls[0] else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        """Return once it listens. Raises `ConfigError` when the address can't be bound."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listener = socket.create_server((self._host, self._port), family=family)
        except OSError as err:
            raise ConfigError(
                "web.bind", f"can't listen on {self._host}:{self._port}: {err}", "name a free one"
            ) from err
        self._port = int(listener.getsockname()[1])
        cert, key = self._tls
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            http="h11",
            ws="none",
            lifespan="on",
            server_header=False,
            proxy_headers=False,
            ssl_certfile=cert,
            ssl_keyfile=key,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([listener]), name="web")
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._serving.done():
            self._serving.result()

    async def stop(self) -> None:
        """Let requests in flight finish for half a second, then cancel them; returns within about a second."""
        if self._server is None or self._serving is None:
            return
        server, self._server = self._server, None
        server.should_exit = True
        await asyncio.wait({self._serving}, timeout=STOP_S)
        if not self._serving.done():
            await self._cut_off(server, self._serving)
        self._serving.cancel()
        await asyncio.wait({self._serving})
        if not self._serving.cancelled():
            self._serving.result()

    async def _cut_off(self, server: _Server, serving: asyncio.Task[None]) -> None:
        """Cancel requests and drop connections; uvicorn then has nothing left to wait for and closes the app."""
        for request in server.server_state.tasks:
            request.cancel()
        await asyncio.wait({serving, *server.server_state.tasks}, timeout=CUT_OFF_S)
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await asyncio.wait({serving}, timeout=CUT_OFF_S)
