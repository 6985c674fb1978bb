"""What the generated internet shows: the theme of one source, and the style of all."""

from __future__ import annotations

from typing import Annotated, Literal

from pipelines.curation.backdrops import THEMES
from pipelines.curation.camera import MOVES
from pipelines.curation.shots import MOTIONS
from pipelines.settings import ASCENDING, NOT_EMPTY, Count, Natural, Share, at_least, settings

_Pixels = Annotated[int, at_least(16)]
_Seconds = Annotated[float, at_least(0.2)]


@settings
class Theme:
    """What the files of one source show."""

    backdrops: tuple[str, ...] = ()
    """Backgrounds that occur, by their names in `backdrops`; none where an arm moves."""
    edited: Natural = 0
    """0: a file is one shot; 1: it is cut together from `StyleConfig.shots`; 2: from twice as many.
    """
    labels: Literal["motion", "shape"] | None = None
    """"motion": clips labelled with their law of motion; "shape": stills labelled with what they
    show; None: no labels."""
    moves: Literal["body", "camera", "arm"] = "body"
    """What moves: a body before its background, the whole picture, without a body, or a robot's arm
    in one laboratory after another (`pipelines.robot.films`)."""
    validation: Annotated[tuple[Natural, Count], ASCENDING] = (1, 4)
    """(held out, of how many) rounds of labelled files; a round has one file of every class."""
    validation_files: Natural = 0
    """Among how many of the first files any are held out; 0: among all."""
    broken: bool = False
    """Whether some of its files are broken downloads."""

    def __post_init__(self) -> None:
        if self.moves == "arm":
            if self.backdrops or self.edited or self.labels:
                raise ValueError(
                    'moves = "arm" films laboratories, in one shot and without labels; leave out '
                    "backdrops, edited and labels"
                )
        elif not self.backdrops:
            raise ValueError(f"backdrops names none; there are {', '.join(THEMES)}")
        if unknown := sorted(set(self.backdrops) - set(THEMES)):
            raise ValueError(f"backdrops names {unknown[0]!r}; there are {', '.join(THEMES)}")
        if self.labels == "shape" and self.moves == "camera":
            raise ValueError(
                'labels = "shape" makes stills, and moves = "camera" needs clips; set labels to '
                '"motion", or moves to "body"'
            )

    @property
    def motions(self) -> tuple[str, ...]:
        """The laws of motion that occur."""
        return MOVES if self.moves == "camera" else tuple(MOTIONS)


@settings
class StyleConfig:
    """What all sources of the generated internet have in common."""

    seed: Natural = 0
    """Another seed is another internet."""
    sides: Annotated[tuple[_Pixels, _Pixels], ASCENDING] = (96, 144)
    """Shortest and longest shorter side of a video of a body, pixels."""
    rates: Annotated[tuple[Count, ...], NOT_EMPTY] = (12, 15, 20, 24, 25, 30)
    """Frames a second that occur in videos of a body."""
    shots: Annotated[tuple[Count, Count], ASCENDING] = (2, 4)
    """Fewest and most shots of an edited video."""
    shot_seconds: Annotated[tuple[_Seconds, _Seconds], ASCENDING] = (2.2, 4.0)
    """Shortest and longest shot of an edited video."""
    clip_seconds: Annotated[tuple[_Seconds, _Seconds], ASCENDING] = (2.2, 3.2)
    """Shortest and longest single-shot clip of a body."""
    camera_seconds: Annotated[tuple[_Seconds, _Seconds], ASCENDING] = (1.4, 1.9)
    """Shortest and longest single-shot clip of a moving camera or arm."""
    camera_sides: Annotated[tuple[_Pixels, _Pixels], ASCENDING] = (48, 64)
    """Shortest and longest shorter side of a video of a moving camera or arm, pixels."""
    camera_rates: Annotated[tuple[Count, ...], NOT_EMPTY] = (12, 15, 16, 20)
    """Frames a second that occur in videos of a moving camera."""
    arm_rates: Annotated[tuple[Count, ...], NOT_EMPTY] = (8, 10, 12)
    """Frames a second that occur in films of an arm; every frame costs milliseconds."""
    fades: Share = 0.2
    """Share of transitions that fade through black; the others are hard cuts."""
