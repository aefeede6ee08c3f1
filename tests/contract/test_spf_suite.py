"""The test suite of RFC 7208 (openspf), through our resolver, asked of a DNS server that serves its zones.

It is part of pyspf's source distribution, which scripts/prepare fetches.
"""

import contextlib
import tarfile
from pathlib import Path

import dns.message
import dns.name
import dns.rdatatype
import pytest
import yaml

from deliverypools.adapters.authentication.spf_check import check_spf
from deliverypools.adapters.resolver import Resolver
from deliverypools.core.settings.tables import Dns
from deliverypools.lab.dns_server import DnsServer, txt

SOURCE_DISTRIBUTION = Path(__file__).parents[2] / ".venv" / "pyspf.tar.gz"
SUITE = "/test/rfc7208-tests.yml"
DEFAULT_EXPLANATION = "DEFAULT"


def _scenarios():
    assert SOURCE_DISTRIBUTION.exists(), "the suite is not there: run scripts/prepare"
    with tarfile.open(SOURCE_DISTRIBUTION) as archive:
        member = next(name for name in archive.getnames() if name.endswith(SUITE))
        return list(yaml.safe_load_all(archive.extractfile(member).read()))


CASES = [
    pytest.param(scenario["zonedata"], case, id=name)
    for scenario in _scenarios()
    for name, case in scenario["tests"].items()
]


def _name(text):
    """Write a name as in a zone file; the suite has spaces and percent signs in some."""
    labels = [label.encode("ascii") for label in text.rstrip(".").split(".") if label]
    return dns.name.Name([*labels, b""]).to_text()


def _txt(strings):
    """Write a TXT record; one without any string cannot be (RFC 1035 section 3.3.14), so that has an empty one."""
    strings = [strings] if isinstance(strings, str) else strings
    return " ".join(map(txt, strings)) or '""'


DATA = {
    "A": str,
    "AAAA": str,
    "TXT": _txt,
    "MX": lambda data: f"{data[0]} {_name(data[1])}",
    "PTR": _name,
    "CNAME": _name,
}


class SuiteServer(DnsServer):
    """The lab's server; of a name that is to time out, the types that have no data hang."""

    def __init__(self):
        super().__init__({})
        self.served = set()
        self.hanging = set()

    def serve(self, zone):
        for name in self.served:
            self.remove(name)
        self.hanging = set()
        records_of = {_name(name): _records(entries) for name, entries in zone.items()}
        self.served = set(records_of)
        for name, records in records_of.items():
            self.set(name, {rtype: data for rtype, data in records.items() if rtype in DATA and "TIMEOUT" not in data})
            self.hanging |= {(name.lower(), rtype) for rtype, data in records.items() if "TIMEOUT" in data}

    def answer(self, wire, **how):
        question = dns.message.from_wire(wire).question[0]
        name, rtype = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        has_data = rtype in self._zones.get(name.rstrip("."), {})
        if (name, rtype) in self.hanging or ((name, "TIMEOUT") in self.hanging and not has_data):
            return None
        return super().answer(wire, **how)


def _records(entries):
    """Return the data of one name: by the suite's rules an SPF record stands for TXT too, where there is no TXT."""
    records = {}
    for entry in entries:
        (rtype, data) = ("TIMEOUT", "TIMEOUT") if entry == "TIMEOUT" else next(iter(entry.items()))
        texts = records.setdefault(rtype, [])
        if data == "TIMEOUT":
            texts.append("TIMEOUT")
        elif data != "NONE":
            texts.append(DATA["TXT" if rtype == "SPF" else rtype](data))
    if "SPF" in records:
        records.setdefault("TXT", records["SPF"])
    return {rtype: data for rtype, data in records.items() if data}


@pytest.fixture(scope="module")
def server():
    server = SuiteServer()
    server.start("127.0.0.1", 0)
    yield server
    server.stop()


@pytest.fixture
def resolver(server):
    host, port = server.address
    with contextlib.closing(Resolver(Dns(nameservers=[f"{host}:{port}"], timeout_seconds=1.0))) as resolver:
        yield resolver


def test_the_suite_is_whole():
    assert len(CASES) == 203


@pytest.mark.parametrize(("zone", "case"), CASES)
def test_rfc_7208(server, resolver, zone, case):
    server.serve(zone)
    found = check_spf(
        resolver,
        client_address=case["host"],
        helo=case["helo"],
        envelope_sender=case["mailfrom"],
        seconds=20,
    )
    results = [case["result"]] if isinstance(case["result"], str) else case["result"]
    assert found.result in results, found
    if case.get("explanation", DEFAULT_EXPLANATION) != DEFAULT_EXPLANATION:
        assert found.reason.endswith(f": {case['explanation']}")
    elif "explanation" in case:
        assert found.reason.count(": ") == 0
