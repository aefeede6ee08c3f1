"""Two Postfix instances on one machine, which write one mail log."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from mailing import NORMAL, arrived, fresh, submit
from postfix_command import FILES
from second_instance import NORMAL as NORMAL_OUT
from second_instance import SecondInstance

from deliverypools.adapters.install_locks import ports_to_ourselves
from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Postfix

_MESSAGES = 6
"""Of each instance: at one port, most of a dozen would leave by the other's addresses."""


@pytest.fixture
def second(make_lab: Callable[..., Lab]) -> Iterator[SecondInstance]:
    with SecondInstance(make_lab(profile="none")) as second:
        yield second


def content(postfix: Postfix) -> list[bytes]:
    return [(postfix.config_directory / name).read_bytes() for name in FILES]


def installed_at(second: SecondInstance, postfix: Postfix) -> str:
    """Install; return the port of the hop's listener."""
    answer = second.command(postfix, "postfix", "install")
    assert answer.status == 0, answer
    return postfix.postconf("-h", "default_transport").strip().removeprefix("egress:[127.0.0.1]:")


def is_shared(second: SecondInstance, postfix: Postfix) -> bool:
    findings = second.command(postfix, "check", "--dns", "off").json["findings"]
    return "listener_is_shared" in {one["check"] for one in findings}


def send_by_both(second: SecondInstance) -> None:
    """Let each instance send; what leaves by the other one's addresses fails the test."""
    for _ in range(_MESSAGES):
        first, out = fresh(), fresh()
        submit(second.lab, first)
        second.send(out)
        assert arrived(second.lab, first).source_address in NORMAL
        assert arrived(second.lab, out).source_address in NORMAL_OUT


def test_neither_takes_the_others_port_or_its_lines_in_the_log(second: SecondInstance):
    """The second one is not known to postmulti(1), and rests while the first is installed."""
    default, out = second.lab.postfix, second.postfix
    before = [content(one) for one in (default, out)]
    with second.lab.network.inside(), ports_to_ourselves():
        answer = second.command(out, "postfix", "install")
        assert (answer.status, "is at work on this machine" in answer.err) == (1, True), answer
    assert installed_at(second, out) == "10027"
    out.stop()
    assert installed_at(second, default) == "10027"
    assert is_shared(second, out)
    second.start()
    assert is_shared(second, default)
    assert installed_at(second, default) == "10028"
    assert not is_shared(second, default)
    send_by_both(second)

    default.set_main({"multi_instance_directories": str(out.config_directory)})
    for one in (default, out):
        answer = second.command(one, "audit", str(default.log_file))
        assert (answer.status, answer.json["failures"]) == (0, 0), answer
        assert answer.json["of_other_instances"] > 0
        assert answer.json["transports"]["pool-normal"]["sent"] == _MESSAGES
    default.set_main({"multi_instance_directories": ""})
    for one in (default, out):
        assert second.command(one, "postfix", "uninstall", "--wait", "30s").json["uninstalled"]
    assert content(out) == before[1]
