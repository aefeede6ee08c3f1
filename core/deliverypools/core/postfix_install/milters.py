"""Our milter goes behind the site's own, wherever mail comes in; our policy service into the restriction lists."""

from __future__ import annotations

from typing import Final

from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.milters import milter_switched_off_for_clients
from deliverypools.core.postfix_check.server import proxy_hides_the_client
from deliverypools.core.postfix_check.syntax import split_list
from deliverypools.core.postfix_install.draft import Draft, joined, words_without
from deliverypools.core.postfix_install.service_line import ServiceLine

_OURS: Final = "$delivery_pools_milter"
_MILTER_LISTS: Final = ("smtpd_milters", "non_smtpd_milters")
_SENDER: Final = "smtpd_sender_restrictions"
_END: Final = "smtpd_end_of_data_restrictions"
CHANGED_LISTS: Final = (*_MILTER_LISTS, _SENDER, _END)
"""What stands in them is ours and the site's: a reference to one of them is spelt out."""
_RETURN: Final = {
    "content_filter": "",
    "milter_macro_daemon_name": "REINJECT",
    _SENDER: "",
    _END: "",
}
"""On the listener behind a content filter: its mail has been counted, and comes from this machine."""
_EARLY_SOURCES: Final = ("postsrsd", "tcp:localhost:10001", "tcp:127.0.0.1:10001", "socketmap:unix:srs:")
"""How postsrsd's manual has it named."""


def set_milters(draft: Draft) -> None:
    """Add the milter and the policy service to main.cf's lists, and to those that services have of their own."""
    for parameter in _MILTER_LISTS:
        _put_last(draft, parameter, _OURS)
    classes = draft.raw("internal_mail_filter_classes")
    missing = [one for one in draft.example.main["internal_mail_filter_classes"].split(", ") if one not in classes]
    draft.set("internal_mail_filter_classes", joined(classes, *missing))
    policy = draft.example.main[_SENDER]
    own = draft.inlined(draft.raw(_SENDER), CHANGED_LISTS)
    draft.set(_SENDER, joined(policy, own))
    if own:
        draft.note(f"{_SENDER}: ours first, yours behind it: {own}")
    _put_last(draft, _END, policy)
    if "no_milters" in draft.postfix.words("receive_override_options"):
        # Without its own milters a site still needs ours.
        draft.set("smtpd_milters", _OURS)
        draft.set("non_smtpd_milters", _OURS)
        draft.set(
            "receive_override_options",
            words_without(draft.raw("receive_override_options"), "no_milters"),
            "no_milters would switch ours off too; yours stay switched off.",
        )
    for door in draft.doors():
        _change_door(draft, door)
    _remark_on_milters(draft)


def _put_last(draft: Draft, parameter: str, ours: str) -> None:
    own = draft.inlined(draft.raw(parameter), CHANGED_LISTS)
    draft.set(parameter, joined(own, ours))
    if own:
        draft.note(f"{parameter}: yours first, ours behind it: {own}")


def _change_door(draft: Draft, door: Service) -> None:
    """Change the options of one smtpd that accepts mail."""
    line = draft.line_of(door)
    if is_return := draft.site.is_return_of_a_filter(door):
        line = line.with_options(_RETURN)
    line = with_our_milter(draft, line)
    policy = draft.example.main[_SENDER]
    if not is_return and _SENDER in line.options:
        own = draft.inlined(line.options[_SENDER], CHANGED_LISTS)
        line = line.with_options({_SENDER: joined(policy, own)})
    if not is_return and _END in line.options:
        own = draft.inlined(line.options[_END], CHANGED_LISTS)
        line = line.with_options({_END: joined(own, policy)})
    if line.render() == draft.line_of(door).render():
        return
    reason = "what a content filter hands back" if is_return else "its own lists get ours too"
    draft.add(line, f"{door.label}: {reason}.")
    draft.note(f"{door.label}: {reason}.")


def with_our_milter(draft: Draft, line: ServiceLine) -> ServiceLine:
    """Return a service that hands its mail to our milter, and to as many of the site's as before."""
    overrides = line.options.get("receive_override_options", "")
    if "no_milters" in split_list(overrides):
        # The site's milters have not looked here before, so ours is the only one.
        return line.with_options(
            {"receive_override_options": words_without(overrides, "no_milters"), "smtpd_milters": _OURS}
        )
    for parameter in _MILTER_LISTS:
        if parameter in line.options:
            own = draft.inlined(line.options[parameter], CHANGED_LISTS)
            line = line.with_options({parameter: joined(own, _OURS)})
    return line


# ---- what only the administrator can do


def _remark_on_milters(draft: Draft) -> None:
    site_milters = draft.postfix.words("smtpd_milters")
    name = draft.settings.authserv_id
    if site_milters and name:
        draft.warning(
            f"authserv_id = {name}: Authentication-Results fields that your milters ({', '.join(site_milters)}) write"
            " in this name are removed.",
            f"A verifier among them (opendkim, opendmarc, rspamd) gets another AuthservID than {name}; name that one in"
            " trusted_authserv_ids. Nothing to do if its name is another one already.",
        )
    draft.blame(milter_switched_off_for_clients)
    draft.blame(proxy_hides_the_client)
    _remark_on_postsrsd(draft)


def _remark_on_postsrsd(draft: Draft) -> None:
    for parameter in ("sender_canonical_maps", "recipient_canonical_maps"):
        value = draft.postfix.value(parameter)
        if not any(one in value.lower() for one in _EARLY_SOURCES):
            continue
        if parameter == "sender_canonical_maps":
            draft.warning(
                f"sender_canonical_maps = {value}: postsrsd rewrites all foreign senders as mail comes in, so forwarded"
                " mail looks like ours.",
                "Delete postsrsd's sender_canonical_maps and sender_canonical_classes; set forwarding.srs_domain."
                " How secrets are taken over: postfix-examples/hop/README.md.",
            )
        else:
            draft.note(
                f"recipient_canonical_maps = {value}: stays in front of ours, so that addresses that postsrsd has made"
                " lead back for another 21 days."
            )
