"""The service over HTTP: embed, search, add, remove, health; a picture is the body of its request, answers are JSON.

A request is checked from the outside in: the server's name and the page that sends it, how many are under way, the token,
the body's type and size, its pixels. What is wrong is answered as `{"what": ..., "got": ..., "fix": ...}`.
"""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Depends, FastAPI, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.types import ASGIApp
from torch import Tensor

from aaformer_lit.data.images import decode
from aaformer_lit.errors import ConfigError
from aaformer_lit.gallery import ALL, Gallery
from aaformer_lit.gallery.digests import digest_of
from aaformer_lit.gallery.sources import identity
from aaformer_lit.web.batching import Batcher
from aaformer_lit.web.front import Door, Limits, Problem, read_body, tell_problems
from aaformer_lit.web.listening import names_of, url_of
from aaformer_lit.web.service import Arrival, Refusal, Service, check_name

MOST = 1000  # answers
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


class Health(BaseModel):
    status: str


class State(BaseModel):
    """Of the gallery."""

    images: int
    version: int


class Facts(State):
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
    decision: Literal["accepted", "unsure", "rejected"] | None = None  # where the model has thresholds


class Answers(State):
    answers: list[Answer]


class Added(State):
    name: str


class Removed(State):
    removed: int


def build(
    service: Service, *, host: str, token: str | None, writable: bool = True, limits: Limits | None = None
) -> ASGIApp:
    """The service as an ASGI application.

    Args:
        host: address that it will listen on; on loopback it answers to local names only.
        token: that requests must bear; None: none.
        writable: whether people can be added and removed.
    """
    limits = limits or Limits()
    embedder = Batcher(service.describe, size=limits.batch, window=limits.window)
    # what arrives while a version is written becomes the next one
    adder = Batcher(service.add, size=limits.max_requests, window=0.0)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(embedder)
            await stack.enter_async_context(adder)
            yield

    async def allowed(given: Token) -> None:
        # a header comes as Latin-1, whatever its bytes mean
        sent = None if given is None else given.credentials.encode("latin-1")
        if token is not None and not (sent and hmac.compare_digest(sent, token.encode())):
            got = "none" if given is None else "another one"
            raise Refusal(401, "this service wants its token", got, "Send the header Authorization: Bearer TOKEN.")

    async def described(request: Request) -> tuple[Tensor, str]:
        """The descriptor of the request's picture, and the digest of its content."""
        content = await read_body(request, limits.max_bytes)
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

        @app.delete("/people/{pid:path}", **guarded)
        def remove_person(pid: str) -> Removed:
            """Take all images of a person out for good; they are gone from the disk when answered."""
            now, count = service.remove(pid=pid)
            return Removed(removed=count, **_state(now))

    tell_problems(app, limits)
    return Door(app, names_of(host), limits.max_requests)


@contextmanager
def serving(app: ASGIApp, host: str, port: int) -> Iterator[str]:
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


def _state(gallery: Gallery) -> dict[str, int]:
    return {"images": len(gallery), "version": gallery.version}
