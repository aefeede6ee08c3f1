"""The programs that `make bench` measures beside ours, each configured for the least that does its work.

All of them log to files or to nowhere, run as the user postfix, and listen on sockets below Postfix's queue directory,
as ours do. What counts, counts for SASL users, with limits that are never reached.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deliverypools.lab.daemons import Daemon
from deliverypools.lab.lab import Lab
from idle_daemons import ASKED
from smtp_receiver import Sink

USER: Final = "postfix"
_FOLDER: Final = "peers"
"""Below the queue directory: the same path from inside and outside Postfix's chroot."""
_UNREACHED: Final = 100_000_000
_MINUTE, _DAY = 60, 86_400
_RSA_BITS: Final = 2048
_SELECTOR: Final = "bench"


@dataclass(frozen=True)
class Peer:
    """A way to set up Postfix with other people's software."""

    name: str
    main: Mapping[str, str]
    """Parameters of main.cf by which it is attached."""
    make: Callable[[Lab, Path], Sequence[Daemon]]
    """Writes its configuration to a folder, and returns the daemons, in the order in which they are started."""
    has_worked: Callable[[Lab, Sink], bool]
    """Whether it has done to the mail so far what it is measured for."""

    def daemons(self, lab: Lab) -> Sequence[Daemon]:
        """Return its daemons for a Postfix."""
        folder = lab.postfix.queue_directory / _FOLDER
        folder.mkdir()
        shutil.chown(folder, USER)
        return self.make(lab, folder)


def _daemon(lab: Lab, folder: Path, name: str, command: Sequence[str]) -> Daemon:
    return Daemon(
        name,
        command,
        socket_path=_socket(folder, name),
        log_file=lab.directory / "log" / f"{name}.log",
        network=lab.network,
    )


def _socket(folder: Path, name: str) -> Path:
    return folder / f"{name}.sock"


def _unix(name: str) -> str:
    return f"unix:{_FOLDER}/{name}.sock"


# ---- opendkim signs, as on a server that users send by; opendmarc passes mail of users without a look.


def _dkim(lab: Lab, folder: Path) -> Sequence[Daemon]:
    own = lab.directory / "dkim"
    own.mkdir()
    key = own / "key.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(key), str(_RSA_BITS)], check=True, capture_output=True)
    shutil.chown(key, USER)
    opendkim, opendmarc = own / "opendkim.conf", own / "opendmarc.conf"
    opendkim.write_text(
        f"Mode s\nDomain example.org\nSelector {_SELECTOR}\nKeyFile {key}\nCanonicalization relaxed/simple\n"
        f"OversignHeaders From\nRequireSafeKeys no\nUserID {USER}\nUMask 007\nSyslog no\n"
        f"Socket local:{_socket(folder, 'opendkim')}\n"
    )
    opendmarc.write_text(
        "AuthservID mx.example.org\nTrustedAuthservIDs mx.example.org\nIgnoreAuthenticatedClients true\n"
        f"RejectFailures false\nSPFIgnoreResults false\nUserID {USER}\nUMask 007\nSyslog false\n"
        f"Socket local:{_socket(folder, 'opendmarc')}\n"
    )
    return [
        _daemon(lab, folder, "opendkim", ["/usr/sbin/opendkim", "-f", "-x", str(opendkim)]),
        _daemon(lab, folder, "opendmarc", ["/usr/sbin/opendmarc", "-f", "-c", str(opendmarc)]),
    ]


def _has_signed(lab: Lab, sink: Sink) -> bool:
    del lab
    return b"\nDKIM-Signature: " in sink.last


# ---- rspamd with one module, and the Redis that this needs.

_RSPAMD: Final = """\
options {{
  pidfile = "{own}/rspamd.pid";
  control_socket = "{own}/control mode=0600";
  tempdir = "{own}";
  filters = "";
  url_tld = "{own}/suffixes";
  dns {{ nameserver = ["{nameserver}"]; }}
}}
logging {{ type = "console"; level = "warning"; }}
modules {{ path = "/usr/share/rspamd/plugins/ratelimit.lua"; }}
redis {{ servers = "{own}/redis.sock"; }}
ratelimit {{
  rates {{ user = {{ bucket = {{ burst = {most}; rate = "{most} / 1d"; }} }} }}
}}
actions {{ reject = null; add_header = null; greylist = null; }}
worker "rspamd_proxy" {{
  bind_socket = "{socket} mode=0666";
  milter = yes;
  timeout = 120s;
  count = 2;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""


def _rspamd(lab: Lab, folder: Path) -> Sequence[Daemon]:
    own = lab.directory / "rspamd"
    own.mkdir()
    redis = own / "redis.sock"
    configuration = own / "rspamd.conf"
    configuration.write_text(
        _RSPAMD.format(own=own, nameserver="127.0.0.1:1", most=_UNREACHED, socket=_socket(folder, "rspamd"))
    )
    # Of the whole list of public suffixes, rspamd makes a table for ten seconds whenever it starts.
    (own / "suffixes").write_text("com\nnet\norg\n")
    shutil.chown(own, USER)
    log = lab.directory / "log"
    listening = ["--port", "0", "--unixsocket", str(redis), "--unixsocketperm", "777"]
    store = ["redis-server", *listening, "--dir", str(own), "--save", ""]
    variables = [f"--var={name}={own}" for name in ("DBDIR", "RUNDIR", "LOGDIR")]
    rspamd = ["/usr/bin/rspamd", "-f", "-u", USER, "-g", USER, "-c", str(configuration), *variables]
    return [
        Daemon("redis", store, socket_path=redis, log_file=log / "redis.log", network=lab.network),
        _daemon(lab, folder, "rspamd", rspamd),
    ]


def _has_counted_in_redis(lab: Lab, sink: Sink) -> bool:
    del sink
    command = ["redis-cli", "-s", str(lab.directory / "rspamd" / "redis.sock"), "dbsize"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) > 0


# ---- policyd-rate-limit counts at RCPT, and at no other stage.


def _rate_limit(lab: Lab, folder: Path) -> Sequence[Daemon]:
    own = lab.directory / "rate-limit"
    own.mkdir()
    shutil.chown(own, USER)
    configuration = own / "policyd-rate-limit.yaml"
    configuration.write_text(
        json.dumps(  # which is YAML too
            {
                "debug": False,
                "user": USER,
                "group": USER,
                "pidfile": str(own / "pid"),
                "backend": 0,
                "sqlite_config": {"database": str(own / "db.sqlite3")},
                "SOCKET": str(_socket(folder, "policyd")),
                "socket_permission": 0o666,
                "limits": [[_UNREACHED, _MINUTE], [_UNREACHED, _DAY]],
                "limit_by_sasl": True,
            }
        )
    )
    return [_daemon(lab, folder, "policyd", ["/usr/bin/policyd-rate-limit", "--file", str(configuration)])]


def _has_counted_in_sqlite(lab: Lab, sink: Sink) -> bool:
    del sink
    with contextlib.closing(sqlite3.connect(lab.directory / "rate-limit" / "db.sqlite3")) as connection:
        return bool(connection.execute("SELECT COUNT(*) FROM mail_count").fetchone()[0])


# ---- what decides nothing, in Python: the floor of whatever is made of pymilter and asyncio.

_MILTER, _POLICY = "idle-milter", "idle-policy"


def _idle_milter(lab: Lab, folder: Path) -> Sequence[Daemon]:
    return [_idle(lab, folder, _MILTER, "milter")]


def _idle_both(lab: Lab, folder: Path) -> Sequence[Daemon]:
    return [*_idle_milter(lab, folder), _idle(lab, folder, _POLICY, "policy")]


def _idle(lab: Lab, folder: Path, name: str, kind: str) -> Daemon:
    program = Path(__file__).with_name("idle_daemons.py")
    return _daemon(lab, folder, name, [sys.executable, str(program), kind, str(_socket(folder, name))])


def _were_asked(*names: str) -> Callable[[Lab, Sink], bool]:
    return lambda lab, _: all(ASKED in (lab.directory / "log" / f"{name}.log").read_text() for name in names)


RSPAMD: Final = Peer("rspamd-lean", {"smtpd_milters": _unix("rspamd")}, _rspamd, _has_counted_in_redis)
DKIM: Final = Peer(
    "opendkim+opendmarc", {"smtpd_milters": f"{_unix('opendkim')}, {_unix('opendmarc')}"}, _dkim, _has_signed
)
RATE_LIMIT: Final = Peer(
    "policyd-rate-limit",
    {"smtpd_sender_restrictions": f"check_policy_service {_unix('policyd')}"},
    _rate_limit,
    _has_counted_in_sqlite,
)
_IDLE_MILTER: Final = {"smtpd_milters": _unix(_MILTER)}
_ASKS: Final = f"check_policy_service {_unix(_POLICY)}"
IDLE: Final = Peer("idle pymilter", _IDLE_MILTER, _idle_milter, _were_asked(_MILTER))
IDLE_BOTH: Final = Peer(
    "idle pymilter + policy",
    {**_IDLE_MILTER, "smtpd_sender_restrictions": _ASKS, "smtpd_end_of_data_restrictions": _ASKS},
    _idle_both,
    _were_asked(_MILTER, _POLICY),
)
