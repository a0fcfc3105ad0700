"""What the server answers: what this page asks for, and nothing else of all that Gradio's server could do.

Gradio serves files, fetches addresses, proxies and records runs for those who know the paths. This ASGI layer in front of
it is a closed list of paths; files come out of one folder only, the page's own; bodies and the number of uploads are
bounded; and on loopback a name that another site's DNS points here (rebinding) is refused.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from aaformer_lit.web.listening import is_called

API = "/gradio_api"
READ = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)|/(assets|static)/.+"
    rf"|{API}/(app_id|heartbeat/\w+|info|queue/data|startup-events|theme\.css|upload_progress)"
)
WRITE = re.compile(rf"{API}/(cancel|queue/join|reset|upload)/?")
UPLOAD = f"{API}/upload"
FILE = f"{API}/file="
MESSAGE = 1 << 20  # bytes of anything that is not an upload
ENVELOPE = 1 << 16  # bytes that a multipart body has beyond its file
WINDOW = 900.0  # seconds that `max_uploads` is for


class Guard:
    """The layer.

    Args:
        app: what is behind it.
        folder: files are served from here.
        hosts: names that this server may be called by; empty: any.
        max_bytes: of one upload.
        max_uploads: of all visitors together, within `WINDOW` seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        folder: Path,
        hosts: Collection[str],
        max_bytes: int,
        max_uploads: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app, self.folder, self.hosts = app, folder.resolve(), hosts
        self.max_bytes, self.max_uploads, self.clock = max_bytes, max_uploads, clock
        self._uploads: deque[float] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self.verdict(scope) if scope["type"] == "http" else None
        if scope["type"] == "websocket":
            return  # the page has none; without an answer the server closes it
        if refused is None:
            await self.app(scope, receive, send)
            return
        status, reason = refused
        await PlainTextResponse(reason, status, {"connection": "close"})(scope, receive, send)

    def verdict(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason of a refusal; None lets the request pass."""
        headers = Headers(scope=scope)
        method, path = scope["method"], scope["path"]
        if not is_called(headers.get("host", ""), self.hosts):
            return 421, "this page does not go by that name."
        if method in ("GET", "HEAD"):
            if path.startswith(FILE):
                return None if self._is_ours(path.removeprefix(FILE)) else (403, "that file is not served.")
            return None if READ.fullmatch(path) else (404, "there is no such page.")
        if method != "POST" or not WRITE.fullmatch(path):
            return 404, "there is no such page."
        return self._body(headers, path.rstrip("/") == UPLOAD)

    def _is_ours(self, name: str) -> bool:
        try:
            return Path(name).is_absolute() and Path(name).resolve().is_relative_to(self.folder)
        except (OSError, ValueError):  # a null byte, a name too long
            return False

    def _body(self, headers: Headers, upload: bool) -> tuple[int, str] | None:
        length = headers.get("content-length", "")
        # the server holds a body to the length it names, unless it comes in chunks
        if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
            return 411, "a body needs its length."
        if int(length) > (self.max_bytes + ENVELOPE if upload else MESSAGE):
            return 413, "that is too large."
        if upload:
            now = self.clock()
            while self._uploads and now - self._uploads[0] > WINDOW:
                self._uploads.popleft()
            if len(self._uploads) >= self.max_uploads:
                return 429, "too many pictures; try again in some minutes."
            self._uploads.append(now)
        return None
