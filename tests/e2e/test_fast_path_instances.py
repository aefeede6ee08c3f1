"""One milter, several instances of Postfix: the proof is about one of them, and opens the fast path of no other."""

from __future__ import annotations

import os
import re
import smtplib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from mailing import NORMAL, arrived, fresh, from_trusted, mail, submit

from deliverypools.adapters.fast_path import read_proof, write_proof
from deliverypools.adapters.fast_path_proof import prove
from deliverypools.adapters.settings_file import load_settings
from deliverypools.core.fast_path import Proof
from deliverypools.lab.lab import Lab, transaction
from deliverypools.lab.postfix import Postfix
from deliverypools.lab.site import HOP, Site

HOST, PORT, SUBMISSION_PORT = "192.0.2.1", 2525, 2587
FIRST_HOP, OTHER_HOP = "10027", "10028"
DOOR = """\
submission inet n - y - - smtpd
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o milter_macro_daemon_name=SUBMISSION
  -o cleanup_service_name=cleanup-fast
  -o milter_macro_defaults=delivery_pools_fast_path={said}
"""
TAKES_THE_HOP = ["first", "egress"]


class Other:
    """A second Postfix, with the first one's milter and pools, that takes mail at another port.

    It leads mail to the first one's hop, as one would that is on another machine, or was copied: by the next-hop the
    milter cannot tell them apart.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        directory = lab.directory / "other"
        directory.mkdir(mode=0o755)
        # Its processes are not in a chroot, so that they reach the first one's socket.
        milter = f"unix:{lab.postfix.queue_directory}/delivery-pools/milter.sock"
        adapted = {
            "delivery_pools_milter": f"{{ {milter}, default_action=tempfail, protocol=6 }}",
            "smtpd_sender_restrictions": "",
            "smtpd_end_of_data_restrictions": "",
            "recipient_canonical_maps": "",
        }
        site = Site(main={"multi_instance_name": "postfix-other"}, adapted=adapted)
        self.postfix = Postfix(directory, lab.network, profile=HOP, site=site, nameserver=lab.address("198.51.100.53"))
        master = self.postfix.config_directory / "master.cf"
        master.write_text(_moved(master.read_text()))
        os.utime(master, (0, 0))
        self.postfix.ports = (PORT, SUBMISSION_PORT)

    def start(self) -> None:
        """Start it; return when it takes mail."""
        with self.lab.network.inside():
            self.postfix.start()

    def send(self, _lab: Lab, recipient: str, data: bytes) -> None:
        """Hand a message in, as a client of this machine."""
        with self.lab.network.inside(), smtplib.SMTP(HOST, PORT, "c.example", 60, ("127.0.0.1", 0)) as smtp:
            smtp.ehlo()
            assert transaction(smtp, "alice@example.org", [recipient], data).accepted

    def prove(self) -> Proof:
        """Give it a hop of its own, and make the proof one about this instance."""
        self.postfix.set_main({"default_transport": f"egress:[127.0.0.1]:{OTHER_HOP}"})
        settings = load_settings(self.lab.settings_file)
        with self.lab.network.inside():
            directory = str(self.postfix.config_directory)
            proof = prove(
                settings, directory, previous=read_proof(settings), may_vouch_for_reload=True, clock=time.time
            )
        write_proof(settings, proof)
        return proof


def _moved(text: str) -> str:
    """Return master.cf with other ports, and smtpd services outside the chroot."""
    text = re.sub(r"(?m)^smtp(\s+inet)", rf"{PORT}\1", text.replace(FIRST_HOP, OTHER_HOP))
    text = re.sub(r"(?m)^submission(\s+inet)", rf"{SUBMISSION_PORT}\1", text)
    return re.sub(r"(?m)^(\S+\s+inet\s+\S+\s+\S+\s+)y(\s.*\ssmtpd)\b", r"\1n\2", text)


@pytest.fixture
def other(lab: Lab) -> Iterator[Other]:
    other = Other(lab)
    other.start()
    yield other
    other.postfix.stop()


def way(lab: Lab, send: Callable[..., object]) -> list[str]:
    """Return the passes of a message that must leave by the right address."""
    recipient = fresh()
    message_id = f"<{recipient}>"
    send(lab, recipient, mail(Message_ID=message_id))
    assert arrived(lab, recipient).source_address in NORMAL
    return re.findall(rf"pass=(\S+) .*message-id={re.escape(message_id)}$", lab.milter.log(), re.MULTILINE)


def test_each_goes_by_its_own_proof_only(lab: Lab, other: Other):
    assert lab.prove_fast_path().problems == ()
    assert (way(lab, from_trusted), way(lab, other.send)) == (["fast"], TAKES_THE_HOP)
    assert other.prove().problems == ()
    assert (way(lab, from_trusted), way(lab, other.send)) == (TAKES_THE_HOP, ["fast"])


def test_proof_of_another_host_with_a_directory_of_the_same_name(lab: Lab):
    proof = lab.prove_fast_path()
    assert proof.hostnames == ("mx.example.org",)
    write_proof(load_settings(lab.settings_file), replace(proof, hostnames=("mx2.example.org",)))
    assert way(lab, submit) == TAKES_THE_HOP
    assert lab.prove_fast_path().holds
    assert way(lab, submit) == ["fast"]


@pytest.mark.parametrize("said", ["/etc/postfix-out", "yes", "$config_directory/etc", "$queue_directory"])
def test_a_door_that_names_another_takes_the_hop(make_lab: Callable[..., Lab], said: str):
    lab = make_lab(site=Site(adapted_master=DOOR.format(said=said)))
    proof = lab.prove_fast_path()
    (problem,) = proof.problems
    assert problem.startswith("submission/inet: cleanup_service_name = cleanup-fast, but delivery_pools_fast_path = ")
    assert problem.endswith(" in milter_macro_defaults is not $config_directory")
    write_proof(load_settings(lab.settings_file), replace(proof, problems=()))
    assert way(lab, submit) == TAKES_THE_HOP
    assert way(lab, from_trusted) == ["fast"]
