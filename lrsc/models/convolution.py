"""A convolution that is faster on maps as small as its kernel."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 200  # samples from which on `product` is a convolution


class SmallMapConv2d(nn.Conv2d):
    """nn.Conv2d that, on the CPU, multiplies only by the weights that meet its input.

    On maps that the kernel covers from every output position (2 x 2 and 1 x 1 in ResNet18's last
    stages, for inputs of 28 x 28) most taps of a 3 x 3 kernel see only padding; what is left is one
    matrix product. Equal to nn.Conv2d up to roundoff; benchmarks/train_step.py measures the gain.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.dim() != 4 or self.groups != 1:
            return super().forward(x)
        h, w = x.shape[2:]
        rows, columns = self._starts(0, h), self._starts(1, w)
        if not 0 < len(rows) * len(columns) * h * w <= 2 * self.weight[0, 0].numel():
            return super().forward(x)
        matrix = self.matrix(rows, columns, (h, w))
        y = product(x.permute(0, 2, 3, 1).flatten(1), matrix)
        y = y.view(-1, self.out_channels, len(rows), len(columns))
        return y if self.bias is None else y + self.bias[:, None, None]

    def matrix(self, rows: list[int], columns: list[int], size: tuple[int, int]) -> Tensor:
        """Matrix from a map to its outputs, whose kernel parts start at these rows and columns.

        Its columns have channels last, as weights have in training: the taps are then read, and
        their gradients written, in one piece each.
        """
        h, w = size
        places = itertools.product(rows, columns, range(h), range(w))
        taps = [(i + a) * self.kernel_size[1] + j + b for i, j, a, b in places]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1, 2)
        if taps != list(range(weight.shape[1])):  # not the whole kernel, from one place
            weight = weight.index_select(1, torch.tensor(taps, device=weight.device))
        return weight.reshape(-1, h * w * self.in_channels)

    def _starts(self, axis: int, size: int) -> list[int]:
        """Where in the kernel the map begins, for each output place; empty if it is not covered."""
        if isinstance(self.padding, str) or self.padding_mode != "zeros" or self.dilation[axis] > 1:
            return []
        padding, stride, kernel = self.padding[axis], self.stride[axis], self.kernel_size[axis]
        places = (size + 2 * padding - kernel) // stride + 1
        starts = [padding - place * stride for place in range(places)]
        return starts if all(0 <= start <= kernel - size for start in starts) else []


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """x @ matrix.T, N x d times k x d.

    In single precision, where no gradient of the matrix is wanted and N is large, a convolution
    with kernels of 1 x 1 over the samples as if they were places: torch's convolutions use oneDNN,
    which was twice as fast on an AMD processor as the library of its matrix products. Evaluation
    of networks takes it too.
    """
    if len(x) < ROWS or matrix.requires_grad or x.dtype != torch.float32:
        return x @ matrix.T
    return F.conv2d(x.T[None, :, :, None], matrix[:, :, None, None])[0, :, :, 0].T
