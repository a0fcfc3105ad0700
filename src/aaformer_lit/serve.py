"""A service for one gallery: embed, search, add, remove over HTTP: `python -m aaformer_lit.serve gallery=gallery`."""

from __future__ import annotations

import importlib.util
import threading
from functools import partial

from omegaconf import DictConfig

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.lean_imports import networks_are_enough
from aaformer_lit.web.listening import check_address, is_loopback, stopped_by_signals

SHORTEST_TOKEN = 16


def serve(cfg: DictConfig, stop: threading.Event | None = None) -> None:
    """Serve as configured until Ctrl-C or a termination, or until `stop` is set."""
    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn")):
        raise ConfigError("the service needs FastAPI and uvicorn: pip install 'aaformer-lit[serve]'.")
    _check(cfg)

    from hydra.utils import instantiate

    from aaformer_lit.gallery import Extractor, Gallery, create_for
    from aaformer_lit.web.api import build, serving
    from aaformer_lit.web.front import Limits
    from aaformer_lit.web.service import Service

    options = {"precision": cfg.precision, "batch_size": cfg.batch.size, "num_workers": 0}
    if Gallery.exists(cfg.gallery) or cfg.ckpt is None:
        gallery = Gallery.open(cfg.gallery, cfg.images)
        extractor = Extractor.for_gallery(gallery, cfg.ckpt, **options)
    else:
        extractor = Extractor.from_checkpoint(cfg.ckpt, **options)
        gallery = create_for(extractor, cfg.gallery, cfg.images or cfg.gallery)
    limits = Limits(
        max_bytes=cfg.max_file_mb << 20,
        max_pixels=cfg.max_pixels,
        max_requests=cfg.max_requests,
        batch=cfg.batch.size,
        window=cfg.batch.window_ms / 1000,
    )
    service = Service(extractor, gallery, partial(instantiate, cfg.index))
    token = None if cfg.token is None else str(cfg.token)
    app = build(service, host=cfg.host, token=token, writable=cfg.writable, limits=limits)
    stop = stop or stopped_by_signals()
    with serving(app, cfg.host, cfg.port) as url:
        console.print(
            f"{url}  {len(gallery):,} images; {url}/docs lists the requests (Ctrl-C ends it)", highlight=False
        )
        stop.wait()


def _check(cfg: DictConfig) -> None:
    """Mistakes that can be told before the network is loaded."""
    bounds = {"max_file_mb": 1, "max_pixels": 1, "max_requests": 1, "batch.size": 1, "batch.window_ms": 0}
    values = {**cfg, "batch.size": cfg.batch.size, "batch.window_ms": cfg.batch.window_ms}
    for key, low in bounds.items():
        if values[key] < low:
            raise ConfigError(f"{key}={values[key]} is too small. Use {low} or more.")
    if cfg.token is not None and len(str(cfg.token)) < SHORTEST_TOKEN:
        raise ConfigError(
            f"the token has {len(str(cfg.token))} characters, and can be guessed. Use {SHORTEST_TOKEN} or more, for example "
            "AAFORMER_TOKEN=$(openssl rand -hex 16)."
        )
    if cfg.token is None and not is_loopback(cfg.host):
        raise ConfigError(
            f"host={cfg.host} can be reached from other machines, and there is no token: anybody could look for people in the "
            "gallery and remove them. Set AAFORMER_TOKEN=$(openssl rand -hex 16), or keep host=127.0.0.1."
        )
    check_address(cfg.host, cfg.port)


def main() -> None:
    networks_are_enough()
    run(serve, "serve")


if __name__ == "__main__":
    main()
