"""The model card (README.md) of an exported folder: what the model is, what it was trained on, and how well it did.

Filled from the description in the checkpoint and from what the run left beside it (`metadata.json`, `metrics.json`).
What is not known is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aaformer_lit.errors import CheckpointError
from aaformer_lit.utils.text import markdown_table

_HEADER = """---
library_name: aaformer_lit
pipeline_tag: image-feature-extraction
tags:
- person-re-identification
- image-retrieval
- vision-transformer
- aaformer
---"""
_METRICS = ("mAP", "rank1", "rank5", "rank10", "mINP")


def model_card(about: Mapping[str, Any], ckpt: Path | None = None) -> str:
    """The card's text.

    Args:
        about: the network's description (`checkpoint.describe`).
        ckpt: what was exported; as `RUN/checkpoints/*.ckpt` it has a run to tell of.
    """
    run_dir = ckpt.parent.parent if ckpt and ckpt.is_file() and ckpt.parent.name == "checkpoints" else None
    metadata = _read(run_dir, "metadata.json")
    metrics = _read(run_dir, "metrics.json")
    sections = [
        _HEADER,
        f"# {_name(about)}",
        f"{_origin(about)} It maps the picture of a person to a descriptor; pictures of one person have "
        "descriptors close to each other.",
        _usage(about),
        "## Model\n\n" + _table(_model_facts(about)),
        "## Training data\n\n"
        + (_table(_data_facts(metadata)) if metadata else "Unknown: no metadata.json came with it."),
        "## Results\n\n" + _results(metrics, ckpt),
        "## Use and limits\n\n"
        "Re-identification is surveillance technology. Use it with the consent and under the law of those it is pointed at. "
        "The license and the terms of the data set that it was trained on apply to what was learnt from it. A descriptor "
        "says how alike two pictures look, not who somebody is; results on cameras and people unlike those of the training "
        "are usually much worse than the ones above.",
        "## Provenance\n\n" + (_table(_provenance(metadata)) if metadata else "Unknown."),
    ]
    return "\n\n".join(sections) + "\n"


def _name(about: Mapping[str, Any]) -> str:
    model = about["model"]
    name = str(model["_target_"]).rpartition(".")[2]
    parts = f" {list(model['parts'])}" if model.get("parts") else ""
    return f"{name}{parts} on {_backbone(about)}"


def _origin(about: Mapping[str, Any]) -> str:
    weights = about.get("weights")
    if weights is None:
        return (
            "A person re-identification model after AAformer (Zhu et al., TNNLS 2023), trained and exported with "
            "`aaformer_lit`."
        )
    return (
        f"A person re-identification model with the weights of {weights['file']} ({weights['layout']}, sha256 "
        f"{weights['sha256']}), which others trained and whose license holds; exported with `aaformer_lit`."
    )


def _backbone(about: Mapping[str, Any]) -> str:
    backbone = about["model"].get("backbone")
    return str(backbone.get("name") if isinstance(backbone, Mapping) else backbone)


def _usage(about: Mapping[str, Any]) -> str:
    height, width = about["data"]["image_size"]
    mean, std = list(about["data"]["mean"]), list(about["data"]["std"])
    return f"""## Use

```python
import torch
from aaformer_lit import load_model

network = load_model("FOLDER_OR_HUB_ID")
# RGB in [0, 1], resized to {height}x{width} (height x width), minus {mean}, divided by {std}
images = torch.zeros(1, 3, {height}, {width})
with torch.no_grad():
    descriptors = network.embed(images)  # compare by Euclidean distance
```"""


def _model_facts(about: Mapping[str, Any]) -> dict[str, Any]:
    model = about["model"]
    size = about["data"]["image_size"]
    backbone = model.get("backbone")
    changed = ("patch_size", "stride", "depth", "embed_dim", "num_heads")
    facts: dict[str, Any] = {"network": model["_target_"], "backbone": _backbone(about)}
    if isinstance(backbone, Mapping):
        facts |= {key: backbone[key] for key in changed if backbone.get(key) is not None}
    facts["image size"] = f"{size[0]} x {size[1]} (height x width)"
    for key in ("parts", "similarity", "visibility"):
        if key in model:
            facts[key] = model[key]
    if isinstance(model.get("assigner"), Mapping):
        assigner = dict(model["assigner"])
        name = str(assigner.pop("_target_")).rpartition(".")[2]
        facts["assigner"] = ", ".join([name, *(f"{key}={value}" for key, value in assigner.items())])
    facts["numbers of the descriptor (PCA)"] = about.get("compress")
    facts["training identities"] = about["num_classes"]
    return facts


def _data_facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint; counts of a split in one cell."""

    def cell(value: object) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{key}: {cell(inner)}" for key, inner in value.items())
        return str(value)

    return {key: cell(value) for key, value in metadata.get("data", {}).items()}


def _results(metrics: Mapping[str, Any], ckpt: Path | None) -> str:
    if "test/mAP" not in metrics or ckpt is None:
        return "Unknown: no metrics.json came with it."
    # a run tests its best checkpoint by validation where it has one, else its last
    tested = "best.ckpt" if (ckpt.parent / "best.ckpt").exists() else "last.ckpt"
    if ckpt.name != tested:
        return f"Unknown: the run tested its {tested}, and these are the weights of its {ckpt.name}."
    rows = [["descriptor", "mAP", "Rank-1", "Rank-5", "Rank-10", "mINP"]]
    for label, suffix in (("CLS and parts", ""), ("CLS alone", "_global"), ("parts alone", "_parts")):
        values = [metrics.get(f"test/{name}{suffix}") for name in _METRICS]
        if values[0] is not None:
            rows.append([label, *("-" if v is None else f"{100 * v:.1f}" for v in values)])
    return (
        "On the query and gallery images of the data set above, in %, one run:\n\n"
        + markdown_table(rows)
        + "\n\nmAP is the step form over the full ranking; gallery images of the query's identity and camera are left out."
    )


def _provenance(metadata: Mapping[str, Any]) -> dict[str, Any]:
    # the config itself is left out: it holds paths of the machine it ran on
    chosen = {k: v for k, v in metadata.get("choices", {}).items() if k not in ("paths", "run", "logger")}
    return {
        "aaformer_lit": metadata.get("aaformer_lit"),
        "commit": metadata.get("git_commit"),
        "config groups": ", ".join(f"{key}={value}" for key, value in chosen.items() if value is not None),
        "device": metadata.get("device"),
        "versions": ", ".join(f"{key} {value}" for key, value in metadata.get("versions", {}).items()),
    }


def _table(facts: Mapping[str, Any]) -> str:
    return markdown_table([("", ""), *((key, str(value)) for key, value in facts.items() if value)])


def _read(run_dir: Path | None, name: str) -> dict[str, Any]:
    if run_dir is None or not (run_dir / name).is_file():
        return {}
    try:
        content = json.loads((run_dir / name).read_text())
    except ValueError as error:
        raise CheckpointError(f"{run_dir / name} is no JSON ({error}); move it away to export without it.") from error
    return dict(content)
