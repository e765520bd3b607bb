"""Corruption of geometry: elastic maps."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def elastic(x: Tensor, parameters: tuple, corners: Tensor, shifts: Tensor) -> Tensor:
    """A random affine map of the image, then smooth random displacements of its pixels."""
    height, width = x.shape[2:]
    amplitude, sigma, spread = (min(height, width) * p for p in parameters)
    square = min(height, width) // 3
    signs = torch.tensor([[1, 1], [1, -1], [-1, -1]]).to(x)
    source = signs * square + torch.tensor([width // 2, height // 2]).to(signs)
    target = source + spread * (2 * corners - 1)
    to_source = torch.linalg.solve(F.pad(target, (0, 1), value=1.0), source)  # n x 3 x 2
    rows, columns = (torch.arange(size).to(signs) for size in (height, width))
    place = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    x = _sample(x, F.pad(place, (0, 1), value=1.0).flatten(0, 1) @ to_source, True)
    vertical, horizontal = (gaussian(size, sigma, 3, True, x) for size in (height, width))
    shift = amplitude * (vertical @ (2 * shifts - 1) @ horizontal.T)
    return _sample(x, place + shift.movedim(1, -1), False)


def _sample(x: Tensor, place: Tensor, about_centres: bool) -> Tensor:
    """Bilinear values at n x H x W x (column, row) in pixels; outside the image is reflected,
    about the centres of the border pixels or about their outer edges."""
    size = torch.tensor([x.shape[3], x.shape[2]]).to(x)
    place = place.view(len(x), *x.shape[2:], 2)
    grid = 2 * place / (size - 1) - 1 if about_centres else (2 * place + 1) / size - 1
    return F.grid_sample(x, grid, "bilinear", "reflection", align_corners=about_centres)


def gaussian(size: int, sigma: float, truncate: int, reflect: bool, like: Tensor) -> Tensor:
    """Matrix of a Gaussian blur of a row of pixels, cut at truncate sigmas; beyond the border is
    the row reflected (about the outer edge) or its nearest pixel."""
    reach = int(truncate * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    taps = np.exp(-0.5 * (offsets / max(sigma, 1e-9)) ** 2)
    place = np.arange(size)[:, None] + offsets
    if reflect:
        place = place % (2 * size)
        place = np.minimum(place, 2 * size - 1 - place)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], place.clip(0, size - 1)), taps / taps.sum())
    return torch.from_numpy(matrix).to(like)
