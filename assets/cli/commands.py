"""What each command of `vjepa2` does, and how its failures are told."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

from assets.cli import refuse
from assets.deployment import Deployment, deployment, prepare_home
from assets.names import remember
from assets.selection import chosen
from pipelines.graph import State, key_name, statuses
from pipelines.schemas import expected
from pipelines.settings import leaves, plain, spec_of
from storage.errors import UserError


def carry_out(asked: argparse.Namespace) -> int:
    """Do what the command line asks.

    What a person can cure (UserError) is one line; a bug leaves its traceback as well.
    """
    command = {
        "run": _run, "status": _status, "lineage": _lineage, "verify": _verify, "ui": _ui,
        "settings": _settings, "clean": _clean, "who-saw": _who_saw, "takedown": _takedown,
        "cost": _cost, "compare": _compare, "keys": _keys, "ledger": _ledger, "export": _export,
    }[asked.command]  # fmt: skip
    try:
        return command(asked, deployment(asked.profile, asked.settings, asked.store))
    except KeyboardInterrupt:
        refuse("interrupted; the same command goes on from here", 130)
    except BrokenPipeError:
        # `vjepa2 status | head` closes our stdout: nothing is wrong, and nothing more can be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as refused:
        refuse(refused, refused.exit_code)
    except Exception as error:
        _refuse_failure(error)


def _refuse_failure(error: Exception) -> NoReturn:
    """Tell what a stage or the command itself broke at, with its traceback."""
    from assets.materialize import StageError

    if not isinstance(error, StageError):
        raise error
    if isinstance(error.raised, UserError):
        refuse(error)
    traceback.print_exception(error.raised)
    kind, page = type(error.raised).__name__, f"run {error.run[:8]} (`vjepa2 ui`)"
    refuse(f"{error} ({kind}); the traceback above is also on the page of {page}", 1)


def _run(asked: argparse.Namespace, deployed: Deployment) -> int:
    # A wrong name is told before anything more is loaded.
    chosen(asked.assets, deployed.graph, deployed.profile)
    remember(tuple(deployed.graph.by_name))
    from assets.cli.summary import summarise
    from assets.materialize import materialize_stale
    from assets.runs import records

    # A polite kill ends like Ctrl-C: Dagster's records say that the run was stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    make = materialize_stale
    if asked.variant:
        from assets.variants import materialize_variant, variant_of

        make = materialize_variant
        deployed = variant_of(deployed, asked.variant, asked.settings)
    store = deployed.open_store()
    with records(deployed.home) as instance:
        outcome = make(deployed, store, instance, asked.assets, sys.stdout)
    refused = summarise(deployed, store, [*outcome.fresh, *outcome.made], sys.stdout)
    return 1 if refused else 0


def _status(_: argparse.Namespace, deployed: Deployment) -> int:
    store = deployed.open_store(read_only=True)
    states = list(statuses(deployed.graph, deployed.profile, store))
    for state, keys in _alike(states):
        alone = key_name((state.asset, state.partition))
        what = alone if len(keys) == 1 else f"{state.asset} ({', '.join(keys)})"
        print(f"{state.state:<8} {what}{f': {state.reason}' if state.reason else ''}")
    count = {name: sum(s.state == name for s in states) for name in ("fresh", "stale", "missing")}
    told = ", ".join(f"{number} {name}" for name, number in count.items())
    where = f"Store {deployed.store_at}, deployment {deployed.name}"
    print(f"\n{told}. {where}, profile {deployed.profile_name}")
    if variants := store.variants():
        print(f"Beside it: {', '.join(variants)} (`vjepa2 compare`)")
    return 0


def _alike(states: list[State]) -> Iterator[tuple[State, list[str]]]:
    """Group neighbouring partitions of one asset that are in the same state for one reason."""
    group: list[State] = []
    for state in [*states, None]:
        if group and (state is None or _sort(state) != _sort(group[0])):
            yield group[0], [s.partition or "" for s in group]
            group = []
        if state is not None:
            group.append(state)


def _sort(state: State) -> tuple[str, str, str]:
    """What partitions must share to be told in one line; their own name does not part them."""
    return state.asset, state.state, state.reason.replace(f"/{state.partition} ", " ")


def _compare(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.compare import compare

    compare(deployed, (asked.a, asked.b), sys.stdout)
    return 0


def _lineage(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.audit import lineage

    store = deployed.open_store(read_only=True)
    if asked.json or asked.html is not None:
        from assets.cli.lineage_page import write

        write(store, deployed.graph, asked.of, as_json=asked.json, html_to=asked.html,
              out=sys.stdout)  # fmt: skip
        return 0
    lineage(store, deployed.graph, asked.of, asked.draws, sys.stdout)
    return 0


def _export(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.export import export

    export(deployed, asked.of, asked.folder, sys.stdout)
    return 0


def _who_saw(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.takedown import who_saw

    who_saw(deployed.graph, deployed.open_store(read_only=True), asked.video, sys.stdout)
    return 0


def _takedown(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.takedown import take_down

    take_down(deployed, asked.video, asked.reason, sys.stdout)
    return 0


def _ledger(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.ledger import ledger, retry, sweep

    if asked.sweep:
        sweep(deployed, asked.source, sys.stdout)
    elif asked.retry:
        retry(deployed, asked.source, sys.stdout)
    else:
        ledger(deployed, asked.source, failed=asked.failed, out=sys.stdout)
    return 0


def _cost(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.cost import cost

    cost(deployed, asked.videos, asked.mean_seconds, sys.stdout)
    return 0


def _verify(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.verification import verify

    return 1 if verify(deployed, asked.root, asked.sign, sys.stdout) else 0


def _keys(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.verification import keys

    keys(deployed, asked.trust, asked.distrust, sys.stdout)
    return 0


def _clean(asked: argparse.Namespace, deployed: Deployment) -> int:
    from assets.cli.audit import clean

    clean(deployed.open_store(), asked.days, asked.remove, sys.stdout)
    return 0


def _settings(_: argparse.Namespace, deployed: Deployment) -> int:
    """Every setting with its value, what it may be, and the note beside its declaration."""
    profile = deployed.profile
    for name, value, spec in leaves(plain(profile), spec_of(type(profile))):
        note = " ".join(spec.get("description", "").split())
        print(f"{name} = {value}\n    {expected(spec)}{f'. {note}' if note else ''}")
    return 0


def _ui(asked: argparse.Namespace, deployed: Deployment) -> int:
    """Become `dagster dev` on the loopback address: page and daemon in one process group."""
    deployed.open_store()  # a store that cannot be used is one line here, not a red run later
    prepare_home(deployed.home)
    with socket.socket() as probe:
        # Without this a page that was stopped a minute ago would still seem to hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", asked.port))
        except OSError as error:
            refuse(f"port {asked.port}: {error.strerror}; give another with --port")
    # A shell that starts us in the background has switched Ctrl-C off for all our children.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    print(f"http://127.0.0.1:{asked.port}  (profile {deployed.profile_name}; stop with Ctrl-C)")
    sys.stdout.flush()
    command = [
        sys.executable, "-W", "ignore", "-m", "dagster", "dev", "-m", "assets.definitions",
        "-h", "127.0.0.1", "-p", str(asked.port),
    ]  # fmt: skip
    # Fixed words and our own interpreter; becoming it keeps Ctrl-C and the exit code simple.
    os.execve(sys.executable, command, {**os.environ, **deployed.environment()})  # noqa: S606
