"""Checks of the settings that concern more than one key.

They look at the document as it was read, not at the finished settings: a mistake in one key must not hide another.
What has the wrong shape is passed over here; the tables complain about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from deliverypools.core.addresses import normalise_domain
from deliverypools.core.dns_lists import DnsList
from deliverypools.core.settings.dns_list_value import dns_list
from deliverypools.core.settings.errors import Finding, did_you_mean, key_text, table_header
from deliverypools.core.settings.metrics import OFF, is_loopback, metrics_address
from deliverypools.core.settings.scan_values import OTHER_OUTCOMES, score, score_name, service_of_url, service_text
from deliverypools.core.settings.spam import SpamSkip
from deliverypools.core.settings.tables import (
    DEFAULT_POLICY,
    TICKET_KEY_FILE,
    Milter,
    NamedSender,
    OutboundPolicy,
    Pin,
    Policy,
    Socketmap,
)
from deliverypools.core.settings.toml_lines import TomlPath
from deliverypools.core.settings.values import (
    IpAddress,
    absolute_path,
    any_text,
    domain_name,
    duration_seconds,
    host_name,
    ip_address,
    pool_name,
    shown,
    socket_text,
)

REQUIRED_POOLS: Final = ("normal", "high-risk", "relay")
SCORES: Final = ("rspamd_scores", "spamd_scores")
STRICTEST_LAST: Final = ("high-risk", *OTHER_OUTCOMES)
POLICY_SCOPES: Final = ("senders", "domains", "groups", "except_senders", "except_domains", "except_groups")
_MOST_COMPARED: Final = 1000
_MOST_DNS_LISTS: Final = 8
_MOST_LISTED: Final = 30
_NUMBERED: Final = re.compile(r"(.+)-[0-9]+")


def findings_across_keys(document: dict[str, Any]) -> list[Finding]:
    """Return every mistake that only shows when several keys are looked at together."""
    return [
        *_accepted_domains(document),
        *_pool_names(document),
        *_pool_addresses(document),
        *_pins(document),
        *_lifetimes(document),
        *_sockets(document),
        *_outbound_policies(document),
        *_domains_as_accounts(document),
        *_srs(document),
        *_authserv_ids(document),
        *_reject_without_knowing(document),
        *_backscatter_lists(document),
        *_scanner_addresses(document),
        *_scores(document),
        *_pools_named_like_outcomes(document),
        *_skipped(document),
        *_metrics(document),
    ]


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _elements(value: object) -> Iterator[tuple[int, Any]]:
    return enumerate(value if isinstance(value, list) else [])


def _accepted_domains(document: dict[str, Any]) -> Iterator[Finding]:
    if document.get("accepted_domains") == []:
        yield Finding(
            ("accepted_domains",), 'is empty; write the domains whose users are yours, for example ["example.org"]'
        )


def _pool_names(document: dict[str, Any]) -> Iterator[Finding]:
    pools = document.get("pools")
    if not isinstance(pools, dict):
        return
    missing = [name for name in REQUIRED_POOLS if name not in pools]
    others = [name for name in islice(pools, _MOST_COMPARED) if name not in REQUIRED_POOLS] if missing else []
    for name in missing:
        meant = [other for other in others if did_you_mean(other, (name,))]
        if not meant:
            yield Finding(("pools",), f'pool "{name}" is missing; write a table [pools.{name}] with addresses and helo')
        elif _parsed(pool_name, meant[0]) is not None:
            # Any other misspelling is no name for a pool ("high_risk") and is reported as that.
            yield Finding(("pools", meant[0]), f'pool "{name}" is missing; rename this one or write [pools.{name}] too')
    for name in pools:
        numbered = _NUMBERED.fullmatch(name)
        if numbered and numbered[1] in pools:
            yield Finding(
                ("pools", name),
                f'pool "{numbered[1]}" uses names like "pool-{name}" for its single addresses; choose another name',
            )


def _pool_addresses(document: dict[str, Any]) -> Iterator[Finding]:
    first: dict[IpAddress, TomlPath] = {}
    for name, pool in _table(document.get("pools")).items():
        for index, text in _elements(_table(pool).get("addresses")):
            address = _parsed(ip_address, text)
            if address is None:
                continue
            path: TomlPath = ("pools", name, "addresses", index)
            owner = first.setdefault(address, path)
            if owner != path and owner[1] == name:
                yield Finding(path, f"{address} is listed twice; remove one")
            elif owner != path:
                yield Finding(
                    path, f"{address} is in [{key_text(owner[:2])}] already; give each pool its own addresses"
                )


def _pins(document: dict[str, Any]) -> Iterator[Finding]:
    pools = _table(document.get("pools"))
    for index, pin in _elements(document.get("pins")):
        if not isinstance(pin, dict):
            continue
        yield from _one_criterion(("pins", index), pin, Pin)
        pool = pin.get("pool")
        # A required pool that is missing has been reported, once.
        if isinstance(pool, str) and pools and pool not in pools and pool not in REQUIRED_POOLS:
            yield Finding(("pins", index, "pool"), _undefined(pool, "pools", pools))


def _one_criterion(path: TomlPath, entry: dict[str, Any], kind: type[NamedSender]) -> Iterator[Finding]:
    """Yield a mistake where a table of an array names its mail by no criterion, or by more than one."""
    criteria = [name for name in kind.model_fields if name != "pool"]
    given = [name for name in criteria if name in entry]
    # A misspelt criterion is an unknown key, and reported as that.
    if not given and not set(entry) - set(kind.model_fields):
        yield Finding(path, f"says for no mail; write one of {', '.join(criteria)}")
    if len(given) > 1:
        yield Finding(path, f"has {' and '.join(given)}; write a {table_header(path)} table for each")


def _undefined(name: str, kind: str, defined: Iterable[str]) -> str:
    listed = sorted(choice for choice in islice(defined, _MOST_LISTED) if choice.isprintable())
    return f"{shown(name)} is not defined. Defined {kind}: {', '.join(listed) or 'none'}."


def _lifetimes(document: dict[str, Any]) -> Iterator[Finding]:
    milter = _table(document.get("milter"))
    texts = {
        name: milter.get(name, Milter.model_fields[name].default) for name in ("undecided_after", "ticket_lifetime")
    }
    undecided_after, ticket_lifetime = (_parsed(duration_seconds, text) for text in texts.values())
    if undecided_after is not None and ticket_lifetime is not None and ticket_lifetime <= undecided_after:
        at = "ticket_lifetime" if "ticket_lifetime" in milter else "undecided_after"
        yield Finding(
            ("milter", at),
            f'ticket_lifetime ("{texts["ticket_lifetime"]}") must be longer than undecided_after'
            f' ("{texts["undecided_after"]}"): a ticket has to outlive the waiting',
        )
    kept = _parsed(duration_seconds, milter.get("decision_log_lifetime", ""))
    if kept is not None and ticket_lifetime is not None and kept < ticket_lifetime:
        yield Finding(
            ("milter", "decision_log_lifetime"),
            f'must be at least ticket_lifetime ("{texts["ticket_lifetime"]}"): queued mail is found by its row',
        )


def _sockets(document: dict[str, Any]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for name, table in (("milter", Milter), ("policy", Policy), ("socketmap", Socketmap)):
        written = _table(document.get(name))
        socket = _parsed(socket_text, written.get("socket", table.model_fields["socket"].default))
        owner = first.setdefault(socket, name) if socket else name
        if owner != name:
            at = name if "socket" in written else owner
            yield Finding((at, "socket"), f"is the socket of both {owner} and {name}; give each its own")


def _metrics(document: dict[str, Any]) -> Iterator[Finding]:
    written = _table(document.get("metrics"))
    listen = _parsed(metrics_address, written.get("listen", OFF))
    if listen and not is_loopback(listen.address) and not written.get("allow"):
        yield Finding(
            ("metrics", "listen"),
            "can be reached from other hosts; name those that may ask, for example"
            ' allow = ["192.0.2.9"], or write a loopback address, for example "127.0.0.1:9641"',
        )


def _outbound_policies(document: dict[str, Any]) -> Iterator[Finding]:
    groups = _table(document.get("groups"))
    seen: set[str] = set()
    for index, policy in _elements(document.get("outbound_policies")):
        if not isinstance(policy, dict):
            continue
        path: TomlPath = ("outbound_policies", index)
        name = _parsed(any_text, policy.get("name"))
        if name in seen:
            yield Finding((*path, "name"), f"{shown(name)} is the name of another policy already; choose another")
        if name is not None:
            seen.add(name)
        yield from _policy_scope(path, name, policy)
        if name not in (None, DEFAULT_POLICY) and policy.get("bcc_suspicious_mail"):
            yield Finding(
                (*path, "bcc_suspicious_mail"),
                f'is for the policy "{DEFAULT_POLICY}" only, and for the mail of all accounts; write it there',
            )
        for key in ("groups", "except_groups"):
            for position, group in _elements(policy.get(key)):
                if isinstance(group, str) and group.strip() not in groups:
                    yield Finding((*path, key, position), _undefined(group, "groups", groups))


def _policy_scope(path: TomlPath, name: str | None, policy: dict[str, Any]) -> Iterator[Finding]:
    scope = [key for key in POLICY_SCOPES if policy.get(key)]
    if name == DEFAULT_POLICY and scope:
        yield Finding(
            (*path, scope[0]),
            f'the policy "{DEFAULT_POLICY}" applies to everybody else; give a policy with a scope a name',
        )
    # A misspelt scope is an unknown key, and reported as that.
    if name not in (None, DEFAULT_POLICY) and not scope and not set(policy) - set(OutboundPolicy.model_fields):
        yield Finding(
            path,
            f"does not say for whom; write one of {', '.join(POLICY_SCOPES)},"
            f' or name it "{DEFAULT_POLICY}" to make it the policy of everybody else',
        )


def _domains_as_accounts(document: dict[str, Any]) -> Iterator[Finding]:
    """Yield each accepted domain that stands where an account should: as an account it would be nobody's."""
    accepted = {_parsed(domain_name, text) for _, text in _elements(document.get("accepted_domains"))} - {None}
    for path, accounts, advice in _lists_of_accounts(document):
        for position, text in _elements(accounts):
            if isinstance(text, str) and "@" not in text and _parsed(domain_name, text) in accepted:
                yield Finding((*path, position), f"{shown(text)} is a domain, not an account; {advice}")


def _lists_of_accounts(document: dict[str, Any]) -> Iterator[tuple[TomlPath, object, str]]:
    """Yield path and content of each list of accounts, and what to do with a domain in it."""
    for index, policy in _elements(document.get("outbound_policies")):
        for key, instead in (("senders", "domains"), ("except_senders", "except_domains")):
            yield ("outbound_policies", index, key), _table(policy).get(key), f"write it in {instead}"
    for name, members in _table(document.get("groups")).items():
        yield ("groups", name), members, "write it in domains or except_domains of the policy"


def _srs(document: dict[str, Any]) -> Iterator[Finding]:
    forwarding = _table(document.get("forwarding"))
    domain = _parsed(host_name, forwarding.get("srs_domain"))
    secret_file = _parsed(absolute_path, forwarding.get("srs_secret_file"))
    if domain is not None and "srs_secret_file" not in forwarding:
        yield Finding(
            ("forwarding", "srs_domain"), 'needs secrets; add srs_secret_file = "/etc/delivery-pools/srs.secrets"'
        )
    if secret_file is not None and "srs_domain" not in forwarding:
        yield Finding(
            ("forwarding", "srs_secret_file"),
            'is of no use alone; add srs_domain = "srs.example.org", a local domain of this Postfix',
        )
    if domain is not None and document.get("profile") == "express":
        yield Finding(
            ("forwarding", "srs_domain"),
            'is for the profile "hop": with "express" bounces to it would not find their way back; delete it',
        )
    if secret_file is not None and secret_file == document.get("ticket_key_file", TICKET_KEY_FILE):
        yield Finding(("forwarding", "srs_secret_file"), "is the ticket_key_file; give the secrets a file of their own")


def _reject_without_knowing(document: dict[str, Any]) -> Iterator[Finding]:
    is_examined = _table(document.get("authentication")).get("enabled") is not False
    is_told = bool(document.get("trusted_authserv_ids"))
    rejects = _table(document.get("forwarding")).get("unauthenticated_forward") == "reject"
    if rejects and not is_examined and not is_told:
        yield Finding(
            ("forwarding", "unauthenticated_forward"),
            '"reject" needs to know who is authenticated; delete enabled = false in [authentication], or name a'
            " verifier in trusted_authserv_ids",
        )


def _authserv_ids(document: dict[str, Any]) -> Iterator[Finding]:
    own = _parsed(domain_name, document.get("authserv_id"))
    for index, text in _elements(document.get("trusted_authserv_ids")):
        if own is not None and isinstance(text, str) and normalise_domain(text) == own:
            yield Finding(
                ("trusted_authserv_ids", index),
                f"{shown(text)} is our own authserv_id, and what claims that is removed; let the other verifier use"
                " another name",
            )


def _backscatter_lists(document: dict[str, Any]) -> Iterator[Finding]:
    """Yield each list that is written again, or too many, or useless beside the same list with all its answers."""
    path: TomlPath = ("bounces", "backscatter_lists")
    texts = _table(document.get("bounces")).get("backscatter_lists")
    if isinstance(texts, list) and len(texts) > _MOST_DNS_LISTS:
        yield Finding(
            path, f"has {len(texts)} lists, and each is asked about each client; write {_MOST_DNS_LISTS} or fewer"
        )
    lists = [(index, _parsed(dns_list, text)) for index, text in islice(_elements(texts), _MOST_COMPARED)]
    whole = {one.domain for _, one in lists if one and one.code is None}
    seen: set[DnsList] = set()
    for index, one in lists:
        if one in seen:
            yield Finding((*path, index), f"{shown(str(one))} is listed twice; remove one")
        elif one and one.code and one.domain in whole:
            yield Finding(
                (*path, index), f"{shown(one.domain)} counts with every code already; remove this or that one"
            )
        if one:
            seen.add(one)


def _scanner_addresses(document: dict[str, Any]) -> Iterator[Finding]:
    """Yield each scanner that is said to be where another one is."""
    spam = _table(document.get("spam"))
    first: dict[str, str] = {}
    for name, parse in (("rspamd", service_of_url), ("spamd", service_text), ("clamd", service_text)):
        address = _parsed(parse, spam.get(name))
        owner = first.setdefault(address, name) if address else name
        if owner != name:
            yield Finding(("spam", name), f"is the address of both {owner} and {name}; write the one of {name}")


def _scores(document: dict[str, Any]) -> Iterator[Finding]:
    """Yield each score that leads nowhere, or that leads nowhere because of another."""
    pools = _table(document.get("pools"))
    for key in SCORES:
        sound: dict[str, float] = {}
        for name, written in islice(_table(_table(document.get("spam")).get(key)).items(), _MOST_COMPARED):
            if _parsed(score_name, name) is None:
                continue  # reported as that
            if problem := _no_outcome(name, pools):
                yield Finding(("spam", key, name), problem)
            elif least := _parsed(score, written):
                sound[name] = least
        yield from (Finding(("spam", key, name), problem) for name, problem in _scores_without_effect(sound))


def _no_outcome(name: str, pools: dict[str, Any]) -> str:
    """Return why a score cannot lead to what has that name; "" where it can."""
    own = (pool for pool in pools if pool not in (*REQUIRED_POOLS, *OTHER_OUTCOMES) and pool.isprintable())
    choices = (*islice(own, _MOST_LISTED), *STRICTEST_LAST)
    others = f"{', '.join(choices[:-1])} or {choices[-1]}"
    if name in REQUIRED_POOLS and name not in choices:
        return f"is no pool that a score leads to; write {others}"
    # A required pool that is missing has been reported, once.
    if name in pools or name in choices or not pools:
        return ""
    likely = did_you_mean(name, choices)
    return (
        f'is not defined; did you mean "{likely}"?' if likely else f"is not defined; write [pools.{name}], or {others}"
    )


def _scores_without_effect(scores: dict[str, float]) -> Iterator[tuple[str, str]]:
    """Yield the names that no message leaves by, as something stricter begins at that score already, and why."""
    equal: dict[float, str] = {}
    for name, least in scores.items():
        rank = STRICTEST_LAST.index(name) + 1 if name in STRICTEST_LAST else 0
        if first := next((other for other in STRICTEST_LAST[rank:] if scores.get(other, least + 1) <= least), None):
            advice = f"{first} begins at {scores[first]:.15g}; write less than that, or delete it"
            yield name, f"has no effect, as {advice}"
        elif (twin := equal.setdefault(least, name)) != name:
            yield name, f"has no effect, as {twin} begins at {least:.15g} too; write another score"


def _pools_named_like_outcomes(document: dict[str, Any]) -> Iterator[Finding]:
    """Yield each pool of the operator's that scores seem to name, and do not."""
    spam = _table(document.get("spam"))
    for outcome in OTHER_OUTCOMES:
        keys = [key for key in SCORES if outcome in _table(spam.get(key))]
        if keys and outcome in _table(document.get("pools")):
            yield Finding(
                ("pools", outcome), f"spam.{keys[0]}.{outcome} does not mean this pool; give the pool another name"
            )


def _skipped(document: dict[str, Any]) -> Iterator[Finding]:
    for index, skip in _elements(_table(document.get("spam")).get("skip")):
        if isinstance(skip, dict):
            yield from _one_criterion(("spam", "skip", index), skip, SpamSkip)


def _parsed(parse: Any, value: object) -> Any:
    """Return a value as its parser sees it; None for one that the parser refuses, which is reported elsewhere."""
    try:
        return parse(value)
    except ValueError:
        return None
