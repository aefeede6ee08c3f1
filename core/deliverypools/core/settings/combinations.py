"""Keys that are right by themselves, and do less than they say because of others: warnings, no errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deliverypools.core.tallies import DAY

if TYPE_CHECKING:
    from deliverypools.core.settings import Settings


def keys_with_less_effect(settings: Settings) -> Iterator[str]:
    """Yield a warning for each key of `[bounces]` that other keys take the effect of, or a part of it."""
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
            yield f"bounces.{name}: with shadow = true it is only logged what would be done"
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
