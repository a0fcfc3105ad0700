"""Stands for a Qdrant server, which no package brings: the client's local mode behind the REST interface of the server.

Requests come over a socket from the real client, and the client's own models of the interface read them, so that a test
crosses the wire. They are answered one at a time; how a server plans a search, stores points and shares them out is not shown.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI
from qdrant_client import QdrantClient, models

from aaformer_lit.web.api import serving


@contextmanager
def qdrant_server() -> Iterator[tuple[str, QdrantClient]]:
    """The URL, and what the server holds."""
    held, app = QdrantClient(":memory:"), FastAPI()

    def answer(result):
        return {"status": "ok", "time": 0.0, "result": result}

    @app.get("/collections/{name}/exists")
    async def exists(name: str):
        return answer({"exists": held.collection_exists(name)})

    @app.put("/collections/{name}")
    async def create(name: str, body: models.CreateCollection):
        return answer(held.create_collection(name, body.vectors))

    @app.post("/collections/{name}/points/count")
    async def count(name: str, body: models.CountRequest):
        return answer(held.count(name, exact=body.exact))

    @app.post("/collections/{name}/points/scroll")
    async def scroll(name: str, body: models.ScrollRequest):
        points, following = held.scroll(name, limit=body.limit, offset=body.offset, with_payload=False)
        return answer({"points": points, "next_page_offset": following})

    @app.put("/collections/{name}/points")
    async def upsert(name: str, body: models.PointsBatch):
        return answer(held.upsert(name, body.batch))

    @app.post("/collections/{name}/points/query/batch")
    async def query(name: str, body: models.QueryRequestBatch):
        searches = [search.model_copy(update={"params": None}) for search in body.searches]  # local mode is exact
        return answer(held.query_batch_points(name, searches))

    @app.post("/collections/{name}/points/delete")
    async def delete(name: str, body: models.PointIdsList):
        return answer(held.delete(name, body))

    with serving(app, "127.0.0.1", 0) as url:
        yield url, held
