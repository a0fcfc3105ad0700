import numpy as np
import pytest
import torch

from aaformer_lit.viz import denormalize
from aaformer_lit.viz.images import as_array, as_picture, as_pictures

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_denormalize_undoes_normalization_for_every_value() -> None:
    image = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    x = (torch.from_numpy(image).permute(2, 0, 1) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )
    assert np.array_equal(denormalize(x, MEAN, STD), image)
    assert np.array_equal(denormalize(torch.stack([x, -x]), MEAN, STD)[0], image)
    assert np.array_equal(denormalize(x.bfloat16(), (0.5,) * 3, (0.5,) * 3).shape, image.shape)


def test_denormalize_clips() -> None:
    x = torch.tensor([-9.0, 0.0, 9.0]).view(3, 1, 1)
    assert denormalize(x, (0.5,) * 3, (0.5,) * 3).tolist() == [[[0, 128, 255]]]


def test_denormalize_refuses_channels_last() -> None:
    with pytest.raises(ValueError, match=r"3, height, width.*got shape \(8, 4, 3\)"):
        denormalize(np.zeros((8, 4, 3), np.float32), MEAN, STD)


def test_normalized_images_are_refused() -> None:
    with pytest.raises(TypeError, match=r"uint8.*got float32.*denormalize"):
        as_picture(torch.rand(8, 4, 3))
    with pytest.raises(TypeError, match=r"read_image\(path\)"):
        as_picture("crop.jpg")
    with pytest.raises(ValueError, match=r"got shape \(3, 8, 4\)"):
        as_picture(np.zeros((3, 8, 4), np.uint8))


def test_one_image_or_several_of_one_size() -> None:
    image = np.zeros((8, 4, 3), np.uint8)
    assert as_pictures(image).shape == (1, 8, 4, 3)
    assert as_pictures(torch.zeros(2, 8, 4, 3, dtype=torch.uint8)).shape == (2, 8, 4, 3)
    assert as_pictures([image, image, image]).shape == (3, 8, 4, 3)
    with pytest.raises(ValueError, match="all of one size; got 2 images"):
        as_pictures([image, image[:4]])
    with pytest.raises(ValueError, match="got 0 images"):
        as_pictures([])


def test_arrays_come_from_anything() -> None:
    assert as_array(torch.tensor([1.5, 2.0], dtype=torch.bfloat16, requires_grad=True)).tolist() == [1.5, 2.0]
    assert as_array(torch.tensor([0.1], dtype=torch.float64))[0] == 0.1
    assert as_array(torch.tensor([True, False])).dtype == np.bool_
    assert as_array([1, 2]).tolist() == [1, 2]
