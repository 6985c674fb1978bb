"""The command line `vjepa2`: run, compare, status, ledger, lineage, who-saw, takedown, cost,
verify, keys, export, clean, ui, settings.

Whatever a person can cure ends in one line on stderr and exit code 2, whether the command or a
stage found it; a check that is not passed is one line and exit code 1. Whatever else a stage breaks
at is a bug: its traceback, then one line, and exit code 1. Heavy libraries are imported by the
command that needs them, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

ABOUT = """\
From raw video and robot recordings to a planner that drives an arm: one graph of assets.

  raw_videos > scenes > scene_embeddings > clusters > curated_scenes > clip_shards > videomix22m
  clusters > near_duplicates > leakage_guard > curated_scenes > curation_report
  droid_episodes > episode_shards > frame_features
  encoder > cooled_encoder > frame_features > world_model
  cooled_encoder > probe_report;  world_model > planning_report > planner_bundle

Benchmarks of the encoder, or of released_weights, made only when they are named:
  benchmark_videos > benchmark_features > benchmark_report
  kitchen_films > anticipation_report;  video_qa_report

Studies, made only when they are named:
  mask_study, feature_study, learning_curve
  control_encoder > control_cooled_encoder > control_frame_features > control_world_model
  control_world_model > control_planning > robot_study
"""

EXAMPLES = """\
examples:
  vjepa2 run                          make all that is missing or stale, with the DEMO profile
  vjepa2 run encoder                  … only the encoder and what it is made from
  vjepa2 run scenes/yt1b-02           … only one partition
  vjepa2 run encoder --set encoder.lr=1e-3
  vjepa2 run encoder --as big-lr --set encoder.lr=5e-3    … beside the encoder that is shown
  vjepa2 compare encoder big-lr       settings that differ, curves over each other
  vjepa2 run raw_videos --set raw_videos.sources.yt1b.location=/my/videos
  vjepa2 run --profile laptop --store s3://bucket/prefix
  vjepa2 status                       what is fresh, stale or missing, and why
  vjepa2 status --set curated_scenes.weights.coin=0.2     what a change would make stale
  vjepa2 lineage planner_bundle       everything that an artifact was made from and went into
  vjepa2 lineage step-001100/encoder.safetensors     which config, code and data made this file
  vjepa2 who-saw a/b.mp4              which artifacts a video is in, how often it was drawn
  vjepa2 takedown a/b.mp4 --reason "withdrawn"    never use it again; what has to be made anew
  vjepa2 ledger yt1b --failed         each file that was set aside, not to be had, or is gone
  vjepa2 export planner_bundle out    its files, with card, bill of materials and signature
  vjepa2 cost --videos 1000           hours, bytes, core-days and GPU-days, from runs made here
  vjepa2 verify                       read every byte again; check digests, signatures and log
  vjepa2 clean --remove               remove what nothing refers to; without it, only show it
  vjepa2 ui                           the same graph in a browser, on 127.0.0.1
  vjepa2 settings                     every setting, its value and what it may be

Settings are named by their place in the profile (`vjepa2 settings` lists them all). A setting that
changes an artifact makes exactly the assets stale that depend on it.

environment:
  VJEPA2_PROFILE, VJEPA2_STORE, VJEPA2_SET    defaults for the options above
  VJEPA2_HOME         the folder of Dagster's records and of all that runs write
  VJEPA2_GRAPH        module:NAME of another graph: one with your own sources or assets
  VJEPA2_DEPLOYMENT   the name under which a shared store notes what is shown here
  VJEPA2_CACHE        the folder for what may be lost, before the setting execution.cache
"""


class _Parser(argparse.ArgumentParser):
    """Refuses with one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; see `{self.prog} --help`")


def refuse(message: object, code: int = 2) -> NoReturn:
    """Say what is wrong in one line on stderr, and leave."""
    print(f"vjepa2: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(code)


def _days(text: str) -> float:
    if not text.replace(".", "", 1).isdecimal():
        raise argparse.ArgumentTypeError(f"invalid value: {text!r}; give days from 0 on")
    return float(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}; give one from 1 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 1e6:
        raise argparse.ArgumentTypeError(f"invalid float value: {text!r}; give one from 0 to 1e6")
    return seconds


def parser() -> argparse.ArgumentParser:
    """The whole command line; its help is a manual."""
    raw = argparse.RawDescriptionHelpFormatter
    top = _Parser("vjepa2", description=ABOUT, epilog=EXAMPLES, formatter_class=raw)
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    where = _Parser(add_help=False)
    where.add_argument("--profile", help="demo (default), laptop or paper")
    where.add_argument(
        "--set", action="append", default=[], metavar="a.b=c", dest="settings",
        help="change one setting, e.g. encoder.lr=1e-4; may be given several times",
    )  # fmt: skip
    where.add_argument(
        "--store", help="folder or s3://bucket/prefix (default: store in VJEPA2_HOME)"
    )

    def command(name: str, text: str, more: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text, epilog=more, parents=[where], formatter_class=raw
        )

    run = command(
        "run",
        "Make what is missing or stale among some assets, upstream first.",
        "What is fresh is left alone. Killed at any point, the same command goes on from there.",
    )
    run.add_argument(
        "assets", nargs="*", metavar="asset", help="asset or asset/partition; none: all"
    )
    run.add_argument(
        "--as", dest="variant", metavar="name",
        help="keep what is made under a name, beside what is shown; it remembers its settings",
    )  # fmt: skip
    _add_comparison(command)
    command("status", "Say what is fresh, stale or missing, and why.")
    lineage = command(
        "lineage",
        "Say what an artifact or a file was made from, back to the videos, and went into.",
    )
    lineage.add_argument(
        "of", metavar="asset|digest|file", help="e.g. encoder, 3fa9c1, model.safetensors"
    )
    lineage.add_argument(
        "--draws", type=Path, metavar="file", help="list every sample that was drawn (parquet)"
    )
    lineage.add_argument("--json", action="store_true", help="the same for machines")
    lineage.add_argument(
        "--html", type=Path, metavar="file", help="the same as one page, with pictures"
    )
    _add_videos(command)
    _add_checks(command)
    clean = command("clean", "Show what nothing refers to, and remove it with --remove.")
    clean.add_argument("--remove", action="store_true", help="remove what is shown without it")
    clean.add_argument(
        "--days", type=_days, default=7.0, metavar="n",
        help="work, copies and notes go that nobody touched for n days (default 7)",
    )  # fmt: skip
    page = command("ui", "Serve the graph in a browser, on 127.0.0.1 only. Stop it with Ctrl-C.")
    page.add_argument("--port", type=_port, default=3000, help="default 3000")
    command("settings", "List every setting of the profile with its value.")
    return top


def _add_comparison(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The command about two artifacts of one asset."""
    both = command(
        "compare",
        "Say which settings of two artifacts differ, and lay their curves over each other.",
        "In the terminal, as a picture in VJEPA2_HOME/compare, and on the page of the asset.",
    )
    for name in ("a", "b"):
        both.add_argument(name, metavar=name, help="asset, asset@variant, variant or digest")


def _add_checks(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands about who wrote what, and whether it is still so."""
    check = command(
        "verify",
        "Read every byte of the store again; compare it with its digest, signature and log.",
    )
    check.add_argument(
        "--root", metavar="hex", help="prove that today's log extends the one of this root"
    )
    check.add_argument(
        "--sign", action="store_true", help="sign what nobody signed, if every byte fits"
    )
    handed = command(
        "export",
        "Copy an artifact's files with a model card, an ML-BOM, signed provenance and signature.",
        "The papers are those of Hugging Face, CycloneDX, in-toto (SLSA) and OpenSSF.",
    )
    handed.add_argument("of", metavar="asset|digest|file", help="e.g. planner_bundle, 3fa9c1")
    handed.add_argument("folder", type=Path, help="a folder that is not there yet")
    keys = command("keys", "List the keys that signed something in the store; trust one or not.")
    keys.add_argument("--trust", metavar="id|file", help="believe from now on what it signed")
    keys.add_argument("--distrust", metavar="id", help="believe it no more")


def _add_videos(command: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands about single videos, and about so many of them."""
    saw = command("who-saw", "Say which artifacts one video or robot recording is in, and how.")
    saw.add_argument("video", metavar="id|sha256|path", help="as in videos.parquet")
    down = command(
        "takedown",
        "Take a video down: it is quarantined in every later ingest, whatever its name.",
        "What has to be made again is stale then: `vjepa2 run` makes it.",
    )
    down.add_argument("video", metavar="id|sha256|path", help="as in videos.parquet, or a file")
    down.add_argument("--reason", required=True, help="why, for the quarantine and the list")
    book = command(
        "ledger",
        "Say what became of each file of the sources: fetched, probed, set aside, gone since.",
    )
    book.add_argument("source", nargs="?", help="e.g. yt1b; none: a line for each")
    book.add_argument("--failed", action="store_true", help="only what is set aside, lost or gone")
    does = book.add_mutually_exclusive_group()
    does.add_argument("--sweep", action="store_true", help="ask which are still where they were")
    does.add_argument("--retry", action="store_true", help="have what failed fetched again by run")
    price = command(
        "cost",
        "Say what so many videos would take: hours, bytes, core-days, GPU-days.",
        "Rates are those of what this deployment shows; each line names the artifacts.",
    )
    price.add_argument(
        "--videos", required=True, metavar="N|file", help="how many, or a list: path,seconds a line"
    )
    price.add_argument(
        "--mean-seconds", type=_seconds, metavar="S",
        help="length of a video where none is told (default: the mean of those here)",
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    asked = parser().parse_args(arguments)
    # A user's own store and home decide; nothing here phones home, whatever the machine says.
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    if asked.command == "run":
        _refuse_mistyped(asked.assets)
    from assets.cli import commands

    return commands.carry_out(asked)


def _refuse_mistyped(names: Sequence[str]) -> None:
    """Tell a name of no asset before the graph is imported, where its assets are remembered."""
    from assets.names import UnknownAssetError, refuse_unknown

    try:
        refuse_unknown(names)
    except UnknownAssetError as unknown:
        refuse(unknown)
