"""Debian's opendkim as the signer: its command, and its library by ctypes for what the command has no option for."""

import ctypes
import re
import subprocess
from pathlib import Path

SIMPLE, RELAXED = 0, 1
_RSA_SHA256 = 1
_WHOLE_BODY = -1
_OK = 0
_NAME = b"DKIM-Signature: "


class OpendkimError(Exception):
    """A function of the library gave another status than DKIM_STAT_OK."""


def make_key(folder, bits=2048):
    """Make a key with opendkim-genkey; return the file of the private key, and the record as DNS would have it."""
    subprocess.run(
        ["/usr/sbin/opendkim-genkey", "-b", str(bits), "-D", str(folder), "-d", "example.org", "-s", "sel"], check=True
    )
    zone = (Path(folder) / "sel.txt").read_text(encoding="ascii")
    return Path(folder) / "sel.private", "".join(re.findall(r'"([^"]*)"', zone)).encode()


def signed_by_command(message, key_file):
    """What opendkim-testmsg makes of a message: rsa-sha1, relaxed/simple, no other way."""
    command = ["/usr/sbin/opendkim-testmsg", "-C", "-d", "example.org", "-s", "sel", "-k", str(key_file)]
    return subprocess.run(command, input=message, capture_output=True, check=True).stdout


def signed_by_library(message, key_file, header, body):
    """The message below its signature: rsa-sha256, with the canonicalisations of header and body."""
    library = _library()
    handle = library.dkim_init(None, None)
    status = ctypes.c_int()
    signing = library.dkim_sign(
        handle,
        b"id",
        None,
        key_file.read_bytes(),
        b"sel",
        b"example.org",
        header,
        body,
        _RSA_SHA256,
        _WHOLE_BODY,
        status,
    )
    try:
        for chunk in (message, b""):
            _check(library.dkim_chunk(signing, chunk, len(chunk)))
        _check(library.dkim_eom(signing, None))
        value, length = ctypes.c_void_p(), ctypes.c_size_t()
        _check(library.dkim_getsighdr_d(signing, len(_NAME), value, length))
        return _NAME + ctypes.string_at(value, length.value) + b"\r\n" + message
    finally:
        library.dkim_free(signing)
        library.dkim_close(handle)


def _check(status):
    if status != _OK:
        raise OpendkimError(status)


def _library():
    library = ctypes.CDLL("libopendkim.so.11")
    pointer, text, number, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
    library.dkim_init.restype = library.dkim_sign.restype = pointer
    library.dkim_init.argtypes = [pointer, pointer]
    library.dkim_sign.argtypes = [
        *(pointer, text, pointer, text, text, text, number, number, number),
        *(ctypes.c_ssize_t, ctypes.POINTER(number)),
    ]
    library.dkim_chunk.argtypes = [pointer, text, size]
    library.dkim_eom.argtypes = [pointer, pointer]
    library.dkim_getsighdr_d.argtypes = [pointer, size, ctypes.POINTER(pointer), ctypes.POINTER(size)]
    library.dkim_free.argtypes = library.dkim_close.argtypes = [pointer]
    return library
