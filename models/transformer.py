"""The transformer block that the encoder, both predictors and the probe are made of.

Shapes: B batch, N tokens, D width, H heads, hd = D / H. Parameter names follow the official
checkpoints (``norm1``, ``attn.qkv``, ``attn.proj``, ``norm2``, ``mlp.fc1``, ``mlp.fc2``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from models.rotary import NUMERICS, Rotary, rotate

EPSILON = 1e-6
"""LayerNorm epsilon of encoders and predictors (the probe has its own)."""


def linear(x: Tensor, layer: nn.Module, *, gelu: bool = False) -> Tensor:
    """What the layer makes of x, [..., in] -> [..., out], and an exact GELU of that if asked.

    A plain nn.Linear is multiplied by `product`. One that somebody replaced, hooked or gave another
    `forward` is called (hooks of all modules at once do not see the plain ones).
    """
    changed = "forward" in vars(layer) or any(getattr(layer, hooks) for hooks in _HOOKS)
    if type(layer) is nn.Linear and not changed:
        return product(x, layer.weight, layer.bias, gelu=gelu)
    out: Tensor = layer(x)
    return F.gelu(out) if gelu else out


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def product(x: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """The product x @ weight.T + bias, [..., in] -> [..., out], and a GELU of that if asked.

    In float32 on a CPU oneDNN multiplies instead of the BLAS behind torch's own product: on a Zen 4
    core, at the widths of published models, 6 to 25 % faster forwards and up to 10 % backwards.
    With gradients off it also applies the GELU, while the product is in cache.
    """
    if not _onednn_takes(x, weight, bias):
        out = F.linear(x, weight, bias)
    elif not torch.is_grad_enabled():
        return _onednn(x, weight, bias, gelu=gelu)
    else:
        out = _Product.apply(x, weight, bias)
    return F.gelu(out) if gelu else out


def _onednn_takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN multiplies these: it would read what it cannot take as if it could."""
    given = (x, weight) if bias is None else (x, weight, bias)
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and not torch._C._are_functorch_transforms_active()
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
        and torch.backends.mkldnn.is_available()
        and all(_dense_float32(tensor) for tensor in given)
        and x.dim() > 1
        and x.shape[-1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
    )


def _dense_float32(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and tensor.layout == torch.strided
    )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    name, algorithm = ("gelu", "none") if gelu else ("none", "")  # GELU "none" is the exact one
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
    return out


class _Product(torch.autograd.Function):
    """oneDNN's product, for which torch has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wanted_x, wanted_weight, wanted_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        to_x = None
        if wanted_x:  # with gradients on, a gradient of this gradient is wanted
            twice = torch.is_grad_enabled()
            to_x = gradient @ weight if twice else _onednn(gradient, weight.t(), None)
        # For the weight's shape neither product wins everywhere: torch's own is left in place.
        to_weight = rows.t() @ x.flatten(0, -2) if wanted_weight else None
        return to_x, to_weight, rows.sum(0) if wanted_bias else None


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection; heads-major inside q, k and v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def project(
        self, x: Tensor, rotary: Rotary | None, copies: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x [B, N, D], each [B, H, N, hd], rotated if tables come.

        The last token stands for so many copies of itself, which then differ by position alone.
        """
        packed = repeat_last(linear(x, self.qkv), copies).unflatten(-1, (3, self.heads, -1))
        if rotary is not None:
            return rotate(packed, rotary)
        queries, keys, values = packed.transpose(1, 3).unbind(2)
        return queries, keys, values

    def merge(self, attended: Tensor) -> Tensor:
        """Heads side by side, projected: [B, H, N, hd] -> [B, N, D]."""
        return linear(attended.transpose(1, 2).flatten(2), self.proj)

    def forward(
        self, x: Tensor, rotary: Rotary | None = None, last: int | None = None, copies: int = 1
    ) -> Tensor:
        """Every token, or the last few, attends to every token: [B, N, D] -> [B, N or last, D]."""
        queries, keys, values = self.project(x, rotary, copies)
        if last is not None:
            # A strided slice is read more slowly, and torch.compile takes its strides for constant.
            queries = queries[:, :, -last:].contiguous()
        return self.merge(F.scaled_dot_product_attention(queries, keys, values))


class Mlp(nn.Module):
    """Two layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        return linear(linear(x, self.fc1, gelu=True), self.fc2)


class Block(nn.Module):
    """Pre-norm residual block: attention, then MLP."""

    def __init__(self, width: int, heads: int, hidden: int, eps: float = EPSILON) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden)

    def forward(
        self, x: Tensor, rotary: Rotary | None = None, last: int | None = None, copies: int = 1
    ) -> Tensor:
        """[B, N, D] -> [B, N, D], or [B, last, D] where only the last tokens are wanted.

        With copies, the last token that comes in stands for so many, and all of them go out.
        """
        attended = self.attn(self.norm1(x), rotary, last, copies)
        x = repeat_last(x, copies)
        x = attended + (x if last is None else x[:, -last:])
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


Checkpointing = Literal["off", "selective", "full"]
"""What of a block is computed again in the backward pass: nothing; all but its matrix products and
attention, whose results are kept; all of it."""
_KEPT = (
    "aten.mm", "aten.addmm", "aten.bmm", "mkldnn._linear_pointwise",
    "aten._scaled_dot_product_flash_attention_for_cpu", "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_efficient_attention", "aten._scaled_dot_product_cudnn_attention",
)  # fmt: skip


def spared(how: Checkpointing, function: Callable[..., Any], *inputs: Any) -> Any:
    """What a function makes of its inputs; where gradients are taken, without keeping all that it
    computes on the way. Never changes a result.
    """
    if how == "off" or not torch.is_grad_enabled():
        return function(*inputs)
    if how == "full":
        return checkpoint(function, *inputs, use_reentrant=False)
    return checkpoint(function, *inputs, use_reentrant=False, context_fn=_keeping_products)


def _keeping_products() -> Any:
    kept = [getattr(getattr(torch.ops, room), name) for room, name in map(_split, _KEPT)]
    return create_selective_checkpoint_contexts([packet.default for packet in kept])


def _split(name: str) -> list[str]:
    return name.split(".", 1)


def run_blocks(
    blocks: Sequence[nn.Module] | nn.ModuleList,
    x: Tensor,
    rotary: Rotary | None,
    *,
    checkpointing: Checkpointing,
    last: int | None = None,
    copies: int = 1,
) -> Tensor:
    """All blocks in turn, each `spared`.

    Where only the last tokens are wanted, the final block computes nothing for the others; where
    the last token stands for copies of itself, the first block projects it once.
    """
    for number, block in enumerate(blocks, start=1):
        options = (last if number == len(blocks) else None, copies if number == 1 else 1)
        x = spared(checkpointing, block, x, rotary, *options)
    return x


def repeat_last(x: Tensor, copies: int) -> Tensor:
    """The last of the tokens so many times: [B, N, D] -> [B, N - 1 + copies, D]."""
    if copies == 1:
        return x
    return torch.cat([x[:, :-1], x[:, -1:].expand(-1, copies, -1)], dim=1)


def initialise(module: nn.Module) -> None:
    """Linear and convolution weights normal with deviation 0.02, biases 0, LayerNorm 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv3d):
            nn.init.trunc_normal_(part.weight, std=0.02, a=-2.0, b=2.0)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def initialise_fan_in(module: nn.Module) -> None:
    """Weights normal with deviation 1 / sqrt(inputs), biases 0, LayerNorm 1 and 0.

    The published deviation of 0.02 is right for widths near a thousand; at a hundred, signals
    shrink at every layer, and gradients with them.
    """
    initialise(module)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv3d):
            nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)


def rescale(blocks: Iterable[Block]) -> None:
    """Divide what block i = 1, 2, … adds to the residual stream by sqrt(2 i), as at release."""
    for number, block in enumerate(blocks, start=1):
        block.attn.proj.weight.data.div_(math.sqrt(2.0 * number))
        block.mlp.fc2.weight.data.div_(math.sqrt(2.0 * number))


def check_sizes(owner: str, *, width: int, heads: int, numerics: str, **positive: int) -> None:
    """Refuse sizes no model can have; `owner` is the name of the config, for the message."""
    for name, value in {"width": width, "heads": heads, **positive}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{owner}.{name} is {value!r}; it must be a whole number above 0")
    if width % heads:
        raise ValueError(f"{owner}: width {width} cannot be divided among {heads} heads")
    if numerics not in NUMERICS:
        raise ValueError(f"{owner}.numerics is {numerics!r}; allowed: {', '.join(NUMERICS)}")
