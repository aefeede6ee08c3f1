"""Addresses as text: split at the last @, compared without case, domains as A-labels."""

import pytest

from deliverypools.core.addresses import (
    domain_of,
    is_same_or_subdomain,
    normalise_address,
    normalise_domain,
    strip_brackets,
)


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("alice@example.org", "example.org"),
        ("alice@EXAMPLE.Org.", "example.org"),
        ('"alice@example.net"@example.org', "example.org"),
        ("alice@bücher.example", "xn--bcher-kva.example"),
        ("alice@[192.0.2.1]", "[192.0.2.1]"),
        ("alice@", ""),
        ("alice", ""),
        ("", ""),
    ],
)
def test_domain_of(address, domain):
    assert domain_of(address) == domain


def test_a_and_u_labels_are_the_same_domain():
    assert normalise_domain("XN--BCHER-KVA.example") == normalise_domain("Bücher.Example")


@pytest.mark.parametrize("domain", ["\udcff.example", "ü" * 300, "ü..example", "\N{SNOWMAN}.example"])
def test_domain_that_is_none_stays_what_it_is(domain):
    assert normalise_domain(domain) == domain


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("<Alice@Example.ORG>", "alice@example.org"),
        ("Alice", "alice"),
        ('"A@b"@EXAMPLE.org', '"a@b"@example.org'),
        ("<>", ""),
        ("", ""),
    ],
)
def test_normalise_address(address, normal):
    assert normalise_address(address) == normal


@pytest.mark.parametrize(
    ("path", "address"),
    [("<>", ""), ("", ""), (" <a@b> ", "a@b"), ("a@b", "a@b"), ("<a@b", "<a@b"), ("<", "<"), (">", ">")],
)
def test_strip_brackets(path, address):
    assert strip_brackets(path) == address


@pytest.mark.parametrize(
    ("domain", "answer"),
    [("example.org", True), ("a.example.org", True), ("badexample.org", False), ("org", False), ("", False)],
)
def test_is_same_or_subdomain(domain, answer):
    assert is_same_or_subdomain(domain, "example.org") is answer
