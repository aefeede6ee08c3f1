"""`postfix install` where other programs have ports of ours, and where Postfix ends at the reload."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from mailing import NORMAL, arrived, fresh, submit
from postfix_command import configuration, folder, postfix

from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.cli import postfix_proposal
from deliverypools.lab.lab import Lab
from deliverypools.lab.site import Site


@contextmanager
def listening(lab: Lab, port: int) -> Iterator[None]:
    """Let another program have a port."""
    with lab.network.inside(), socket.create_server(("127.0.0.1", port)):
        yield


def test_a_port_in_use_is_left_alone_and_kept_from_then_on(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none")
    before = configuration(lab)
    with listening(lab, 10027):
        answer = postfix(lab, "install", "--json")
        assert answer.status == 0, answer
        assert answer.json["changes"]["main.cf"]["default_transport"]["new"] == "egress:[127.0.0.1]:10028"
        recipient = fresh()
        submit(lab, recipient)
        assert arrived(lab, recipient).source_address in NORMAL
        assert postfix(lab, "install", "--json").json["text"].startswith("already installed, nothing changed")
    assert postfix(lab, "install", "--json").json["text"].startswith("already installed, nothing changed")
    assert postfix(lab, "uninstall", "--wait", "30s").status == 0
    assert configuration(lab) == before


def test_postfix_that_ends_at_the_reload_is_started_as_it_was(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
):
    lab = make_lab(profile="none")
    before, names = configuration(lab), folder(lab)
    # Somebody takes the port behind our back.
    monkeypatch.setattr(postfix_proposal, "busy_ports", lambda *_: frozenset())
    with listening(lab, 10027):
        answer = postfix(lab, "install")
        assert answer.status == 1, answer
        assert "another program has 127.0.0.1:10027" in answer.err
        assert "put back as it was before, and Postfix started again" in answer.err
        assert configuration(lab) == before
        assert folder(lab) == names
        try:
            recipient = fresh()
            submit(lab, recipient)
            assert arrived(lab, recipient).source_address == "192.0.2.1"
        finally:
            lab.postfix.run("postfix", "stop")  # the lab knows only the one that it has started itself


def test_services_that_are_switched_off_but_for_ours(make_lab: Callable[..., Lab]):
    others = "!127.0.0.1:10027/inet, !smtp/inet, !submission/inet"
    lab = make_lab(profile="none", site=Site(main={"master_service_disable": f"{others}, inet"}))
    before = configuration(lab)
    assert postfix(lab, "install").status == 0
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in NORMAL
    assert postfix(lab, "uninstall", "--wait", "30s").status == 0
    assert configuration(lab) == before


def test_what_postfix_refuses_has_its_reason(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none")
    instance = PostfixInstance(str(lab.postfix.config_directory))
    lab.postfix.stop()
    with lab.network.inside(), pytest.raises(PostfixError, match=r"postfix reload: .*is not running"):
        instance.reload()


def test_services_that_tables_of_the_site_name_stay_until_they_are_changed_back(make_lab: Callable[..., Lab]):
    lab = make_lab(
        profile="none",
        site=Site(
            main={"transport_maps": "regexp:{config}/transport"},
            files={"transport": "/@inside\\.example$/ internal:[192.0.2.77]\n"},
        ),
    )
    before = configuration(lab)
    assert postfix(lab, "install").status == 0
    for _ in range(2):
        answer = postfix(lab, "uninstall", "--json")
        assert (answer.status, answer.json["uninstalled"]) == (1, False), answer
        assert "internal:[192.0.2.77]" in answer.json["named"][0]
        assert "Change these entries back" in answer.json["text"]
        assert lab.postfix.postconf("-M", "internal/unix")
        assert "egress" not in lab.postfix.postconf("-M")
        assert lab.postfix.postconf("-h", "default_transport").strip() == "smtp"
        assert "cleanup-pickup" not in lab.postfix.postconf("-M")
    table = lab.postfix.config_directory / "transport"
    table.write_text("/@inside\\.example$/ relay:[192.0.2.77]\n")
    answer = postfix(lab, "uninstall", "--json")
    assert (answer.status, answer.json["uninstalled"]) == (0, True), answer
    assert configuration(lab) == before
