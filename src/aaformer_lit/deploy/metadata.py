"""What an exported file says of itself, so that nobody has to guess: plain text by name, readable without a JSON parser.

`aaformer_lit` is the whole description as JSON; the rest are its parts that a program needs to feed the file and to decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aaformer_lit.deploy.bounds import DType
from aaformer_lit.deploy.deployed import Deployed


def metadata(deployed: Deployed, about: Mapping[str, Any], dtype: DType) -> dict[str, str]:
    """Names and values.

    `threshold` is there if the network was calibrated (`about["calibration"]`): two images whose descriptors are at most this
    Euclidean distance apart are accepted as one person. Thresholds of descriptors averaged over mirror images are no use here.
    """
    preprocess = deployed.preprocess
    said = {
        "aaformer_lit": json.dumps(about),
        "dtype": dtype,
        "color": "RGB",
        "input": "float32 NCHW, normalized" if preprocess is None else preprocess.takes,
        "image_size": _text(deployed.network.image_size if preprocess is None else preprocess.input_size or ()),
        "mean": _text(about["data"]["mean"] if preprocess is None else preprocess.input_mean),
        "std": _text(about["data"]["std"] if preprocess is None else preprocess.input_std),
        "descriptor": "length 1" if deployed.network.normalize else "any length",
        "distance": "euclidean",
    }
    calibration = about.get("calibration") or {}
    accept = None if calibration.get("flip_test") else calibration.get("thresholds", {}).get("accept")
    said["threshold"] = "" if accept is None else repr(float(accept["distance"]))
    return {name: value for name, value in said.items() if value}


def _text(values: Iterable[object]) -> str:
    return " ".join(map(str, values))
