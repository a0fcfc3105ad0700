"""Run the notebooks, in order and in one folder, so that the later ones find the first one's training.

python notebooks/execute.py           writes their outputs back into them
python notebooks/execute.py FOLDER    runs them in FOLDER and leaves them as they are
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(folder: Path, timeout: int = 600) -> dict[str, nbformat.NotebookNode]:
    """Run all notebooks in `folder`; returns them with their outputs, by file name."""
    shutil.copy(HERE / "tools.py", folder)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the kernels; other numbers of threads round otherwise
    os.environ["GIT_DIR"] = os.devnull  # the commit that the runs are of is no part of what is shown
    done = {}
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        resources = {"metadata": {"path": str(folder)}}
        # times of execution, and how lines of print arrive in pieces, would be other outputs every time
        client = NotebookClient(
            notebook, timeout=timeout, resources=resources, record_timing=False, coalesce_streams=True
        )
        done[path.name] = client.execute()
    return done


def main() -> None:
    if len(sys.argv) > 1:
        execute(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, notebook in execute(Path(folder)).items():
            # the version of Python at hand is no part of a notebook
            notebook.metadata.language_info = {"name": "python"}
            nbformat.write(notebook, HERE / name)


if __name__ == "__main__":
    main()
