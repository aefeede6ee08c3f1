"""DMARC policy records and the tree walk that finds them (RFC 9989 sections 4.7, 4.8 and 4.10).

Nothing is looked up here. All names of a walk are asked at once; `Records` holds the answers by name. A name without
an answer may hold any record, or none: whoever asks gets every outcome that is still possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from deliverypools.core.addresses import normalise_domain

Records: TypeAlias = Mapping[str, tuple[str, ...] | None]
"""What look-ups of TXT gave: the text of each record, () for none, None for "could not be told". Absent: not asked."""

MOST_NAMES: Final = 8
"""Of one tree walk (RFC 9989 section 4.10)."""
_LONGEST_NAME: Final = 253
_MOST_DOMAIN_CHARACTERS: Final = 1000
"""As written: U-labels may be longer than what they come to."""
_PREFIX: Final = "_dmarc."
_MOST_LABELS_ABOVE: Final = MOST_NAMES - 1
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_POLICIES: Final = ("none", "quarantine", "reject")
_VERSION: Final = re.compile(r"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_REPORT_URI: Final = re.compile(r"(?:mailto:[^\s@]+@[^\s@]+|(?!mailto:)[a-z][a-z0-9+.-]*:\S+)", re.IGNORECASE)


class Psd(StrEnum):
    """Whether a record says that its domain is a public suffix: registrations by others lie below it."""

    YES = "y"
    NO = "n"
    """It is no public suffix, and everything below it belongs to it."""
    UNSAID = "u"


@dataclass(frozen=True, slots=True, kw_only=True)
class DmarcRecord:
    """One DMARC policy record."""

    policy: str = ""
    """p=; "" where DMARC does not apply: no valid policy and nobody to report that to (section 4.10.1)."""
    subdomain_policy: str = ""
    """Of subdomains that exist: sp=, else p=."""
    absent_policy: str = ""
    """Of subdomains that do not exist: np=, else sp=, else p=."""
    is_strict_about_dkim: bool = False
    is_strict_about_spf: bool = False
    psd: Psd = Psd.UNSAID


@dataclass(frozen=True, slots=True)
class Found:
    """What a tree walk finds, as far as it has come."""

    organizational_domain: str
    policy_domain: str | None = None
    """Where the record lies that applies; None: no record so far."""
    is_over: bool = False


def parse_record(text: str) -> DmarcRecord | None:
    """Return a record, None for what is no DMARC record (section 4.7: it starts with v=DMARC1).

    Unknown tags, those of RFC 7489 among them (pct, rf, ri), and wrong values are ignored; of several tags of one name
    the first counts.
    """
    version = _VERSION.match(text)
    if not version:
        return None
    tags: dict[str, str] = {}
    for part in text[version.end() :].split(";"):
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip(" \t").lower(), value.strip(" \t").lower())
    policy, subdomain_policy, absent_policy = _policies(tags)
    return DmarcRecord(
        policy=policy,
        subdomain_policy=subdomain_policy,
        absent_policy=absent_policy,
        is_strict_about_dkim=tags.get("adkim") == "s",
        is_strict_about_spf=tags.get("aspf") == "s",
        psd=Psd(tags["psd"]) if tags.get("psd") in set(Psd) else Psd.UNSAID,
    )


def _policies(tags: Mapping[str, str]) -> tuple[str, str, str]:
    """Return what is asked for the domain itself, for subdomains and for those that do not exist.

    A policy that is wrong anywhere makes all of them "none" where a report can say so, else there are none at all
    (section 4.10.1). In test mode each is one step lower (section 4.7, t=).
    """
    given = [tags.get("p", ""), *(tags[name] for name in ("sp", "np") if name in tags)]
    if any(policy not in _POLICIES for policy in given):
        wants_reports = any(_REPORT_URI.fullmatch(uri.strip(" \t")) for uri in tags.get("rua", "").split(","))
        return ("none",) * 3 if wants_reports else ("",) * 3
    step = 1 if tags.get("t") == "y" else 0
    subdomains = tags.get("sp", tags["p"])
    chosen = (tags["p"], subdomains, tags.get("np", subdomains))
    policy, subdomain_policy, absent_policy = (_POLICIES[max(0, _POLICIES.index(name) - step)] for name in chosen)
    return policy, subdomain_policy, absent_policy


def record_of(texts: Iterable[str]) -> DmarcRecord | None:
    """Return the DMARC record among TXT records; several are as good as none (section 4.10, steps 2 and 6)."""
    found = [record for record in map(parse_record, texts) if record]
    return found[0] if len(found) == 1 else None


def mail_domain(text: str) -> str:
    """Return a domain of mail as a lower-case A-label, "" for what is none: address literals, IP addresses."""
    if len(text) > _MOST_DOMAIN_CHARACTERS:
        return ""
    domain = normalise_domain(text)
    labels = domain.split(".")
    is_domain = len(domain) <= _LONGEST_NAME and not labels[-1].isdigit() and all(map(_LABEL.fullmatch, labels))
    return domain if is_domain else ""


def name_of(domain: str) -> str:
    """Return where the DMARC record of a domain lies."""
    return _PREFIX + domain


def walk_domains(domain: str) -> tuple[str, ...]:
    """Return the domains of a tree walk, the longest first, at most 8 (section 4.10, steps 1 to 7).

    () for what is no domain. A domain too long to have a record is not among them.
    """
    domain = mail_domain(domain)
    if not domain:
        return ()
    labels = domain.split(".")
    most_above = min(len(labels) - 1, _MOST_LABELS_ABOVE)
    domains = (domain, *(".".join(labels[-count:]) for count in range(most_above, 0, -1)))
    return tuple(each for each in domains if len(name_of(each)) <= _LONGEST_NAME)


def tree_walk_names(domain: str) -> tuple[str, ...]:
    """Return the names whose TXT records a tree walk may need, at most 8; () for what is no domain."""
    return tuple(map(name_of, walk_domains(domain)))


def known_record(domain: str, records: Records) -> DmarcRecord | None:
    """Return the record at a domain; None where there is none, and where that could not be told."""
    return record_of(records.get(name_of(domain)) or ())


def is_known(domain: str, records: Records) -> bool:
    """Tell whether the look-up for a domain had an answer."""
    return records.get(name_of(domain)) is not None


def possible_walks(starts: tuple[str, ...], records: Records) -> frozenset[tuple[Found, ...]]:
    """Return what walks from several domains may find together, whatever the look-ups without an answer would say.

    One tuple, with one entry for each start, for each way it may be. Names that the walks share say the same to all.
    Bounded: 8 names for each start, and few different outcomes.
    """
    walks = [frozenset(walk_domains(start)) for start in starts]
    worlds = frozenset([tuple(Found(start) for start in starts)])
    for domain in sorted(frozenset[str]().union(*walks), key=_label_count, reverse=True):
        kinds = _possible_kinds(domain, records)
        worlds = frozenset(
            tuple(
                _step(found, start, domain, kind) if domain in walk else found
                for found, start, walk in zip(world, starts, walks, strict=True)
            )
            for world in worlds
            for kind in kinds
        )
    return worlds


def _possible_kinds(domain: str, records: Records) -> tuple[Psd | None, ...]:
    """Return what the record at a domain may say; None stands for no record."""
    if not is_known(domain, records):
        return (None, *Psd)
    record = known_record(domain, records)
    return (record.psd if record else None,)


def _step(found: Found, start: str, domain: str, kind: Psd | None) -> Found:
    """Take one step up (section 4.10.2, rules 1 to 3; section 4.10.1 for the record that applies)."""
    if found.is_over or kind is None:
        return found
    if kind is Psd.YES and domain != start:
        below = ".".join(start.split(".")[-_label_count(domain) - 1 :])
        # The record of a public suffix applies only where the organizational domain has none.
        return Found(below, below if found.policy_domain == below else domain, is_over=True)
    return Found(domain, domain, is_over=kind is not Psd.UNSAID)


def organizational_domain(domain: str, records: Records) -> str | None:
    """Return the organizational domain (section 4.10.2); None where a look-up without an answer may change it."""
    worlds = possible_walks((mail_domain(domain),), records)
    found = {walk.organizational_domain for (walk,) in worlds}
    return found.pop() if len(found) == 1 else None


def policy_domain(author_domain: str, records: Records) -> tuple[str | None, bool]:
    """Return where the record lies that applies to a domain, None where there is none, and whether that is sure.

    The domain's own record, else that of the organizational domain, else that of the public suffix (section 4.10.1).
    """
    if is_known(author_domain, records) and known_record(author_domain, records):
        return author_domain, True
    found = {walk.policy_domain for (walk,) in possible_walks((author_domain,), records)}
    return (found.pop(), True) if len(found) == 1 else (None, False)


def _label_count(domain: str) -> int:
    """Return the number of labels of a domain."""
    return domain.count(".") + 1
