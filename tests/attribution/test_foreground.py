"""Foregrounds: by colour, by weights that are on disk, and what is refused."""

import numpy as np
import pytest
import torch

from lrsc.attribution import background_share, foreground
from lrsc.errors import DataMissing


def disc(size=32, radius=8):
    """A red disc with some noise on a noisy blue ground."""
    generator = torch.Generator().manual_seed(0)
    at = torch.arange(size) - size / 2 + 0.5
    inside = at[:, None] ** 2 + at[None] ** 2 < radius**2
    image = torch.zeros(3, size, size)
    image[0] = torch.where(inside, 200.0, 20.0)
    image[2] = torch.where(inside, 20.0, 180.0)
    image += 15 * torch.rand(3, size, size, generator=generator)
    return image.round().to(torch.uint8), inside


def test_grabcut_finds_a_disc_the_same_every_time():
    image, inside = disc()
    masks, method = foreground(torch.stack([image, image]), "grabcut")
    assert method == "grabcut" and masks.shape == (2, 1, 32, 32) and masks.dtype == torch.bool
    union = (masks[0, 0] | inside).sum()
    assert (masks[0, 0] & inside).sum() / union > 0.85
    assert torch.equal(masks[0], masks[1])


def test_an_image_of_one_colour_has_no_foreground():
    masks, _ = foreground(torch.full((1, 3, 32, 32), 90, dtype=torch.uint8), "grabcut")
    assert not masks.any() or masks.all()


def test_without_weights_auto_is_grabcut_and_deeplab_says_where_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("LRSC_DATA", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    image, _ = disc()
    assert foreground(image[None])[1] == "grabcut"
    with pytest.raises(DataMissing, match="deeplabv3_resnet50_coco"):
        foreground(image[None], "deeplabv3")
    with pytest.raises(DataMissing, match="is not a file"):
        foreground(image[None], weights=tmp_path / "nothing.pth")


def test_deeplab_takes_weights_from_a_file(tmp_path):
    from torchvision.models.segmentation import deeplabv3_resnet50

    net = deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    with torch.no_grad():  # says class 3 everywhere
        net.classifier[4].weight.zero_()
        net.classifier[4].bias.copy_(torch.nn.functional.one_hot(torch.tensor(3), 21).float())
    torch.save(net.state_dict(), tmp_path / "own.pth")
    masks, method = foreground(disc()[0][None], weights=tmp_path / "own.pth")
    assert method == "deeplabv3" and masks.all()
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="is not of deeplabv3_resnet50"):
        foreground(disc()[0][None], weights=tmp_path / "other.pth")


def test_background_share_is_what_lies_outside():
    a = torch.zeros(3, 3, 4, 4)
    a[:, :, :2] = 1.0
    a[:, :, 2:] = 3.0
    masks = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    masks[0, :, :2] = True  # foreground: the upper half
    masks[1] = True  # full: nothing is told apart
    found = background_share(a, masks)
    np.testing.assert_allclose(found, [0.75, np.nan, np.nan])


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8).byte()])
def test_other_images_are_refused(images):
    with pytest.raises(ValueError, match="expected N x 3 x H x W uint8"):
        foreground(images, "grabcut")
