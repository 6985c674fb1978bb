"""Features of every robot frame, computed once: the encoder is frozen and the crop is fixed.

Each frame is repeated to one tubelet, encoded alone and layer-normed (V-JEPA 2-AC, section 3.1), so
its features are the same in whatever window it stands. They lie in the run's scratch as one array a
group of episodes; a run that was killed goes on with the groups that are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.encoder import encode_frames
from models.preprocessing import Preprocessing, prepare
from pipelines.planner.weights import open_encoder
from pipelines.robot.episode_shards import load_episode
from pipelines.stage import Workspace
from pipelines.training.loop import one_thread_on
from pipelines.training.robot_windows import Episode
from storage.artifacts import Artifact
from storage.places import sync
from storage.work import KeptFile, Work

_EPISODES = 16  # per group
_FRAMES = 32  # encoded at once
DTYPES = {"float16": np.float16, "float32": np.float32}


@dataclass(frozen=True)
class Group:
    """One unit of work."""

    encoder: Artifact
    episodes: tuple[Episode, ...]
    preprocessing: Preprocessing
    dtype: str
    device: str
    work: Work
    target: str


class FrameFeatures:
    """[frames of all episodes, HW, D] as one array, mapped from the groups' files."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts = [np.load(path, mmap_mode="r") for path in parts]
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        """Features [*rows.shape, HW, D] float32 of some frames."""
        flat = rows.reshape(-1)
        where = np.searchsorted(self._ends, flat, side="right")
        starts = np.concatenate([[0], self._ends])[where]
        taken = [self._parts[part][row] for part, row in zip(where, flat - starts, strict=True)]
        return torch.from_numpy(np.stack(taken)).float().unflatten(0, rows.shape)


@dataclass(frozen=True)
class CachedFeatures:
    """The features of all frames, in files that tasks kept, in the order of the episodes."""

    work: Work
    files: tuple[KeptFile, ...]

    def open(self) -> FrameFeatures:
        """The features on this machine; files of others are fetched."""
        return FrameFeatures([self.work.file(kept) for kept in self.files])


def cache_features(
    encoder: Artifact,
    episodes: Sequence[Episode],
    preprocessing: Preprocessing,
    dtype: str,
    out: Workspace,
) -> CachedFeatures:
    """Encode every frame of all episodes with an artifact's target encoder, on Ray.

    Returns a handle that every worker can open.
    """
    groups = {}
    for start in range(0, len(episodes), _EPISODES):
        name = f"{start // _EPISODES:06d}"
        group = tuple(episodes[start : start + _EPISODES])
        device, target = out.execution.device, f"scratch/features/{name}.npy"
        groups[name] = Group(encoder, group, preprocessing, dtype, device, out.work, target)
    out.map(encode_group, groups, noun="groups of episodes")
    return CachedFeatures(out.work, tuple(out.kept[g.target] for g in groups.values()))


def encode_group(group: Group) -> int:
    """Write the features of a group's frames; returns their number."""
    device = torch.device(group.device)
    with one_thread_on(device), torch.inference_mode():
        encoder = open_encoder(group.encoder, group.device)
        done = []
        for episode in group.episodes:
            frames, _ = load_episode(episode.artifact, episode.row)
            for chunk in torch.from_numpy(frames).split(_FRAMES):
                pictures = prepare(chunk.to(device), group.preprocessing)
                done.append(encode_frames(encoder, pictures[:, :, None]).float().cpu().numpy())
    features = np.concatenate(done).astype(DTYPES[group.dtype])
    with group.work.room() as room:
        np.save(room / "features.npy", features, allow_pickle=False)
        sync(room / "features.npy")
        group.work.keep(room / "features.npy", group.target)
    return len(features)
