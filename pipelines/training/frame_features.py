"""Features of every robot frame, computed once: the encoder is frozen and the crop is fixed.

Each frame is repeated to one tubelet, encoded alone and layer-normed (V-JEPA 2-AC, section 3.1), so
its features are the same in whatever window it stands. They are an artifact of their own: what
changes in a training encodes nothing again. Stage `frame_features`, a partition a lab.

Shapes: N frames of all episodes of a lab, in the order of its index; HW tokens of width D a frame.
Payload:
    <lab>/<group>.npy         [N, HW, D] float32 or float16; of float8 (e4m3) its bits as uint8
    <lab>/<group>.scale.npy   [N, HW] float32, with float8 alone: what a token's values were over
    features.json             encoder, dtype, preprocessing; lab -> episode_shards, groups, frames
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from models.encoder import encode_frames
from models.preprocessing import Preprocessing, prepare
from pipelines.planner.weights import open_encoder
from pipelines.robot.episode_shards import load_episode
from pipelines.settings import settings
from pipelines.stage import Inputs, Stage, Workspace
from pipelines.training.loop import one_thread_on
from pipelines.training.robot_windows import Episode, read_episodes
from storage.artifacts import Artifact
from storage.errors import InputError
from storage.places import sync
from storage.work import Work

_EPISODES = 16  # per group
_FRAMES = 32  # encoded at once
_LARGEST = torch.finfo(torch.float8_e4m3fn).max


@settings
class FrameFeaturesConfig:
    """How robot frames are seen and kept; the defaults are the paper's, and half precision."""

    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(antialias=False))
    """How a camera frame becomes the encoder's input. The paper crops at random; a fixed crop (as
    in its released code) lets features be computed once."""
    dtype: Literal["float32", "float16", "float8"] = "float16"
    """How a feature is kept: "float8" is e4m3 with a scale for each token, half of float16."""


@dataclass(frozen=True)
class Group:
    """One unit of work."""

    encoder: Artifact
    episodes: tuple[Episode, ...]
    config: FrameFeaturesConfig
    device: str
    work: Work
    target: str
    """Path in the payload, without ending."""


@dataclass(frozen=True)
class Part:
    """The files of one group, on this machine."""

    values: Path
    scale: Path | None = None


def packed(features: Tensor, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Features [..., D] as they are kept, and of float8 the scale [...] of each token."""
    if dtype != "float8":
        return features.numpy().astype(dtype), None
    scale = features.abs().amax(-1).clamp_min(torch.finfo(torch.float32).tiny) / _LARGEST
    small = (features / scale[..., None]).to(torch.float8_e4m3fn)
    return small.view(torch.uint8).numpy(), scale.numpy()


def unpacked(values: np.ndarray, scale: np.ndarray | None) -> Tensor:
    """The inverse: float32 [..., D]."""
    kept = torch.from_numpy(values)
    if scale is None:
        return kept.float()
    return kept.view(torch.float8_e4m3fn).float() * torch.from_numpy(scale)[..., None]


class FrameFeatures:
    """[frames of all episodes, HW, D] as one array, mapped from the groups' files."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = [
            (np.load(p.values, mmap_mode="r"), p.scale and np.load(p.scale, mmap_mode="r"))
            for p in parts
        ]
        self._ends = np.cumsum([len(values) for values, _ in self._parts])

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        """Features [*rows.shape, HW, D] float32 of some frames."""
        flat = rows.reshape(-1)
        where = np.searchsorted(self._ends, flat, side="right")
        starts = np.concatenate([[0], self._ends])[where]
        taken = [self._parts[part] for part in where]
        places = (flat - starts).tolist()
        values = np.stack([kept[at] for (kept, _), at in zip(taken, places, strict=True)])
        scales = [
            scale[at] for (_, scale), at in zip(taken, places, strict=True) if scale is not None
        ]
        return unpacked(values, np.stack(scales) if scales else None).unflatten(0, rows.shape)


def encode_group(group: Group) -> int:
    """Write the features of a group's frames; returns their number."""
    device = torch.device(group.device)
    with one_thread_on(device), torch.inference_mode():
        encoder = open_encoder(group.encoder, group.device)
        done = []
        for episode in group.episodes:
            frames, _ = load_episode(episode.artifact, episode.row)
            for chunk in torch.from_numpy(frames).split(_FRAMES):
                pictures = prepare(chunk.to(device), group.config.preprocessing)
                done.append(encode_frames(encoder, pictures[:, :, None]).float().cpu())
        values, scale = packed(torch.cat(done), group.config.dtype)
    _keep(group, values, ".npy")
    if scale is not None:
        _keep(group, scale, ".scale.npy")
    return len(values)


def _keep(group: Group, array: np.ndarray, ending: str) -> None:
    with group.work.room() as room:
        np.save(room / "array.npy", array, allow_pickle=False)
        sync(room / "array.npy")
        group.work.keep(room / "array.npy", f"payload/{group.target}{ending}")


def run(config: FrameFeaturesConfig, inputs: Inputs, out: Workspace) -> dict[str, Any]:
    """Encode every frame of the labs that are read with the target encoder, on Ray."""
    encoder, shards = inputs["cooled_encoder"], inputs.parts("episode_shards")
    groups, labs, seconds = {}, {}, 0.0
    for lab, artifact in sorted(shards.items()):
        episodes = read_episodes({lab: artifact})
        seconds += sum(len(episode) / episode.row["fps"] for episode in episodes)
        names = []
        for start in range(0, len(episodes), _EPISODES):
            names.append(f"{lab}/{start // _EPISODES:06d}")
            groups[names[-1]] = Group(
                encoder, tuple(episodes[start : start + _EPISODES]), config, out.execution.device,
                out.work, names[-1],
            )  # fmt: skip
        frames = sum(map(len, episodes))
        labs[lab] = {"shards": artifact.content, "groups": names, "frames": frames}
    out.map(encode_group, groups, noun="groups of episodes encoded")
    told = {"encoder": encoder.content, "labs": labs, **asdict(config)}
    (out.payload / "features.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    size = sum(kept.size for kept in out.kept.values())
    return {
        "frames": sum(lab["frames"] for lab in labs.values()),
        "bytes": size,
        "bytes_per_hour": round(size / seconds * 3600),
    }


@dataclass(frozen=True)
class StoredFeatures:
    """The features of some labs, checked to be those of an encoder and of the labs' episodes."""

    artifacts: tuple[tuple[str, Artifact], ...]
    """(lab, the artifact that has it), lab by lab."""
    preprocessing: Preprocessing

    def open(self) -> FrameFeatures:
        """The features on this machine; files of others are fetched."""
        parts = []
        for lab, artifact in self.artifacts:
            told = artifact.json("features.json")
            for name in told["labs"][lab]["groups"]:
                scale = f"{name}.scale.npy"
                values = artifact.file(f"{name}.npy")
                parts.append(Part(values, artifact.file(scale) if artifact.has(scale) else None))
        return FrameFeatures(parts)


def stored_features(inputs: Inputs) -> StoredFeatures:
    """The `frame_features` of every lab whose `episode_shards` are among the inputs.

    Raises:
        InputError: those of a lab are missing, were made by another encoder, from other episodes or
            with frames prepared in another way.
    """
    shards, encoder = inputs.parts("episode_shards"), inputs["cooled_encoder"]
    found: dict[str, tuple[Artifact, Mapping[str, Any]]] = {}
    for artifact in inputs.parts("frame_features").values():
        told = artifact.json("features.json")
        found |= dict.fromkeys(told["labs"], (artifact, told))
    ways = {}
    for lab, episodes in sorted(shards.items()):
        if lab not in found:
            raise InputError(f"frame_features of {lab} are missing; make them first")
        artifact, told = found[lab]
        same = (told["encoder"], told["labs"][lab]["shards"])
        if same != (encoder.content, episodes.content):
            raise InputError(
                f"{artifact.manifest.name} holds features of another encoder, or of other episodes "
                f"of {lab}; make it again"
            )
        ways[json.dumps(told["preprocessing"], sort_keys=True)] = lab
    if len(ways) > 1:
        raise InputError(
            f"frames of {' and '.join(ways.values())} were prepared in different ways; make "
            "frame_features of all labs with one setting"
        )
    described = Preprocessing(**json.loads(next(iter(ways))))
    return StoredFeatures(tuple((lab, found[lab][0]) for lab in sorted(shards)), described)


STAGE = Stage("frame_features", version=1, config=FrameFeaturesConfig, run=run, on_device=True)
