"""The command line with real scanners: `classify --scan live`, and what `check` says of them."""

import contextlib
import json
import re

import pytest

from deliverypools.cli.main import main
from deliverypools.lab.scanners import EICAR, GTUBE, SIGNATURE, ClamdServer, RspamdServer, SpamdServer
from deliverypools.lab.settings_file import lab_settings, merged, render_toml

MAIL = """\
From: Alice <alice@example.org>
To: Bob <bob@example.net>
Subject: the minutes of Thursday
Date: Tue, 14 Nov 2023 22:14:00 +0000
Message-ID: <minutes@example.org>

Dear Bob, the minutes are attached at last. Best wishes, Alice
"""


@pytest.fixture(scope="module")
def servers():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server()) for server in (RspamdServer, SpamdServer, ClamdServer)]


@pytest.fixture
def config(servers, tmp_path):
    rspamd, spamd, clamd = servers
    (tmp_path / "delivery-pools").mkdir()
    settings = lab_settings(
        directory=tmp_path, queue_directory=tmp_path, profile="hop", nameserver="127.0.0.1", isolated=False
    )
    scanners = {
        "timeout_seconds": 60.0,
        "rspamd": rspamd.url,
        "spamd": spamd.address,
        "clamd": clamd.unix_address,
    }
    path = tmp_path / "pools.toml"
    path.write_text(render_toml(merged(settings, {"spam": scanners})), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("line", "pool", "rule", "reason"),
    [
        ("", "normal", "default", "clamd: clean"),
        (GTUBE, "high-risk", "spam", "rspamd: reject, score 15.0 (GTUBE"),
        (GTUBE, "high-risk", "spam", "spamd: found, score 1000.0 (GTUBE"),
        (EICAR, "high-risk", "malware", f"clamd: found ({SIGNATURE})"),
    ],
    ids=["ordinary", "rspamd", "spamd", "clamd"],
)
def test_classify_asks_them(*, config, tmp_path, capsys, line, pool, rule, reason):
    mail = tmp_path / "mail.eml"
    mail.write_text(f"{MAIL}\n{line}\n", encoding="utf-8")
    assert main(["classify", "--config", config, "--scan", "live", "--json", str(mail)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pool"], found["rule"]) == (pool, rule), found
    assert any(one.startswith(reason) for one in found["reasons"]), found["reasons"]
    assert {"malware", "spam"}.isdisjoint(found["not_asked"])


def test_check_asks_whether_they_answer(servers, config, capsys):
    main(["keys", "rotate", "--config", config])
    assert main(["check", "--no-postfix", "--config", config]) == 0
    assert capsys.readouterr().err == ""
    for server in servers:
        server.stop()
    try:
        assert main(["check", "--no-postfix", "--config", config]) == 0
        lines = capsys.readouterr().err.splitlines()
    finally:
        for server in servers:
            server.start()
    assert [line.partition(" no verdict from ")[0] for line in lines] == [
        f"warning: spam.{name}:" for name in ("rspamd", "spamd", "clamd")
    ]


class WithController(RspamdServer):
    """With rspamd's controller, too, as Debian has it."""

    def _options(self):
        options = super()._options()
        self.controller_port = self._free_port()
        with (self.folder / "rspamd.conf").open("a") as file:
            worker = f'bind_socket = "127.0.0.1:{self.controller_port}"; password = "q1"; secure_ip = "192.0.2.1";'
            file.write(f'worker "controller" {{ {worker} }}\n')
        return options


@pytest.fixture(scope="module")
def rspamd():
    with WithController(is_milter=True) as server:
        yield server


@pytest.mark.parametrize("port", ["controller_port", "milter_port"])
def test_check_finds_ports_of_rspamd_that_answer_and_scan_nothing(rspamd, config, tmp_path, capsys, port):
    url = f"http://127.0.0.1:{getattr(rspamd, port)}"
    text = (tmp_path / "pools.toml").read_text(encoding="utf-8")
    (tmp_path / "pools.toml").write_text(re.sub(r'rspamd = "[^"]*"', f'rspamd = "{url}"', text), encoding="utf-8")
    main(["keys", "rotate", "--config", config])
    assert main(["check", "--no-postfix", "--config", config]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: spam.rspamd: no verdict from {url}: ")
