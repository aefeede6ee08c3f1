"""The documentation cannot go stale."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deliverypools.cli.main import parser
from deliverypools.core.alert_text import Samples, webhook_of
from deliverypools.core.alerts import Alert, Event
from deliverypools.core.checks_reference import checks_reference
from deliverypools.core.facts import Ingress
from deliverypools.core.rules_reference import rules_reference
from deliverypools.core.settings import Limits, OutboundPolicy, SpamCeilings, Suspicion, parse_settings

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "docs").glob("*.md"),
    *ROOT.glob("postfix-examples/*/README.md"),
]


def test_rules_page_is_that_of_the_code():
    assert (ROOT / "docs/rules.md").read_text() == rules_reference(), "run: make docs"


def test_checks_page_is_that_of_the_code():
    assert (ROOT / "docs/checks.md").read_text() == checks_reference(), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_is_in_the_documentation():
    (commands,) = (action.choices for action in parser()._subparsers._group_actions)
    documented = "".join(page.read_text() for page in PAGES)
    assert [name for name in commands if f"{name}" not in documented] == []


LIMITS = (ROOT / "docs/limits.md").read_text()
POOLS = """
pools.normal = {addresses = ["192.0.2.10"], helo = "mail.example.org"}
pools.high-risk = {addresses = ["192.0.2.20"], helo = "mail-high-risk.example.org"}
pools.relay = {addresses = ["192.0.2.30"], helo = "mail-relay.example.org"}
"""


def code(language: str) -> str:
    (block,) = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", LIMITS)
    return block


def test_the_example_of_the_limits_page_is_valid():
    settings = parse_settings(f'accepted_domains = ["example.org"]{POOLS}{code("toml")}', "limits.md")
    assert {policy.name for policy in settings.outbound_policies} == {"default", "sales", "web"}


@pytest.mark.parametrize(
    ("heading", "promise"),
    [
        ("[suspicion]", "what its outbound policy says of limits happens, but at least high-risk"),
        ("[spam.ceilings]", "what its outbound policy says of limits happens, but at least high-risk"),
        ("[alerts]", "once for each event, limit, account and UTC day"),
        ("[[outbound_policies]]", "0: the service limit. Of the two, the smaller one holds."),
        ("At the top of the file", "Restrictions that are in force are not enforced meanwhile"),
    ],
)
def test_the_settings_page_and_the_example_say_what_happens_beyond_a_limit(heading, promise):
    page = (ROOT / "docs/settings.md").read_text().replace("`", "")
    (section,) = re.findall(rf"(?ms)^## {re.escape(heading)}$(.*?)(?=^## |\Z)", page)
    assert promise in " ".join(section.split())


def test_every_limit_is_on_the_limits_page():
    keys = [
        *Limits.model_fields,
        *(key for key in OutboundPolicy.model_fields if key not in {"name", "automatic_forwarding"}),
        *SpamCeilings.model_fields,
        *Suspicion.model_fields,
    ]
    assert [key for key in keys if key not in LIMITS and not key.startswith("except_")] == []


def test_the_webhook_of_the_limits_page_has_the_fields_of_a_webhook():
    alert = Alert(
        event=Event.ACCOUNT_RESTRICTED,
        account="alice@example.org",
        ingress=Ingress.SUBMISSION,
        limit="external_recipients_per_hour",
        most=500,
        used=500,
        cost=1,
        policy="sales",
        action="restrict-until-tomorrow",
        evidence="",
        at=1795352710.0,
        until=1795392000.0,
    )
    documented = json.loads(code("json"))
    sent = webhook_of(alert, Samples(("...",), ("203.0.113.9",)))
    assert list(documented) == list(sent)
    assert documented["commands"].items() <= sent["commands"].items()
    varied = {"id", "evidence", "commands"}
    assert {k: v for k, v in documented.items() if k not in varied} == {
        k: v for k, v in sent.items() if k not in varied
    }
