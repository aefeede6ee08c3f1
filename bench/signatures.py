"""Measures DKIM verification beside dkimpy's own `dkim.verify`: `make bench-dkim`.

Each case runs in a process of its own, ours and dkimpy's in turn: ordinary messages, signed by dkimpy, and hostile
ones. Ours gets the body in pieces of 64 kB, as a milter does; dkimpy gets the whole message, as it must. Memory is what
a process needs at its peak beyond what it had when the message was there, as exactly as the kernel counts (0.3 MB).
Keys are answered from memory. A case that takes longer than `--patience` is ended. A result of ours that is not the
expected one makes the run fail.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import dkim
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from deliverypools.adapters.authentication.dkim_check import SignatureCheck
from deliverypools.adapters.authentication.dkim_signature import Field
from deliverypools.adapters.resolver import Resolver

MEGABYTE: Final = 1_000_000
CHUNK_BYTES: Final = 65_536
SIDES: Final = ("ours", "dkimpy")
SMALL_BODY: Final = b"x\r\n"
HEADER: Final = (
    b"Received: by mx.example.org; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    b"From: A <a@example.org>\r\nTo: b@example.net\r\nSubject: An ordinary message\r\n"
    b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n"
)
FORGED: Final = b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s%d; h=%s;\r\n bh=%s; b=%s\r\n"


@dataclass(frozen=True)
class Case:
    """A message, its key record, and what we make of it."""

    header: bytes
    body: bytes
    record: bytes
    expected: str

    @property
    def message(self) -> bytes:
        """Return the whole message."""
        return self.header + b"\r\n" + self.body


def main() -> int:
    """Measure, print the table; exit 1 if a result is not the expected one."""
    options = _options()
    if options.case:
        print(json.dumps(_measure(CASES[options.case](), options.side)))
        return 0
    names = [name for name in CASES if not options.quick or name in QUICK]
    rows = [{side: _run(name, side, options) for side in SIDES} for name in names]
    print(_table(names, rows, options))
    problems = [f"{name}: {row['ours'].get('result')}" for name, row in zip(names, rows, strict=True) if _is_bad(row)]
    for problem in problems:
        print(problem, file=sys.stderr)
    hostile = [row["ours"] for name, row in zip(names, rows, strict=True) if name in HOSTILE]
    slowest, largest = max(run["seconds"] for run in hostile), max(run["peak_mb"] for run in hostile)
    print(f"dkim: no hostile message took more than {slowest:.2f} s or {largest:.1f} MB")
    return 1 if problems else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is measured")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds until a case is ended")
    parser.add_argument("--quick", action="store_true", help="a few cases, once: to see whether it works")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.patience = 1, 5.0
    return options


def _run(name: str, side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a case in processes of its own; return the medians."""
    print(f"{name}: {side}", file=sys.stderr, flush=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--case", name, "--side", side]
    runs: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        try:
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=options.patience)
        except subprocess.TimeoutExpired:
            return {"seconds": float("inf"), "peak_mb": float("nan"), "result": f"ended after {options.patience:g} s"}
        runs.append(json.loads(done.stdout))
    medians: dict[str, Any] = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "peak_mb")}
    return runs[0] | medians


def _is_bad(row: dict[str, dict[str, Any]]) -> bool:
    return bool(row["ours"].get("result") != row["ours"].get("expected"))


# ---- in the process that is measured


def _measure(case: Case, side: str) -> dict[str, Any]:
    work = _ours(case) if side == "ours" else _theirs(case)
    repeat = 20 if len(case.body) < MEGABYTE and len(case.header) < MEGABYTE // 100 else 1
    before = _forget_peak()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    peak_mb = max(0, _status("VmHWM") - before) / 1000
    return {"seconds": statistics.median(seconds), "peak_mb": peak_mb, "result": result, "expected": case.expected}


def _ours(case: Case) -> Callable[[], str]:
    fields = list(_fields(case.header))
    resolver = cast("Resolver", _Keys(case.record))
    view = memoryview(case.body)

    def verify() -> str:
        check = SignatureCheck(fields)
        check.start(resolver)
        for at in range(0, len(view) if check.wants_body else 0, CHUNK_BYTES):
            check.feed(bytes(view[at : at + CHUNK_BYTES]))
        results = check.finish(1.0)
        return " ".join(sorted({each.result for each in results}))

    return verify


def _theirs(case: Case) -> Callable[[], str]:
    message = case.message

    def look_up(name: bytes, timeout: int = 5) -> bytes:  # noqa: ARG001  (dkimpy names them)
        return case.record

    def verify() -> str:
        signer = dkim.DKIM(message)
        signatures = sum(name.lower() == b"dkim-signature" for name, _ in signer.headers)
        return " ".join(sorted({_verdict(signer, index, look_up) for index in range(signatures)}))

    return verify


def _verdict(signer: dkim.DKIM, index: int, look_up: Callable[..., bytes]) -> str:
    try:
        return "pass" if signer.verify(index, dnsfunc=look_up) else "fail"
    except Exception as error:  # noqa: BLE001  (that it raises is the measurement)
        return type(error).__name__


class _Keys:
    """Has one answer to all questions."""

    def __init__(self, record: bytes) -> None:
        self._record = record

    def start_txt(self, _name: str) -> Future[tuple[bytes, ...]]:
        future: Future[tuple[bytes, ...]] = Future()
        future.set_result((self._record,))
        return future


def _fields(header: bytes) -> Iterator[Field]:
    for line in header.replace(b"\r\n ", b"\0 ").split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            yield name, value.replace(b"\0", b"\r\n")


def _forget_peak() -> int:
    """Make the kernel forget the peak of memory (proc(5), clear_refs); return what is in use, in kB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


# ---- the cases


def _text(size: int) -> bytes:
    chance = random.Random(1)  # noqa: S311  (words, not secrets)
    lines = [" ".join("e" * chance.randint(1, 12) for _ in range(10)).encode() for _ in range(1000)]
    text = b"\r\n".join(lines) + b"\r\n"
    return (text * (size // len(text) + 1))[: size - 2].rstrip(b" \r\n") + b"\r\n"


def _ordinary(size: int, algorithm: bytes, canonical: bytes) -> Case:
    """A message that passes."""
    body = _text(size)
    private, record = _rsa_key() if algorithm == b"rsa-sha256" else _ed25519_key()
    field = dkim.sign(
        HEADER + b"\r\n" + body,
        b"sel",
        b"example.org",
        private,
        canonicalize=(canonical, canonical),
        signature_algorithm=algorithm,
    )
    return Case(field + HEADER, body, record, "pass")


def _rsa_key() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def _ed25519_key() -> tuple[bytes, bytes]:
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(private), b"v=DKIM1; k=ed25519; p=" + base64.b64encode(public)


def _forged(
    *, names: bytes = b"from", above: bytes = b"", signatures: int = 1, record: bytes = b"", expected: str = "fail"
) -> Case:
    """A small message whose signatures look well, body hash included, and are none."""
    fields = (_field(number, names, SMALL_BODY) for number in range(signatures))
    return Case(b"".join(fields) + above + HEADER, SMALL_BODY, record or _rsa_key()[1], expected)


def _field(number: int, names: bytes, body: bytes) -> bytes:
    body_hash = base64.b64encode(hashlib.sha256(body).digest())
    return FORGED % (number, names, body_hash, base64.b64encode(bytes([1]) * 256))


def _hostile_body(piece: bytes) -> Case:
    """30 MB of the same; its signature is not that of the body."""
    return Case(_field(0, b"from", b"") + HEADER, (piece * 30 * MEGABYTE)[: 30 * MEGABYTE], _rsa_key()[1], "fail")


def _many_signatures(body_bytes: int) -> Case:
    fields = b"".join(_field(number, b"from", b"") for number in range(10_000))
    return Case(fields + HEADER, _text(body_bytes), _rsa_key()[1], "permerror")


def _all_that_is_allowed() -> Case:
    """Ten signatures of 200 names each, over fields of 200 kB: no more is verified."""
    names = b":".join([b"from", *(b"x%d" % number for number in range(199))])
    above = b"".join(b"X%d: %s\r\n" % (number, b"y " * 500) for number in range(199))
    return _forged(names=names, above=above, signatures=10)


def _large_key() -> Case:
    """A modulus of 16,384 bits and an exponent of 6,000: as much as 4 kB of TXT hold."""
    numbers = ((1 << 16_383) + 1, (1 << 6000) - 1)
    integers = b"".join(_der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in numbers)
    return _forged(record=b"v=DKIM1; p=" + base64.b64encode(_der(0x30, integers)), expected="policy")


def _der(tag: int, content: bytes) -> bytes:
    return bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content


def _many_names() -> Case:
    names = b":".join([b"from", *(b"x%d" % number for number in range(5000))])
    return _forged(names=names, above=b"Y: z\r\n" * 20_000, expected="permerror")


def _white_space() -> Case:
    return _forged(names=b"from" + b" " * 80_000 + b"x", expected="permerror")


def _folds_of_the_largest_field() -> Case:
    """Runs of 99 line ends, as many as 8 kB hold: the longest that are handed to dkimpy's expressions."""
    return _forged(names=b"from; z=" + (b"\n" * 99 + b"b") * 70)


ORDINARY: Final[dict[str, Callable[[], Case]]] = {
    f"{label}, {algorithm}, {canonical}": partial(_ordinary, size, f"{algorithm}-sha256".encode(), canonical.encode())
    for label, size in (("1 kB", 1000), ("100 kB", 100_000), ("10 MB", 10 * MEGABYTE), ("30 MB", 30 * MEGABYTE))
    for algorithm in ("rsa", "ed25519")
    for canonical in ("relaxed", "simple")
}
HOSTILE: Final[dict[str, Callable[[], Case]]] = {
    "30 MB of spaces": partial(_hostile_body, b" "),
    "30 MB of CRLF": partial(_hostile_body, b"\r\n"),
    "30 MB of CR": partial(_hostile_body, b"\r"),
    "30 MB of one line": partial(_hostile_body, b"x"),
    "30 MB of pairs of spaces": partial(_hostile_body, b"x  "),
    "10,000 signatures, 1 MB": partial(_many_signatures, MEGABYTE),
    "10 signatures, 200 names, 200 kB": _all_that_is_allowed,
    "key of 16 kbit": _large_key,
    "5,000 names in h=, 20,000 fields": _many_names,
    "80 kB of blanks in the signature": _white_space,
    "8 kB of line ends in the signature": _folds_of_the_largest_field,
}
CASES: Final = ORDINARY | HOSTILE
QUICK: Final = ("1 kB, rsa, relaxed", "30 MB of CRLF", "key of 16 kbit")


# ---- the table


def _table(names: Sequence[str], rows: Sequence[dict[str, dict[str, Any]]], options: argparse.Namespace) -> str:
    lines = [
        f"median of {options.rounds}; peak: memory beyond what the message itself takes",
        "",
        f"{'':<36}{'ours':<42}dkimpy",
        f"{'':<36}{'seconds':>8}{'peak MB':>10}  {'result':<22}{'seconds':>8}{'peak MB':>10}  result",
    ]
    for name, row in zip(names, rows, strict=True):
        cells = "".join(f"{run['seconds']:>8.4f}{run['peak_mb']:>10.1f}  {run['result']:<22}" for run in row.values())
        lines.append(f"{name:<36}{cells}".rstrip())
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
