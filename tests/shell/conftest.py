"""Sites and daemons for the tests of this folder, and a dispatcher with what it talks to."""

import asyncio
import contextlib
import threading

import pytest
from daemons import Daemon, Site
from dispatching import SEALER, SECONDS, Clock, Hook, Mailer

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.settings import Settings, built_in_defaults
from deliverypools.policy import dispatcher as dispatcher_module
from deliverypools.policy.digest_watch import DigestWatch
from deliverypools.policy.dispatcher import Dispatcher


@pytest.fixture(scope="module")
def stack():
    """What a module of tests leaves running until its end."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def shared_milter(stack, tmp_path_factory):
    """A milter that all tests of a module talk to: they leave nothing behind but their connections' messages."""
    return started("milter", made(tmp_path_factory.mktemp("site"), stack), stack)


@pytest.fixture
def make_site(tmp_path):
    """Make the site of one test."""
    with contextlib.ExitStack() as stack:
        yield lambda **changes: made(tmp_path, stack, **changes)


@pytest.fixture
def start():
    """Start a daemon; it ends with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name, site: started(name, site, stack)


@pytest.fixture
def policy(make_site, start):
    return start("policy", make_site())


@pytest.fixture
def launch():
    """Launch a daemon without waiting until it serves; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def launch(name, site):
            daemon = Daemon(name, site)
            stack.callback(daemon.end)
            return daemon

        yield launch


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def mailer(tmp_path):
    made = Mailer(tmp_path)
    yield made
    made.hangs.unlink(missing_ok=True)


@pytest.fixture
def make_hook():
    with contextlib.ExitStack() as stack:

        def make(*statuses, **options):
            hook = Hook(*statuses, **options)
            thread = threading.Thread(target=hook.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            for step in (hook.server_close, thread.join, hook.shutdown, hook.ended.set):
                stack.callback(step)
            return hook

        yield make


@pytest.fixture
def make_settings(tmp_path, mailer):
    def make(*, bcc=(), **alerts):
        pools = {
            name: {"addresses": [f"192.0.2.{number}"], "helo": "mx.example.org"}
            for number, name in enumerate(built_in_defaults().pools, 10)
        }
        usual = {"sendmail": str(mailer.path), "spool": str(tmp_path / "spool")}
        return Settings.model_validate(
            {
                "accepted_domains": ["example.org"],
                "pools": pools,
                "alerts": usual | alerts,
                "outbound_policies": [{"name": "default", "bcc_suspicious_mail": list(bcc)}],
            }
        )

    return make


@pytest.fixture
def state(tmp_path, clock):
    state = SQLiteState(str(tmp_path / "state.db"), clock)
    yield state
    state.close()


@pytest.fixture
def quick(monkeypatch):
    """The same turns, with less waiting between them."""
    monkeypatch.setattr(dispatcher_module, "_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(dispatcher_module, "_WATCH_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(DigestWatch, "every_seconds", 0.0)


@pytest.fixture
def run(tmp_path, clock, quick):
    """Run a dispatcher until the end of the test, or until what is returned is called."""
    with contextlib.ExitStack() as stack:

        def start(settings, open_state=None):
            path = str(tmp_path / "state.db")
            made = Dispatcher(
                settings if callable(settings) else lambda: settings,
                open_state or (lambda: SQLiteState(path, clock)),
                lambda: SEALER,
                clock,
            )
            loop = asyncio.new_event_loop()
            task = loop.create_task(made.run())

            def work():
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

            thread = threading.Thread(target=work)
            thread.start()

            def stop():
                with contextlib.suppress(RuntimeError):  # stopped before
                    loop.call_soon_threadsafe(task.cancel)
                thread.join(SECONDS)
                assert not thread.is_alive()

            stack.callback(stop)
            return stop

        yield start


def made(folder, stack, **changes):
    site = Site(folder, **changes)
    stack.callback(site.dns.stop)
    return site


def started(name, site, stack):
    daemon = Daemon(name, site)
    stack.callback(daemon.end)
    return daemon.wait_until_ready()
