"""`delivery-pools postfix` on the Postfix of a lab."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from deliverypools.cli.main import main
from deliverypools.lab.lab import Lab

FILES = ("main.cf", "master.cf")


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.out)
        return answer


def postfix(lab: Lab, action: str, *options: str) -> Answer:
    config = () if action == "uninstall" else ("--config", str(lab.settings_file))
    arguments = ("postfix", action, "--config-directory", str(lab.postfix.config_directory), *config, *options)
    out, err = io.StringIO(), io.StringIO()
    with lab.network.inside(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return Answer(status, out.getvalue(), err.getvalue())


def configuration(lab: Lab) -> tuple[bytes, ...]:
    """What both files hold, byte for byte."""
    return tuple((lab.postfix.config_directory / name).read_bytes() for name in FILES)


def folder(lab: Lab) -> set[str]:
    """What the configuration directory holds."""
    return {path.name for path in lab.postfix.config_directory.iterdir()}
