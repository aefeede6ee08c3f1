"""Keys that are right by themselves, and do less than they say because of others: warnings, no errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from deliverypools.core.settings.scan_values import OTHER_OUTCOMES, size_text
from deliverypools.core.tallies import DAY

if TYPE_CHECKING:
    from deliverypools.core.settings import Settings
    from deliverypools.core.settings.spam import Spam

_KEYS_OF_SCANNERS: Final = {
    "rspamd": ("rspamd_settings_id", "rspamd_scores"),
    "spamd": ("spamd_user", "spamd_scores", "spamd_size_limit"),
    "clamd": ("malware",),
}
_KEYS_OF_SCANNING: Final = (
    "scan",
    "skip",
    "size_limit",
    "oversized",
    "unknown_verdict",
    "timeout_seconds",
    "first_pass_timeout_seconds",
    "scans_at_once",
)
_LARGEST_BY_DEFAULT: Final = {
    "rspamd": (50 * 1024**2, "max_message, 50 MB by default"),
    "clamd": (25 * 1024**2, "StreamMaxLength, 25 MB on Debian"),
}
"""What a scanner takes unless it is configured for more, in bytes, and the setting of its own."""
_ONLY_LOGGED: Final = "with shadow = true it is only logged what would be done"


def keys_with_less_effect(settings: Settings) -> Iterator[str]:
    """Yield a warning for each key that other keys take the effect of, or a part of it."""
    yield from _about_spam(settings)
    yield from _about_bounces(settings)


def _about_spam(settings: Settings) -> Iterator[str]:
    spam = settings.spam
    # What is empty says nothing.
    written = {name for name in spam.model_fields_set if getattr(spam, name)}
    for scanner, keys in _KEYS_OF_SCANNERS.items():
        if not getattr(spam, scanner):
            yield from (f"spam.{key}: has no effect without spam.{scanner}" for key in keys if key in written)
    if any(getattr(spam, scanner) for scanner in _KEYS_OF_SCANNERS):
        yield from _about_scanning(settings, written)
        return
    for key in (key for key in _KEYS_OF_SCANNING if key in written):
        yield f"spam.{key}: has no effect without a scanner: spam.rspamd, spam.spamd or spam.clamd"
    if not spam.headers:
        for ceiling in (name for name in type(spam.ceilings).model_fields if getattr(spam.ceilings, name)):
            yield f"spam.ceilings.{ceiling}: has no effect, as spam.headers is empty and spam names no scanner"


def _about_scanning(settings: Settings, written: set[str]) -> Iterator[str]:
    """Yield what is less than it seems where at least one scanner is asked."""
    spam = settings.spam
    # Each profile asks in one pass only.
    idle = "timeout_seconds" if settings.profile == "express" else "first_pass_timeout_seconds"
    if idle in written:
        yield f'spam.{idle}: has no effect with profile = "{settings.profile}"'
    if spam.scans_at_once < settings.milter.workers:
        workers = settings.milter.workers
        yield f"spam.scans_at_once: is raised to {workers}, as each of milter.workers asks about one message at least"
    if spam.rspamd and spam.rspamd.startswith("http://") and urlsplit(spam.rspamd).port is None:
        yield "spam.rspamd: names no port, which means 80; rspamd's own is 11333"
    if settings.shadow and spam.clamd and spam.malware in OTHER_OUTCOMES:
        yield f"spam.malware: {_ONLY_LOGGED}"
    yield from _about_sizes(spam, written)
    yield from _about_scores(settings)


def _about_sizes(spam: Spam, written: set[str]) -> Iterator[str]:
    for scanner, (most_bytes, its_own) in _LARGEST_BY_DEFAULT.items():
        if getattr(spam, scanner) and spam.size_limit > most_bytes:
            yield f"spam.size_limit: is not to be above {scanner}'s {its_own}: about larger mail it gives no verdict"
    if not spam.spamd:
        return
    if "spamd_size_limit" in written and spam.spamd_size_limit > spam.size_limit:
        yield f'spam.spamd_size_limit: has no effect above spam.size_limit ("{size_text(spam.size_limit)}")'
    is_alone = not spam.rspamd and not spam.clamd
    if is_alone and "size_limit" in written and spam.size_limit > spam.spamd_size_limit:
        limit = size_text(spam.spamd_size_limit)
        yield f'spam.size_limit: has no effect above spam.spamd_size_limit ("{limit}"), as only spamd is asked'


def _about_scores(settings: Settings) -> Iterator[str]:
    spam = settings.spam
    for key, scores in (("rspamd_scores", spam.rspamd_scores), ("spamd_scores", spam.spamd_scores)):
        if not getattr(spam, key.removesuffix("_scores")):
            continue
        for name in scores:
            if settings.shadow and name in OTHER_OUTCOMES:
                yield f"spam.{key}.{name}: {_ONLY_LOGGED}"
            if spam.scan == "forwarded" and name not in (*OTHER_OUTCOMES, "high-risk"):
                yield (
                    f'spam.{key}.{name}: with spam.scan = "forwarded" it is for posts to mailing lists only, as other'
                    " forwarded mail leaves by its own pool"
                )


def _about_bounces(settings: Settings) -> Iterator[str]:
    bounces = settings.bounces
    if bounces.drop_backscatter:
        yield from _about_dropping(settings)
    if settings.shadow:
        acting = {
            "drop_backscatter": bounces.drop_backscatter,
            "reject_backscatter": bounces.reject_backscatter,
            "backscatter_lists": bool(bounces.backscatter_lists),
        }
        for name in (name for name, is_set in acting.items() if is_set):
            yield f"bounces.{name}: {_ONLY_LOGGED}"
    if not bounces.backscatter_lists:
        for name in ("backscatter_list_action", "backscatter_list_exceptions", "backscatter_list_timeout_seconds"):
            if name in bounces.model_fields_set:
                yield f"bounces.{name}: has no effect without bounces.backscatter_lists"


def _about_dropping(settings: Settings) -> Iterator[str]:
    if settings.profile == "express":
        yield 'bounces.drop_backscatter: has no effect with profile = "express", which makes no tickets'
        return
    if not settings.authentication.enabled and not settings.trusted_authserv_ids:
        yield "bounces.drop_backscatter: only notices about spam are dropped, as authentication.enabled is false"
    if not settings.alerts.mail_to and settings.alerts.webhook is None:
        yield "bounces.drop_backscatter: nobody gets the daily digest; set alerts.mail_to or alerts.webhook"
    if settings.bounces.ledger_lifetime < DAY:
        yield "bounces.ledger_lifetime: below a day the daily digest, which tells of yesterday, is empty"
