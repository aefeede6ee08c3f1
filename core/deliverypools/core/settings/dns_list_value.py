"""The kind of value that names a DNS list: what the operator writes, as Postfix has it."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import PlainValidator

from deliverypools.core.dns_lists import LONGEST_LIST_NAME, DnsList, parse_code
from deliverypools.core.settings.values import domain_name, plain_text, shown


def dns_list(value: object) -> DnsList:
    """Return the list of "LIST" or "LIST=CODE" (reject_rbl_client in postconf(5))."""
    text = plain_text(value, "ips.backscatterer.org")
    name, equals, code = (part.strip() for part in text.partition("="))
    try:
        domain = domain_name(name)
    except ValueError:
        domain = ""
    if "." not in domain:
        raise ValueError(f'got {shown(value)}; write the domain of a list, for example "ips.backscatterer.org"')
    if len(domain) > LONGEST_LIST_NAME:
        raise ValueError(
            f"got {shown(value)}; a list's domain has at most {LONGEST_LIST_NAME} characters, so that an IPv6 address"
            " fits in front of it"
        )
    if not equals:
        return DnsList(domain)
    try:
        return DnsList(domain, parse_code(code))
    except ValueError as error:
        raise ValueError(f"got {shown(value)}; {error}") from None


DnsListText: TypeAlias = Annotated[DnsList, PlainValidator(dns_list)]
