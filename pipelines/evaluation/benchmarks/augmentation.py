"""RandAugment as the released probes are trained with: "rand-m7-n4-mstd0.5-inc1", bicubic.

Four operations of fifteen are drawn with replacement; each is applied with probability one half, at
a magnitude drawn from N(7, 0.5) and cut to 0 to 10, once for all frames of a clip (Cubuk et al.
2019, with the increasing variants of timm).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Pictures = NDArray[np.uint8]
Operation = Callable[[Image.Image, float], Image.Image]
OPERATIONS_A_CLIP, MAGNITUDE, SPREAD, LIKELY = 4, 7.0, 0.5, 0.5
_FILL = (124, 116, 104)  # ImageNet's mean: what comes in from beyond the edges
_BICUBIC = Image.Resampling.BICUBIC


def rand_augment(pictures: Pictures, random: np.random.Generator) -> Pictures:
    """Some operations, the same ones on every frame of [T, H, W, 3]."""
    names = list(OPERATIONS)
    for number in random.integers(len(names), size=OPERATIONS_A_CLIP).tolist():
        applied, level = random.random() < LIKELY, random.normal(MAGNITUDE, SPREAD)
        sign = 1.0 if random.random() < 0.5 else -1.0
        if applied:
            strength = sign * float(np.clip(level, 0, 10)) / 10
            pictures = augmented(pictures, names[number], strength)
    return pictures


def augmented(pictures: Pictures, name: str, strength: float) -> Pictures:
    """One operation of OPERATIONS on every frame; `strength` from -1 to 1, its sign a direction."""
    operation = OPERATIONS[name]
    frames = [np.asarray(operation(Image.fromarray(frame), strength)) for frame in pictures]
    return np.stack(frames)


def _affine(picture: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, resample=_BICUBIC, fillcolor=_FILL
    )


def _solarize_add(picture: Image.Image, strength: float) -> Image.Image:
    added = min(128, int(abs(strength) * 110))
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return picture.point(table * 3)


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda picture, strength: kind(picture).enhance(1.0 + 0.9 * strength)


OPERATIONS: Mapping[str, Operation] = {
    "AutoContrast": lambda picture, _: ImageOps.autocontrast(picture),
    "Equalize": lambda picture, _: ImageOps.equalize(picture),
    "Invert": lambda picture, _: ImageOps.invert(picture),
    "Rotate": lambda p, s: p.rotate(30 * s, resample=_BICUBIC, fillcolor=_FILL),
    "PosterizeIncreasing": lambda p, s: ImageOps.posterize(p, max(1, 4 - int(abs(s) * 4))),
    "SolarizeIncreasing": lambda p, s: ImageOps.solarize(p, 256 - int(abs(s) * 256)),
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _enhanced(ImageEnhance.Color),
    "ContrastIncreasing": _enhanced(ImageEnhance.Contrast),
    "BrightnessIncreasing": _enhanced(ImageEnhance.Brightness),
    "SharpnessIncreasing": _enhanced(ImageEnhance.Sharpness),
    "ShearX": lambda p, s: _affine(p, (1, 0.3 * s, 0, 0, 1, 0)),
    "ShearY": lambda p, s: _affine(p, (1, 0, 0, 0.3 * s, 1, 0)),
    "TranslateXRel": lambda p, s: _affine(p, (1, 0, 0.45 * s * p.size[0], 0, 1, 0)),
    "TranslateYRel": lambda p, s: _affine(p, (1, 0, 0, 0, 1, 0.45 * s * p.size[1])),
}
"""Name -> what it does to a picture."""
