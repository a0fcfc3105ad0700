"""What the notebooks share: run a command, show a picture, and the small training that three of them start from."""

import io
import os
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

from IPython.display import Image, display
from PIL import Image as Picture

os.environ["OMP_NUM_THREADS"] = "1"  # other numbers round otherwise, and other numbers come out
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
warnings.filterwarnings("ignore", message="IProgress not found")  # no progress bar is wanted here

DATA = "paths.data=datasets"
PEOPLE = """data.spec.num_train_ids=32 data.spec.num_test_ids=16 data.spec.num_cameras=3 data.spec.images_per_camera=3
  data.spec.height=64 data.spec.width=32
  data.spec.siblings=1 data.spec.difficulty=0 data.spec.misalignment=0 data.spec.occlusion=0"""
SMALL = f"""{PEOPLE}
  data.image_size=[64,32] data.ids_per_batch=8 data.images_per_id=4 data.cache=true data.num_workers=0
  data.transforms.pad=3 data.transforms.erase=0
  model/backbone=small_scratch model.backbone.patch_size=8 model.backbone.embed_dim=96
  optim=adamw optim.optimizer.lr=1e-3 optim.schedule.warmup_epochs=1
  trainer=cpu trainer.enable_progress_bar=false callbacks.progress=null {DATA}"""
FIRST_RUN = f"""python -m aaformer_lit.train {SMALL}
  trainer.max_epochs=20 test_untrained=true pictures=[rankings] hydra.run.dir=runs/first"""


def run(command: str) -> str:
    """Run a command line with this environment's Python; returns what it printed."""
    words = shlex.split(command)
    words[0] = sys.executable if words[0] == "python" else words[0]
    # a kernel tells programs that they may write colors and move the cursor
    environment = {key: value for key, value in os.environ.items() if "COLOR" not in key} | {"TERM": "dumb"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout.replace(f"{Path.cwd()}/", "")


def first_run() -> Path:
    """The run of the first notebook, trained now if it is not there."""
    if not Path("runs/first/metrics.json").exists():
        run(FIRST_RUN)
    return Path("runs/first")


def show(picture, width: int = 520) -> None:
    """A matplotlib figure, an array of pixels or a picture file, in few kilobytes."""
    if hasattr(picture, "savefig"):
        file = io.BytesIO()
        picture.savefig(file, dpi=90)
        picture = file
    image = Picture.fromarray(picture) if hasattr(picture, "shape") else Picture.open(picture).convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Picture.Resampling.LANCZOS)
    file = io.BytesIO()
    # few colors are enough here, and a quarter of the bytes
    image.quantize(96, dither=Picture.Dither.NONE).save(file, "png", optimize=True)
    display(Image(file.getvalue()))
