"""Random crops and flips against a slow loop over single images."""

import math

import pytest
import torch
from torch.nn import functional as F

from lrsc.datasets.augment import crop_resize, random_boxes, random_resized_crop_flip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slow(x, boxes, mirrored):
    """One crop and resize after the other."""
    side, out = x.shape[-1], []
    for image, (top, left, height, width), flip in zip(x, boxes.tolist(), mirrored, strict=True):
        crop = image[None, :, top : top + height, left : left + width].float()
        crop = F.interpolate(crop, (side, side), mode="bilinear", align_corners=False)[0]
        out.append(crop.flip(-1) if flip else crop)
    return torch.stack(out)


@pytest.mark.parametrize("side", [7, 32])
@pytest.mark.parametrize("kind", ["float", "uint8"])
def test_crops_equal_a_loop_of_single_crops(side, kind):
    x = torch.randint(0, 256, (40, 3, side, side), generator=generator(1), dtype=torch.uint8)
    x = x.float() / 255 if kind == "float" else x
    boxes = random_boxes(40, side, generator(2), (0.02, 1.0), (0.5, 2.0))
    boxes[0] = torch.tensor([side - 1, 0, 1, side])  # one row
    boxes[1] = torch.tensor([0, 0, side, side])
    mirrored = torch.arange(40) % 2 == 1
    found, expected = crop_resize(x, boxes, mirrored), slow(x, boxes, mirrored)
    assert found.dtype == x.dtype
    if kind == "uint8":
        assert (found.float() - expected).abs().max() <= 0.5 + 1e-3
        assert torch.equal(found[1], x[1].flip(-1))
    else:
        assert torch.allclose(found, expected, atol=1e-5)


def test_the_whole_transformation_is_boxes_then_flips():
    x = torch.rand(30, 2, 16, 16, generator=generator(3))
    found = random_resized_crop_flip(x, generator(4))
    again = generator(4)
    boxes = random_boxes(30, 16, again, (0.08, 1.0), (3 / 4, 4 / 3))
    mirrored = torch.rand(30, generator=again) < 0.5
    assert torch.allclose(found, slow(x, boxes, mirrored), atol=1e-5)
    assert 5 < int(mirrored.sum()) < 25 and len(boxes.unique(dim=0)) > 20


def test_boxes_are_whole_inside_and_in_the_ranges():
    side = 100
    top, left, height, width = random_boxes(
        5000, side, generator(), (0.2, 0.6), (0.5, 2.0)
    ).unbind(1)  # fmt: skip
    assert int(top.min()) >= 0 and int((top + height).max()) <= side
    assert int(left.min()) >= 0 and int((left + width).max()) <= side
    area, ratio = height * width / side**2, width / height
    assert float(area.min()) > 0.19 and float(area.max()) < 0.61
    assert float(ratio.min()) > 0.49 and float(ratio.max()) < 2.05
    assert abs(float(ratio.log().mean())) < 0.02  # as often wide as high
    place = top[height < side] / (side - height[height < side])
    assert abs(float(place.mean()) - 0.5) < 0.02
    # the last place is reached
    assert int(top[height == 60].max()) == 40 and int(left[width == 60].max()) == 40


def test_boxes_are_distributed_as_torchvisions():
    from torchvision.transforms import RandomResizedCrop

    image, scale, ratio = torch.empty(3, 64, 64), (0.08, 1.0), (3 / 4, 4 / 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = torch.tensor([
            RandomResizedCrop.get_params(image, scale, ratio) for _ in range(3000)
        ]).float()  # fmt: skip
    ours = random_boxes(3000, 64, generator(), scale, ratio).float()
    # means of 3000 draws, standard error at most 0.3
    assert (ours.mean(0) - theirs.mean(0)).abs().max() < 1.2
    assert (ours.std(0) - theirs.std(0)).abs().max() < 1.2


@pytest.mark.parametrize("ratio", [(1.9, 2.0), (0.3, 0.4), (1.5, 1.5), (0.999, 1.0)])
@pytest.mark.parametrize("side", [1, 7, 10, 63])
def test_where_no_box_fits_the_largest_in_the_middle_is_taken(side, ratio):
    from torchvision.transforms import RandomResizedCrop

    boxes = random_boxes(5, side, generator(), (1.0, 1.0), ratio)
    theirs = RandomResizedCrop.get_params(torch.empty(3, side, side), [1.0, 1.0], list(ratio))
    assert boxes.tolist() == [list(theirs)] * 5


def test_the_whole_image_is_a_box():
    x = torch.randint(0, 256, (5, 3, 10, 10), dtype=torch.uint8, generator=generator())
    full = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    assert torch.equal(random_resized_crop_flip(x, generator(), **full, flip=0.0), x)
    assert torch.equal(random_resized_crop_flip(x, generator(), **full, flip=1.0), x.flip(-1))


def test_the_generator_alone_decides():
    x = torch.rand(8, 3, 12, 12, generator=generator())
    state = torch.get_rng_state()
    one, two, other = (random_resized_crop_flip(x, generator(s)) for s in (5, 5, 6))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())


def test_an_image_is_treated_without_regard_to_the_others():
    x = torch.rand(6, 3, 12, 12, generator=generator())
    y = x.clone()
    y[1:] = 0
    one, two = (random_resized_crop_flip(t, generator(5)) for t in (x, y))
    assert torch.equal(one[0], two[0]) and not two[1:].any()
    same = random_resized_crop_flip(x[:1].expand(6, -1, -1, -1), generator(5))
    assert not torch.equal(same[0], same[1])  # each image has its own box


def test_flip_mirrors_a_share():
    x = torch.arange(2000.0).view(500, 1, 2, 2)
    full = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    found = random_resized_crop_flip(x, generator(), **full, flip=0.3)
    mirrored = (found == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(found[~mirrored], x[~mirrored])
    assert abs(int(mirrored.sum()) - 150) < 5 * math.sqrt(500 * 0.21)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": (0.5, 0.2)}, r"scale must be .*found \(0\.5, 0\.2\)"),
        ({"scale": (0.0, 1.0)}, "scale"), ({"scale": (0.5, 1.5)}, "scale"),
        ({"ratio": (2.0, 0.5)}, "ratio"), ({"flip": 1.5}, r"\[0, 1\], found 1\.5"),
    ],
)  # fmt: skip
def test_ranges_out_of_order_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        random_resized_crop_flip(torch.rand(2, 3, 8, 8), generator(), **arguments)


def test_what_is_no_image_is_refused():
    for x, words in (
        (torch.rand(3, 8, 8), "N x C x S x S"), (torch.rand(2, 3, 8, 9), r"\(2, 3, 8, 9\)"),
        (torch.ones(2, 3, 8, 8, dtype=torch.int64), "int64"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            random_resized_crop_flip(x, generator())
