"""Questions about films that were made, in each benchmark's own schema, with known answers.

A film shows a texture that the camera pans over, zooms into or rolls on, so the answer is what was
drawn; of a minimal pair both films show the same texture, and one moves the other way. What is
asked never depends on looks: text alone tells no answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelines.curation.camera import MOVES
from pipelines.curation.shots import Shot, draw
from storage.digests import unit_interval
from storage.video import encode

OPPOSITE = dict(zip(MOVES, (MOVES[n ^ 1] for n in range(len(MOVES))), strict=True))
SAID = {
    "left": "to the left", "right": "to the right", "up": "upwards", "down": "downwards",
    "zoom_in": "closer", "zoom_out": "further away", "roll_left": "counter-clockwise",
    "roll_right": "clockwise",
}  # fmt: skip
ASKED = "How does the picture move?"
_LOOKS, _SECONDS, _FPS = ("foliage", "bricks", "paper", "tiles"), 1.6, 12


@dataclass(frozen=True)
class Scene:
    """One film: a scene, and how the picture moves."""

    number: int
    move: str
    seed: int

    @property
    def name(self) -> str:
        """What the film is called."""
        return f"scene-{self.number:04d}-{self.move}"

    @property
    def path(self) -> str:
        """Where the film lies."""
        return f"videos/simulated/{self.name}.mp4"


def filmed(scene: Scene) -> bytes:
    """The bytes of a film; scenes of one number show the same texture."""
    key = ("video_qa", scene.seed, scene.number)
    shot = Shot(key, _LOOKS[scene.number % len(_LOOKS)], scene.move, _SECONDS)
    return encode(draw(shot, 48, 64, _FPS), _FPS).data


def scenes_of(count: int, seed: int) -> list[Scene]:
    """So many scenes in pairs: a move, and its opposite over the same texture."""
    made = []
    for number in range(count // 2):
        move = MOVES[int(unit_interval(seed, number, "move") * len(MOVES))]
        made += [Scene(number, move, seed), Scene(number, OPPOSITE[move], seed)]
    return made


def _options(scene: Scene, count: int) -> list[str]:
    """Options in an order that the scene's number alone gives; the opposite is among them."""
    first = sorted({scene.move, OPPOSITE[scene.move]})
    others = [m for m in MOVES if m not in first]
    turn = scene.number % len(others)
    chosen = (first + others[turn:] + others[:turn])[:count]
    order = sorted(chosen, key=lambda move: unit_interval(scene.seed, scene.number, move))
    return [SAID[move] for move in order]


Files = Mapping[str, object]


def _perception_test(scenes: Sequence[Scene]) -> Files:
    videos = {}
    for scene in scenes:
        options = _options(scene, 3)
        videos[scene.path] = {
            "metadata": {"split": "valid", "video_id": scene.path, "frame_rate": _FPS},
            "mc_question": [{
                "id": 0, "question": ASKED, "options": options, "area": "physics",
                "answer_id": options.index(SAID[scene.move]), "reasoning": "descriptive",
                "tag": ["motion"],
            }],
        }  # fmt: skip
    return {"mc_question_valid.json": videos}


def _minimal_pairs(scenes: Sequence[Scene]) -> Files:
    files: dict[str, list[object]] = {}
    for place, scene in enumerate(scenes):
        rolls = scene.move.startswith("roll")
        name = "temporal_reasoning.json" if rolls else "intuitive_physics.json"
        files.setdefault(name, []).append({
            "video_id": f"pair{scene.number}_{place % 2}", "video_path": scene.path,
            "question": ASKED, "candidates": _options(scene, 2), "answer": SAID[scene.move],
            "source": "made",
        })  # fmt: skip
    return files


def _temp_compass(scenes: Sequence[Scene]) -> Files:
    choice, yes_no, matching = {}, {}, {}
    for scene in scenes:
        options = _options(scene, 4)
        lines = [f"{letter}. {text}" for letter, text in zip("ABCD", options, strict=True)]
        answer = lines[options.index(SAID[scene.move])]
        choice[scene.path] = {"direction": [
            {"question": "\n".join([ASKED, *lines]), "answer": answer}
        ]}  # fmt: skip
        asked = _options(scene, 2)[0]
        yes_no[scene.path] = {"direction": [
            {"question": f"Does the picture move {asked}?",
             "answer": "yes" if asked == SAID[scene.move] else "no"}
        ]}  # fmt: skip
        pair = [f"The picture moves {text}." for text in _options(scene, 2)]
        told = [f"Sentence {letter}: {text}" for letter, text in zip("AB", pair, strict=True)]
        matching[scene.path] = {"direction": [{
            "question": "\n".join(["Which sentence matches the video?", *told]),
            "answer": told[pair.index(f"The picture moves {SAID[scene.move]}.")],
        }]}  # fmt: skip
    return {"multi-choice.json": choice, "yes_no.json": yes_no, "caption_matching.json": matching}


def _temporal_bench(scenes: Sequence[Scene]) -> Files:
    rows: list[object] = []
    for scene in scenes:
        for turn in range(2):
            options = _options(scene, 2)[:: -1 if turn else 1]
            rows.append({
                "idx": len(rows), "video_name": scene.path, "dataset": "made", "category": 5,
                "question": f"{ASKED}\nA. {options[0]}\nB. {options[1]}",
                "GT": "AB"[options.index(SAID[scene.move])],
            })  # fmt: skip
    return {"temporalbench_short_qa.json": rows}


def _tomato(scenes: Sequence[Scene]) -> Files:
    files: dict[str, dict[str, object]] = {}
    for place, scene in enumerate(scenes):
        options = _options(scene, 4)
        name = "rotation.json" if scene.move.startswith("roll") else "direction.json"
        files.setdefault(name, {})[str(place)] = {
            "question": ASKED, "options": options, "answer": options.index(SAID[scene.move]),
            "key": scene.name, "motion_type": scene.move, "variation": {}, "note": "",
            "demonstration_type": "simulated", "video_source_url": "",
        }  # fmt: skip
    return files


def _by_subtask(scenes: Sequence[Scene]) -> Files:
    files: dict[str, list[object]] = {}
    for scene in scenes:
        rolls = scene.move.startswith(("roll", "zoom"))
        name = "action_antonym.json" if rolls else "moving_direction.json"
        files.setdefault(name, []).append({
            "video": scene.path, "question": ASKED, "candidates": _options(scene, 3),
            "answer": SAID[scene.move],
        })  # fmt: skip
    return files


_WRITERS: Mapping[str, Callable[[Sequence[Scene]], Files]] = {
    "perceptiontest": _perception_test, "mvp": _minimal_pairs, "tempcompass": _temp_compass,
    "temporalbench": _temporal_bench, "tomato": _tomato, "tvbench": _by_subtask,
    "mvbench": _by_subtask,
}  # fmt: skip


def question_files(benchmark: str, scenes: Sequence[Scene]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the benchmark's own files."""
    for name, content in _WRITERS[benchmark](scenes).items():
        yield name, json.dumps(content, indent=1).encode()
