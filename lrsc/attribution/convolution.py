"""A convolution whose weights stay, with fewer products on small maps.

Kernels of 3 x 3 that keep the size of maps of 2 x 2 or 4 x 4 take a quarter of a convolution's
products after sums along both axes (Winograd 1980; Lavin and Gray 2016). benchmarks/attribution.py
has what it gains.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lrsc.models.convolution import ROWS, SmallMapConv2d

# n -> A, G, B: of n values and three taps, with zeros beyond both ends, y = A ((G taps) * (B x)),
# where * goes element by element.
FEWER = {
    2: (
        [[1, 1, 0], [1, 0, 1]],
        [[0, 1, 0], [0, -1, 1], [1, -1, 0]],
        [[1, 1], [0, 1], [1, 0]],
    ),
    4: (
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
        [
            [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
        ],
        [
            [0, -5, 0, 1], [-4, -4, 1, 1], [4, -4, -1, 1], [-2, -1, 2, 1], [2, -1, -2, 1],
            [4, 0, -5, 0],
        ],
    ),
}  # fmt: skip


class FixedConv2d(SmallMapConv2d):
    """nn.Conv2d up to roundoff, whose weights must not change and have no gradients.

    Roundoff of the sums on 4 x 4 maps is up to 15 times torch's own, some 1e-6 of the output.
    every: of a map's rows and columns it takes one in so many, in place of 1 x 1 kernels' stride.
    kept: what is made of the weights once, by the map's size.
    """

    every: tuple[int, ...]
    kept: dict[tuple[str, tuple[int, int]], Tensor]

    @classmethod
    def take_over(cls, layer: SmallMapConv2d) -> None:
        """Make a layer one of these, in place."""
        layer.__class__ = cls
        assert isinstance(layer, cls)
        layer.every, layer.kept = (1, 1), {}
        if layer.kernel_size == (1, 1) and layer.padding == (0, 0):
            layer.every, layer.stride = layer.stride, (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., :: self.every[0], :: self.every[1]]
        if self._has_fewer(x):
            return self._by_fewer(x)
        return super().forward(x)

    def matrix(self, rows: list[int], columns: list[int], size: tuple[int, int]) -> Tensor:
        key = "matrix", size  # which says what rows and columns are
        if key not in self.kept:
            self.kept[key] = super().matrix(rows, columns, size).detach()
        return self.kept[key]

    def _has_fewer(self, x: Tensor) -> bool:
        plain = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups)
        return (
            x.dim() == 4 and len(x) >= ROWS and x.dtype == torch.float32
            and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
            and x.shape[2] == x.shape[3] and x.shape[2] in FEWER
            and plain == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and self.padding_mode == "zeros"
        )  # fmt: skip

    def _by_fewer(self, x: Tensor) -> Tensor:
        samples, channels, n, _ = x.shape
        a, g, b = (torch.tensor(rows, dtype=x.dtype) for rows in FEWER[n])
        places = len(g) ** 2
        key = "sums", (n, n)
        if key not in self.kept:
            weights = torch.einsum("pi,qj,ocij->pqoc", g, g, self.weight.detach())
            self.kept[key] = weights.reshape(places * self.out_channels, channels, 1, 1)
        sums = torch.kron(b, b) @ x.permute(0, 2, 3, 1).reshape(samples, n * n, channels)
        # products place by place: groups of a convolution with kernels of 1 x 1 over the samples
        products = F.conv2d(
            sums.view(1, samples, 1, -1).permute(0, 3, 1, 2), self.kept[key], groups=places
        )
        y = torch.kron(a, a) @ products.permute(0, 2, 3, 1).reshape(samples, places, -1)
        y = y.view(samples, n, n, -1).permute(0, 3, 1, 2)
        return y if self.bias is None else y + self.bias[:, None, None]
