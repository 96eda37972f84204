"""Asking the other workers."""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol

import aiohttp
import msgspec

from app.web.auth import bearer
from app.web.errors import PeerError
from app.web.wire import REPLY_DECODER, Ask, Reply

PEER_PATH = "/api/v1/local"
MSGPACK = "application/msgpack"
DEADLINE_S = 2.0
KEEPALIVE_S = 2.0  # below the server's 5 s: an idle connection is never reused while it is being closed
DECODE_HERE_BYTES = 1 << 20


class Peers(Protocol):
    async def ask(self, url: str, ask: Ask) -> Reply:
        """One worker's own answers. Raises `PeerError` within the deadline."""

    async def close(self) -> None: ...


class HttpPeers:
    """Peers over HTTP with the shared token; the connection pool opens at the first question."""

    def __init__(
        self, token: str | None = None, *, deadline_s: float = DEADLINE_S, tls: ssl.SSLContext | None = None
    ) -> None:
        self._headers = {"Content-Type": MSGPACK, **(bearer(token) if token else {})}
        self._deadline_s = deadline_s
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, url: str, ask: Ask) -> Reply:
        try:
            async with asyncio.timeout(self._deadline_s):
                body = await self._post_twice(url, msgspec.msgpack.encode(ask))
                if len(body) > DECODE_HERE_BYTES:
                    return await asyncio.to_thread(REPLY_DECODER.decode, body)
                return REPLY_DECODER.decode(body)
        except TimeoutError as err:
            raise PeerError(url, f"no answer within {self._deadline_s} s") from err
        except (aiohttp.ClientError, OSError, ValueError) as err:
            raise PeerError(url, f"unreachable: {err}") from err
        except msgspec.MsgspecError as err:
            raise PeerError(url, f"answered in another format: {err}") from err

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post_twice(self, url: str, body: bytes) -> bytes:
        try:
            return await self._post(url, body)
        except aiohttp.ServerDisconnectedError:
            return await self._post(url, body)  # a pooled connection from before the peer restarted

    async def _post(self, url: str, body: bytes) -> bytes:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls or True, keepalive_timeout=KEEPALIVE_S)
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        async with self._session.post(url.rstrip("/") + PEER_PATH, data=body, allow_redirects=False) as response:
            answer = await response.read()
            if response.status != 200:
                raise PeerError(url, f"answered with status {response.status}")
            return answer
