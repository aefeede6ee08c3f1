"""The milter as a process: start, reload, respawn, drain, and what it says when it cannot run."""

import contextlib
import dataclasses
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mail import TAG, Mail, connected, received

from deliverypools.core.facts import Answer, Ingress
from deliverypools.lab.waiting import wait_until

MAIL = Mail()


def first_pass(milter, mail=MAIL, **options):
    with connected(milter.socket_path, "SUBMISSION") as client:
        return mail.through(client, sasl_username="alice", **options)


def egress_pass(milter, mail):
    with connected(milter.socket_path, "EGRESS") as client:
        return mail.through(client)


def message_in_progress(milter):
    """Begin a message. The milter answers body chunks only: then it has seen everything before."""
    client = connected(milter.socket_path)
    client.mail(b"<alice@example.org>")
    client.rcpt(b"<bob@example.net>")
    client.header(b"Subject", b"hello")
    assert client.body(b"hello\r\n") == b"c"
    return client


class TestStart:
    def test_logs_the_settings_and_serves(self, make_site, start):
        milter = start("milter", make_site())
        milter.wait_for_log(f"serving unix:{milter.socket_path} with 2 workers")
        assert 'setting: accepted_domains = ["example.org"]' in milter.log
        assert len(milter.workers) == 2

    def test_socket_is_for_owner_and_group_alone(self, make_site, start):
        milter = start("milter", make_site())
        assert stat.S_IMODE(os.stat(milter.socket_path).st_mode) == 0o660  # noqa: PTH116

    def test_a_socket_left_by_a_dead_milter_is_replaced(self, make_site, start):
        site = make_site()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(site.milter_socket)
        assert first_pass(start("milter", site)).reply == b"c"

    def test_a_second_milter_on_the_same_socket_refuses_to_start(self, make_site, start, launch):
        milter = start("milter", make_site())
        second = launch("milter", milter.site)
        assert second.wait() == 1
        assert f"{milter.socket_path}: another delivery-pools server has this socket; stop it first" in second.log
        assert first_pass(milter).reply == b"c"

    def test_a_missing_folder_is_named(self, make_site, launch):
        site = make_site()
        site.write(milter={"socket": f"unix:{site.folder}/missing/milter.sock"})
        milter = launch("milter", site)
        assert milter.wait() == 1
        assert "missing/milter.sock.lock: No such file or directory; the folder must exist" in milter.log

    @pytest.mark.parametrize("name", ["milter", "policy"])
    def test_broken_settings_are_all_named(self, make_site, launch, name):
        site = make_site()
        site.config.write_text(
            "accepted_domains = 1\n[milter]\nworkers = 0\nundecided_after = '4 hours'\n[dsn]\n[[pins]]\npool = 'x'\n",
            encoding="utf-8",
        )
        daemon = launch(name, site)
        assert daemon.wait() == 78
        for line in (1, 3, 4, 5, 6):
            assert f"{site.config}:{line}: " in daemon.log

    def test_a_missing_key_file_is_named(self, make_site, launch):
        site = make_site()
        (site.folder / "ticket.keys").unlink()
        milter = launch("milter", site)
        assert milter.wait() == 78
        assert "ticket.keys: no such file; make it with: delivery-pools keys rotate" in milter.log

    def test_a_tcp_socket_is_served(self, make_site, launch):
        site = make_site(milter={"socket": "inet:127.0.0.1:1"})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        site.write(milter={"socket": f"inet:127.0.0.1:{port}"})
        milter = launch("milter", site)
        milter.wait_for_log(f"serving inet:127.0.0.1:{port}")
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


class TestReload:
    def test_broken_settings_change_nothing_and_are_reported(self, make_site, start):
        milter = start("milter", make_site())
        workers = milter.workers
        milter.site.config.write_text("nonsense\n", encoding="utf-8")
        milter.signal(signal.SIGHUP)
        milter.wait_for_log("the settings were not reloaded: those read before stay in force")
        assert f"{milter.site.config}:1: " in milter.log
        assert milter.workers == workers
        assert first_pass(milter).reply == b"c"

    def test_good_settings_are_taken(self, make_site, start):
        milter = start("milter", make_site())
        mail = MAIL.after(first_pass(milter))
        assert egress_pass(milter, mail).added_values(TAG) == ["normal"]
        milter.site.write(accepted_domains=["example.net"])
        milter.signal(signal.SIGHUP)
        milter.wait_for_log("settings reloaded")
        assert egress_pass(milter, mail).added_values(TAG) == ["relay"]

    def test_what_comes_after_the_word_of_the_reload_is_decided_by_the_new_settings(self, make_site, start):
        """Also where a worker of before is slow to hear of it."""
        milter = start("milter", make_site())
        mail = MAIL.after(first_pass(milter))
        milter.site.write(accepted_domains=["example.net"])
        slow = milter.workers[0]
        os.kill(slow, signal.SIGSTOP)
        milter.signal(signal.SIGHUP)
        # Less than a worker that says nothing is waited for.
        with pytest.raises(TimeoutError):
            wait_until(lambda: "settings reloaded" in milter.log, timeout_seconds=1, what="nothing")
        os.kill(slow, signal.SIGCONT)
        milter.wait_for_log("settings reloaded")
        assert "does not say that it has stopped" not in milter.log
        assert egress_pass(milter, mail).added_values(TAG) == ["relay"]

    def test_a_worker_that_does_not_hear_of_it_keeps_the_new_ones_from_nothing(self, make_site, start):
        milter = start("milter", make_site())
        slow = milter.workers[0]
        os.kill(slow, signal.SIGSTOP)
        milter.signal(signal.SIGHUP)
        milter.wait_for_log("a worker of before does not say that it has stopped accepting")
        milter.wait_for_log("settings reloaded")
        assert first_pass(milter).reply == b"c"
        os.kill(slow, signal.SIGCONT)
        wait_until(lambda: not is_running(slow), timeout_seconds=10, what="the end of the slow one")

    def test_a_new_key_is_taken_and_old_tickets_stay_good(self, make_site, start):
        milter = start("milter", make_site())
        mail = MAIL.after(first_pass(milter))
        command = [sys.executable, "-m", "deliverypools", "keys", "rotate", "--config", str(milter.site.config)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=30)
        milter.signal(signal.SIGHUP)
        milter.wait_for_log("settings reloaded")
        assert egress_pass(milter, mail).added_values(TAG) == ["normal"]

    def test_a_message_in_progress_is_finished(self, make_site, start):
        milter = start("milter", make_site())
        with message_in_progress(milter) as client:
            milter.signal(signal.SIGHUP)
            milter.wait_for_log("settings reloaded")
            assert client.body(b"more\r\n") == b"c"
            assert client.end("4RELOAD001z").reply == b"c"

    def test_another_socket_needs_a_restart(self, make_site, start):
        milter = start("milter", make_site())
        milter.site.write(milter={"socket": f"unix:{milter.site.folder}/other.sock"})
        milter.signal(signal.SIGHUP)
        milter.wait_for_log("milter.socket changed: that needs a restart; the old socket stays")
        milter.wait_for_log("settings reloaded")
        assert first_pass(milter).reply == b"c"


class TestWorkers:
    def test_a_killed_worker_is_replaced(self, make_site, start):
        milter = start("milter", make_site())
        killed = milter.workers[0]
        os.kill(killed, signal.SIGKILL)
        milter.wait_for_log(f"worker {killed} ended (signal 9): another one is started")
        wait_until(lambda: len(set(milter.workers) - {killed}) == 2, timeout_seconds=10, what="two workers")
        assert first_pass(milter).reply == b"c"

    def test_mail_goes_on_when_every_worker_is_killed(self, make_site, start):
        milter = start("milter", make_site())
        for pid in milter.workers:
            os.kill(pid, signal.SIGKILL)
        assert first_pass(milter).reply == b"c"

    def test_workers_end_with_a_killed_master_and_another_one_can_start(self, make_site, start):
        milter = start("milter", make_site())
        workers = milter.workers
        milter.process.kill()
        milter.wait()
        wait_until(lambda: not any(map(is_running, workers)), timeout_seconds=10, what="the workers' end")
        assert first_pass(start("milter", milter.site)).reply == b"c"

    def test_another_master_starts_while_workers_of_a_killed_one_still_drain(self, make_site, start):
        milter = start("milter", make_site())
        with message_in_progress(milter):
            wait_until(
                lambda: not any(map(has_lock, milter.workers)),
                timeout_seconds=10,
                what="workers without their master's lock",
            )
            milter.process.kill()
            milter.process.wait()
            assert first_pass(start("milter", milter.site)).reply == b"c"

    def test_fifty_connections_at_once(self, make_site, start):
        milter = start("milter", make_site())
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(first_pass(milter).reply)) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert replies == [b"c"] * 50


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_an_idle_milter_ends_at_once(self, make_site, start, number):
        milter = start("milter", make_site(milter={"drain_seconds": 20}))
        workers = milter.workers
        milter.signal(number)
        assert milter.process.wait(10) == 0
        assert not any(map(is_running, workers))
        assert not os.path.exists(milter.socket_path)  # noqa: PTH110

    def test_a_message_in_progress_is_finished_before_the_end(self, make_site, start):
        milter = start("milter", make_site(milter={"drain_seconds": 20}))
        with message_in_progress(milter) as client:
            milter.signal(signal.SIGTERM)
            milter.wait_for_log("draining: messages in progress are finished")
            assert client.body(b"more\r\n") == b"c"
            outcome = client.end("4DRAIN0001z")
            assert outcome.reply == b"c"
            assert milter.site.ticket(outcome).recipient_count == 1
            assert milter.process.poll() is None
        assert milter.wait() == 0

    def test_the_third_message_of_a_connection_is_waited_for_like_the_first(self, make_site, start):
        milter = start("milter", make_site(milter={"drain_seconds": 0}))
        with connected(milter.socket_path, "SUBMISSION") as client:
            for _ in range(2):
                assert MAIL.through(client, sasl_username="alice").reply == b"c"
            client.mail(b"<alice@example.org>")
            client.rcpt(b"<bob@example.net>")
            assert client.body(b"x") == b"c"
            milter.signal(signal.SIGTERM)
            milter.wait_for_log("draining")
            # Longer than a worker waits for a reply to be written.
            with pytest.raises(TimeoutError):
                wait_until(
                    lambda: milter.process.poll() is not None, timeout_seconds=2, what="an end that comes too soon"
                )
            assert client.end("4XYZQ99999z").reply == b"c"
        assert milter.wait() == 0

    def test_the_last_reply_is_written_even_where_sessions_get_no_time(self, make_site, start):
        site = make_site(milter={"drain_seconds": 0})
        for _ in range(5):
            milter = start("milter", site)
            with message_in_progress(milter) as client:
                milter.signal(signal.SIGTERM)
                milter.wait_for_log("draining")
                client.body(b"x")
                assert client.end("4XYZQ99999z").reply == b"c"
            assert milter.wait() == 0

    def test_an_idle_connection_does_not_hold_up_the_end(self, make_site, start):
        milter = start("milter", make_site(milter={"drain_seconds": 1}))
        with connected(milter.socket_path):
            milter.signal(signal.SIGTERM)
            assert milter.process.wait(10) == 0

    def test_no_new_connection_is_taken(self, make_site, start):
        milter = start("milter", make_site())
        with message_in_progress(milter):
            milter.signal(signal.SIGTERM)
            milter.wait_for_log("draining")
            wait_until(lambda: not os.path.exists(milter.socket_path), timeout_seconds=10, what="no socket")  # noqa: PTH110
            with pytest.raises(OSError, match=r"No such file|refused"):
                connected(milter.socket_path)


class TestTrouble:
    def test_a_state_that_cannot_be_opened_never_hangs_and_never_leads_to_normal(self, make_site, start):
        site = make_site()
        (site.folder / "state.db").mkdir()
        milter = start("milter", site)
        outcome = first_pass(milter)
        assert outcome.reply == b"c"
        assert site.ticket(outcome).origin.over_limit.answer is Answer.UNKNOWN
        mail = MAIL.after(outcome).below(received())
        assert egress_pass(milter, mail).reply == b"y"
        (site.folder / "state.db").rmdir()
        assert egress_pass(milter, mail).added_values(TAG) == ["normal"]
        assert site.recipients_counted("alice") == 1

    def test_a_login_that_is_not_utf8_hurts_nobody(self, make_site, start):
        milter = start("milter", make_site())
        with connected(milter.socket_path, "SUBMISSION") as client:
            assert MAIL.through(client, sasl_username="\udcff").reply == b"c"
            assert MAIL.through(client, sasl_username="alice").reply == b"c"
        assert 'account="(undecodable auth_authen)"' in milter.log

    def test_a_trusted_sender_that_is_not_utf8_is_counted_like_others(self, make_site, start):
        site = make_site()
        milter = start("milter", site)
        mail = dataclasses.replace(MAIL, sender=b"<j\xf6rg@example.org>")
        with connected(milter.socket_path, address="127.0.0.1") as client:
            assert mail.through(client).reply == b"c"
        assert site.recipients_counted("j\\udcf6rg@example.org", Ingress.TRUSTED) == 1

    def test_a_client_that_goes_away_in_the_middle_hurts_nobody(self, make_site, start):
        milter = start("milter", make_site())
        for _ in range(5):
            with connected(milter.socket_path) as client:
                client.mail(b"<alice@example.org>")
                client.rcpt(b"<bob@example.net>")
                client.header(b"X-Spam", b"Yes")
                client._socket.close()
        assert first_pass(milter).reply == b"c"

    def test_a_peer_that_does_not_speak_the_protocol_hurts_nobody(self, make_site, start):
        milter = start("milter", make_site())
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(10)
            peer.connect(milter.socket_path)
            peer.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
            assert first_pass(milter).reply == b"c"


class TestExpress:
    def test_one_pass_decides_and_adds_no_ticket(self, make_site, start):
        milter = start("milter", make_site(profile="express"))
        forged = MAIL.below((TAG.encode(), b"normal"), (b"X-Delivery-Pool-Ticket", b"forged"), (b"X-Spam", b"Yes"))
        after = forged.after(first_pass(milter, forged))
        assert (after.values(TAG), after.values("X-Delivery-Pool-Ticket")) == ([b"high-risk"], [])

    @pytest.mark.parametrize(
        ("sender", "pool"),
        [(b"<alice@example.org>", "normal"), (b"<>", "high-risk"), (b"<eve@example.net>", "relay")],
    )
    def test_pool_of_submitted_mail(self, make_site, start, sender, pool):
        milter = start("milter", make_site(profile="express"))
        outcome = first_pass(milter, dataclasses.replace(MAIL, sender=sender))
        assert outcome.added_values(TAG) == [pool]

    def test_at_the_listener_of_a_hop_the_ticket_counts(self, make_site, start):
        """Between the daemons' reload and `postfix install`: client and login of the second pass are the hop's own."""
        site = make_site()
        submitted = MAIL.after(first_pass(start("milter", site)))
        site.write(profile="express", milter={"socket": f"unix:{site.milter_socket}2"})
        site.milter_socket += "2"
        milter = start("milter", site)
        assert egress_pass(milter, submitted).added_values(TAG) == ["normal"]
        assert egress_pass(milter, MAIL).added_values(TAG) == ["high-risk"]


def test_shadow_lets_everything_leave_by_normal_and_logs_the_decision(make_site, start):
    milter = start("milter", make_site(shadow=True))
    bounce = dataclasses.replace(MAIL, sender=b"")
    with connected(milter.socket_path, "EGRESS") as client:
        assert bounce.through(client, queue_id="4SHADOW001z").added_values(TAG) == ["normal"]
    milter.wait_for_log("4SHADOW001z: pass=egress pool=high-risk shadow=normal rule=delivery_status_notification")


def has_lock(pid):
    """Tell whether a process still has the open lock file of whoever forked it."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if path.readlink().name == "milter.sock.lock":
                return True
    return False


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as status:  # noqa: PTH123
            return status.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
