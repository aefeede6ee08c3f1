"""The server that Delivery Pools is added to: master.cf as Debian ships it, a plain main.cf, and what a test adds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from deliverypools.core.postfix_install.fast_path import with_fast_path
from deliverypools.core.postfix_install.service_line import parse_service

MASTER_CF: Final = Path("/usr/share/postfix/master.cf.dist")
MASTER_CHANGES: Final = """\
# Retries come within seconds here, so qmgr may meet a message that its last delivery agent still holds. It puts it
# back into the incoming queue (see passed_over.py), and looks there again at its next wakeup: 300 seconds by default.
qmgr unix n - n 2 1 qmgr
submission inet n - y - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o smtpd_recipient_restrictions=
  -o milter_macro_daemon_name=SUBMISSION
"""

SITE_MAIN: Final = """\
compatibility_level = 3.6
myhostname = mx.example.org
mydomain = example.org
myorigin = example.org
mydestination = example.org, mx.example.org, srs.example.org, localhost.example.org, localhost
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtpd_sasl_auth_enable = yes
smtpd_sasl_path = smtpd
smtpd_tls_security_level = none
alias_database =
recipient_delimiter = +
biff = no
queue_run_delay = 1s
minimal_backoff_time = 3s
maximal_backoff_time = 4s
transport_retry_time = 1s
smtp_connect_timeout = 5s
in_flow_delay = 0s
"""
"""Deferred mail is tried again within seconds, so that tests need not wait."""

HOP: Final = "hop"
"""The profile whose example has a fast path."""
NO_PROFILE: Final = "none"
"""In place of an example's name: the server before Delivery Pools is added to it."""

DOVECOT_SOCKET: Final = "private/dovecot-lmtp"
"""Below the queue directory, as Dovecot's manual has it."""


@dataclass(frozen=True, slots=True)
class Sieve:
    """The Sieve script of one mailbox (RFC 5228), run by Dovecot."""

    script: str
    """For example 'redirect :copy "me@example.net";', with its `require`."""
    redirect_envelope_from: Literal["sender", "recipient", "orig_recipient", "user_email", "postmaster"] = "sender"
    """Envelope sender of what it redirects (Pigeonhole's sieve_redirect_envelope_from)."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the server had before Delivery Pools, and what its operator adapts afterwards."""

    main: Mapping[str, str] = field(default_factory=dict)
    """Parameters the site has set; the example's lines replace them where both set one.

    `{config}` stands for the configuration directory.
    """
    adapted: Mapping[str, str] = field(default_factory=dict)
    """Parameters set on top of the example, as its README tells the operator to."""
    master: str = ""
    """Services the site has, in master.cf form."""
    adapted_master: str = ""
    """Services added to, or put in place of, the example's."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Maps in the configuration directory, by name."""
    users: Mapping[str, str] = field(
        default_factory=lambda: dict.fromkeys(("alice@example.org", "bob@example.org"), "secret")
    )
    """SASL logins and passwords."""
    mailboxes: Sequence[str] = ("alice", "bob", "postmaster", "root")
    """Local mailboxes; they are entries of aliases(5), not users of this machine."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Further entries of aliases(5). A mailing list has two: {"list": "a@example.net, bob", "owner-list": "alice"}."""
    virtual: Mapping[str, str] = field(default_factory=dict)
    """virtual_alias_maps."""
    forwards: Mapping[str, str] = field(default_factory=dict)
    """~/.forward of existing users of this machine ("games"), kept in the lab's directory.

    "\\games, me@example.net" leaves a copy here, in the mailbox "spool/games".
    """
    sieve: Mapping[str, Sieve] = field(default_factory=dict)
    """Mailboxes that Postfix hands to a Dovecot of the lab (LMTP), by name; without any, there is no Dovecot."""
    dovecot: Mapping[str, str] = field(default_factory=dict)
    """Settings added to that Dovecot's; those that begin with "sieve" are settings of the plugin."""


def with_fast_doors(master: Mapping[tuple[str, str], str], macros: str = "") -> dict[tuple[str, str], str]:
    """Return services of which those by which clients send have the fast path, as the README of the example has it.

    `macros` is milter_macro_defaults of main.cf.
    """
    return {key: _fast(entry, macros) for key, entry in master.items()}


def _fast(entry: str, macros: str) -> str:
    line = parse_service(" ".join(entry.split()))
    is_return = "content_filter" in line.options or line.options.get("milter_macro_daemon_name") == "REINJECT"
    if line.command != "smtpd" or is_return or "cleanup_service_name" in line.options:
        return entry
    return with_fast_path(line, macros).render()
