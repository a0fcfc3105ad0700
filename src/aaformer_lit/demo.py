"""A web page that shows what a model sees and whom it finds: `python -m aaformer_lit.demo gallery=gallery`."""

from __future__ import annotations

import importlib.util
import threading
import webbrowser
from functools import partial

from omegaconf import DictConfig

from aaformer_lit.cli.console import console
from aaformer_lit.cli.run import run
from aaformer_lit.errors import ConfigError
from aaformer_lit.utils.lean_imports import networks_are_enough
from aaformer_lit.web.listening import check_address, stopped_by_signals


def demo(cfg: DictConfig, stop: threading.Event | None = None) -> None:
    """Serve the page as configured until Ctrl-C, or until `stop` is set."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("the web page needs gradio: pip install 'aaformer-lit[demo]'.")

    from hydra.utils import instantiate

    from aaformer_lit.gallery import Extractor, Gallery
    from aaformer_lit.gallery.decisions import HOW_TO
    from aaformer_lit.web.viewer import Viewer

    # mistakes here are told before the network is loaded
    _check_page(cfg)
    gallery = None if cfg.gallery is None else Gallery.open(cfg.gallery, cfg.images)
    if gallery is None and cfg.ckpt is None:
        raise ConfigError(
            "the page needs a model. Give ckpt=RUN/checkpoints/last.ckpt, or gallery=FOLDER made by aaformer_lit.extract."
        )
    options = {"precision": cfg.precision, "num_workers": 0}
    if gallery is None:
        extractor = Extractor.from_checkpoint(cfg.ckpt, **options)
    else:
        extractor = Extractor.for_gallery(gallery, cfg.ckpt, **options)
    shown = {"layer": cfg.layer, "examples": cfg.examples, "calibration": cfg.calibration}
    viewer = Viewer(extractor, gallery, partial(instantiate, cfg.index), **shown)
    if gallery is not None and viewer.calibration is None:
        console.print(HOW_TO.format(extractor.ckpt), highlight=False)
    bounds = {"max_file_mb": cfg.max_file_mb, "max_uploads": cfg.max_uploads}
    from aaformer_lit.web.page import serving  # Gradio takes seconds to import

    stop = stop or stopped_by_signals()
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
    check_address(cfg.host, cfg.port)


def main() -> None:
    networks_are_enough()
    run(demo, "demo")


if __name__ == "__main__":
    main()
