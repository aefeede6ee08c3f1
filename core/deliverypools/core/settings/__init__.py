"""The settings: one frozen value, made from the text of a TOML file, or every error of that text at once.

The shells read the file (`deliverypools.adapters.settings_file`) and hand the text over.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import Field, StrictBool, ValidationError

from deliverypools.core.addresses import normalise_domain
from deliverypools.core.settings.bounces import Bounces
from deliverypools.core.settings.checks import findings_across_keys
from deliverypools.core.settings.combinations import keys_with_less_effect
from deliverypools.core.settings.errors import SettingsError, findings_of, located
from deliverypools.core.settings.metrics import Metrics
from deliverypools.core.settings.sender_index import SenderIndex
from deliverypools.core.settings.spam import Spam, SpamCeilings, SpamSkip
from deliverypools.core.settings.tables import (
    DEFAULT_POLICY,
    TICKET_KEY_FILE,
    Alerts,
    Authentication,
    Dns,
    Forwarding,
    Limits,
    Milter,
    NamedSender,
    OutboundPolicy,
    Pin,
    Policy,
    Pool,
    ServiceLimits,
    Socketmap,
    Suspicion,
    Table,
    setting,
)
from deliverypools.core.settings.text import effective_lines, keys_without_effect
from deliverypools.core.settings.toml import read_toml
from deliverypools.core.settings.values import (
    AbsolutePath,
    AccountName,
    Domain,
    HostName,
    InetSocket,
    Nameserver,
    Network,
    PoolName,
    StateUrl,
    Text,
    UnixSocket,
    client_ip,
    state_path,
)

__all__ = [
    "DEFAULT_POLICY",
    "Alerts",
    "Authentication",
    "Bounces",
    "Dns",
    "Forwarding",
    "InetSocket",
    "Limits",
    "Metrics",
    "Milter",
    "NamedSender",
    "Nameserver",
    "OutboundPolicy",
    "Pin",
    "Policy",
    "Pool",
    "ServiceLimits",
    "Settings",
    "SettingsError",
    "Socketmap",
    "Spam",
    "SpamCeilings",
    "SpamSkip",
    "Suspicion",
    "UnixSocket",
    "built_in_defaults",
    "parse_settings",
]


class Settings(Table):
    """Settings of all parts of Delivery Pools."""

    accepted_domains: tuple[Domain, ...] = setting(
        "Domains whose users are ours. Mail with any other sender is relayed or forwarded mail. Subdomains count only"
        " if they are named.",
        example='["example.org"]',
    )
    trusted_networks: tuple[Network, ...] = setting(
        "Clients that may send without SASL, as in Postfix's mynetworks.",
        default=("127.0.0.0/8", "::1"),
        example='["127.0.0.0/8", "::1", "192.0.2.64/28"]',
    )
    authserv_id: HostName | None = setting(
        "Our name in Authentication-Results headers (RFC 8601). What others write in this name is removed. Without it"
        " none is written.",
        default=None,
        example='"mx.example.org"',
    )
    trusted_authserv_ids: tuple[Text, ...] = setting(
        "Names of verifying milters that run before us and remove forgeries of their own name. What they found is not"
        " examined again. Not our own name.",
        default=(),
        example='["dkim.example.org"]',
    )
    state: StateUrl = setting(
        "Where counters and decisions are kept: `sqlite:///` and the absolute path of a file, so four slashes; or, for"
        " several Postfix hosts, `redis://HOST:PORT/DATABASE` (`rediss://` with TLS), a Redis or Valkey server.",
        default="sqlite:////var/lib/delivery-pools/state.db",
        example='"redis://192.0.2.5:6379/0"',
        secret=True,
    )
    ticket_key_file: AbsolutePath = setting(
        "File with the keys of the ticket that a message carries from the first pass to the second. The policy service"
        " marks its alerts with them.",
        default=TICKET_KEY_FILE,
        example='"/etc/delivery-pools/ticket.keys"',
    )
    profile: Literal["hop", "express"] = setting(
        "How Postfix is set up: `hop` for every Postfix, `express` for dedicated outbound relays only.",
        default="hop",
        example='"hop"',
    )
    fast_path: Literal["auto", "off"] = setting(
        "Whether mail of users and trusted clients with external recipients only may skip the hop (profile `hop`):"
        " `auto` where `delivery-pools check` has proved that nothing in Postfix is against it (docs/fast-path.md), or"
        " `off`.",
        default="auto",
        example='"off"',
    )
    fast_path_milters: tuple[str, ...] = setting(
        "Milters of yours in front of ours that only add header fields or refuse mail, as main.cf names them in"
        " `smtpd_milters`. With any other milter there is no fast path: what it changes of sender and recipients is not"
        " told to ours. Usual signers and verifiers are such (opendkim, opendmarc), and rspamd without rules that add"
        " recipients or put mail on hold.",
        default=(),
        example='["inet:127.0.0.1:8891", "local:opendkim/opendkim.sock"]',
    )
    shadow: StrictBool = setting(
        "Decide and record, but let all mail leave by `normal`: to watch before you switch. No sender is rewritten and"
        " no forward refused, whatever the log says would be. Nothing is refused, held, dropped or kept waiting because"
        " of us: the log says what would be. Restrictions that are in force are not enforced meanwhile; limits make no"
        " new ones.",
        default=False,
        example="true",
    )
    pools: dict[PoolName, Pool] = Field(
        description="Pools by name: lower-case letters, digits and hyphens, at most 30 characters."
    )
    dns: Dns = Field(default_factory=Dns)
    milter: Milter = Field(default_factory=Milter)
    policy: Policy = Field(default_factory=Policy)
    socketmap: Socketmap = Field(default_factory=Socketmap)
    limits: ServiceLimits = Field(default_factory=ServiceLimits)
    suspicion: Suspicion = Field(default_factory=Suspicion)
    outbound_policies: tuple[OutboundPolicy, ...] = setting("Outbound policies.", default=(), example="[]")
    groups: dict[str, tuple[AccountName, ...]] = Field(
        default_factory=dict,
        description="Groups for outbound policies, each a name and its accounts.",
        json_schema_extra={"example": '["alice@example.org", "bob@example.org"]', "later": "", "secret": False},
    )
    spam: Spam = Field(default_factory=Spam)
    authentication: Authentication = Field(default_factory=Authentication)
    forwarding: Forwarding = Field(default_factory=Forwarding)
    bounces: Bounces = Field(default_factory=Bounces)
    alerts: Alerts = Field(default_factory=Alerts)
    metrics: Metrics = Field(default_factory=Metrics)
    pins: tuple[Pin, ...] = setting("Pins.", default=(), example="[]")

    @cached_property
    def pins_by_sender(self) -> SenderIndex[Pin]:
        """The pins, by whom they name."""
        return SenderIndex(self.pins)

    @property
    def state_path(self) -> str | None:
        """Absolute path of the SQLite file; None where the state is a server's."""
        return state_path(self.state)

    @cached_property
    def policies_by_priority(self) -> tuple[OutboundPolicy, ...]:
        """The outbound policies, highest priority first, in the order of the file where it is the same."""
        return tuple(sorted(self.outbound_policies, key=lambda policy: -policy.priority))

    @cached_property
    def default_policy(self) -> OutboundPolicy:
        """The policy "default", which always exists."""
        named = (policy for policy in self.outbound_policies if policy.name == DEFAULT_POLICY)
        return next(named, OutboundPolicy(name=DEFAULT_POLICY))

    @cached_property
    def _members(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(members) for name, members in self.groups.items()}

    def members_of(self, group: str) -> frozenset[str]:
        """Return the accounts of a group of `[groups]`."""
        return self._members.get(group, frozenset())

    @cached_property
    def _accepted(self) -> frozenset[str]:
        return frozenset(self.accepted_domains)

    def is_accepted_domain(self, domain: str) -> bool:
        """Tell whether the users of a domain are ours. Any spelling will do; a subdomain is another domain."""
        return normalise_domain(domain) in self._accepted

    def is_trusted_client(self, address: str) -> bool:
        """Tell whether a client may send without SASL. What is no IP address is not trusted."""
        client = client_ip(address)
        return client is not None and any(client in network for network in self.trusted_networks)

    def effective_lines(self) -> list[str]:
        """Return one line `key = value` for every setting, defaults included, secrets masked: for the start log.

        Of outbound policies and pins there are only the keys that were set, as in `pins[0].pool = "relay"`.
        """
        return effective_lines(self)

    def not_in_effect(self) -> tuple[str, ...]:
        """Return a warning for each key that the operator has set, and that does nothing, or less than it says."""
        return (*keys_without_effect(self), *keys_with_less_effect(self))


def parse_settings(text: str, filename: str) -> Settings:
    """Return the settings of a TOML text; `filename` is for the messages only.

    Raises SettingsError with all errors, in the order of the file; nothing else, whatever the text.
    """
    document, lines = read_toml(text, filename)
    findings = findings_across_keys(document)
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        findings += findings_of(error, Settings)
    else:
        if not findings:
            return settings
    raise SettingsError(located(findings, lines, filename))


def built_in_defaults() -> Settings:
    """Return settings for trying things out without a file: documentation addresses, no accepted domain."""
    pools: dict[str, Any] = {
        name: {"addresses": [f"192.0.2.{number}", f"2001:db8::{number}"], "helo": helo}
        for name, number, helo in (
            ("normal", 10, "mail.example.org"),
            ("high-risk", 20, "mail-high-risk.example.org"),
            ("relay", 30, "mail-relay.example.org"),
        )
    }
    return Settings.model_validate({"accepted_domains": [], "pools": pools})
