"""Claims: real clips out of real shards are shown as documented: even squares for testing, random
windows in training, never mirrored, and a still has no motion but the same picture; a clip
whose bytes changed is not shown."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from pipelines.evaluation.splits import labelled_clips
from pipelines.evaluation.views import ViewConfig, shown, stilled, views_of
from storage.errors import InputError
from storage.handles import Artifact
from storage.payloads import LocalPayload
from tests.pipelines.builders import artifact
from tests.pipelines.evaluation.material import write_clips

VIEWS = ViewConfig(
    frames=4, size=32, segments=1, views=1, crop_scale=(0.5, 0.8), crop_aspect=(1.0, 1.0)
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = write_clips(tmp_path_factory.mktemp("shards"), {"train": 2, "validation": 2})
    return labelled_clips({"ssv2": artifact(folder, "clip_shards/ssv2")}, "ssv2")


def test_testing_views_are_even_squares_and_stills_do_not_move(clips):
    config = replace(VIEWS, views=3, segments=2)
    views = views_of(clips[-1], config)
    assert clips[-1].split == "validation" and views.shape == (3, 2, 3, 4, 32, 32)
    left, middle, right = (view[0, 0].sum(0) for view in views)
    # The window slides right over the picture, so its contents slide left.
    assert torch.allclose(left[:, 8:30], right[:, :22], atol=0.6)
    assert not torch.allclose(left, middle, atol=0.1)
    assert not torch.equal(views[1][0, :, 0], views[1][0, :, -1])
    still = stilled(views)
    assert still.shape == views.shape
    assert torch.equal(still, views[:, :, :, 2:3].expand_as(views))


def test_a_clip_whose_bytes_changed_is_not_shown(clips, tmp_path):
    clip = clips[0]
    shutil.copytree(clip.shards.payload.root, tmp_path / "damaged")
    with (tmp_path / "damaged" / clip.shard).open("r+b") as file:
        file.seek(clip.offset + clip.size // 2)
        file.write(b"damaged!")
    damaged = Artifact(clip.shards.manifest, LocalPayload(tmp_path / "damaged"))
    with pytest.raises(InputError, match=r"ssv2: shards/000000.tar: .* do not fit their digest"):
        views_of(replace(clip, shards=damaged), VIEWS)


def test_training_views_differ_and_are_never_mirrored(clips):
    clip, config = clips[1], replace(VIEWS, train_views=4)
    assert (clip.split, clip.label) == ("train", "right")
    views = views_of(clip, config)
    assert len(views) == 4 and not torch.equal(views[0], views[1])
    for view in views:
        bright = view[0, 0].clamp_min(0).sum(1)  # [T, W]
        seen = bright[bright.sum(1) > 0]
        where = (seen * torch.arange(32)).sum(1) / seen.sum(1)
        assert len(where) > 1 and where[-1] > where[0]
    assert torch.equal(views_of(clip, config), views)
    assert torch.equal(shown(clips[1:2], config)[0], views)
