"""What is done with a DSN when something breaks: it goes on."""

from types import SimpleNamespace

import pytest

from deliverypools.core.dns_lists import HEADER as LIST_HEADER
from deliverypools.core.dsn.was_it_ours import HEADER
from deliverypools.core.facts import Ingress
from deliverypools.core.settings import built_in_defaults
from deliverypools.milter import dsn_pass
from deliverypools.milter.collector import Connection, MessageCollector


@pytest.mark.parametrize(
    ("ingress", "function"), [(Ingress.BOUNCE, "read_own_notice"), (Ingress.OUTSIDE, "judge_arrived")]
)
def test_dsn_that_breaks_us_goes_on_without_what_others_wrote_in_our_name(monkeypatch, caplog, ingress, function):
    def breaks(*_arguments):
        raise RuntimeError("a DSN nobody has thought of")

    monkeypatch.setattr(dsn_pass, function, breaks)
    collector = MessageCollector("<>")
    collector.add_header(HEADER, "genuine; trust me")
    outcome = dsn_pass.handle_dsn(
        collector.end("4XYZ"), Connection(), ingress, SimpleNamespace(settings=built_in_defaults())
    )
    assert (outcome.verdict, outcome.add, outcome.strip) == (None, (), ((HEADER, 1), (LIST_HEADER, 0)))
    assert "4XYZ: untrapped exception" in caplog.text
    assert "a DSN nobody has thought of" in caplog.text
