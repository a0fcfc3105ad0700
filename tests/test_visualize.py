"""Pictures of a checkpoint from the command line."""

import pytest
from matplotlib.image import imread

from cli_tools import TINY_DATA, run_cli

KINDS = "[assignment,layers,attention,rankings,cmc,roc,distances,embedding,curves,contact_sheet]"


def test_every_kind_is_drawn(trained, data_dir, tmp_path):
    code = run_cli(
        "visualize", f"ckpt={trained}/checkpoints/last.ckpt", f"kind={KINDS}", *TINY_DATA, f"paths.data={data_dir}",
        f"paths.runs={tmp_path}", "count=2", "trainer=cpu", "trainer.enable_progress_bar=false",
    )  # fmt: skip
    assert code == 0
    drawn = {path.stem: imread(path) for path in tmp_path.rglob("*.png")}
    assert set(drawn) == set(KINDS.strip("[]").split(","))
    for name, pixels in drawn.items():
        assert pixels[..., :3].std() > 0.03, f"{name} is blank"


def test_own_images_need_no_data_set(trained, data_dir, tmp_path):
    images = sorted(data_dir.rglob("query/*.jpg"))[:2]
    code = run_cli(
        "visualize", f"ckpt={trained}/checkpoints/last.ckpt", f"images=[{images[0]},{images[1]}]", "kind=assignment",
        "paths.data=/nonexistent", f"paths.runs={tmp_path}",
    )  # fmt: skip
    assert code == 0
    assert list(tmp_path.rglob("assignment.png"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["kind=portrait"], "there is no picture kind=portrait"),
        (["images=/nonexistent.jpg"], "no image at /nonexistent.jpg"),
        (["kind=attention", "layer=9"], "layer must be between -2 and 1"),
    ],
)
def test_mistakes(trained, data_dir, tmp_path, capsys, overrides, message):
    checkpoint = f"ckpt={trained}/checkpoints/last.ckpt"
    code = run_cli("visualize", checkpoint, *TINY_DATA, f"paths.data={data_dir}", f"paths.runs={tmp_path}", *overrides)
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
