"""Made-up run folders for the tests of tables and of the report entry point."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from aaformer_lit.cli.options import ablation_pins
from aaformer_lit.cli.paths import CONF_DIR
from aaformer_lit.tables.paper import PaperTable

ASSIGN = "aaformer_lit.assign."
SINKHORN = {"_target_": ASSIGN + "Sinkhorn", "epsilon": 0.05, "iterations": 3, "rounding": "argmax"}
AAFORMER = {"_target_": "aaformer_lit.models.AAformer", "parts": [2, 3], "assigner": SINKHORN, "similarity": "cosine"}
NEAREST = AAFORMER | {"assigner": {"_target_": ASSIGN + "Nearest"}}
BASELINE = {"_target_": "aaformer_lit.models.ViTBaseline"}
LABELED = {"name": "cuhk03", "variant": "labeled", "as_published": True, "counts": {"query": {"images": 1400}}}


@cache
def paper_table(name: str) -> PaperTable:
    """A table of conf/table."""
    content = OmegaConf.to_container(OmegaConf.load(CONF_DIR / "table" / f"{name}.yaml"))
    return PaperTable.from_config(content, ablation_pins)


def config(model, seed=0, **values):
    """The config of a training; `optim__lr=1` sets optim.lr."""
    content = {
        "seed": seed,
        "recipe": "paper",
        "model": model,
        "optim": {"lr": 0.008},
        "data": {"image_size": [256, 128]},
    }
    content |= {"trainer": {"max_epochs": 120, "devices": 1}, "run_dir": "somewhere"}
    for key, value in values.items():
        *groups, last = key.split("__")
        place = content
        for group in groups:
            place = place[group]
        place[last] = value
    return content


def write_run(
    folder: Path, model, seed=0, scores=(0.8, 0.7), data=LABELED, commit="abc", queries=None, **values
) -> Path:
    """A finished run with those (Rank-1, mAP), or with `queries`, the AP of each query."""
    folder.mkdir(parents=True)
    about = {"config": config(model, seed, **values), "data": data, "git_commit": commit}
    (folder / "metadata.json").write_text(json.dumps(about))
    names = ("test/rank1", "test/mAP")
    if queries is not None:
        first = np.where(np.asarray(queries) >= 0.5, 1, 4)
        table = pd.DataFrame({"query": [f"{i}.jpg" for i in range(len(queries))], "average_precision": queries})
        table = table.assign(set="cuhk03", subset="", pid=1, camid=1, first_hit_rank=first)
        extra = table.assign(subset="global", average_precision=0.0)  # must not be read
        pd.concat([table.iloc[::-1], extra]).to_parquet(folder / "per_query.parquet")
        scores = (float((first == 1).mean()), float(np.mean(queries)))
    metrics = dict(zip(names, scores, strict=True)) | {"val/loss": 3.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder
