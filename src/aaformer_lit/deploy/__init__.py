"""A trained network as a file for other programs: written, compared with the network it came from, and only then kept."""

from aaformer_lit.deploy.bounds import Bounds
from aaformer_lit.deploy.card import model_card
from aaformer_lit.deploy.compare import Comparison, compare
from aaformer_lit.deploy.deployed import Deployed
from aaformer_lit.deploy.export_checked import export_checked, export_network
from aaformer_lit.deploy.formats import SafetensorsFormat, TorchExportFormat
from aaformer_lit.deploy.onnx_format import OnnxFormat
from aaformer_lit.deploy.openvino_format import OpenVinoFormat
from aaformer_lit.deploy.people import People, choose_people
from aaformer_lit.deploy.preprocess import BoxmotCrops, Preprocess
from aaformer_lit.deploy.test_images import own_images, probe_images

__all__ = [
    "Bounds",
    "BoxmotCrops",
    "Comparison",
    "Deployed",
    "OnnxFormat",
    "OpenVinoFormat",
    "People",
    "Preprocess",
    "SafetensorsFormat",
    "TorchExportFormat",
    "choose_people",
    "compare",
    "export_checked",
    "export_network",
    "model_card",
    "own_images",
    "probe_images",
]
