"""Where a server of ours listens, which names it may be called by, and when it stops; shared by the page and the service."""

from __future__ import annotations

import ipaddress
import re
import signal
import socket
import threading
from collections.abc import Collection

from aaformer_lit.errors import ConfigError

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def names_of(host: str) -> tuple[str, ...]:
    """What requests may call a server at this address: local names on loopback, else anything (empty).

    Another site can give its own name this machine's address (DNS rebinding), and would then talk to the server.
    """
    return (*LOOPBACK_NAMES, host) if is_loopback(host) else ()


def is_called(header: str, names: Collection[str]) -> bool:
    """Whether `Host`, with or without a port, is one of a server's names; one without names may be called anything."""
    match = re.fullmatch(r"\[([^\]]*)\](?::\d+)?|([^:]*)(?::\d+)?", header.strip())
    return not names or (match is not None and (match[1] or match[2] or "").lower() in names)


def url_of(host: str, port: int) -> str:
    """The address to open."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def check_address(host: str, port: int) -> None:
    """Raise `ConfigError` for an address that cannot be listened on."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, OverflowError, UnicodeError) as cause:  # UnicodeError: no name that DNS could know
        raise ConfigError(
            f"the server cannot listen on host={host} port={port}: {cause}. Give another port=, or an address of this "
            "machine."
        ) from cause


def stopped_by_signals() -> threading.Event:
    """Set by Ctrl-C or a termination, so that either way out is an orderly one."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
