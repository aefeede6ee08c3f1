"""A configuration of some files, and a proof of the fast path about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deliverypools.adapters.fast_path import FastPathWatch, proof_path, write_proof
from deliverypools.adapters.fast_path_steps import steps_to
from deliverypools.core.fast_path import Proof, Step, settings_digest
from deliverypools.core.settings import Settings

HOP = "[127.0.0.1]:10027"
HOSTNAME = "mx.example.org"


class Place:
    """A configuration of some files, and a proof about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main = folder / "main.cf"
        self.table = folder / "access.db"
        self.missing = folder / "not-there.db"
        self.link = folder / "link"
        self.target = folder / "target"
        for path in (self.main, self.table, self.target):
            path.write_text("one\n")
        self.link.symlink_to(self.target)
        self.settings = settings(folder)
        self.prove()

    def proof(self, **changes) -> Proof:
        files = tuple(map(str, (self.main, self.table, self.missing, self.link)))
        proof = Proof(
            config_directory=str(self.folder),
            made_at=1_000_000.0,
            settings=settings_digest(self.settings),
            hop=HOP,
            is_reloaded=True,
            hostnames=(HOSTNAME,),
            files=files,
            steps={path: Step(found.identity, 7.5) for path, found in steps_to(files).items()},
            boot="a",
            looked_at=9.0,
            clock=1e9,
        )
        return replace(proof, **changes)

    def prove(self, **changes) -> None:
        write_proof(self.settings, self.proof(**changes))

    @property
    def instance(self) -> str:
        """What its smtpd(8) say of themselves."""
        return str(self.folder)

    def seen(self, watch: FastPathWatch) -> str:
        """Return what a session that begins now goes by."""
        seen = watch.proof_seen(self.instance, HOSTNAME)
        assert seen is not None
        return seen

    @property
    def file(self) -> Path:
        return proof_path(self.settings)


def settings(folder: Path, **changes) -> Settings:
    own = {
        "accepted_domains": ["example.org"],
        "alerts": {"spool": str(folder / "spool")},
        "pools": {
            name: {"addresses": [f"192.0.2.{host}"], "helo": f"{name}.example.org"}
            for name, host in (("normal", 10), ("high-risk", 20), ("relay", 30))
        },
    }
    return Settings.model_validate(own | changes)
