"""The tables of the settings file: every key with its kind, default, example and purpose.

The keys are an interface (operators' files); `docs/settings.md` and the error messages are made from what stands
here. Checks that concern more than one key are in `checks`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from deliverypools.core.settings.values import (
    AbsolutePath,
    AccountName,
    Address,
    Count,
    Domain,
    Duration,
    DurationOrSeconds,
    HostName,
    MailAddress,
    Network,
    PoolName,
    Resolver,
    Seconds,
    SocketText,
    Text,
    WebUrl,
    client_ip,
)

SOCKET_DIRECTORY = "/var/spool/postfix/delivery-pools"
TICKET_KEY_FILE: Final = "/etc/delivery-pools/ticket.keys"
DEFAULT_POLICY: Final = "default"
"""Name of the outbound policy for everybody whom no other one names. It always exists."""


def setting(
    description: str, *, example: str, default: Any = ..., later: str = "", secret: bool = False, **limits: Any
) -> Any:
    """Describe one key: `example` is a value in TOML, `later` what this version does not do with it.

    `limits` are pydantic's own (`ge`, `le`, `min_length`). A default is written as an operator would write it.
    """
    notes: dict[str, Any] = {"example": example, "later": later, "secret": secret}
    return Field(default, description=description, json_schema_extra=notes, **limits)


class Table(BaseModel):
    """A table of the settings file: cannot be changed once read, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Pool(Table):
    """A named group of source addresses. `normal`, `high-risk` and `relay` always exist; add pools of your own."""

    addresses: tuple[Address, ...] = setting(
        "Source addresses of this pool, IPv4 and IPv6. No two pools share an address.",
        example='["192.0.2.10", "2001:db8::10"]',
        min_length=1,
    )
    helo: HostName = setting(
        "Host name that this pool says in HELO; it should resolve to the addresses, and they to it.",
        example='"mail.example.org"',
    )


class Dns(Table):
    """Questions to the DNS."""

    nameservers: tuple[Resolver, ...] = setting(
        "Resolvers to ask, each with an optional port. Empty: those of /etc/resolv.conf.",
        default=(),
        example='["127.0.0.1", "[::1]:5353"]',
    )
    timeout_seconds: Seconds = setting(
        "How long one question may take, all resolvers together. What takes longer is unknown, never no.",
        default=5.0,
        example="5.0",
        gt=0,
        le=60,
    )
    servfail_cache_seconds: Seconds = setting(
        "How long a failure (SERVFAIL, time-out) is remembered before the question is asked again.",
        default=30.0,
        example="30.0",
        ge=0,
        le=3600,
    )


class Milter(Table):
    """The daemon `delivery-pools milter`."""

    socket: SocketText = setting(
        "Where Postfix reaches the milter: `unix:/path` (at most 107 bytes) or `inet:HOST:PORT`.",
        default=f"unix:{SOCKET_DIRECTORY}/milter.sock",
        example='"inet:127.0.0.1:8891"',
    )
    workers: Count = setting("Number of worker processes.", default=4, example="4", ge=1, le=64)
    undecided_after: Duration = setting(
        "How long a message that cannot be decided waits in the queue before it leaves by `high-risk`. Must lie below"
        " Postfix's `maximal_queue_lifetime` and `bounce_queue_lifetime`.",
        default="4h",
        example='"4h"',
    )
    ticket_lifetime: Duration = setting(
        "How old a ticket may be. Longer than `undecided_after` and than Postfix's `maximal_queue_lifetime`.",
        default="14d",
        example='"14d"',
    )
    decision_log_lifetime: Duration = setting(
        "How long rows of the decision log are kept: for `explain`, `audit` and `replay`. At least `ticket_lifetime`,"
        " because queued mail is found by them when its account is restricted. About 2.4 GB for a million messages that"
        " users send.",
        default="14d",
        example='"30d"',
    )
    drain_seconds: DurationOrSeconds = setting(
        "How long a worker that is told to stop may finish the messages it has begun: seconds, or a time.",
        default="20s",
        example='"20s"',
    )

    @property
    def decisions_kept_seconds(self) -> float:
        """Return how long rows of the decision log are kept: never shorter than a ticket may live."""
        return max(self.decision_log_lifetime, self.ticket_lifetime)


class Policy(Table):
    """The daemon `delivery-pools policy`."""

    socket: SocketText = setting(
        "Where Postfix reaches the policy service: `unix:/path` or `inet:HOST:PORT`.",
        default=f"unix:{SOCKET_DIRECTORY}/policy.sock",
        example='"inet:127.0.0.1:8892"',
    )


class Socketmap(Table):
    """Look-ups of SRS addresses, by the policy daemon."""

    socket: SocketText = setting(
        "Where Postfix reaches the socketmap service: `unix:/path` or `inet:HOST:PORT`.",
        default=f"unix:{SOCKET_DIRECTORY}/socketmap.sock",
        example='"inet:127.0.0.1:8893"',
    )


class Limits(Table):
    """Service limits of clients in `trusted_networks`, per responsible account. 0 means none."""

    recipients_per_day: Count = setting(
        "Recipients per rolling 24 hours. Mail beyond leaves by `high-risk`.", default=0, example="10000", ge=0
    )
    messages_per_minute: Count = setting("Messages per rolling minute.", default=0, example="30", ge=0)
    recipients_per_message: Count = setting("Recipients of one message.", default=0, example="1000", ge=0)
    external_recipients_per_tenant_per_day: Count = setting(
        "External recipients per day, for all accounts of an accepted domain together.",
        default=0,
        example="50000",
        ge=0,
    )


class ServiceLimits(Limits):
    """Service limits of SASL users and of system users who call sendmail(1), per responsible account. 0 means none."""

    recipients_per_day: Count = setting(
        "Recipients per rolling 24 hours. Mail beyond leaves by `high-risk`.", default=10000, example="10000", ge=0
    )
    messages_per_minute: Count = setting("Messages per rolling minute.", default=30, example="30", ge=0)
    recipients_per_message: Count = setting("Recipients of one message.", default=1000, example="1000", ge=0)
    trusted: Limits = Field(
        default_factory=Limits, description="The same limits for clients in `trusted_networks`. None by default."
    )


class OutboundPolicy(Table):
    """Sending limits for some accounts. The policy named "default" applies to everybody whom no other one names."""

    name: Text = setting("Name of the policy, for logs and alerts.", example='"sales"')
    priority: Count = setting("The policy with the highest priority applies.", default=0, example="10")
    senders: tuple[AccountName, ...] = setting(
        "Accounts it applies to: logins, addresses, system users as `uid:33`, addresses of trusted clients.",
        default=(),
        example='["alice@example.org"]',
    )
    domains: tuple[Domain, ...] = setting(
        "Domains it applies to, subdomains included.", default=(), example='["sales.example.org"]'
    )
    groups: tuple[Text, ...] = setting("Groups of `[groups]` it applies to.", default=(), example='["sales"]')
    except_senders: tuple[AccountName, ...] = setting(
        "Accounts it does not apply to.", default=(), example='["boss@example.org"]'
    )
    except_domains: tuple[Domain, ...] = setting(
        "Domains it does not apply to.", default=(), example='["eu.sales.example.org"]'
    )
    except_groups: tuple[Text, ...] = setting("Groups it does not apply to.", default=(), example='["managers"]')
    external_recipients_per_hour: Count = setting(
        "Recipients outside the accepted domains per rolling hour; 0: no limit.", default=0, example="500", ge=0
    )
    internal_recipients_per_hour: Count = setting(
        "Recipients in the accepted domains per rolling hour; 0: no limit.", default=0, example="0", ge=0
    )
    recipients_per_day: Count = setting(
        "Recipients per rolling 24 hours; 0: the service limit. Of the two, the smaller one holds.",
        default=0,
        example="1000",
        ge=0,
    )
    over_limit: Literal["high-risk", "restrict-until-tomorrow", "restrict", "alert"] = setting(
        "What happens beyond a limit: the mail leaves by `high-risk`; the account cannot send until the next day (UTC),"
        " or until an administrator releases it; or only an alert.",
        default="high-risk",
        example='"restrict"',
    )
    automatic_forwarding: Literal["on", "off", "automatic"] = setting(
        "Whether mailboxes may forward outside by themselves; `automatic` means `off`.",
        default="on",
        example='"off"',
    )
    restricted_mail: Literal["high-risk", "hold"] = setting(
        "What happens to accepted mail of an account that has been restricted since.",
        default="high-risk",
        example='"hold"',
    )
    notify: tuple[MailAddress, ...] = setting(
        "Addresses that are told about accounts of this policy. Empty: `alerts.mail_to`.",
        default=(),
        example='["sales-admin@example.org"]',
    )
    bcc_suspicious_mail: tuple[MailAddress, ...] = setting(
        "Addresses that get a copy of each message that is spam, over a limit or of a restricted account, as a message"
        " of its own. For the policy `default` only: it is for the mail of all accounts.",
        default=(),
        example='["audit@example.org"]',
    )


class Suspicion(Table):
    """Signs of a compromised account. 0: off.

    Beyond a threshold, what its outbound policy says of limits happens, but at least `high-risk`.
    """

    first_time_recipients_per_day: Count = setting(
        "Recipients per rolling 24 hours to whom the account has not written in the last 30 days.",
        default=0,
        example="200",
        ge=0,
    )
    client_addresses_per_hour: Count = setting(
        "Different client addresses (IPv6: /64 networks) of a SASL user per rolling hour.",
        default=0,
        example="20",
        ge=0,
    )
    refused_recipients_percent: Count = setting(
        "Share of an account's recipients in the last 24 hours that were refused, by this Postfix's own non-delivery"
        " notices.",
        default=0,
        example="30",
        ge=0,
        le=100,
    )
    refused_recipients_minimum: Count = setting(
        "Refused recipients below which their share does not matter.", default=20, example="20", ge=1
    )


class Authentication(Table):
    """SPF, DKIM, DMARC and ARC of mail that comes from outside, examined when it arrives."""

    enabled: StrictBool = setting(
        "Whether they are examined. If not, all forwarded mail counts as unauthenticated, unless a verifier of"
        " `trusted_authserv_ids` says otherwise.",
        default=True,
        example="false",
    )
    timeout_seconds: Seconds = setting(
        "How long the end of a message waits for all its look-ups together, 60 at most; what has no answer then is"
        " unknown, and is asked again when the message is forwarded.",
        default=20.0,
        example="20.0",
        gt=0,
        le=60,
    )
    trusted_arc_sealers: tuple[Domain, ...] = setting(
        "Domains whose ARC seals (RFC 8617) are evidence: what they say they saw on arrival is believed.",
        default=(),
        example='["lists.example.net"]',
    )


class Forwarding(Table):
    """Mail that arrived from outside and leaves again."""

    srs_domain: HostName | None = setting(
        "Domain of rewritten senders (SRS), so that the destination sees a sender of ours and bounces come back. A"
        " local domain of this Postfix, with an SPF record that names the addresses of `relay` and `high-risk`. Without"
        " it no sender is rewritten.",
        default=None,
        example='"srs.example.org"',
    )
    srs_secret_file: AbsolutePath | None = setting(
        "File with the secrets of SRS, one a line, the newest first. `delivery-pools keys rotate` makes it; the line of"
        " a postsrsd.secret will do.",
        default=None,
        example='"/etc/delivery-pools/srs.secrets"',
    )
    srs_longest_local_part: Count = setting(
        "Octets of a rewritten sender's local part beyond which it is not rewritten, 32 to 240. RFC 5321 lets servers"
        " refuse more than 64; many take more.",
        default=64,
        example="64",
        ge=32,
        le=240,
    )
    authenticated_forward_pool: Literal["relay", "normal"] = setting(
        "Pool of forwarded mail whose sender was authenticated on arrival.",
        default="relay",
        example='"normal"',
    )
    unauthenticated_forward: Literal["relay", "high-risk", "reject"] = setting(
        "What happens to other forwarded mail. `reject`: it does not leave, and the mailbox that forwards it is told:"
        " not the sender, who may be forged.",
        default="relay",
        example='"high-risk"',
    )


class Alerts(Table):
    """Who is told when a limit is exceeded, an account restricted, a surge of bounces begins or bounces were dropped.

    They are told once for each event, limit, account and UTC day.
    """

    mail_to: tuple[MailAddress, ...] = setting(
        "Addresses that get a message. Mailboxes of this host are best: to others it leaves by `high-risk`.",
        default=(),
        example='["postmaster@example.org"]',
    )
    webhook: WebUrl | None = setting(
        "URL that gets a POST request with JSON. A failure is tried again for a day.",
        default=None,
        example='"https://alerts.example.org/hook"',
        secret=True,
    )
    contact: Text | None = setting(
        "Whom a restricted account is told to ask. Default: postmaster at the first accepted domain.",
        default=None,
        example='"helpdesk@example.org or extension 4711"',
    )
    sendmail: AbsolutePath = setting(
        "Postfix's sendmail(1), by which alerts and copies are sent.",
        default="/usr/sbin/sendmail",
        example='"/usr/sbin/sendmail"',
    )
    spool: AbsolutePath = setting(
        "Folder for copies of suspicious mail until they are sent, and for the file `requeue` that tells"
        " delivery-pools-requeue.path that accounts were restricted or released, and `fast-path.json`, the proof that"
        " mail may skip the hop.",
        default="/var/lib/delivery-pools/spool",
        example='"/var/lib/delivery-pools/spool"',
    )

    def contact_address(self, accepted_domains: tuple[str, ...]) -> str:
        """Return whom to ask."""
        return self.contact or f"postmaster@{accepted_domains[0] if accepted_domains else 'localhost'}"


class NamedSender(Table):
    """Whose mail an entry is for: one of sender, domain, sasl_username, client."""

    sender: MailAddress | None = setting("Envelope sender.", default=None, example='"news@example.org"')
    domain: Domain | None = setting(
        "Domain of the envelope sender, subdomains included.", default=None, example='"lists.example.org"'
    )
    sasl_username: AccountName | None = setting("Login, in any case.", default=None, example='"newsletter"')
    client: Network | None = setting("Address or network of the client.", default=None, example='"192.0.2.64/28"')

    def contains(self, client_address: str) -> bool:
        """Tell whether the client's address lies in the network; what is no address does not."""
        address = client_ip(client_address)
        return self.client is not None and address is not None and address in self.client


class Pin(NamedSender):
    """The operator's own word: this mail leaves by that pool. Name one of sender, domain, sasl_username, client.

    Matches submitted and trusted mail only. The first pin that matches wins.
    """

    pool: PoolName = setting("Pool that the mail leaves by; it must be defined.", example='"high-risk"')
