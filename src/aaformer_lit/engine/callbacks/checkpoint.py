"""Checkpoint: Lightning's, of a run whose folder may be moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class Checkpoint(ModelCheckpoint):
    """Lightning's keeps absolute paths, and forgets its best score where its folder is another; this one finds its files again.

    A training that is continued in a folder without them, as with `ckpt_path` of another run, has none yet.
    """

    @property
    def state_key(self) -> str:
        """Lightning's, by which earlier runs know it."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        best = here(state_dict["best_model_path"])
        if not best or not Path(best).is_file():
            return
        paths = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": scores})
