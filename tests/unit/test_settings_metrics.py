"""The table `[metrics]`: who may listen, and who may ask."""

import logging

import pytest
from written_settings import errors_below, settings

from deliverypools.adapters.settings_file import keep_until_restart


def test_on_by_default_for_this_host_alone():
    metrics = settings().metrics
    assert (str(metrics.listen.address), metrics.listen.port) == ("127.0.0.1", 9641)
    assert metrics.allows("127.0.0.1")
    assert metrics.allows("::ffff:127.0.0.1")
    assert metrics.allows("::1")
    assert not metrics.allows("192.0.2.9")
    assert not metrics.allows("no address")


def test_off():
    assert settings('[metrics]\nlisten = "off"').metrics.listen is None


def test_other_clients():
    metrics = settings('[metrics]\nlisten = "[2001:db8::5]:9641"\nallow = ["192.0.2.0/28"]').metrics
    assert metrics.listen == ("2001:db8::5", 9641)
    assert metrics.allows("192.0.2.9")
    assert metrics.allows("127.0.0.1")
    assert not metrics.allows("192.0.2.16")


@pytest.mark.parametrize("address", ["192.0.2.5:9641", "[2001:db8::5]:9641"])
def test_an_address_that_others_reach_needs_their_names(address):
    (found,) = errors_below(f'[metrics]\nlisten = "{address}"')
    assert "metrics.listen: can be reached from other hosts; name those that may ask" in found


@pytest.mark.parametrize(
    "value", ['""', '"127.0.0.1"', '"127.0.0.1:80"', '"localhost:9641"', '"0.0.0.0:9641"', "9641", "true"]
)
def test_mistakes(value):
    (found,) = errors_below(f"[metrics]\nlisten = {value}")
    assert 'write "off", or an address and a port from 1024 on' in found


def test_loopback_needs_no_list_of_clients():
    assert settings('[metrics]\nlisten = "[::1]:19641"').metrics.listen == ("::1", 19641)


def test_a_change_needs_a_restart(caplog):
    old, new = settings(), settings('[metrics]\nlisten = "off"')
    kept = keep_until_restart(new, old, ["milter"], logging.getLogger("test"))
    assert kept.metrics == old.metrics
    assert caplog.messages == [
        "metrics changed: that needs a restart of both daemons; the old stay, other settings are reloaded"
    ]
