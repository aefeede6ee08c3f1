"""The table `[bounces]` of the settings file."""

from __future__ import annotations

from typing import Literal

from pydantic import StrictBool

from deliverypools.core.settings.dns_list_value import DnsListText
from deliverypools.core.settings.tables import Table, setting
from deliverypools.core.settings.values import Count, Duration, Network, Seconds


class Bounces(Table):
    """Bounces and backscatter."""

    drop_backscatter: StrictBool = setting(
        "Drop this Postfix's own notices about mail from outside whose sender failed SPF or DMARC, or that was spam,"
        " instead of sending them to whoever was forged. Each is an entry of the drop ledger (`delivery-pools dropped"
        " list`). Notices to authenticated senders, to our own users, and those that were asked for are always sent.",
        default=False,
        example="true",
    )
    ledger_lifetime: Duration = setting("How long an entry of the drop ledger is kept.", default="30d", example='"30d"')
    ledger_entries: Count = setting(
        "How many entries the drop ledger keeps; the oldest go first.",
        default=10000,
        example="10000",
        ge=100,
        le=1_000_000,
    )
    reject_backscatter: StrictBool = setting(
        "Refuse bounces that arrive from outside and return a message that we have not sent (550, at the end of the"
        " message). Otherwise they are delivered, marked `backscatter` in the header X-Delivery-Pool-DSN. Not for sites"
        " whose users send with your domains by other servers too.",
        default=False,
        example="true",
    )
    backscatter_lists: tuple[DnsListText, ...] = setting(
        "DNS lists of servers that send backscatter; asked for the null sender and postmaster@ only, never for users,"
        " `trusted_networks` or `backscatter_list_exceptions`. `LIST=CODE` counts only answers with that code, as in"
        " Postfix's reject_rbl_client: an address, or one with `[2;4..8]` in it.",
        default=(),
        example='["ips.backscatterer.org", "dnsbl.example.net=127.0.0.[2..4]"]',
    )
    backscatter_list_action: Literal["reject", "tag"] = setting(
        "What happens to such mail from a listed client: it is refused (550), or gets the header"
        " X-Delivery-Pool-Backscatter with the name of the list.",
        default="reject",
        example='"tag"',
    )
    backscatter_list_exceptions: tuple[Network, ...] = setting(
        "Clients that are never looked up.", default=(), example='["192.0.2.0/24"]'
    )
    backscatter_list_timeout_seconds: Seconds = setting(
        "How long an answer of the lists may take. A list that has not answered then says nothing.",
        default=3.0,
        example="3.0",
        gt=0,
        le=4,
    )
    surge_minimum: Count = setting(
        "Notices in an hour, for one account or accepted domain, below which nothing is a surge; 0: surges are not"
        " looked for.",
        default=50,
        example="50",
        ge=0,
    )
    surge_factor: Count = setting(
        "How many times the usual number of an hour (of the last week) is a surge.", default=5, example="5", ge=2
    )
