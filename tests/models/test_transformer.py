"""Linear layers: oneDNN's product is torch's own, forwards and backwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.transformer import Block, Checkpointing, Mlp, linear, product, run_blocks


def layer_and_input(*leading: int, bias: bool = True) -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(24, 40, bias=bias), torch.randn(*leading, 24)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes that oneDNN was given."""
    import models.transformer as transformer

    given, multiply = [], transformer._onednn

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
        given.append(tuple(x.shape))
        return multiply(x, weight, bias, gelu=gelu)

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
    found = product(patches.flatten(1), layer.weight.flatten(1), layer.bias)
    torch.testing.assert_close(found, expected)


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


def test_an_error_says_what_does_not_fit() -> None:
    with torch.no_grad(), pytest.raises(RuntimeError, match="3x23 and 24x40"):
        linear(torch.randn(3, 23), nn.Linear(24, 40))


def test_weights_that_are_not_there_are_not_read() -> None:
    layer = nn.Linear(24, 40, device="meta")
    x = torch.randn(3, 24)
    with torch.no_grad(), pytest.raises(RuntimeError, match="meta"):
        linear(x, layer)
    with torch.no_grad(), pytest.raises(RuntimeError, match="meta"):
        product(x, torch.randn(40, 24), layer.bias)
    sparse = torch.eye(24).to_sparse_csr()
    with torch.no_grad():
        torch.testing.assert_close(product(x, sparse, None), x)


def test_transforms_of_functions() -> None:
    layer, x = layer_and_input(5)
    torch.testing.assert_close(torch.func.vmap(lambda row: linear(row, layer))(x), layer(x))
    slope = torch.func.grad(lambda given: linear(given, layer).sum())(x)
    torch.testing.assert_close(slope, layer.weight.sum(0).expand(5, -1))


def test_one_token_without_a_batch() -> None:
    layer, x = layer_and_input()
    linear(x, layer).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.expand(40, -1))


def test_a_gradient_of_a_gradient() -> None:
    found = []
    for use in (linear, lambda x, layer: layer(x)):
        layer, x = layer_and_input(5)
        x.requires_grad_()
        (slope,) = torch.autograd.grad(use(x, layer).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), [x, layer.weight]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_what_takes_a_layers_place_is_called(products: list[tuple[int, ...]]) -> None:
    """Low-rank adapters wrap a layer, probes hook it, offloading gives it another forward."""

    class Adapted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1.0

    mlp, x = Mlp(24, 40), torch.randn(3, 24)
    plain = mlp(x).detach()
    adapted = Adapted(40, 24)
    adapted.load_state_dict(mlp.fc2.state_dict())
    mlp.fc2 = adapted
    seen: list[Tensor] = []
    hook = mlp.fc1.register_forward_hook(lambda _, given, out: seen.append(out))
    products.clear()
    torch.testing.assert_close(mlp(x), plain + 1.0)
    assert len(seen) == 1
    assert products == []
    hook.remove()
    mlp.fc1.forward = lambda x: torch.zeros(3, 40)
    torch.testing.assert_close(mlp(x), adapted(torch.zeros(3, 40)))
    assert products == []
    del mlp.fc1.forward
    assert mlp(x) is not None
    assert products == [(3, 24)]


def test_compiling_finds_one_graph() -> None:
    breaks = torch._dynamo.explain(Mlp(24, 40))(torch.randn(3, 24))
    assert (breaks.graph_count, breaks.graph_break_count) == (1, 0)


def test_checkpointing_computes_a_block_twice() -> None:
    """And so it does where nothing before the block is trained."""
    blocks, counted = nn.ModuleList(Block(24, 2, 48) for _ in range(2)), []
    for block in blocks:
        block.mlp.register_forward_pre_hook(lambda *_: counted.append(1))
    ways: tuple[tuple[Checkpointing, int], ...] = (("off", 2), ("full", 4))
    for checkpointing, calls in ways:
        counted.clear()
        run_blocks(
            blocks, torch.randn(1, 5, 24), None, checkpointing=checkpointing
        ).sum().backward()
        assert len(counted) == calls


class Products(TorchDispatchMode):
    """Counts matrix products and attentions that are truly computed."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        named = str(func)
        self.count += any(
            part in named for part in ("mm.", "_linear_pointwise", "attention_for_cpu.")
        )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("onednn", [True, False])
def test_selective_checkpointing_computes_no_product_again(onednn: bool) -> None:
    blocks, x = nn.ModuleList([Block(24, 2, 48)]), torch.randn(1, 5, 24)
    backwards: dict[str, int] = {}
    gradients = {}
    ways: tuple[Checkpointing, ...] = ("off", "selective", "full")
    with torch.backends.mkldnn.flags(enabled=onednn):
        for how in ways:
            blocks.zero_grad()
            out = run_blocks(blocks, x, None, checkpointing=how).sum()
            with Products() as seen:
                out.backward()
            backwards[how] = seen.count
            gradients[how] = [p.grad.clone() for p in blocks.parameters()]
    # Of a block's four products and its attention, all but what comes last are needed again.
    assert backwards["selective"] == backwards["off"] <= backwards["full"] - 4
    for how in ways:
        assert all(map(torch.equal, gradients[how], gradients["off"])), how
