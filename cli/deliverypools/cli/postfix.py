"""`delivery-pools postfix`: our lines in a site's Postfix configuration, shown, put in, taken out."""

from __future__ import annotations

import argparse
import difflib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from deliverypools.adapters.key_lines import KeyFileError
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.adapters.postfix_queue import QueueError
from deliverypools.adapters.postfix_stage import FOLDER
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.fast_path import fast_path
from deliverypools.cli.options import Subparsers, add_config, read_settings
from deliverypools.cli.postfix_install import install
from deliverypools.cli.postfix_proposal import (
    Proposal,
    as_json,
    proposal_as_json,
    proposal_lines,
    propose,
    remark_lines,
)
from deliverypools.cli.postfix_uninstall import uninstall
from deliverypools.core.postfix_install.manifest import MAIN, MASTER
from deliverypools.core.settings.values import duration_seconds

SETTLE_SECONDS: Final = 30.0

_INSTALL: Final = """\
Change main.cf and master.cf of this machine's Postfix so that outbound mail leaves by pools, as the settings say, and
reload it. What the site has (milters, relayhost, routes, tuning) is kept or carried over; each thing that is, or cannot
be, is said. Everything is tried on a copy first, by `postfix check` and by the checks of docs/checks.md: with an error
nothing is changed. Done again it changes only what has changed since: settings, or the site. What was there before is
kept in the folder delivery-pools/before of the configuration directory.

Postfix is reloaded twice, and once more for the fast path: only when every SMTP client takes our headers off, mail gets
them. Mail that is queued meanwhile is noted: having no ticket, it is decided from what is visible. `delivery-pools
milter` and `policy` have to run. Where Postfix does not run, nothing is reloaded, and they need not."""

_UNINSTALL: Final = """\
Put Postfix's configuration back, in two phases. First mail is routed as before, while what is queued still leaves by
its pool, without our headers. As soon as none of it is queued any more, main.cf and master.cf become what they were,
byte for byte if nobody has edited them since; what was edited since stays, without ours. An SMTP session of before must
have ended too: what it hands in is ours.

If mail of ours is queued, this does the first phase only, says how much is left, and exits with 0: run it again later.
  --wait     waits for that, and does the second phase.
  --requeue  does not wait: deferred mail is routed anew at once, as if it had just been sent. Spam and notices that
             waited for the high-risk addresses then leave by your normal ones. Mail on hold stays on hold.
             always_bcc and *_bcc_maps copy this mail once more."""

_FAST_PATH: Final = """\
See whether Postfix's configuration lets mail to other hosts be decided in the first pass, so that it skips the hop:
nothing in it may add, rewrite or reroute recipients behind our milter (docs/fast-path.md). Say so, or every reason why
all mail takes the hop. What is found is kept for the milter, in the file fast-path.json of alerts.spool, as `check` and
`install` do. For root, who sees whether Postfix works by main.cf and master.cf of today. Nothing else is changed.

Exit status: 0 if the fast path is on, 1 if it is off."""

_RENDER: Final = """\
Write the complete main.cf, master.cf and delivery-pools/ that `install` would make, with changes.diff and remarks.txt,
to a folder. Nothing else is touched. Works for every user who may read the configuration and the settings."""


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "postfix",
        help="put the Postfix side in, show it, take it out",
        description="The lines of Delivery Pools in Postfix's main.cf and master.cf, from the settings.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_action(actions, "render", "write what install would make to a folder", _RENDER, _render).add_argument(
        "--output", metavar="DIR", required=True, help="folder to write to; made if it is missing"
    )
    put_in = _add_action(actions, "install", "change Postfix's configuration and reload it", _INSTALL, install)
    put_in.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    take_out = _add_action(actions, "uninstall", "put Postfix's configuration back", _UNINSTALL, uninstall)
    take_out.add_argument(
        "--wait",
        metavar="TIME",
        nargs="?",
        const="6d",
        type=_duration,
        default=0.0,
        help="wait until no mail of ours is queued and no session of before is open, at most so long"
        " (default: 6d, longer than mail is queued)",
    )
    take_out.add_argument("--requeue", action="store_true", help="route deferred mail of ours anew, now")
    fast = _add_action(actions, "fast-path", "prove whether mail may skip the hop", _FAST_PATH, fast_path)
    fast.add_argument(
        "--when-closed",
        action="store_true",
        help="look only if it is closed, and what is found may be something else than before; say what has changed, if"
        " anything has. Exit status 0, open or closed. delivery-pools-fast-path.timer runs this",
    )
    for one in (put_in, take_out):
        one.add_argument(
            "--settle",
            metavar="TIME",
            type=_duration,
            default=SETTLE_SECONDS,
            help="how long to wait, at each reload, for Postfix's processes of before it (default: 30s)",
        )


def _add_action(
    actions: Subparsers, name: str, summary: str, description: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name, help=summary, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument(
        "--config-directory",
        metavar="DIR",
        help="configuration directory of the Postfix instance (default: the default instance's; see postmulti(1))",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_telling(run))
    return parser


def _telling(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Return a command that tells of what Postfix refuses, instead of raising it."""

    def told(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except (PostfixError, QueueError, KeyFileError) as error:
            print(as_json({"error": str(error)}) if options.json else f"delivery-pools: {error}", file=sys.stderr)
            return FAILED

    return told


def _duration(text: str) -> float:
    try:
        return duration_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# ---- render


def _render(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    instance = PostfixInstance(options.config_directory)
    output, live = Path(options.output).resolve(), instance.directory.resolve()
    if output == live or live in output.parents:
        raise PostfixError(f"{output}: is Postfix's configuration; name a folder elsewhere")
    editor = PostfixEditor(instance, time.time)
    with editor.looking():
        proposal = propose(editor, settings)
        _write(output, proposal, instance.directory)
        if options.json:
            print(as_json({"output": str(output)} | proposal_as_json(proposal)))
        else:
            print("\n".join([*proposal_lines(proposal), *remark_lines(proposal), f"written to {output}"]))
    return FAILED if proposal.is_refused else OK


def _write(output: Path, proposal: Proposal, live: Path) -> None:
    (output / FOLDER).mkdir(parents=True, exist_ok=True)
    texts = {
        MAIN: proposal.planned.main,
        MASTER: proposal.planned.master,
        **{f"{FOLDER}/{name}": text.encode() for name, text in proposal.plan.files.items()},
        "changes.diff": "".join(_diff(proposal, live)).encode(errors="surrogateescape"),
        "remarks.txt": "".join(f"{line}\n" for line in remark_lines(proposal)).encode(errors="surrogateescape"),
    }
    # main.cf and master.cf may hold passwords, and what tells of both has lines of them.
    modes = {name: (live / name).stat().st_mode & 0o777 for name in (MAIN, MASTER)}
    of_both = modes[MAIN] & modes[MASTER]
    for name, content in texts.items():
        path = output / name
        path.touch()
        path.chmod(modes.get(name, of_both))
        path.write_bytes(content)


def _diff(proposal: Proposal, live: Path) -> Iterator[str]:
    planned = {MAIN: proposal.planned.main, MASTER: proposal.planned.master}
    planned |= {f"{FOLDER}/{name}": text.encode() for name, text in proposal.plan.files.items()}
    for name, content in planned.items():
        path = live / name
        before = path.read_bytes() if path.is_file() else b""
        old, new = (text.decode(errors="surrogateescape").splitlines(keepends=True) for text in (before, content))
        yield from difflib.unified_diff(old, new, fromfile=str(path), tofile=f"{path} (planned)")
