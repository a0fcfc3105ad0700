from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from aaformer_lit.errors import ConfigError
from aaformer_lit.structures import PerQuery, RetrievalMetrics
from aaformer_lit.viz import (
    CHANCE,
    alignment_over_depth,
    cmc_curves,
    misalignment_curves,
    read_metrics_csv,
    training_curves,
)
from aaformer_lit.viz.palette import BASE_COLORS, INK

EMPTY = PerQuery(torch.zeros(0, dtype=torch.long), torch.zeros(0), torch.zeros(0, dtype=torch.long))


def test_cmc_lines_are_the_metrics_in_percent() -> None:
    metrics = RetrievalMetrics(0.801, 0.5, 0.78, 10, {10: 0.97, 1: 0.876, 5: 0.95}, EMPTY)
    figure = cmc_curves({"AAformer": metrics, "ViT": {k: 1 - 0.5 / k for k in range(1, 21)}})
    (axes,) = figure.axes
    first, second = axes.lines
    assert list(first.get_xdata()) == [1, 5, 10]
    assert list(first.get_ydata()) == pytest.approx([87.6, 95.0, 97.0])
    assert list(second.get_ydata()) == pytest.approx([100 - 50 / k for k in range(1, 21)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "AAformer: Rank-1 87.6, mAP 80.1",
        "ViT: Rank-1 50.0",
    ]
    assert list(axes.get_xticks()) == [1, 5, 10, 15, 20]
    assert axes.get_ylim() == (0, 102)


def test_alignment_has_a_panel_per_score_and_a_level_for_a_single_number() -> None:
    nmi = torch.linspace(0.1, 0.6, 12)
    figure = alignment_over_depth({"NMI": {"AAformer": nmi, "stripes": 0.42}, "purity": {"AAformer": [0.5, 0.75]}})
    left, right = figure.axes
    assert (left.get_ylabel(), right.get_ylabel(), left.get_xlabel()) == ("NMI", "purity", "layer")
    depth, level = left.lines
    assert list(depth.get_xdata()) == list(range(1, 13))
    assert list(depth.get_ydata()) == pytest.approx(nmi.tolist())
    assert list(level.get_ydata()) == [0.42, 0.42]
    assert level.get_linestyle() == "--"
    assert level.get_color() != depth.get_color()
    assert list(right.lines[0].get_ydata()) == [0.5, 0.75]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["AAformer", "stripes"]


def test_the_level_of_chance_is_dotted_and_takes_no_color_of_a_model() -> None:
    (axes,) = alignment_over_depth({"purity": {"2 parts": [0.5, 0.75], CHANCE: 0.4}}).axes
    _, chance = axes.lines
    assert (chance.get_label(), list(chance.get_ydata()), chance.get_linestyle()) == ("chance", [0.4, 0.4], ":")
    assert chance.get_color() == INK


def test_heads_are_a_mean_and_a_band_from_worst_to_best() -> None:
    heads = torch.tensor([[0.2, 0.6], [0.5, 0.7], [0.1, 0.9]])
    (axes,) = alignment_over_depth({"NMI": {"AAformer": heads, "one head": heads[:, :1]}}).axes
    assert list(axes.lines[0].get_ydata()) == pytest.approx([0.4, 0.6, 0.5])
    assert list(axes.lines[1].get_ydata()) == pytest.approx([0.2, 0.5, 0.1])
    (band,) = axes.collections
    corners = {(round(x, 3), round(y, 3)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(1, 0.2), (2, 0.5), (3, 0.1), (1, 0.6), (2, 0.7), (3, 0.9)}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What Lightning writes: sparse rows, steps within epochs, a NaN, columns that arrive late."""
    logger = CSVLogger(tmp_path, name="", version="")
    for epoch in range(4):
        for step in range(2):
            logger.log_metrics({"train/loss_step": 4.0 - epoch + step, "epoch": epoch}, step=2 * epoch + step)
            logger.log_metrics({"train/triplet": epoch + step, "epoch": epoch}, step=2 * epoch + step)
            logger.log_metrics({"lr-SGD": 0.1}, step=2 * epoch + step)  # LearningRateMonitor names no epoch
        logger.log_metrics({"train/loss_epoch": 10.0 - epoch, "epoch": epoch}, step=2 * epoch + 1)
        if epoch % 2:
            logger.log_metrics({"val/mAP": epoch / 10, "val/rank1": float("nan"), "epoch": epoch}, step=2 * epoch + 1)
            logger.save()
    logger.save()
    return Path(logger.log_dir) / "metrics.csv"


def test_the_log_is_read_by_epoch(log: Path) -> None:
    series = read_metrics_csv(log)
    assert set(series) == {"train/loss", "train/triplet", "val/mAP"}
    assert series["train/loss"].epochs.tolist() == [0, 1, 2, 3]
    assert series["train/loss"].values.tolist() == [10.0, 9.0, 8.0, 7.0]
    assert series["train/triplet"].values.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert series["val/mAP"].epochs.tolist() == [1, 3]
    assert series["val/mAP"].values.tolist() == pytest.approx([0.1, 0.3])


def test_training_curves_draw_losses_and_retrieval_over_epochs(log: Path) -> None:
    figure = training_curves(log)
    losses, quality = figure.axes
    assert {line.get_label(): list(line.get_ydata()) for line in losses.lines} == {
        "train/loss": [10.0, 9.0, 8.0, 7.0],
        "train/triplet": [0.5, 1.5, 2.5, 3.5],
    }
    (line,) = quality.lines
    assert (line.get_label(), list(line.get_xdata()), list(line.get_ydata())) == (
        "val/mAP",
        [2, 4],
        pytest.approx([10, 30]),
    )
    assert list(losses.lines[0].get_xdata()) == [1, 2, 3, 4], "the first epoch is 1, as in the log"
    labels = (losses.get_xlabel(), quality.get_xlabel(), quality.get_ylabel())
    assert labels == ("epoch", "epoch", "held-out people (%)")


def test_the_identity_loss_has_axes_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/id,train/loss,train/triplet\n0,0,6.5,21.5,15\n1,1,5.5,17.5,12\n")
    identity, both = training_curves(path).axes
    assert [(line.get_label(), list(line.get_ydata())) for line in identity.lines] == [("train/id", [6.5, 5.5])]
    assert identity.get_ylabel() == "identity loss"
    assert identity.get_ylim()[1] < 8
    assert [line.get_label() for line in both.lines] == ["train/loss", "train/triplet"]


def test_a_nearly_level_line_lies_below_the_upper_edge(tmp_path: Path) -> None:
    log = tmp_path / "metrics.csv"
    log.write_text("epoch,step,train/loss\n0,1,3.5\n1,2,3.499\n")
    (axes,) = training_curves(log).axes
    assert axes.get_ylim() == (0, pytest.approx(1.05 * 3.5))


def test_a_run_without_validation_has_one_panel(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    # cells of no column, no number and no UTF-8; the last line is cut off, as a killed run leaves it
    path.write_bytes(b"epoch,step,train/loss_step\n0,0,3.0,9\n0,1,2.0\n1,2,1.0\n1,3,\xff\n1,")
    (axes,) = training_curves(path).axes
    assert (axes.lines[0].get_label(), list(axes.lines[0].get_ydata())) == ("train/loss", [2.5, 1.0])


def test_files_that_are_no_log(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the log .*absent\.csv"):
        training_curves(tmp_path / "absent.csv")
    for text in ("", "a,b\n1,2\n"):
        (tmp_path / "other.csv").write_text(text)
        with pytest.raises(ConfigError, match="no rows with an 'epoch' column"):
            training_curves(tmp_path / "other.csv")
    (tmp_path / "lr.csv").write_text("epoch,step,lr\n0,0,0.1\n")
    with pytest.raises(ConfigError, match=r"none of the columns train/id.*it has lr"):
        training_curves(tmp_path / "lr.csv")


def test_misalignment_has_a_panel_per_score_and_a_color_per_model() -> None:
    scores = {"mAP": {"baseline": [0.4, 0.2], "AAformer": [0.5, 0.3]}, "NMI": {"AAformer": [0.3, 0.1]}}
    figure = misalignment_curves([0, 0.2], scores)
    left, right = figure.axes
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == ("height cut off (%)", "mAP (%)", "NMI (%)")
    baseline, ours = left.lines
    assert list(baseline.get_xdata()) == [0, 20]
    assert list(ours.get_ydata()) == pytest.approx([50, 30])
    assert list(right.lines[0].get_ydata()) == pytest.approx([30, 10])
    assert right.lines[0].get_color() == ours.get_color() == BASE_COLORS[6]
    assert baseline.get_color() == BASE_COLORS[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline", "AAformer"]
