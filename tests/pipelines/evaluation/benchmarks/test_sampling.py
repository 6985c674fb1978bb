"""Claims: frames and crops are those that the released code takes, by cases that were worked out by
hand; the fixed rule keeps the step; augmentation treats the frames of a clip alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.evaluation.benchmarks import pixels
from pipelines.evaluation.benchmarks.augmentation import OPERATIONS, augmented, rand_augment
from pipelines.evaluation.benchmarks.sampling import fixed_indices, is_short, official_indices


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


HELD = numbers("0 4 9 13 18 22 27 31 36 40 44 44 44 44 44 44")
GOLDEN = [
    ((46, 16, 4, 2), (HELD, HELD)),
    ((100, 16, 4, 2), (
        numbers("0 4 9 13 18 22 27 31 36 40 45 49 54 58 62 62"),
        numbers("36 40 45 49 54 58 63 67 72 76 81 85 90 94 98 98"),
    )),
    ((12, 4, 2, 2), ([0, 3, 6, 6], [4, 7, 10, 10])),
    ((7, 4, 2, 2), ([0, 3, 5, 5], [0, 3, 5, 5])),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "rows"), GOLDEN)
def test_short_parts_give_the_released_indices(asked: tuple[int, ...], rows: object) -> None:
    assert official_indices(*asked, (0.9, 0.1)).tolist() == list(rows)  # type: ignore[arg-type, call-overload]


def test_long_parts_give_the_released_indices() -> None:
    drawn = ((64 - 64) / 86, (149 - 64) / 86)  # windows that end at 64 and, in its part, at 149
    found = official_indices(300, 16, 4, 2, drawn)
    assert found[0].tolist() == numbers("0 4 8 12 17 21 25 29 34 38 42 46 51 55 59 63")
    assert found[1].tolist() == numbers(
        "235 239 243 247 252 256 260 264 269 273 277 281 286 290 294 298"
    )


def test_the_fixed_rule_keeps_the_step_and_spreads_the_segments() -> None:
    middle = (0.5,) * 8
    found = fixed_indices(300, 16, 4, 8, middle)
    assert set(np.diff(found).ravel().tolist()) == {4}
    assert found[0, 0] < found[-1, 0] and found.max() <= 299
    starts = found[:, 0]
    assert set(np.diff(starts).tolist()) <= {29, 30}
    assert starts[0] + found[-1, -1] == pytest.approx(299, abs=1), "as far from either end"
    assert fixed_indices(5, 4, 2, 1, (0.5,)).tolist() == [[0, 2, 4, 4]]


def test_films_too_short_for_a_clip_are_told_and_of_one_frame_refused() -> None:
    assert is_short(46, 16, 4) and not is_short(61, 16, 4)
    for rule in (official_indices, fixed_indices):
        with pytest.raises(ValueError, match="it has 1 frame; a clip needs two or more"):
            rule(1, 4, 2, 1, (0.5,))


def test_views_lie_where_the_released_code_cuts_them() -> None:
    assert pixels.resized_to(240, 320, 256) == (256, 341)
    assert pixels.starts_of(256, 341, 256, 3) == [0, 42, 84]
    assert pixels.resized_to(1080, 1920, 384) == (384, 682)
    assert pixels.starts_of(384, 682, 384, 3) == [0, 149, 298]
    assert pixels.starts_of(256, 256, 256, 3) == [0, 0, 0]
    assert [int(r * 256 / 224) for r in (256, 384)] == [292, 438]


def test_views_of_a_portrait_move_down_and_one_view_is_the_middle() -> None:
    column = np.broadcast_to(np.arange(96, dtype=np.uint8)[:, None, None], (96, 32, 3))[None]
    views = pixels.validation_views(np.ascontiguousarray(column), 32, 3)
    assert views.shape == (3, 3, 1, 32, 32)
    tops = (views[:, 0, 0, 0, 0] * 0.229 + 0.485) * 255
    assert tops.round().tolist() == [0, 32, 64]
    [one] = pixels.validation_views(np.ascontiguousarray(column), 28, 1)
    assert one.shape == (3, 1, 28, 28)
    assert ((one[0, 0, 0, 0] * 0.229 + 0.485) * 255).round() == 34


def test_resizing_rounds_as_whole_numbers_do() -> None:
    import cv2  # as sharp as the released code: it resizes with this

    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    want = cv2.resize(picture, (48, 32), interpolation=cv2.INTER_LINEAR)[:, :32]
    found = pixels.validation_views(picture[None], 32, 3)[0, :, 0]
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (pixels.IMAGENET_MEAN, pixels.IMAGENET_STD)
    )
    back = ((found * std + mean) * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(back - want).max() <= 1


def test_augmentation_treats_frames_alike_and_repeats_itself() -> None:
    frame = np.random.default_rng(1).integers(20, 200, (24, 32, 3), dtype=np.uint8)
    clip = np.stack([frame] * 3)
    assert len(OPERATIONS) == 15
    changed = 0
    for name in OPERATIONS:
        for strength in (0.7, -0.7):
            out = augmented(clip, name, strength)
            assert out.shape == clip.shape and out.dtype == np.uint8
            assert (out == out[0]).all(), name
            changed += bool((out != clip).any())
    assert changed == 30
    seeded = [rand_augment(clip, np.random.default_rng(5)) for _ in range(2)]
    assert (seeded[0] == seeded[1]).all()
    applied = sum((rand_augment(clip, np.random.default_rng(n)) != clip).any() for n in range(40))
    assert 30 <= applied < 40, "four tries at one half leave one clip of sixteen as it is"


def test_training_views_are_cropped_erased_and_never_mirrored_by_default() -> None:
    bright = np.zeros((2, 40, 40, 3), np.uint8)
    views = [pixels.training_view(bright, 16, np.random.default_rng(n)) for n in range(60)]
    assert all(view.shape == (3, 2, 16, 16) for view in views)
    noisy = [v for v in views if len(v[0, 0].unique()) > 20]
    assert 5 <= len(noisy) <= 28, "a quarter"
    assert not torch.equal(noisy[0][:, 0], noisy[0][:, 1]), "each frame has noise of its own"
    random = np.random.default_rng(3)
    boxes = [pixels.crop_box(30, 40, random) for _ in range(200)]
    shares = [h * w / 1200 for _, _, h, w in boxes]
    assert min(shares) > 0.06 and max(shares) > 0.8
    assert all(0 <= t <= 30 - h and 0 <= left <= 40 - w for t, left, h, w in boxes)
