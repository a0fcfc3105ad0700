"""Models by name: one that comes with the package, or an id of the Hugging Face hub, `owner/name`, for what it downloads to.

What is on disk comes first, then the package; only a name that is in neither and looks like an id is asked of the hub.
Nothing but the config and the safetensors weights is fetched, so no code and no pickle can come with them.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from aaformer_lit.errors import CheckpointError, first_line

logger = logging.getLogger(__name__)

PACKAGED = Path(__file__).parents[1] / "pretrained"
FILES = ("config.json", "model.safetensors")
_ID = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(@(?P<revision>[\w./-]+))?")


def local_path(path_or_hub_id: str | Path) -> Path:
    """The path itself, or the last checkpoint of a run's directory; where it is no path, the packaged model of that name, or
    the downloaded folder of a hub id `owner/name[@revision]`.

    Raises:
        CheckpointError: it looks like a hub id, and the hub does not give it (offline, unknown, private).
    """
    path = Path(path_or_hub_id).expanduser()
    last = path / "checkpoints" / "last.ckpt"
    if last.is_file() and not (path / FILES[0]).is_file():  # the directory of a run
        logger.info("%s is a run; its last checkpoint is used: %s", path, last)
        return last
    if not path.exists() and path.parent == Path() and (PACKAGED / path / FILES[0]).is_file():
        return PACKAGED / path
    matched = _ID.fullmatch(str(path_or_hub_id))
    if matched is None or path.exists() or path.suffix in (".ckpt", ".safetensors", ".onnx", ".pt2"):
        return path
    return _download(matched["repo"], matched["revision"])


def _download(repo: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download  # takes a second, and most models are on disk

    name = repo if revision is None else f"{repo}@{revision}"
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # offline, unknown, private and rate-limited are all of different classes
        raise CheckpointError(
            f"there is no file or folder {name}, and the Hugging Face hub does not give a model of that name: "
            f"{type(error).__name__}, {first_line(error).rstrip('.')}. Check the path or the id; offline, download the "
            "repository where there is a network and give its folder."
        ) from error
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(
            f"the hub's {name} has no {' and no '.join(missing)}; it is not a model that aaformer_lit.export wrote."
        )
    return folder
