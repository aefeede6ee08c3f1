"""A milter and a policy service in Python that decide nothing: what no extension of ours can go below.

    idle_daemons.py milter SOCKET      pymilter, with the callbacks and the replies that ours has
    idle_daemons.py policy SOCKET      asyncio; every request is answered with DUNNO

Each of them writes a line when it has been asked the first time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any, Final

import Milter

_USER: Final = "postfix"
"""Whom the sockets belong to: smtpd(8) runs as it."""
_WORKERS: Final = 2
ASKED: Final = "has been asked"


class IdleMilter(Milter.Base):
    """Takes each message as it comes; Postfix waits for a reply where it waits for one of ours."""

    was_asked = False

    @Milter.noreply
    def connect(self, *_: Any) -> int:
        """Go on."""
        return int(Milter.CONTINUE)

    @Milter.noreply
    def hello(self, *_: Any) -> int:
        """Go on."""
        return int(Milter.CONTINUE)

    @Milter.nocallback
    def unknown(self, *_: Any) -> int:
        """Not asked for."""
        return int(Milter.CONTINUE)

    @Milter.noreply
    def envfrom(self, *_: Any) -> int:
        """Go on."""
        return int(Milter.CONTINUE)

    def envrcpt(self, *_: Any) -> int:
        """Go on."""
        return int(Milter.CONTINUE)

    @Milter.noreply
    def data(self) -> int:
        """Go on."""
        return int(Milter.CONTINUE)

    @Milter.noreply
    def header(self, *_: Any) -> int:
        """Go on."""
        return int(Milter.CONTINUE)

    @Milter.noreply
    def eoh(self) -> int:
        """Go on."""
        return int(Milter.CONTINUE)

    def body(self, *_: Any) -> int:
        """Take no more of it."""
        return int(Milter.SKIP)

    def eom(self) -> int:
        """Let the message pass."""
        if not IdleMilter.was_asked:
            IdleMilter.was_asked = True
            print(ASKED, flush=True)
        return int(Milter.CONTINUE)


def _milter(socket_name: str) -> None:
    Milter.factory = IdleMilter
    run_main = Milter.milter.main
    Milter.milter.main = lambda: None
    Milter.runmilter("idle", f"unix:{socket_name}", timeout=0, rmsock=True)
    shutil.chown(socket_name, _USER)
    for _ in range(_WORKERS - 1):
        if os.fork() == 0:
            break
    run_main()


def _policy(socket_name: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        print(ASKED, flush=True)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\n\n"):
                writer.write(b"action=DUNNO\n\n")
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_unix_server(answer, socket_name)
        shutil.chown(socket_name, _USER)
        await server.serve_forever()

    asyncio.run(serve())


_KINDS: Final[dict[str, Callable[[str], None]]] = {"milter": _milter, "policy": _policy}

if __name__ == "__main__":
    _KINDS[sys.argv[1]](sys.argv[2])
