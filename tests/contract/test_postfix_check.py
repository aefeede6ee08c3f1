"""Every broken configuration is named by its check, none of the good ones is blamed: real postconf, real postmap."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace

import pytest
from broken_postfix import BROKEN
from further_broken_postfix import MORE
from good_postfix import GOOD, HOLD, REFUSED, TAG_CHECKS
from postfix_files import Change, findings, settings_of, write

from deliverypools.adapters.postfix_configuration import PostfixReader, PostfixUnreadable
from deliverypools.adapters.postfix_examples import load_example
from deliverypools.core.postfix_check.checks import MOST_OF_ONE_CHECK, Severity
from deliverypools.core.postfix_check.examine import CHECKS, examine
from deliverypools.core.postfix_check.site import Site


@pytest.mark.parametrize(("profile", "change"), GOOD.values(), ids=GOOD.keys())
def test_good_configuration_is_not_blamed(tmp_path, profile, change):
    assert [(one.check, one.found) for one in findings(tmp_path / "etc", profile, change)] == []


TESTED_ELSEWHERE = {
    "pool_address_unused",
    "postfix_too_old",
    "table_not_read",
    "table_too_large",
    "table_not_compiled_again",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configuration_is_named(tmp_path, name):
    profile, change, consequences = BROKEN[name]
    found = findings(tmp_path / "etc", profile, change)
    assert {one.check for one in found} == {name} | consequences, [(one.check, one.found) for one in found]


def test_every_check_has_a_broken_configuration():
    assert {one.name for one in CHECKS} == set(BROKEN) | TESTED_ELSEWHERE


def test_finding_says_where_and_what(tmp_path):
    change = Change(main={"transport_maps": "inline:{a.example=smtp:, b.example=slwo:, c.example=:[gw.example]}"})
    found = {one.found.partition("}: ")[2] for one in findings(tmp_path / "etc", "hop", change)}
    assert found == {
        "a.example smtp:: a tripwire",
        "b.example slwo:: no such transport in master.cf",
        "c.example :[gw.example]: the hop's client reaches the listener only",
    }


def test_address_of_the_settings_that_no_transport_has(tmp_path):
    pools = settings_of("hop", {}).pools
    more = {name: {"addresses": [str(a) for a in pool.addresses], "helo": pool.helo} for name, pool in pools.items()}
    more["normal"]["addresses"].append("192.0.2.11")
    found = findings(tmp_path / "etc", "hop", Change(settings={"pools": more}))
    hold = "HOLD Delivery Pools: no transport for this pool"
    assert [(one.check, one.found) for one in found] == [
        ("pool_address_unused", "pools.normal.addresses: no transport of the pool has 192.0.2.11"),
        (
            "probe_rules_missing",
            f"X-Delivery-Pool: normal 2 probe-4 25: {hold}; FILTER pool-normal-2:[127.0.0.1]:25 is expected",
        ),
        (
            "probe_rules_missing",
            f"X-Delivery-Pool: normal 2 probe-6 25: {hold}; FILTER pool-normal-2:[::1]:25 is expected",
        ),
    ]


@pytest.mark.parametrize("version", ["3.6.4", "2.11.0", ""])
def test_old_postfix(tmp_path, version):
    write(tmp_path / "etc", "hop", Change())
    settings = settings_of("hop", {})
    postfix = PostfixReader(str(tmp_path / "etc")).read(settings)
    postfix = replace(postfix, parameters={**postfix.parameters, "mail_version": version})
    assert [one.check for one in examine(Site(postfix, settings))] == ["postfix_too_old"]


class TestCompiledTables:
    """postmap(1) makes t.db of t; what an administrator edits is t."""

    def make(self, tmp_path, *, source_age, service=False):
        etc = tmp_path / "etc"
        value = {"transport_maps": f"hash:{etc}/t"}
        change = Change(options={"rewrite/unix": value}) if service else Change(main=value)
        write(etc, "hop", replace(change, files={"t": "intern.example internal:[10.0.0.5]\n"}))
        subprocess.run(["postmap", "-c", str(etc), f"hash:{etc}/t"], check=True)
        compiled = (etc / "t.db").stat().st_mtime
        os.utime(etc / "t", (compiled - source_age, compiled - source_age))
        settings = settings_of("hop", {})
        return examine(Site(PostfixReader(str(etc)).read(settings), settings))

    def test_compiled_after_the_change(self, tmp_path):
        assert self.make(tmp_path, source_age=1) == ()

    @pytest.mark.parametrize("service", [False, True], ids=["in main.cf", "by -o"])
    def test_changed_since(self, tmp_path, service):
        (found,) = self.make(tmp_path, source_age=-60, service=service)
        assert (found.check, found.severity) == ("table_not_compiled_again", Severity.WARNING)
        assert found.found == f"hash:{tmp_path}/etc/t: changed after it was compiled"


@pytest.mark.parametrize("transport", ["pool-normal", "egress"])
@pytest.mark.parametrize("how", ["private", "disabled"])
def test_transport_that_is_not_reached_is_none(tmp_path, transport, how):
    """qmgr(8) says "mail transport unavailable": the checks for what is missing speak."""
    label = f"{transport}/unix"
    example = load_example("hop", lambda text: text).master[transport, "unix"]
    public = re.sub(r"\A(\S+ +unix +)-", r"\1n", example)
    change = {
        "private": Change(master=f"{public}\n"),
        "disabled": Change(main={"master_service_disable": label}),
    }[how]
    why = {
        "private": "not reached: its column private in master.cf is n",
        "disabled": f"switched off: master_service_disable = {label}",
    }[how]
    found = findings(tmp_path / "etc", "hop", change)
    expected = {
        "pool-normal": ("pool_transport_missing", f"pool normal: pool-normal: {why}"),
        "egress": ("hop_missing", f"egress: {why}"),
    }[transport]
    assert expected in [(one.check, one.found) for one in found]


@pytest.mark.parametrize(
    "main",
    [
        {"smtp_destination_rate_delay": "1s", "default_destination_rate_delay": "1s"},
        {
            "smtp_destination_concurrency_limit": "5",
            **{f"pool-{pool}_destination_concurrency_limit": "5" for pool in TAG_CHECKS},
        },
        {
            "smtp_destination_concurrency_limit": "5",
            **{f"pool-{pool}_destination_concurrency_limit": "3" for pool in TAG_CHECKS},
        },
        {"defer_transports": "uucp"},
    ],
    ids=["the default for all", "copied", "pools of their own", "another transport is paused"],
)
def test_tuning_that_is_right(tmp_path, main):
    assert findings(tmp_path / "etc", "hop", Change(main=main)) == ()


class TestUnreadable:
    def test_table_that_cannot_be_read_is_named_with_the_checks_that_miss_it(self, tmp_path):
        (tmp_path / "folder").mkdir()
        change = Change(main={"transport_maps": f"regexp:{tmp_path}/folder"})
        (found,) = findings(tmp_path / "etc", "hop", change)
        assert (found.check, found.severity) == ("table_fails", Severity.WARNING)
        assert "root" not in found.remedy
        assert "transport_map_round_the_hop" in found.found

    def test_tag_checks_that_cannot_be_read_are_not_judged(self, tmp_path):
        (tmp_path / "folder").mkdir()
        change = Change(options={"cleanup-egress/unix": {"milter_header_checks": f"texthash:{tmp_path}/folder"}})
        (found,) = findings(tmp_path / "etc", "hop", change)
        assert found.check == "table_fails"
        assert "tag_without_its_transport" in found.found

    def test_another_user_is_told_what_is_missing(self, tmp_path):
        """The commands run as nobody, as for an operator who is not root."""
        change = Change(main={"transport_maps": "texthash:{config}/secret"}, files={"secret": "a.example smtp:\n"})
        etc = tmp_path / "etc"
        write(etc, "hop", change)
        (etc / "secret").chmod(0o600)
        for folder in (etc, *etc.parents):
            folder.chmod(folder.stat().st_mode | 0o055)
            if folder.name.startswith("pytest-of-"):  # where pytest keeps everything
                break
        reader = PostfixReader(str(etc))
        commands = tmp_path / "bin"
        commands.mkdir()
        for name in ("postconf", "postmap"):
            real = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
            script = f'#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups {real} "$@"\n'
            (commands / name).write_text(script)
            (commands / name).chmod(0o755)
        reader._environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
        settings = settings_of("hop", {})
        found = examine(Site(reader.read(settings), settings))
        assert [one.check for one in found] == ["table_not_read"]
        assert "Permission denied" in found[0].found
        assert "root" in found[0].remedy

    def test_no_configuration_there(self, tmp_path):
        with pytest.raises(PostfixUnreadable, match="No such file or directory"):
            PostfixReader(str(tmp_path / "nowhere")).read(settings_of("hop", {}))

    def test_no_postfix_here(self, tmp_path):
        reader = PostfixReader(str(tmp_path))
        reader._environment = {"PATH": str(tmp_path)}
        with pytest.raises(PostfixUnreadable, match="is Postfix installed here"):
            reader.read(settings_of("hop", {}))

    def test_command_that_never_ends_is_ended(self, tmp_path, monkeypatch):
        (tmp_path / "postconf").write_text("#!/bin/sh\nexec sleep 1000\n")
        (tmp_path / "postconf").chmod(0o755)
        monkeypatch.setattr("deliverypools.adapters.postfix_configuration._MOST_SECONDS", 0.2)
        reader = PostfixReader(str(tmp_path))
        reader._environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        with pytest.raises(PostfixUnreadable, match="not done within"):
            reader.read(settings_of("hop", {}))

    def test_table_without_end_is_cut(self, tmp_path, monkeypatch):
        monkeypatch.setattr("deliverypools.adapters.postfix_configuration._MOST_BYTES", 100_000)
        change = Change(
            main={"transport_maps": "texthash:{config}/t"},
            files={"t": "".join(f"host{number}.example local:\n" for number in range(10_000))},
        )
        (found,) = findings(tmp_path / "etc", "hop", change)
        assert found.check == "table_too_large"
        assert "only its beginning was examined" in found.found


def test_partner_gateway_with_a_route_of_its_own(tmp_path):
    """As postfix-examples/hop/README.md tells an operator to."""
    services = load_example("hop", lambda text: text).master
    listener = services["127.0.0.1:10027", "inet"].replace("127.0.0.1:10027", "127.0.0.1:10028")
    cleanup = services["cleanup-egress", "unix"].replace("cleanup-egress", "cleanup-egress-partner")
    options = {
        "127.0.0.1:10028/inet": {
            "content_filter": "pool-high-risk:[gw.partner.example]",
            "cleanup_service_name": "cleanup-egress-partner",
        },
        "cleanup-egress-partner/unix": {"milter_header_checks": "regexp:$config_directory/partner"},
    }
    rules = [f"/^X-Delivery-Pool: {pool}$/ FILTER pool-{pool}:[gw.partner.example]\n" for pool in TAG_CHECKS]
    change = Change(
        master=f"{listener}\n{cleanup}\n",
        options=options,
        main={"transport_maps": "inline:{partner.example=egress:[127.0.0.1]:10028}"},
        files={"partner": "".join(rules) + REFUSED + HOLD},
    )
    assert [(one.check, one.found) for one in findings(tmp_path / "etc", "hop", change)] == []


def test_findings_of_one_check_are_bounded(tmp_path):
    change = Change(
        main={"transport_maps": "texthash:{config}/t"},
        files={"t": "".join(f"host{number}.example smtp:\n" for number in range(1000))},
    )
    found = findings(tmp_path / "etc", "hop", change)
    assert len(found) == MOST_OF_ONE_CHECK + 1
    assert found[-1].found == f"and more; the first {MOST_OF_ONE_CHECK} are listed"


@pytest.mark.parametrize(("profile", "change", "check"), MORE.values(), ids=MORE.keys())
def test_further_forms_of_the_same_leaks(tmp_path, profile, change, check):
    found = findings(tmp_path / "etc", profile, change)
    assert {one.check for one in found} == {check}, [(one.check, one.found) for one in found]


def test_services_that_share_a_cleanup_service_are_reported_once(tmp_path):
    change = Change(options={"cleanup-bounce/unix": {"milter_macro_daemon_name": "PICKUP", "non_smtpd_milters": ""}})
    found = [(one.check, one.found) for one in findings(tmp_path / "etc", "hop", change)]
    assert found == [
        ("milter_missing_for_local_mail", "cleanup-bounce/unix: non_smtpd_milters = (empty)"),
        ("daemon_name_wrong", "cleanup-bounce/unix: milter_macro_daemon_name = PICKUP; BOUNCE is expected"),
    ]
