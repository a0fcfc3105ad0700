"""The front of the service: who may ask, how much a body may hold, and every error as what, got and fix.

What concerns the machine, its paths say, goes to the log and not to the caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from aaformer_lit.errors import AAformerError, ImageError
from aaformer_lit.web.listening import is_called
from aaformer_lit.web.service import Refusal

log = logging.getLogger(__name__)

UPLOAD_SECONDS = 30.0  # that a body may take to arrive


@dataclass(frozen=True)
class Limits:
    """How much is taken, and how it is batched.

    Args:
        max_bytes, max_pixels: of a picture.
        max_requests: under way at once.
        batch: pictures that pass through the network together, at most.
        window: seconds that the first of them waits for others.
    """

    max_bytes: int = 10 << 20
    max_pixels: int = 1 << 24
    max_requests: int = 64
    batch: int = 16
    window: float = 0.003


class Problem(BaseModel):
    """Why a request is not answered."""

    what: str
    got: str
    fix: str


class Door:
    """The layer in front: who may knock at all, and how many at once.

    Browsers name the page that sends a request (`Origin`); one that another site has made is refused, so that no page that
    somebody happens to look at can use a service on the same machine.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], max_requests: int) -> None:
        self.app, self.hosts, self.max_requests = app, hosts, max_requests
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is not None:
            await _answer(refusal)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._inside -= 1

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is not let in; None lets it pass."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_called(host, self.hosts):
            return Refusal(
                421, "this service does not go by that name", host, f"Call it {' or '.join(self.hosts[:2])}."
            )
        if origin is not None and origin.partition("://")[2] != host:
            return Refusal(403, "requests of other sites' pages are not answered", origin, "Use a program, or /docs.")
        if self._inside >= self.max_requests and scope["path"] != "/health":
            got = f"{self.max_requests} requests are under way"
            return Refusal(503, "the service is busy", got, "Try again in a second.")
        return None


async def read_body(request: Request, limit: int) -> bytes:
    """The picture's bytes. Raises `Refusal` for another kind of body, one too large, one too slow, or none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind == "application/octet-stream"):
        fix = "Send the bytes of the file as the body, with Content-Type: image/jpeg or what it is."
        raise Refusal(415, "the body must be a picture", kind or "no content type", fix)
    content = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > limit:
                    got = f"more than {limit:,} bytes"
                    raise Refusal(
                        413, "the picture is too large", got, "Send the crop of one person, or ask for max_file_mb."
                    )
    except TimeoutError:
        got = f"{len(content):,} bytes in {UPLOAD_SECONDS:.0f} seconds"
        raise Refusal(408, "the picture did not arrive", got, "Send it again.") from None
    if not content:
        raise Refusal(422, "the body is empty", "0 bytes", "Send the bytes of an image file as the body.")
    return bytes(content)


def _answer(refusal: Refusal) -> JSONResponse:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(refusal.status, {})
    if refusal.status in (408, 413, 415, 421, 503):  # the rest of the body is not waited for
        headers = headers | {"Connection": "close"}
    content = Problem(what=refusal.what, got=refusal.got, fix=refusal.fix).model_dump()
    return JSONResponse(content, refusal.status, headers)


def tell_problems(app: FastAPI, limits: Limits) -> None:
    """Answer every error of the application as what, got and fix."""

    async def told(_: Request, error: Exception) -> JSONResponse:
        return _answer(_refusal(error, limits))

    for kind in (AAformerError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, told)


def _refusal(error: Exception, limits: Limits) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ImageError):
        fix = f"Send a JPEG, PNG, BMP, WebP, TIFF or PPM of at most {limits.max_pixels:,} pixels."
        return Refusal(422, "the picture cannot be read", str(error).split(". ")[0], fix)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:]))
        return Refusal(
            422, f"{where}: {first['msg']}", repr(first.get("input")), "/docs lists what each request takes."
        )
    if isinstance(error, HTTPException):
        return Refusal(error.status_code, str(error.detail), "this address or method", "/docs lists all requests.")
    log.error("a request failed", exc_info=error)
    if isinstance(error, AAformerError):
        return Refusal(
            503, "the gallery cannot be used now", type(error).__name__, "The service's log says why. Try again."
        )
    return Refusal(500, "the service has failed", type(error).__name__, "The service's log says where.")
