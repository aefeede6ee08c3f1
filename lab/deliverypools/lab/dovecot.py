"""A private Dovecot that takes mail over LMTP and runs Sieve scripts (Pigeonhole); the machine's own is left alone.

It has no ports. Redirected mail is handed to sendmail(1), as Dovecot does unless it is told otherwise; Dovecot and its
processes see the lab's Postfix configuration in /etc/postfix, so that this is the lab's Postfix.
"""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deliverypools.lab.daemons import Daemon
from deliverypools.lab.namespace import Network
from deliverypools.lab.postfix import Postfix
from deliverypools.lab.site import DOVECOT_SOCKET, Sieve

PROGRAM: Final = Path("/usr/sbin/dovecot")
_MAIL_USER: Final = "nobody"

_CONFIGURATION: Final = """\
# Everything below one directory, and no service that listens on a port.
base_dir = {directory}/run
state_dir = {directory}/state
log_path = /dev/stderr
instance_name = delivery-pools-lab
protocols = lmtp
ssl = no
hostname = mx.example.org
postmaster_address = postmaster@example.org
recipient_delimiter = +
auth_username_format = %Ln
mail_location = maildir:{mail_directory}/%n
mail_home = {directory}/home/%n
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = {uid}
first_valid_gid = {gid}

# Nobody logs in, but auth(8) ends without a passdb.
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = passwd-file
  args = {directory}/users
}}
service lmtp {{
  unix_listener {socket} {{
    mode = 0600
    user = postfix
  }}
}}
protocol lmtp {{
  mail_plugins = sieve
}}
plugin {{
  sieve = file:~/sieve;active=~/.dovecot.sieve
{plugin_settings}}}
{settings}"""


def make_dovecot(directory: Path, network: Network, postfix: Postfix) -> Daemon:
    """Write the whole configuration of one instance below `directory`, and return it, to be started."""
    user = pwd.getpwnam(_MAIL_USER)
    for path in (directory / "run", directory / "state", directory / "home"):
        path.mkdir(parents=True)
    for name, sieve in postfix.site.sieve.items():
        _write_home(directory / "home" / name, sieve, user)
    (directory / "users").write_text("".join(map(_user_line, postfix.site.sieve, postfix.site.sieve.values())))
    socket_path = postfix.queue_directory / DOVECOT_SOCKET
    settings, command = dict(postfix.site.dovecot), [str(PROGRAM), "-F", "-c", str(directory / "dovecot.conf")]
    if network.isolated:
        command = [*postfix.in_place_of_the_machines(), *command]
    else:
        # sendmail(1) would be the machine's own Postfix here.
        settings.setdefault("submission_host", f"{postfix.host}:25")
    (directory / "dovecot.conf").write_text(
        _CONFIGURATION.format(
            directory=directory,
            mail_directory=postfix.mail_directory,
            socket=socket_path,
            uid=user.pw_uid,
            gid=user.pw_gid,
            plugin_settings=_lines(settings, of_plugins=True),
            settings=_lines(settings, of_plugins=False),
        )
    )
    return Daemon(
        "dovecot",
        command,
        socket_path=socket_path,
        log_file=postfix.log_file.parent / "dovecot.log",
        network=network,
    )


def _write_home(home: Path, sieve: Sieve, user: pwd.struct_passwd) -> None:
    """Make a home directory; the script is compiled beside itself, by the user."""
    home.mkdir()
    script = home / ".dovecot.sieve"
    script.write_text(sieve.script)
    for path in (home, script):
        os.chown(path, user.pw_uid, user.pw_gid)


def _user_line(name: str, sieve: Sieve) -> str:
    """Return a line of Dovecot's passwd-file: no password that anybody could give, no uid, gid and home of its own."""
    return f"{name}:*:::::: userdb_sieve_redirect_envelope_from={sieve.redirect_envelope_from}\n"


def _lines(settings: Mapping[str, str], *, of_plugins: bool) -> str:
    return "".join(f"{name} = {value}\n" for name, value in settings.items() if name.startswith("sieve") == of_plugins)
