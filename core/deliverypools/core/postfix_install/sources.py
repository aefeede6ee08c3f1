"""The services that make mail: pickup(8) and bounce(8) get cleanup services by which the milter knows what it sees."""

from __future__ import annotations

from typing import Final

from deliverypools.core.postfix_install.draft import Draft, joined, words_without
from deliverypools.core.postfix_install.milters import with_our_milter
from deliverypools.core.postfix_install.service_line import ServiceLine

_SOURCES: Final = ("pickup", "bounce", "defer", "trace")


def set_sources(draft: Draft) -> None:
    """Give pickup, bounce, defer and trace their cleanup services; their own options stay."""
    for name in _SOURCES:
        template = draft.template(name)
        own = draft.lines.get((name, "unix")) or draft.lines.get((name, "fifo")) or template
        overrides = own.options.get("receive_override_options")
        if overrides is not None:
            own = own.with_options({"receive_override_options": words_without(overrides, "no_milters")})
        draft.add(own.with_options(template.options), "The milter knows by the cleanup service what it sees.")
    for name, source in (("cleanup-pickup", "pickup"), ("cleanup-bounce", "bounce")):
        draft.add(_cleanup(draft, name, source), "The milter knows by its name what it sees.")


def _cleanup(draft: Draft, name: str, source: str) -> ServiceLine:
    """Return a cleanup service of the example, with what the site's own has in its place."""
    template = draft.template(name)
    own = _site_cleanup(draft, source)
    if own is None:
        return template
    ours = dict(template.options)
    site_checks = own.options.get("header_checks", draft.raw("header_checks"))
    if not draft.is_hop and name == "cleanup-pickup" and site_checks:
        ours["header_checks"] = joined(ours["header_checks"], site_checks)
    return with_our_milter(draft, own.without(*ours)).named(name, "unix").with_options(ours)


def _site_cleanup(draft: Draft, source: str) -> ServiceLine | None:
    service = next(iter(draft.postfix.running(source)), None)
    cleanup = draft.postfix.cleanup_of(service)
    return draft.lines.get((cleanup.name, cleanup.type)) if cleanup else None
