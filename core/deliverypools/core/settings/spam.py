"""The table `[spam]` of the settings file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deliverypools.core.settings.scan_values import (
    HeaderSign,
    NameForScanner,
    RspamdUrl,
    Score,
    ScoreName,
    ServiceText,
    Size,
)
from deliverypools.core.settings.tables import NamedSender, Table, setting
from deliverypools.core.settings.values import Count, MailAddress, Seconds


class SpamCeilings(Table):
    """How many spam verdicts are more than mistakes of the scanner. 0 means no ceiling.

    Beyond an account's, what its outbound policy says of limits happens, but at least `high-risk`. Beyond a tenant's,
    its mail leaves by `high-risk`.
    """

    verdicts_per_account_per_hour: Count = setting(
        "Spam verdicts per rolling hour for one account.", default=0, example="20", ge=0
    )
    verdicts_per_tenant_per_hour: Count = setting(
        "Spam verdicts per rolling hour for one accepted domain.", default=0, example="200", ge=0
    )


class SpamSkip(NamedSender):
    """Mail that no scanner is asked about. Name one of sender, domain, sasl_username, client, recipient.

    The first four match submitted and trusted mail only, by what the ticket says; `recipient` where the message has no
    other.
    """

    recipient: MailAddress | None = setting(
        "Where spam is reported to, for example.", default=None, example='"spam@reports.example.net"'
    )


class Spam(Table):
    """What tells that a message is spam or malware: docs/scanners.md."""

    headers: tuple[HeaderSign, ...] = setting(
        'Headers by which scanners that run before us mark spam: `"Name: value"` matches a value that begins so,'
        ' `"Name"` one that means yes.',
        default=("X-Spam-Flag: YES", "X-Spam: Yes", "X-Spam-Status: Yes"),
        example='["X-Spam-Flag: YES", "X-Our-Scanner"]',
    )
    rspamd: RspamdUrl | None = setting(
        "rspamd's normal worker, or its proxy, to ask over HTTP.",
        default=None,
        example='"http://127.0.0.1:11333"',
    )
    rspamd_settings_id: NameForScanner | None = setting(
        "Which of rspamd's own settings it is to use for mail that we hand over (`Settings-ID`).",
        default=None,
        example='"outbound"',
    )
    spamd: ServiceText | None = setting(
        "SpamAssassin's spamd to ask: `HOST:PORT` or `unix:/path`.", default=None, example='"127.0.0.1:783"'
    )
    spamd_user: NameForScanner | None = setting(
        "Whose preferences spamd is to use. Not set: those of the user that it runs as.",
        default=None,
        example='"outbound"',
    )
    clamd: ServiceText | None = setting(
        "ClamAV's clamd to ask for malware: `HOST:PORT` or `unix:/path`.",
        default=None,
        example='"unix:/run/clamav/clamd.ctl"',
    )
    rspamd_scores: dict[ScoreName, Score] = setting(
        "From which score of rspamd's mail leaves by a pool (`high-risk`, or one of your own, below it), is put on hold"
        " (`hold`) or refused (`reject`). Without `high-risk`, rspamd's own word counts: every action but `no action`,"
        " `greylist` and `soft reject` is spam.",
        default={},
        example="6.0",
    )
    spamd_scores: dict[ScoreName, Score] = setting(
        "The same for SpamAssassin's score. Without `high-risk`, spamd's own word counts (`required_score`).",
        default={},
        example="5.0",
    )
    malware: Literal["high-risk", "hold", "reject"] = setting(
        "What happens to a message in which clamd finds something.", default="high-risk", example='"reject"'
    )
    scan: Literal["both", "submitted", "forwarded"] = setting(
        "Which mail scanners are asked about: what our users and trusted clients send (`submitted`), what came from"
        " outside or has a sender that is not ours (`forwarded`), or `both`. Bounces never.",
        default="both",
        example='"submitted"',
    )
    skip: tuple[SpamSkip, ...] = setting("Mail that is not scanned.", default=(), example="[]")
    size_limit: Size = setting(
        "Size up to which messages are scanned: a number of bytes, or a number and `kB` or `MB`.",
        default="10MB",
        example='"25MB"',
    )
    spamd_size_limit: Size = setting(
        "The same for spamd, which needs seconds for a large text; not above `size_limit`.",
        default="500kB",
        example='"1MB"',
    )
    oversized: Literal["unscanned", "high-risk"] = setting(
        "What happens to larger ones: they leave as if there were no scanner, or by `high-risk`.",
        default="unscanned",
        example='"high-risk"',
    )
    unknown_verdict: Literal["wait", "high-risk"] = setting(
        "What happens while a scanner does not answer: mail waits in the queue up to `milter.undecided_after`, then"
        " leaves by `high-risk`; or it does so at once.",
        default="wait",
        example='"high-risk"',
    )
    timeout_seconds: Seconds = setting(
        "How long the egress pass waits for all scanners together, 90 at most.",
        default=30.0,
        example="30.0",
        gt=0,
        le=90,
    )
    first_pass_timeout_seconds: Seconds = setting(
        "The same where the client waits for it (profile `express`), 30 at most.",
        default=5.0,
        example="5.0",
        gt=0,
        le=30,
    )
    scans_at_once: Count = setting(
        "How many messages one scanner is asked about at the same time, by all workers together; each worker asks about"
        " one at least. More wait for their turn. For spamd: not above its `--max-children`.",
        default=8,
        example="8",
        ge=1,
        le=1000,
    )
    ceilings: SpamCeilings = Field(default_factory=SpamCeilings, description="Spam verdicts that restrict an account.")
