"""The notebooks run from beginning to end, and what is committed of them is light and knows no machine."""

import base64
import importlib.util
import io
import re
from pathlib import Path

import nbformat
import pytest
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


def outputs(notebook):
    """Of each kind: what was printed, and the pictures."""
    made = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = [output.text for output in made if output.output_type == "stream"]
    pictures = [base64.b64decode(o.data["image/png"]) for o in made if "image/png" in o.get("data", {})]
    return printed, pictures


def test_all_are_here():
    assert [path.name[:2] for path in PATHS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_outputs_are_committed_without_traces_of_a_machine(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not re.search(r"/(home|root|tmp|work|Users)\b|file://|site-packages", path.read_text())
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"]
    printed, pictures = outputs(notebook)
    assert printed
    assert pictures


def test_together_they_are_light():
    assert sum(path.stat().st_size for path in PATHS) < 700_000


@pytest.mark.timeout(1800)
def test_they_run(tmp_path):
    spec = importlib.util.spec_from_file_location("execute_notebooks", NOTEBOOKS / "execute.py")
    execute = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(execute)
    done = execute.execute(tmp_path)
    assert list(done) == [path.name for path in PATHS]
    for path in PATHS:
        printed, pictures = outputs(done[path.name])
        committed = outputs(nbformat.read(path, as_version=4))
        # numbers may differ between processors in the last digits, and a training with them; what is shown may not
        assert len(printed) == len(committed[0])
        assert len(pictures) == len(committed[1])
        for picture in pictures:
            assert Image.open(io.BytesIO(picture)).convert("L").getextrema()[0] < 128
