"""Linear layers: oneDNN's product is torch's own, forwards and backwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.transformer import linear


def layer_and_input(*leading: int, bias: bool = True) -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(24, 40, bias=bias), torch.randn(*leading, 24)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes that oneDNN was given."""
    import models.transformer as transformer

    given, product = [], transformer._onednn

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
        given.append(tuple(x.shape))
        return product(x, weight, bias, gelu=gelu)

    monkeypatch.setattr(transformer, "_onednn", counted)
    return given


@pytest.mark.parametrize("leading", [(1,), (7,), (2, 5), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_without_gradients(
    leading: tuple[int, ...], gelu: bool, bias: bool, products: list[tuple[int, ...]]
) -> None:
    layer, x = layer_and_input(*leading, bias=bias)
    with torch.no_grad():
        expected = F.gelu(layer(x)) if gelu else layer(x)
        torch.testing.assert_close(linear(x, layer, gelu=gelu), expected, rtol=1e-6, atol=1e-6)
    assert products == [(*leading, 24)]


@pytest.mark.parametrize("leading", [(7,), (2, 5), (2, 3, 4)])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients(
    leading: tuple[int, ...], gelu: bool, bias: bool, products: list[tuple[int, ...]]
) -> None:
    layer, x = layer_and_input(*leading, bias=bias)
    x = x.transpose(0, -2).requires_grad_()  # as attention hands it on: not contiguous
    wanted = [x, *layer.parameters()]
    ours = linear(x, layer, gelu=gelu)
    theirs = F.gelu(layer(x)) if gelu else layer(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    found = torch.autograd.grad(ours.square().sum(), wanted)
    expected = torch.autograd.grad(theirs.square().sum(), wanted)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert len(products) == 2  # forwards, and the gradient of x


def test_what_is_frozen_gets_no_gradient() -> None:
    layer, x = layer_and_input(3)
    layer.requires_grad_(False)
    linear(x.requires_grad_(), layer).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, -1))


def test_a_convolution_over_its_own_kernel() -> None:
    layer = nn.Conv3d(3, 8, kernel_size=2, stride=2)
    patches = torch.randn(5, 3, 2, 2, 2)
    expected = layer(patches).flatten(1)
    torch.testing.assert_close(linear(patches.flatten(1), layer), expected)


def test_torchs_own_product_elsewhere(products: list[tuple[int, ...]]) -> None:
    """Where oneDNN is switched off, in other dtypes, under mixed precision."""
    layer, x = layer_and_input(4)
    with torch.no_grad():
        with torch.backends.mkldnn.flags(enabled=False):
            assert torch.equal(linear(x, layer), layer(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert linear(x, layer).dtype == torch.bfloat16
        assert torch.equal(linear(x.double(), layer.double()), layer(x.double()))
        assert linear(x.to("meta"), layer.to("meta").float()).shape == (4, 40)
    assert products == []
