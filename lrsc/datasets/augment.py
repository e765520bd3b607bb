"""Random crops and flips of image batches, on the device they lie on (Szegedy et al. 2015)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

ATTEMPTS = 10  # boxes tried an image


def random_resized_crop_flip(
    x: Tensor,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """A random box of each image, enlarged to the image's size (bilinear), mirrored at random.

    x: N x C x S x S, uint8 or float; the result is of the same type. generator: on any device; the
    same state gives the same boxes. scale: share of the area that a box has; ratio: its width /
    height, log-uniform; flip: share of images that are mirrored. Boxes have whole pixels and are
    drawn as torchvision's RandomResizedCrop draws them. Raises ValueError for ranges out of order.
    """
    if x.dim() != 4 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"x must be images N x C x S x S, found shape {tuple(x.shape)}")
    if not (x.is_floating_point() or x.dtype == torch.uint8):
        raise ValueError(f"x must be uint8 or float, found {x.dtype}")
    if not 0 <= flip <= 1:
        raise ValueError(f"the share to flip must be in [0, 1], found {flip!r}")
    for name, (low, high), most in (("scale", scale, 1.0), ("ratio", ratio, math.inf)):
        if not 0 < low <= high <= most:
            raise ValueError(f"{name} must be 0 < low <= high <= {most}, found {(low, high)}")
    boxes = random_boxes(len(x), x.shape[-1], generator, scale, ratio)
    mirrored = torch.rand(len(x), generator=generator, device=generator.device) < flip
    return crop_resize(x, boxes.to(x.device), mirrored.to(x.device))


def random_boxes(
    n: int,
    side: int,
    generator: torch.Generator,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """n x 4 int64 (top, left, height, width) of boxes in squares of `side` pixels."""
    device = generator.device
    uniform = torch.rand(4, n, ATTEMPTS, generator=generator, device=device, dtype=torch.float64)
    area = side**2 * (scale[0] + (scale[1] - scale[0]) * uniform[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + (high - low) * uniform[1])  # width / height
    height, width = (area / shape).sqrt().round(), (area * shape).sqrt().round()
    fits = (height >= 1) & (width >= 1) & (height <= side) & (width <= side)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)  # 0 where none fits
    height, width, top, left = (
        t.gather(1, first)[:, 0] for t in (height, width, uniform[2], uniform[3])
    )
    none = ~fits.any(1)  # then the largest box of a ratio in the range, in the middle
    most = round(side / max(1.0, ratio[0])), round(side * min(1.0, ratio[1]))
    height, width = height.masked_fill(none, most[0]), width.masked_fill(none, most[1])
    top, left = (top * (side - height + 1)).floor(), (left * (side - width + 1)).floor()
    top = top.masked_fill(none, (side - most[0]) // 2)
    left = left.masked_fill(none, (side - most[1]) // 2)
    return torch.stack([top, left, height, width], 1).long()


def crop_resize(x: Tensor, boxes: Tensor, mirrored: Tensor) -> Tensor:
    """The box (top, left, height, width) of each image, resized to S x S; mirrored where true.

    Equals a crop followed by a bilinear resize: what lies outside the box is not looked at.
    """
    side = x.shape[-1]
    top, left, height, width = boxes.to(torch.float32)[:, :, None].unbind(1)
    centre = (torch.arange(side, device=x.device) + 0.5) / side
    across = torch.where(mirrored[:, None], 1 - centre, centre)
    # pixel centres of the box, not beyond its outer ones; then in grid_sample's -1..1
    rows = top + torch.minimum((centre * height - 0.5).clamp(min=0), height - 1)
    columns = left + torch.minimum((across * width - 0.5).clamp(min=0), width - 1)
    rows, columns = ((2 * t + 1) / side - 1 for t in (rows, columns))
    grid = torch.stack(
        [columns[:, None, :].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)], -1
    )
    pixels = x if x.is_floating_point() else x.float()
    sampled = F.grid_sample(
        pixels, grid.to(pixels.dtype), mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled if x.is_floating_point() else sampled.round_().to(x.dtype)
