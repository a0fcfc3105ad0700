"""The service over HTTP: embed, search, add, remove, health; a picture is the body of its request, answers are JSON.

A request is checked from the outside in: the server's name and the page that sends it, how many are under way, the token,
the body's type and size, its pixels. What is wrong is answered as `{"what": ..., "got": ..., "fix": ...}`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from torch import Tensor

from aaformer_lit.data.images import decode
from aaformer_lit.errors import AAformerError, ConfigError, ImageError
from aaformer_lit.gallery import ALL, Gallery
from aaformer_lit.gallery.sources import identity
from aaformer_lit.web.batching import Batcher, Busy
from aaformer_lit.web.guard import App, Receive, Scope, Send
from aaformer_lit.web.listening import host_name, names_of, url_of
from aaformer_lit.web.service import Arrival, Refusal, Service, check_name, digest_of

log = logging.getLogger(__name__)

MOST = 1000  # answers
UPLOAD_SECONDS = 30.0  # that a body may take to arrive
ABOUT = (
    "Who in a gallery looks like the person in a picture. Re-identification is surveillance technology: use it with the "
    "consent and under the law of those it is pointed at. A short distance is a resemblance and no proof of who somebody is."
)
PICTURE = {
    "requestBody": {
        "required": True,
        "description": "the bytes of an image file: JPEG, PNG, BMP, WebP, TIFF or PPM",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/*", "image/jpeg")},
    }
}


_bearer = HTTPBearer(auto_error=False, description="the service's token (AAFORMER_TOKEN)")
Token = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
Tokens = Annotated[str, Query(description="group of tokens that is compared: all, global, parts, part_1, ...")]


class Problem(BaseModel):
    """Why a request is not answered."""

    what: str
    got: str
    fix: str


class Health(BaseModel):
    status: str


class Facts(BaseModel):
    images: int
    version: int
    fingerprint: str
    tokens: list[str]
    cameras: list[str]


class Embedding(BaseModel):
    fingerprint: str
    tokens: str
    embedding: list[float]


class Answer(BaseModel):
    rank: int
    path: str
    box: tuple[int, int, int, int] | None
    pid: str
    camid: str
    distance: float


class Answers(BaseModel):
    images: int
    version: int
    answers: list[Answer]


class Added(BaseModel):
    name: str
    images: int
    version: int


class Removed(BaseModel):
    removed: int
    images: int
    version: int


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


def build(
    service: Service, *, host: str, token: str | None, writable: bool = True, limits: Limits | None = None
) -> App:
    """The service as an ASGI application.

    Args:
        host: address that it will listen on; on loopback it answers to local names only.
        token: that requests must bear; None: none.
        writable: whether people can be added and removed.
    """
    limits = limits or Limits()
    embedder = Batcher(service.describe, size=limits.batch, window=limits.window, waiting=limits.max_requests)
    # what arrives while a version is written becomes the next one
    adder = Batcher(service.add, size=limits.max_requests, window=0.0, waiting=limits.max_requests)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(embedder)
            await stack.enter_async_context(adder)
            yield

    async def allowed(given: Token) -> None:
        if token is not None and not (given and hmac.compare_digest(given.credentials.encode(), token.encode())):
            got = "none" if given is None else "another one"
            raise Refusal(401, "this service wants its token", got, "Send the header Authorization: Bearer TOKEN.")

    async def described(request: Request) -> tuple[Tensor, str]:
        """The descriptor of the request's picture, and the digest of its content."""
        content = await _body(request, limits.max_bytes)
        pixels = await asyncio.to_thread(decode, content, Path("the picture"), limits.max_pixels)
        return await embedder(pixels), digest_of(content)

    app = FastAPI(
        title="aaformer_lit", description=ABOUT, version="1", lifespan=lifespan, redoc_url=None,
        responses={"default": {"model": Problem, "description": "what is wrong, what was got, how to fix it"}},
    )  # fmt: skip
    guarded: dict[str, Any] = {"dependencies": [Depends(allowed)]}

    @app.get("/health")
    async def health() -> Health:
        """Whether the service answers. Needs no token."""
        return Health(status="ok")

    @app.get("/gallery", **guarded)
    def gallery() -> Facts:
        """What is searched: number of images, version, model, groups of tokens, cameras."""
        now = service.gallery()
        cameras = sorted(set(now.table["camid"]))
        return Facts(
            **_state(now), fingerprint=now.about["fingerprint"], tokens=list(now.layout.groups), cameras=cameras
        )

    @app.post("/embed", openapi_extra=PICTURE, **guarded)
    async def embed(request: Request, tokens: Tokens = ALL) -> Embedding:
        """The descriptor of a picture: what is compared, by Euclidean distance. Nothing is kept."""
        service.check_group(tokens)
        descriptor, _ = await described(request)
        features = service.features(descriptor, tokens)
        return Embedding(fingerprint=service.extractor.fingerprint, tokens=tokens, embedding=features.tolist())

    @app.post("/search", openapi_extra=PICTURE, **guarded)
    async def search(
        request: Request,
        k: Annotated[int, Query(ge=1, le=MOST, description="answers")] = 10,
        tokens: Tokens = ALL,
        camid: Annotated[list[str] | None, Query(description="answers of this camera only; may be repeated")] = None,
    ) -> Answers:
        """Who in the gallery looks most like the person in a picture. Nothing is kept."""
        service.check_group(tokens)
        descriptor, _ = await described(request)
        found, answers = await asyncio.to_thread(service.search, descriptor, k, tokens, camid)
        return Answers(**_state(found), answers=[Answer(**answer) for answer in answers])

    if writable:

        @app.post("/images", status_code=201, openapi_extra=PICTURE, **guarded)
        async def add(
            request: Request,
            name: Annotated[str, Query(description="of the image in answers; one that is there is replaced")],
            pid: Annotated[str, Query(max_length=100, description="who it is, if that is known")] = "",
            camid: Annotated[str, Query(max_length=100, description="which camera saw it, if that is known")] = "",
        ) -> Added:
            """Put a picture into the gallery: its descriptor and its name, not the picture. It is on the disk when answered."""
            check_name(name)
            descriptor, digest = await described(request)
            now = await adder(Arrival(name, identity(pid), identity(camid), digest, descriptor))
            return Added(name=name, **_state(now))

        @app.delete("/images", **guarded)
        def remove_image(name: Annotated[str, Query(description="as a search answers it")]) -> Removed:
            """Take an image out for good; it is gone from the disk when answered, and is not taken in again."""
            now, count = service.remove(name=name)
            return Removed(removed=count, **_state(now))

        @app.delete("/people/{pid}", **guarded)
        def remove_person(pid: str) -> Removed:
            """Take all images of a person out for good; they are gone from the disk when answered."""
            now, count = service.remove(pid=pid)
            return Removed(removed=count, **_state(now))

    _tell_problems(app, limits)
    return Door(app, names_of(host), limits.max_requests)


class Door:
    """The layer in front: who may knock at all, and how many at once.

    Browsers name the page that sends a request (`Origin`); one that another site has made is refused, so that no page that
    somebody happens to look at can use a service on the same machine.
    """

    def __init__(self, app: App, hosts: Sequence[str], max_requests: int) -> None:
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
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if self.hosts and host_name(host) not in self.hosts:
            return Refusal(
                421, "this service does not go by that name", host, f"Call it {' or '.join(self.hosts[:2])}."
            )
        if origin is not None and origin.partition("://")[2] != host:
            return Refusal(403, "requests of other sites' pages are not answered", origin, "Use a program, or /docs.")
        if self._inside >= self.max_requests and scope["path"] != "/health":
            return _busy(self.max_requests)
        return None


@contextmanager
def serving(app: App, host: str, port: int) -> Iterator[str]:
    """The application on the network while the context lasts; gives its address. Requests under way are answered first.

    Raises:
        ConfigError: it does not come up.
    """
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        ws="none", lifespan="on", timeout_graceful_shutdown=10,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise ConfigError(f"the service did not start at host={host} port={port}. Give another port=.")
            time.sleep(0.01)
        yield url_of(host, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


async def _body(request: Request, limit: int) -> bytes:
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


def _state(gallery: Gallery) -> dict[str, int]:
    return {"images": len(gallery), "version": gallery.version}


def _busy(limit: int) -> Refusal:
    return Refusal(503, "the service is busy", f"{limit} requests are under way", "Try again in a second.")


def _answer(refusal: Refusal) -> JSONResponse:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(refusal.status, {})
    if refusal.status in (408, 413, 415, 421, 503):  # the rest of the body is not waited for
        headers = headers | {"Connection": "close"}
    content = Problem(what=refusal.what, got=refusal.got, fix=refusal.fix).model_dump()
    return JSONResponse(content, refusal.status, headers)


def _tell_problems(app: FastAPI, limits: Limits) -> None:
    """Every error as what, got and fix. What concerns the machine, its paths say, goes to the log and not to the caller."""

    async def told(_: Request, error: Exception) -> JSONResponse:
        return _answer(_refusal(error, limits))

    for kind in (AAformerError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, told)


def _refusal(error: Exception, limits: Limits) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Busy):
        return _busy(limits.max_requests)
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
