"""What a real DNS server on loopback knows, asked by a resolver, and what came of it."""

from deliverypools.adapters.resolver import Reply
from deliverypools.lab.dns_server import txt

NO_SUCH_NAME = Reply(exists=False)
SECONDS = 10
ZONES = {
    "a.example": {"A": ["198.51.100.1"], "TXT": [txt("one"), txt("two " + "x" * 300)]},
    "b.example": {"A": ["198.51.100.2"]},
    "alias.example": {"CNAME": ["a.example."]},
    "alias-to-nowhere.example": {"CNAME": ["nowhere.invalid."]},
    "xn--bcher-kva.example": {"A": ["198.51.100.3"]},
    "long.example": {"TXT": [txt("x" * 15_000)]},
    "giant.example": {"TXT": [txt("x" * 60_000)], "A": [f"10.0.{n // 250}.{n % 250}" for n in range(4000)]},
    "many-txt.example": {"TXT": [txt(str(n)) for n in range(3000)]},
}


def addresses(reply):
    return [record.address for record in reply.records]


def asked(server, name):
    return [rtype for asked_name, rtype in server.asked if asked_name == name]
