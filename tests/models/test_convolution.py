"""Products over many samples, as convolutions."""

import pytest
import torch

from lrsc.models.convolution import ROWS, product


@pytest.mark.parametrize("n", [3, ROWS])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_product_over_many_samples_is_that_of_matrices(n, wanted, dtype):
    torch.manual_seed(0)
    matrix = torch.randn(7, 5, dtype=dtype, requires_grad=wanted)
    x = torch.randn(n, 5, dtype=dtype, requires_grad=True)
    found, expected = product(x, matrix), x @ matrix.T
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    for of in (x, matrix) if wanted else (x,):
        pair = [
            torch.autograd.grad((v * weights).sum(), of, retain_graph=True)[0]
            for v in (found, expected)
        ]
        torch.testing.assert_close(*pair)
