"""The V-JEPA 2 video encoder: a vision transformer over tubelets with rotary positions.

Shapes: video [B, 3, T, H, W] float, normalised by the ImageNet mean and deviation; grid
(t, h, w) = (T / tubelet, H / patch, W / patch); N = t * h * w tokens of width D. The same weights
run at any size that divides into tubelets: positions follow the grid of the actual input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.rotary import Numerics, Rotary, grid_rotary
from models.tokens import Grid, check_index, count, token_grid
from models.transformer import (
    EPSILON,
    Block,
    Checkpointing,
    check_sizes,
    initialise,
    product,
    rescale,
    run_blocks,
)

CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Architecture of an encoder. Defaults: ViT-L at 16 frames of 256 by 256 pixels."""

    width: int = 1024
    """Token width D."""
    depth: int = 24
    """Number of blocks; 0: patches alone, embedded and normed."""
    heads: int = 16
    """Attention heads. Not visible in a checkpoint's shapes: 16 and 22 both fit ViT-g's weights."""
    mlp_hidden: int = 4096
    """Width inside the MLP."""
    patch: int = 16
    """Pixels along each side of a patch."""
    tubelet: int = 2
    """Frames in a tubelet."""
    frames: int = 16
    """Frames per clip, nominal: the input's own count decides."""
    size: int = 256
    """Pixels along each side of a clip, nominal: the input's own size decides."""
    numerics: Numerics = "corrected"
    """``corrected`` rotation, or ``official`` as the released weights need it."""

    def __post_init__(self) -> None:
        check_sizes(
            "EncoderConfig",
            width=self.width,
            heads=self.heads,
            numerics=self.numerics,
            depth=self.depth or 1,
            mlp_hidden=self.mlp_hidden,
            patch=self.patch,
            tubelet=self.tubelet,
            frames=self.frames,
            size=self.size,
        )
        if self.frames % self.tubelet or self.size % self.patch:
            raise ValueError(
                f"EncoderConfig: {self.frames} frames of {self.size} pixels do not divide into "
                f"tubelets of {self.tubelet} frames and {self.patch} pixels"
            )

    @property
    def grid(self) -> Grid:
        """Token grid of a clip of the nominal size."""
        side = self.size // self.patch
        return self.frames // self.tubelet, side, side


def _size(width: int, depth: int, heads: int, hidden: int) -> EncoderConfig:
    return EncoderConfig(width=width, depth=depth, heads=heads, mlp_hidden=hidden, frames=64)


PUBLISHED: dict[str, EncoderConfig] = {
    "vit_tiny": _size(192, 12, 3, 768),
    "vit_small": _size(384, 12, 6, 1536),
    "vit_base": _size(768, 12, 12, 3072),
    "vit_large": _size(1024, 24, 16, 4096),
    "vit_huge": _size(1280, 32, 16, 5120),
    "vit_giant": _size(1408, 40, 16, 6144),
    "vit_giant_xformers": _size(1408, 40, 22, 6144),
    "vit_gigantic": _size(1664, 48, 16, 6656),
    "vit_gigantic_xformers": _size(1664, 48, 26, 6656),
}
"""Every published size by its official name. The released "ViT-g" is ``vit_giant_xformers``.

The hidden width of the gigantic sizes is what the official code builds (a misspelt option there
keeps the intended 8192 from being used); no weights of that size were released.
"""
PUBLISHED["vit_giant_xformers_384"] = replace(PUBLISHED["vit_giant_xformers"], size=384)


class PatchEmbedding(nn.Module):
    """Cuts a video into tubelets and embeds those that are asked for.

    The weights are those of a convolution whose stride is its kernel; only kept tubelets are
    multiplied, which for the long-range masks is a sixteenth of them.
    """

    def __init__(self, width: int, patch: int, tubelet: int) -> None:
        super().__init__()
        kernel = (tubelet, patch, patch)
        self.proj = nn.Conv3d(CHANNELS, width, kernel_size=kernel, stride=kernel)

    def forward(self, video: Tensor, grid: Grid, index: Tensor | None = None) -> Tensor:
        """[B, 3, T, H, W] -> [B, N, D], or [B, K, D] at index [B, K]."""
        t, h, w = grid
        tubelet, patch, _ = self.proj.kernel_size
        cut = video.reshape(*video.shape[:2], t, tubelet, h, patch, w, patch)
        if index is None:
            pixels = cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)
        else:
            clip = torch.arange(video.shape[0], device=index.device)[:, None]
            time, row, column = index // (h * w), index // w % h, index % w
            pixels = cut[clip, :, time, :, row, :, column].flatten(2)
        return product(pixels, self.proj.weight.flatten(1), self.proj.bias)


class Encoder(nn.Module):
    """Vision transformer over tubelets; parameter names as in the official checkpoints."""

    activation_checkpointing: Checkpointing = "off"
    """What of each block is computed again in the backward pass: less memory, the same numbers."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config.width, config.patch, config.tubelet)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_hidden) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=EPSILON)
        initialise(self)
        rescale(block for block in self.blocks if isinstance(block, Block))

    def grid(self, video: Tensor) -> Grid:
        """Token grid of a video [B, 3, T, H, W]; ValueError on another shape or dtype."""
        config, wanted = self.config, self.patch_embed.proj.weight.dtype
        kind = video.device.type
        mixed = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        mixed = mixed and video.is_floating_point() and video.dtype != torch.float64
        if video.dtype != wanted and not mixed:
            raise ValueError(f"a video is {wanted}, normalised; found {video.dtype}")
        return token_grid(
            video.shape, channels=CHANNELS, tubelet=config.tubelet, patch=config.patch
        )

    def forward(self, video: Tensor, index: Tensor | None = None) -> Tensor:
        """Features of all tokens, or of the tokens in `index`, which then see only each other.

        video: [B, 3, T, H, W]; index: int64 [B, K], any order. Returns [B, N or K, D].
        Raises ValueError on a shape that does not divide, a dtype that is not the weights' (under
        autocast any but float64 will do), and an index out of range.
        """
        x, rotary = self._embed(video, index)
        x = run_blocks(self.blocks, x, rotary, checkpointing=self.activation_checkpointing)
        out: Tensor = self.norm(x)
        return out

    def features(self, video: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Features after the named blocks (0 is the first), each through the final norm.

        video: [B, 3, T, H, W]. Returns one [B, N, D] per layer, in the order of the blocks.
        """
        unknown = sorted(set(layers) - set(range(self.config.depth)))
        if unknown or not layers:
            raise ValueError(
                f"layers must name blocks 0 … {self.config.depth - 1}; found {list(layers)}"
            )
        x, rotary = self._embed(video, None)
        collected = []
        for number, block in enumerate(self.blocks):
            x = block(x, rotary)
            if number in layers:
                collected.append(self.norm(x))
        return collected

    def _embed(self, video: Tensor, index: Tensor | None) -> tuple[Tensor, Rotary]:
        grid = self.grid(video)
        head_width = self.config.width // self.config.heads
        rotary = grid_rotary(grid, head_width, self.config.numerics, video.device)
        if index is not None:
            check_index(index, video.shape[0], count(grid), "index")
            rotary = rotary.at(index)
        return self.patch_embed(video, grid, index), rotary


def encode_frames(encoder: Encoder, frames: Tensor) -> Tensor:
    """Layer-normed features of single frames, as the world model takes them.

    frames: [B, 3, T, H, W] -> [B, T * h * w, D]. Each frame is repeated to one tubelet and encoded
    alone, so that no frame's features know of a later one.
    """
    if frames.dim() != 5:
        raise ValueError(f"frames are [B, {CHANNELS}, T, H, W]; found {list(frames.shape)}")
    batch, channels, time, height, width = frames.shape
    stills = frames.transpose(1, 2).reshape(batch * time, channels, 1, height, width)
    tokens = encoder(stills.expand(-1, -1, encoder.config.tubelet, -1, -1))
    tokens = tokens.unflatten(0, (batch, time)).flatten(1, 2)
    return F.layer_norm(tokens, (tokens.shape[-1],))
