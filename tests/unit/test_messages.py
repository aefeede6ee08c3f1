"""Golden messages: `tests/messages/NN-name.eml` through `classify`; the `.toml` beside it says what for."""

import json
import tomllib
from pathlib import Path

import pytest

from deliverypools.cli.main import main

MESSAGES = sorted((Path(__file__).parents[1] / "messages").glob("*.eml"))
SETTINGS = """\
accepted_domains = ["example.org"]
[pools.normal]
addresses = ["192.0.2.10"]
helo = "mail.example.org"
[pools.high-risk]
addresses = ["192.0.2.20"]
helo = "mail-high-risk.example.org"
[pools.relay]
addresses = ["192.0.2.30"]
helo = "mail-relay.example.org"
"""


@pytest.mark.parametrize("message", MESSAGES, ids=lambda path: path.stem)
def test_message_is_classified_as_its_case_says(message, tmp_path, capsys):
    case = tomllib.loads(message.with_suffix(".toml").read_text(encoding="utf-8"))
    assert set(case) <= {"why", "sender", "ingress", "expected"}
    settings = tmp_path / "pools.toml"
    settings.write_text(SETTINGS, encoding="utf-8")
    options = [f"--{name}={case[name]}" for name in ("sender", "ingress") if name in case]
    assert main(["classify", "--json", f"--config={settings}", *options, str(message)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {name: result[name] for name in ("pool", "rule", "ndr")} == case["expected"], case["why"]


def test_every_message_has_its_case_and_every_case_its_message():
    folder = MESSAGES[0].parent
    assert {path.stem for path in folder.glob("*.eml")} == {path.stem for path in folder.glob("*.toml")}
