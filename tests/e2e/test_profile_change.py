"""What is queued when the profile express comes, and when it goes."""

from __future__ import annotations

from collections.abc import Callable

from mailing import HIGH_RISK, NORMAL, arrived, from_trusted, mail, submit
from postfix_command import configuration, postfix

from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import ACCEPT, DEFER
from deliverypools.lab.site import Site

RELAY_ONLY = {
    "mydestination": "",
    "alias_maps": "",
    "virtual_alias_maps": "",
    "mailbox_transport_maps": "",
    "local_recipient_maps": "",
    "myorigin": "example.org",
    "minimal_backoff_time": "600s",
    "maximal_backoff_time": "600s",
}
EXPRESS = {"profile": "express", "forwarding": None, "socketmap": None}


def test_into_express_and_out_of_it(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", settings=EXPRESS, site=Site(main=RELAY_ONLY))
    before = configuration(lab)
    lab.receiver.answer("example.net", DEFER)
    submit(lab, "before@example.net")
    forged = from_trusted(lab, "forged@example.net", mail(X_Delivery_Pool="normal"))
    lab.postfix.wait_until_deferred(2)

    preview = postfix(lab, "install", "--dry-run", "--json").json
    said = [one["text"] for one in preview["remarks"] if one["severity"] == "warning"]
    assert any(text.startswith("2 messages are queued: in the express profile nothing decides them") for text in said)
    assert any(f"header X-Delivery-Pool that is none of ours ({forged})" in text for text in said)
    answer = postfix(lab, "install", "--json")
    assert "2 messages that were queued leave by high-risk: nothing decides them" in answer.json["text"], answer
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    for recipient in ("before@example.net", "forged@example.net"):
        assert arrived(lab, recipient).source_address in HIGH_RISK

    lab.receiver.answer("example.net", DEFER)
    submit(lab, "express@example.net")
    lab.postfix.wait_until_deferred(1)
    lab.write_settings({})
    lab.restart_milter()
    lab.policy.stop()
    lab.policy.start()
    answer = postfix(lab, "install", "--json")
    assert "1 messages that were queued leave by the pools that they have" in answer.json["text"], answer
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.requeue("ALL")
    assert arrived(lab, "express@example.net").source_address in NORMAL
    assert postfix(lab, "uninstall", "--wait", "30s", "--json").json["uninstalled"]
    assert configuration(lab) == before
