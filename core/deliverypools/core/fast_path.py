"""The fast path: mail with recipients outside only is decided in the first pass, and does not take the hop.

Two things have to hold. Of the configuration (a `Proof`, made by `check` and `postfix install`): nothing behind our
milter adds, rewrites or reroutes recipients. Of the message (`why_it_takes_the_hop`): every recipient is one that
would take the hop, and who sends it was told when it came in. What is not certain takes the hop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from deliverypools.core.addresses import domain_of, normalise_domain
from deliverypools.core.facts import Ingress
from deliverypools.core.settings import Settings

CLEANUP: Final = "cleanup-fast"
"""The cleanup service of the smtpd services concerned; the rules for the tag are in effect there, too."""
MACRO_NAME: Final = "delivery_pools_fast_path"
"""Set by `milter_macro_defaults` on smtpd services whose cleanup service is `CLEANUP`, and nowhere else."""
MACRO: Final = f"{{{MACRO_NAME}}}"
MACRO_VALUE: Final = "$config_directory"
"""Its value, as main.cf and master.cf say it: which instance it is, for one milter may serve several."""
HOP_CLIENT: Final = "egress"
CHANGED_MEANWHILE: Final = "the configuration was changed while it was looked at: run this again"
_FORMAT: Final = 3
"""1 was made where the macro named no instance; 2 told of databases what cleanup(8) was believed to notice."""
_MOST_STEPS: Final = 3000
_MOST_PROBLEMS: Final = 100
_ROUTING_CHARACTERS: Final = frozenset('%!@"\\ ')
"""In a local part: by some of them an address names another host, or this one."""
_SPLITS_A_VALUE: Final = frozenset(",{}$")
"""In the name of a configuration directory: smtpd(8) would take the macro apart, or end at once."""


class ProofError(ValueError):
    """The text is no proof; the message says why."""


class Step(NamedTuple):
    """One name on the way to a watched file: a folder, a link, or the file itself."""

    identity: tuple[int, ...]
    """What changes whenever another file, or other content, is reached by this name; () where nothing is."""
    since: float
    """It is certainly so since then, in seconds since the start of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found when a configuration was looked at last."""

    config_directory: str
    made_at: float
    """Seconds since the epoch."""
    settings: str
    """`settings_digest` of the settings that it was looked at with."""
    hop: str = ""
    """Next-hop of the usual hop, as main.cf says it."""
    hostnames: tuple[str, ...] = ()
    """myhostname of the services with a fast path: another host's Postfix may have a directory of the same name."""
    is_reloaded: bool = False
    """Postfix was seen to work by all of the files: it had no process of before."""
    problems: tuple[str, ...] = ()
    """Why all mail takes the hop; none: the conditions hold."""
    files: tuple[str, ...] = ()
    """The files that must not have changed since: main.cf, master.cf, and those of each table that matters."""
    steps: Mapping[str, Step] = field(default_factory=dict)
    """Every name on the way to them."""
    boot: str = ""
    """Which start of the machine it is whose seconds are counted here."""
    looked_at: float = 0.0
    """When it was seen what is at each step, in seconds since the start of the machine."""
    clock: float = 0.0
    """What the clock said then: seconds since the epoch at the start of the machine. Other now: it has been set."""

    @property
    def holds(self) -> bool:
        """Tell whether the conditions held then."""
        return not self.problems

    @property
    def is_lasting(self) -> bool:
        """Tell whether it says the same until one of its files changes."""
        return CHANGED_MEANWHILE not in self.problems


def same_directory(name: str) -> str:
    """Return the name of a configuration directory as it is compared; "" for what is no whole path.

    Only what every system ignores is taken away: a link that is turned round would make two instances one.
    """
    return "/" + "/".join(part for part in name.split("/") if part not in ("", ".")) if name.startswith("/") else ""


def can_be_a_macro(directory: str) -> bool:
    """Tell whether Postfix gives a milter the name of a directory as it is."""
    return not any(one in _SPLITS_A_VALUE or one.isspace() or not one.isprintable() for one in directory)


def settings_digest(settings: Settings) -> str:
    """Return what identifies those settings on which the conditions depend."""
    parts = (
        sorted(map(str, settings.accepted_domains)),
        settings.milter.socket,
        settings.policy.socket,
        settings.socketmap.socket,
        settings.forwarding.srs_domain or "",
        sorted(settings.pools),
        settings.profile,
        sorted(settings.fast_path_milters),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def proof_to_json(proof: Proof) -> str:
    """Return a proof as it is kept."""
    return json.dumps(
        {
            "format": _FORMAT,
            "config_directory": proof.config_directory,
            "made_at": proof.made_at,
            "settings": proof.settings,
            "hop": proof.hop,
            "hostnames": list(proof.hostnames),
            "is_reloaded": proof.is_reloaded,
            "problems": list(proof.problems[:_MOST_PROBLEMS]),
            "boot": proof.boot,
            "looked_at": proof.looked_at,
            "clock": proof.clock,
            "files": list(proof.files),
            "steps": dict(proof.steps),
        },
        indent=1,
    )


def proof_from_json(text: str) -> Proof:
    """Read a proof.

    Raises:
        ProofError: it is none.
    """
    try:
        kept = json.loads(text)
        if kept["format"] != _FORMAT:
            raise ProofError(f"format {kept['format']!r}: made by another version")
        proof = Proof(
            config_directory=_text(kept["config_directory"]),
            made_at=float(kept["made_at"]),
            settings=_text(kept["settings"]),
            hop=_text(kept["hop"]),
            hostnames=tuple(map(_text, kept["hostnames"])),
            is_reloaded=kept["is_reloaded"] is True,
            problems=tuple(map(_text, kept["problems"])),
            files=tuple(map(_text, kept["files"])),
            steps=_steps(kept["steps"]),
            boot=_text(kept["boot"]),
            looked_at=float(kept["looked_at"]),
            clock=float(kept["clock"]),
        )
    except ProofError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ProofError(f"damaged: {type(error).__name__}") from None
    if not proof.steps:
        raise ProofError("damaged: it names no files")
    return proof


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _steps(value: Any) -> dict[str, Step]:
    steps = {
        _text(path): Step(tuple(map(_number, identity)), float(since)) for path, (identity, since) in value.items()
    }
    if len(steps) > _MOST_STEPS:
        raise TypeError
    return steps


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def is_certainly_outside(
    address: str, *, transport: str, nexthop: str, resolved: str, hop: str, settings: Settings
) -> bool:
    """Tell whether a recipient leaves by the usual hop, and its address says one thing only.

    Args:
        address: as the client gave it.
        transport: the way that it would take (`{rcpt_mailer}`).
        nexthop: `{rcpt_host}`. A route of its own has a listener of its own: only that knows where it leads.
        resolved: what Postfix has made of the address (`{rcpt_addr}`).
        hop: next-hop of the usual listener.
        settings: say which domains are ours.

    """
    local_part, _, domain = address.rpartition("@")
    name = normalise_domain(domain)
    return (
        transport == HOP_CLIENT
        and bool(hop)
        and nexthop == hop
        and resolved == address
        and bool(local_part)
        and not _ROUTING_CHARACTERS.intersection(local_part)
        and "." in name
        and not domain.startswith("[")
        and not settings.is_accepted_domain(name)
        and name != settings.forwarding.srs_domain
    )


def why_it_takes_the_hop(ingress: Ingress, envelope_sender: str, settings: Settings, *, only_outside: bool) -> str:
    """Return why a message takes the hop; "" if it may be decided at once, as far as its envelope tells.

    `only_outside`: every recipient `is_certainly_outside`.
    """
    if ingress not in (Ingress.SUBMISSION, Ingress.TRUSTED):
        return "only what users and trusted clients send may skip it"
    local_part, _, _ = envelope_sender.rpartition("@")
    domain = domain_of(envelope_sender)
    if "." not in domain:
        return "its sender is null, or Postfix completes its domain"
    if not local_part or (_ROUTING_CHARACTERS | {":"}).intersection(local_part):
        return "its sender may say two things"
    if domain == settings.forwarding.srs_domain:
        return "its sender is rewritten"
    if not only_outside:
        return "a recipient is not certainly outside"
    return ""
