"""The encoder.

- Every published size has its published parameter count (on the meta device).
- Kept tokens see only each other: hidden pixels change nothing; their order is free.
- The same weights run at other lengths, larger, non-square and odd sizes, positions following the
  actual grid: a clip of two rows is not a clip of one column.
- Checkpointing changes no gradient; frames encoded for the world model know of no other frame.
- Wrong channels, sizes that do not divide and indices out of range are refused with the shapes.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.encoder import PUBLISHED, Encoder, EncoderConfig, encode_frames
from models.transformer import Checkpointing

TINY = EncoderConfig(width=48, depth=2, heads=2, mlp_hidden=96, patch=8, frames=4, size=32)

COUNTS = {
    "vit_tiny": 5_633_856,
    "vit_small": 21_884_544,
    "vit_base": 86_236_416,
    "vit_large": 303_885_312,
    "vit_huge": 631_648_000,
    "vit_giant": 1_012_173_952,
    "vit_giant_xformers": 1_012_173_952,
    "vit_giant_xformers_384": 1_012_173_952,
    "vit_gigantic": 1_598_483_328,
    "vit_gigantic_xformers": 1_598_483_328,
}


def tiny(seed: int = 0, **changes: object) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Encoder(replace(TINY, **changes))


def clip(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_released_giant_of_384_pixels() -> None:
    config = PUBLISHED["vit_giant_xformers_384"]
    assert (config.size, config.heads, config.grid) == (384, 22, (32, 24, 24))


def test_every_published_size_is_counted() -> None:
    assert set(COUNTS) == set(PUBLISHED)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_parameter_count(name: str) -> None:
    with torch.device("meta"):
        encoder = Encoder(PUBLISHED[name])
    assert sum(p.numel() for p in encoder.parameters()) == COUNTS[name]
    assert set(encoder.state_dict()) == {name for name, _ in encoder.named_parameters()}


@pytest.mark.parametrize(
    ("frames", "size", "tokens"), [(16, 256, 2048), (64, 256, 8192), (64, 384, 18432)]
)
def test_progressive_resolution_at_full_size(frames: int, size: int, tokens: int) -> None:
    with torch.device("meta"):
        encoder = Encoder(PUBLISHED["vit_large"])
        video = torch.empty(1, 3, frames, size, size)
        assert encoder(video).shape == (1, tokens, 1024)


@pytest.mark.parametrize("shape", [(4, 32, 32), (16, 48, 48), (2, 24, 40), (6, 8, 88)])
@torch.no_grad()
def test_same_weights_other_sizes(shape: tuple[int, int, int]) -> None:
    encoder = tiny()
    frames, height, width = shape
    out = encoder(clip(1, 3, *shape))
    assert out.shape == (1, frames // 2 * (height // 8) * (width // 8), 48)
    assert out.isfinite().all()


@torch.no_grad()
def test_positions_follow_the_actual_grid() -> None:
    encoder = tiny()
    for block in encoder.blocks:
        block.attn.qkv.weight.mul_(20)  # attention sharp enough for positions to matter
    pixels = clip(1, 3, 2, 8, 16)
    beside = torch.cat([pixels[..., :8], pixels[..., 8:]], dim=-1)
    above = torch.cat([pixels[..., :8], pixels[..., 8:]], dim=-2)
    assert torch.equal(
        encoder.patch_embed(beside, (1, 1, 2)), encoder.patch_embed(above, (1, 2, 1))
    )
    assert (encoder(beside) - encoder(above)).abs().max() > 1e-3


@torch.no_grad()
def test_tokens_see_only_kept_tokens() -> None:
    encoder, video = tiny(), clip(2, 3, 4, 32, 32)
    index = torch.tensor([[0, 5, 17, 30], [2, 3, 16, 31]])
    before = encoder(video, index)
    changed = video.clone()
    changed[:, :, :, 8:16, 24:] += 3.0  # tokens 7 and 23: kept by neither clip
    assert torch.equal(encoder(changed, index), before)
    assert not torch.allclose(encoder(changed), encoder(video))


@torch.no_grad()
def test_order_of_kept_tokens_is_free() -> None:
    encoder, video = tiny(), clip(1, 3, 4, 32, 32)
    index, order = torch.tensor([[4, 9, 1, 28, 13]]), torch.tensor([3, 0, 4, 2, 1])
    assert torch.allclose(
        encoder(video, index[:, order]), encoder(video, index)[:, order], atol=1e-5
    )
    everything = torch.arange(32)[None]
    assert torch.allclose(encoder(video, everything), encoder(video), atol=1e-5)


@pytest.mark.parametrize("how", ["selective", "full"])
def test_checkpointing_changes_no_gradient(how: Checkpointing) -> None:
    plain, spared = tiny(), tiny()
    spared.activation_checkpointing = how
    spared.load_state_dict(plain.state_dict())
    video = clip(2, 3, 4, 32, 32)
    for encoder in (plain, spared):
        encoder(video, torch.tensor([[0, 7], [1, 2]])).square().sum().backward()
    for one, other in zip(plain.parameters(), spared.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@torch.no_grad()
def test_frames_are_encoded_alone() -> None:
    encoder, frames = tiny(), clip(2, 3, 5, 32, 32)
    tokens = encode_frames(encoder, frames)
    assert tokens.shape == (2, 5 * 16, 48)
    assert torch.allclose(tokens.mean(dim=-1), torch.zeros(2, 80), atol=1e-6)
    doubled = frames[:, :, 2:3].repeat(1, 1, 2, 1, 1)
    alone = torch.nn.functional.layer_norm(encoder(doubled), (48,))
    assert torch.allclose(tokens[:, 32:48], alone, atol=1e-6)
    later = frames.clone()
    later[:, :, 3:] = 0
    assert torch.equal(encode_frames(encoder, later)[:, :48], tokens[:, :48])


@torch.no_grad()
def test_initial_scale() -> None:
    encoder = tiny(depth=3, width=96, mlp_hidden=384)
    for number, block in enumerate(encoder.blocks, start=1):
        assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        shrunk = 0.02 / (2 * number) ** 0.5
        assert block.mlp.fc2.weight.std().item() == pytest.approx(shrunk, rel=0.05)
        assert block.attn.proj.weight.std().item() == pytest.approx(shrunk, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 4, 4, 32, 32), r"3 channels; found \[1, 4, 4, 32, 32\]"),
        ((1, 4, 3, 32, 32), r"frames before channels"),
        ((1, 3, 3, 32, 32), r"frames must be a multiple of 2; found 3"),
        ((1, 3, 4, 30, 32), r"height must be a multiple of 8; found 30"),
        ((1, 3, 4, 32, 36), r"width must be a multiple of 8; found 36"),
        ((3, 4, 32, 32), r"\[B, 3, T, H, W\]; found \[3, 4, 32, 32\]"),
    ],
)
def test_bad_video(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny()(torch.zeros(shape))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float64, torch.float16])
def test_bad_kind_of_number(kind: torch.dtype) -> None:
    video = torch.zeros(1, 3, 4, 32, 32, dtype=kind)
    with pytest.raises(ValueError, match=f"a video is torch.float32, normalised; found {kind}"):
        tiny()(video)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tiny()(torch.zeros(1, 3, 4, 32, 32, dtype=torch.bfloat16)).shape == (1, 32, 48)
        with pytest.raises(ValueError, match=r"found torch\.float64"):
            tiny()(torch.zeros(1, 3, 4, 32, 32, dtype=torch.float64))


def test_bad_frames() -> None:
    with pytest.raises(ValueError, match=r"frames are \[B, 3, T, H, W\]; found \[3, 4, 32, 32\]"):
        encode_frames(tiny(), torch.zeros(3, 4, 32, 32))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (torch.tensor([[0, 32]]), r"0 … 31 \(32 tokens\); found 0 … 32"),
        (torch.tensor([[-1, 3]]), r"found -1 … 3"),
        (torch.tensor([0, 3]), r"\[1, K\]; found torch.int64 of shape \[2\]"),
        (torch.tensor([[0.0, 3.0]]), r"found torch.float32"),
        (torch.zeros(2, 3, dtype=torch.int64), r"\[1, K\]; found torch.int64 of shape \[2, 3\]"),
        (torch.zeros(1, 0, dtype=torch.int64), r"no token"),
    ],
)
def test_bad_index(index: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny()(torch.zeros(1, 3, 4, 32, 32), index)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 5}, "width 48 cannot be divided among 5 heads"),
        ({"size": 30}, "do not divide into tubelets"),
        ({"depth": -1}, "EncoderConfig.depth is -1"),
        ({"numerics": "fixed"}, "allowed: corrected, official"),
    ],
)
def test_bad_config(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **changes)


def test_unknown_layer() -> None:
    with pytest.raises(ValueError, match=r"blocks 0 … 1; found \[2\]"):
        tiny().features(torch.zeros(1, 3, 4, 32, 32), [2])
