"""`postfix install` and `uninstall` on a running Postfix that knows nothing of us: mail goes by pools, and back."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable, Iterator

import pytest
from mailing import HIGH_RISK, NORMAL, arrived, fresh, from_trusted, mail, running, submit
from postfix_command import configuration, folder, postfix

from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import ACCEPT, DEFER
from deliverypools.lab.site import Site

SITE = "192.0.2.1"
OURS = ("X-Delivery-Pool", "X-Delivery-Pool-Ticket")


@pytest.fixture(scope="module")
def site() -> Iterator[Lab]:
    """A site on which each test leaves nothing of ours."""
    with running(profile="none", site=Site(forwards={"games": "via-forward@example.net"})) as lab:
        yield lab


@pytest.fixture
def installed(site: Lab) -> Iterator[Lab]:
    before = configuration(site)
    answer = postfix(site, "install")
    assert answer.status == 0, answer
    yield site
    answer = postfix(site, "uninstall", "--wait", "30s")
    assert answer.status == 0, answer
    assert configuration(site) == before


def by_headers(lab: Lab, recipient: str) -> list[str | None]:
    return [arrived(lab, recipient).header(name) for name in OURS]


def test_mail_leaves_by_pools_while_installed_and_not_after(site: Lab):
    before, names = configuration(site), folder(site)
    listed = [site.postfix.postconf(option) for option in ("-n", "-M")]
    assert postfix(site, "install").status == 0
    recipient, notice = fresh(), fresh()
    submit(site, recipient)
    assert arrived(site, recipient).source_address in NORMAL
    site.send("", [notice], mail(sender="mailer-daemon@example.org"), client_address="127.0.0.1")
    assert arrived(site, notice).source_address in HIGH_RISK
    site.wait_until_queue_is_empty()
    answer = postfix(site, "uninstall")
    assert (answer.status, "uninstalled" in answer.out) == (0, True), answer
    assert configuration(site) == before
    assert [site.postfix.postconf(option) for option in ("-n", "-M")] == listed
    assert folder(site) == names
    later = fresh()
    submit(site, later)
    assert arrived(site, later).source_address == SITE
    assert by_headers(site, later) == [None, None]


def test_mail_that_was_queued_before_leaves_by_a_pool_without_our_headers(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main={"minimal_backoff_time": "600s", "maximal_backoff_time": "600s"}))
    lab.receiver.answer("example.com", DEFER)
    recipients = [fresh() for _ in range(3)]
    for recipient in recipients:
        from_trusted(lab, recipient)
    lab.postfix.wait_until_deferred(3)
    answer = postfix(lab, "install", "--json")
    assert (answer.status, answer.json["noted"]) == (0, 3), answer
    lab.receiver.answer("example.com", ACCEPT)
    lab.postfix.flush()
    for recipient in recipients:
        assert arrived(lab, recipient).source_address in NORMAL | HIGH_RISK
        assert by_headers(lab, recipient) == [None, None]
    lab.wait_until_queue_is_empty()


def test_second_install_changes_nothing(installed: Lab):
    before = configuration(installed)
    times = [(installed.postfix.config_directory / name).stat().st_mtime_ns for name in ("main.cf", "master.cf")]
    answer = postfix(installed, "install", "--json")
    assert answer.status == 0
    assert answer.json["text"] == "already installed, nothing changed"
    assert answer.json["changes"] == {"main.cf": {}, "master.cf": {}, "files": []}
    assert configuration(installed) == before
    assert times == [
        (installed.postfix.config_directory / name).stat().st_mtime_ns for name in ("main.cf", "master.cf")
    ]


def test_changed_settings_change_what_depends_on_them(installed: Lab):
    installed.write_settings({"pools": {"normal": {"helo": "other.example.org"}}})
    try:
        answer = postfix(installed, "install", "--json")
        assert answer.status == 0, answer
        assert list(answer.json["changes"]["master.cf"]) == ["pool-normal/unix"]
        assert answer.json["changes"]["main.cf"] == {}
        recipient = fresh()
        submit(installed, recipient)
        assert arrived(installed, recipient).helo_name == "other.example.org"
        assert "noted" not in answer.json  # ours was in place: everything queued has its ticket
    finally:
        installed.write_settings({})


def test_edits_since_survive_install_and_uninstall(site: Lab):
    before = configuration(site)
    assert postfix(site, "install").status == 0
    main_cf = site.postfix.config_directory / "main.cf"
    theirs = "smtpd_milters = { inet:127.0.0.1:9, default_action=accept }"
    text = main_cf.read_text().replace(
        "\nsmtpd_milters = $delivery_pools_milter", f"\n{theirs}, $delivery_pools_milter"
    )
    main_cf.write_text(f"# edited by hand\n{text}smtpd_banner = edited\n")
    second = postfix(site, "install", "--json")
    assert second.status == 0, second
    assert f"\n{theirs}, $delivery_pools_milter\n" in main_cf.read_text()
    assert postfix(site, "uninstall").status == 0
    lines = main_cf.read_text().splitlines()
    assert lines[0] == "# edited by hand"
    assert sorted(set(lines) - set(before[0].decode().splitlines())) == [
        "# edited by hand",
        "smtpd_banner = edited",
        theirs,
    ]
    assert configuration(site)[1] == before[1]
    main_cf.write_bytes(before[0])
    site.postfix.reload()


def test_daemon_that_does_not_answer_is_a_refusal(site: Lab):
    before, names = configuration(site), folder(site)
    site.milter.stop()
    try:
        answer = postfix(site, "install")
        assert answer.status == 1
        assert "systemctl start delivery-pools-milter" in answer.err
        assert configuration(site) == before
        assert folder(site) == names
    finally:
        site.milter.start()
    assert postfix(site, "uninstall").status == 0
    assert configuration(site) == before


def test_error_in_the_plan_is_a_refusal_with_its_remedy(site: Lab):
    before, names = configuration(site), folder(site)
    site.postfix.set_main({"smtpd_proxy_filter": "127.0.0.1:10099"})
    edited = configuration(site)
    answer = postfix(site, "install")
    assert answer.status == 1
    assert "smtpd_proxy_filter" in answer.out
    assert "to mend it" in answer.out
    assert configuration(site) == edited
    assert folder(site) == names
    for name, content in zip(("main.cf", "master.cf"), before, strict=True):
        (site.postfix.config_directory / name).write_bytes(content)
    site.postfix.reload()


def test_refused_reload_puts_everything_back(site: Lab, monkeypatch: pytest.MonkeyPatch):
    before, names = configuration(site), folder(site)

    def refuse(_: PostfixInstance) -> None:
        raise PostfixError("postfix: no")

    with monkeypatch.context() as patch:
        patch.setattr(PostfixInstance, "reload", refuse)
        answer = postfix(site, "install")
    assert answer.status == 1
    assert "put back" in answer.err
    assert configuration(site) == before
    assert folder(site) == names


def test_missing_keys_and_folder_are_made(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none")
    lab.postfix.stop()
    sockets = lab.postfix.queue_directory / "elsewhere"
    lab.write_settings(
        {
            "ticket_key_file": str(lab.directory / "made.keys"),
            "forwarding": {"srs_secret_file": str(lab.directory / "made.secrets")},
            "milter": {"socket": f"unix:{sockets}/milter.sock"},
        }
    )
    answer = postfix(lab, "install", "--json")
    # Nothing is reloaded where nothing runs, and no daemon has to answer yet.
    assert (answer.status, answer.json["text"]) == (0, "installed; Postfix does not run: postfix start"), answer
    assert answer.json["made"] == [
        str(lab.directory / "made.keys"),
        str(lab.directory / "made.secrets"),
        str(sockets),
    ]
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o750
    assert sockets.group() == "postfix"
    assert stat.S_IMODE((lab.directory / "made.keys").stat().st_mode) & 0o007 == 0


def test_dry_run_and_render_touch_nothing(site: Lab, tmp_path):
    before, names = configuration(site), folder(site)
    dry = postfix(site, "install", "--dry-run", "--json")
    assert (dry.status, dry.json["text"]) == (0, "a preview: nothing was changed")
    output = tmp_path / "planned"
    rendered = postfix(site, "render", "--output", str(output), "--json")
    assert rendered.status == 0, rendered
    assert configuration(site) == before
    assert folder(site) == names
    assert json.loads(rendered.out)["changes"] == dry.json["changes"]
    assert postfix(site, "install").status == 0
    try:
        assert [(output / name).read_bytes() for name in ("main.cf", "master.cf")] == list(configuration(site))
        live = site.postfix.config_directory / "delivery-pools"
        for path in (output / "delivery-pools").iterdir():
            assert path.read_bytes() == (live / path.name).read_bytes()
        assert "+default_transport = egress:[127.0.0.1]:10027\n" in (output / "changes.diff").read_text()
        assert (output / "remarks.txt").read_text()
    finally:
        assert postfix(site, "uninstall").status == 0


def test_render_into_the_configuration_is_refused(site: Lab, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(site.postfix.config_directory)
    before, names = configuration(site), folder(site)
    for output in (site.postfix.config_directory, link):
        for folder_of_it in (output, output / "planned", output / "planned" / ".."):
            answer = postfix(site, "render", "--output", str(folder_of_it))
            assert answer.status == 1
            assert "elsewhere" in answer.err
    assert (configuration(site), folder(site)) == (before, names)


def test_what_is_rendered_is_as_private_as_what_is_there_and_in_any_encoding(site: Lab, tmp_path):
    main_cf = site.postfix.config_directory / "main.cf"
    text, mode = main_cf.read_bytes(), main_cf.stat().st_mode
    (site.postfix.config_directory / "k\udcf6pfe").write_text("/^X/ IGNORE\n")
    try:
        main_cf.write_bytes(text + b"smtp_header_checks = regexp:$config_directory/k\xf6pfe\n")
        main_cf.chmod(0o600)
        answer = postfix(site, "render", "--output", str(tmp_path / "planned"))
        assert "Traceback" not in answer.err
        written = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "planned").iterdir()}
        assert {written[name] for name in ("main.cf", "changes.diff", "remarks.txt")} == {0o600}
        assert b"k\xf6pfe" in (tmp_path / "planned" / "remarks.txt").read_bytes()
    finally:
        main_cf.write_bytes(text)
        main_cf.chmod(mode)
        (site.postfix.config_directory / "k\udcf6pfe").unlink()


def test_uninstall_where_nothing_is_installed(site: Lab):
    before = configuration(site)
    answer = postfix(site, "uninstall")
    assert (answer.status, answer.out) == (0, "not installed, nothing changed\n")
    assert configuration(site) == before


def test_address_that_the_machine_lacks_is_a_refusal(site: Lab):
    before = configuration(site)
    with site.network.inside():
        subprocess.run(["ip", "addr", "del", "192.0.2.30/32", "dev", "lo"], check=True)
    try:
        for options in ((), ("--dry-run",)):
            answer = postfix(site, "install", *options)
            assert answer.status == 1
            assert "pool_address_not_here: pools.relay.addresses: 192.0.2.30" in answer.out
    finally:
        with site.network.inside():
            subprocess.run(["ip", "addr", "add", "192.0.2.30/32", "dev", "lo"], check=True)
    assert configuration(site) == before
    assert postfix(site, "install", "--dry-run").status == 0


def test_preview_says_which_daemon_does_not_answer(site: Lab):
    site.policy.stop()
    try:
        answer = postfix(site, "install", "--dry-run")
    finally:
        site.policy.start()
    assert answer.status == 0
    assert "install would refuse: policy.socket" in answer.out
