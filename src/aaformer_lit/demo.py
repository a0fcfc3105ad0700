"""A web page that shows what a model sees and whom it finds: `python -m aaformer_lit.demo gallery=gallery`."""

from __future__ import annotations

import importlib.util
import signal
import socket
import threading
import webbrowser
from functools import partial

from omegaconf import DictConfig

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.lean_imports import networks_are_enough


def demo(cfg: DictConfig, stop: threading.Event | None = None) -> None:
    """Serve the page as configured until Ctrl-C, or until `stop` is set."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("the web page needs gradio: pip install 'aaformer-lit[demo]'.")

    from hydra.utils import instantiate

    from aaformer_lit.gallery import Extractor, Gallery
    from aaformer_lit.gallery.extractor import checkpoint_of
    from aaformer_lit.web.viewer import Viewer

    # mistakes here are told before the network is loaded
    _check_page(cfg)
    gallery = None if cfg.gallery is None else Gallery.open(cfg.gallery, cfg.images)
    if gallery is None and cfg.ckpt is None:
        raise ConfigError(
            "the page needs a model. Give ckpt=RUN/checkpoints/last.ckpt, or gallery=FOLDER made by aaformer_lit.extract."
        )
    extractor = Extractor.from_checkpoint(
        cfg.ckpt if gallery is None else checkpoint_of(cfg.ckpt, gallery),
        flip_test=False if gallery is None else gallery.about["flip_test"],
        precision=cfg.precision,
        num_workers=0,
    )

    viewer = Viewer(extractor, gallery, partial(instantiate, cfg.index), layer=cfg.layer, examples=cfg.examples)
    bounds = {"max_file_mb": cfg.max_file_mb, "max_uploads": cfg.max_uploads}
    from aaformer_lit.web.page import serving  # Gradio takes seconds to import

    stop = stop or _stopped_by_signals()
    with serving(viewer, host=cfg.host, port=cfg.port, k=cfg.k, **bounds) as url:
        console.print(f"{url}  (Ctrl-C ends it)", highlight=False)
        if cfg.inbrowser:
            webbrowser.open(url)
        stop.wait()


def _check_page(cfg: DictConfig) -> None:
    from aaformer_lit.web.viewer import MOST

    if cfg.max_file_mb < 1 or cfg.max_uploads < 1 or not 1 <= cfg.k <= MOST:
        raise ConfigError(
            f"max_file_mb={cfg.max_file_mb} and max_uploads={cfg.max_uploads} must be 1 or more, and k={cfg.k} between 1 and "
            f"{MOST}."
        )
    try:
        socket.create_server(
            (cfg.host, cfg.port), family=socket.AF_INET6 if ":" in cfg.host else socket.AF_INET
        ).close()
    except (OSError, OverflowError) as cause:
        raise ConfigError(
            f"the page cannot listen on host={cfg.host} port={cfg.port}: {cause}. Give another port=, or an address of this "
            "machine."
        ) from cause


def _stopped_by_signals() -> threading.Event:
    """Set by Ctrl-C or a termination: the pictures that were uploaded are deleted on the way out of either."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def main() -> None:
    networks_are_enough()
    run(demo, "demo")


if __name__ == "__main__":
    main()
