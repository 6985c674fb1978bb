"""The classification benchmarks of the paper: files, classes, protocol and published numbers.

Protocols are those of ViT-L (V-JEPA 2, tables 15 and 16, and the released configurations); where
the two disagree the paper's is taken and `differs` says what the configuration has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.curation.annotations.formats import FormatName


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark; its name is a partition."""

    name: str
    title: str
    format: FormatName
    """How its annotation files are read."""
    classes: int
    listed: tuple[int, int]
    """Published sizes of train and validation."""
    frames: int = 16
    """Frames of a clip."""
    step: int = 4
    """Frames of the film from one frame of a clip to the next."""
    segments: int = 8
    views: int = 3
    layers: tuple[int, ...] = ()
    """Blocks of ViT-L whose tokens are probed together; none: the last alone."""
    epochs: int = 20
    batch: int = 256
    lrs: tuple[float, ...] = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    weight_decays: tuple[float, ...] = (0.8, 0.4, 0.1, 0.01)
    flip: float = 0.0
    """Probability that a training clip is mirrored; no video probe of the paper does it."""
    images: bool = False
    paper: Mapping[str, float] = field(default_factory=dict)
    """Model size -> published top-1 accuracy, percent."""
    differs: str = ""


def _sizes(large: float, huge: float, giant: float, giant_384: float) -> dict[str, float]:
    return {"vit_large": large, "vit_huge": huge, "vit_giant": giant, "vit_giant_384": giant_384}


_MOTION = {
    "frames": 32, "step": 2, "segments": 4, "layers": (17, 19, 21, 23), "epochs": 100,
    "batch": 128, "lrs": (1e-3, 3e-4, 1e-4), "weight_decays": (0.8,),
}  # fmt: skip

BENCHMARKS: Mapping[str, Benchmark] = {
    b.name: b
    for b in (
        Benchmark(
            name="ssv2", title="Something-Something v2", format="something-something-v2",
            classes=174, listed=(168_913, 24_777), segments=2, paper=_sizes(73.7, 74.0, 75.3, 77.3),
        ),
        Benchmark(
            name="diving48", title="Diving-48", format="diving-48", classes=48,
            listed=(15_027, 1_970), paper=_sizes(89.0, 89.8, 90.1, 90.2), **_MOTION,  # type: ignore[arg-type]
        ),
        Benchmark(
            name="jester", title="Jester", format="jester", classes=27,
            listed=(118_562, 14_787), paper=_sizes(97.6, 97.7, 97.7, 97.8), **_MOTION,  # type: ignore[arg-type]
        ),
        Benchmark(
            name="k400", title="Kinetics-400", format="kinetics", classes=400,
            listed=(241_258, 19_877), paper=_sizes(85.1, 85.3, 86.6, 87.3),
        ),
        Benchmark(
            name="coin", title="COIN", format="coin", classes=180, listed=(9_030, 2_797),
            frames=32, batch=128, paper=_sizes(86.8, 87.9, 90.7, 91.1),
            differs="the released configuration has 16 frames",
        ),
        Benchmark(
            name="in1k", title="ImageNet-1K", format="imagenet", classes=1000,
            listed=(1_281_167, 50_000), segments=1, views=1, batch=1024, flip=0.5, images=True,
            paper=_sizes(83.5, 83.8, 84.6, 85.1),
            differs="the released configuration has 21 other heads, and of ViT-g 18 frames of 384",
        ),
    )
}  # fmt: skip
"""Name -> benchmark."""
