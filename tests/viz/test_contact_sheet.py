import numpy as np
import pytest

from aaformer_lit.viz import contact_sheet


def image(value: int, height: int = 32, width: int = 16) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize("count", [1, 2, 7, 16, 40])
def test_images_stand_in_reading_order(count: int) -> None:
    figure = contact_sheet([image(i) for i in range(count)], labels=range(count))
    assert [int(panel.images[0].get_array()[0, 0, 0]) for panel in figure.axes] == list(range(count))
    assert [panel.get_title() for panel in figure.axes] == [str(i) for i in range(count)]
    places = [(-round(panel.get_position().y1, 4), round(panel.get_position().x0, 4)) for panel in figure.axes]
    assert places == sorted(places)


def test_labels_of_two_lines_and_long_ones_keep_clear_of_other_images() -> None:
    figure = contact_sheet(
        [image(i) for i in range(4)], labels=["pid 1\ncamera 2"] * 3 + ["a_long_file_name_0001"], columns=2
    )
    figure.canvas.draw()
    images = [panel.get_window_extent() for panel in figure.axes]
    labels = [panel.title.get_window_extent() for panel in figure.axes]
    assert not any(box.overlaps(label) for i, box in enumerate(images) for label in labels[:i] + labels[i + 1 :])
    assert labels[2].x1 <= labels[3].x0
    assert max(label.y1 for label in labels) <= figure.bbox.y1


def test_columns_can_be_chosen_and_a_tensor_of_images_is_fine() -> None:
    figure = contact_sheet(np.stack([image(i) for i in range(6)]), columns=2)
    assert len({round(panel.get_position().x0, 4) for panel in figure.axes}) == 2


def test_an_image_of_another_aspect_stays_whole(pixel) -> None:
    figure = contact_sheet([image(0), image(0), image(50, 16, 16)], columns=3)
    figure.canvas.draw()
    box = figure.axes[2].get_window_extent()
    assert box.width == pytest.approx(box.height)


def test_errors_name_what_is_off() -> None:
    with pytest.raises(ValueError, match="got none"):
        contact_sheet([])
    with pytest.raises(ValueError, match="got 1 labels for 2 images"):
        contact_sheet([image(0)] * 2, labels=["a"])
    with pytest.raises(TypeError, match="uint8"):
        contact_sheet([image(0) / 255])
