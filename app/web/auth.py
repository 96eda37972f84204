"""The one token: who may read."""

from __future__ import annotations

import hmac
import ipaddress

from starlette.types import ASGIApp, Receive, Scope, Send

from app.web.answers import ErrorBody, Problem
from app.web.reply import json_response
from domain.errors import ConfigError

OPEN_PATHS = frozenset({"/healthz", "/readyz"})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def check_bind(host: str, token: str | None, *, open_to_all: bool) -> None:
    """Raise `ConfigError` for an address others can reach without a token, unless that is explicitly meant."""
    if token or open_to_all or is_loopback(host):
        return
    raise ConfigError(
        "web.bind", f"{host or 'every address'} is reachable by others and no token is set", "set token_file"
    )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RequireToken:
    """ASGI middleware: 401 without the token, except for the health checks."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._allowed(scope):
            await self._app(scope, receive, send)
            return
        body = ErrorBody(Problem("not allowed", "the token is missing or wrong", "send Authorization: Bearer <token>"))
        response = json_response(body, 401)
        response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)
