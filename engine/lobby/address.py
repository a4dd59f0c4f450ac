"""Where an engine may listen: ipc://PATH, tcp://LOOPBACK:PORT, and farther once players are paired.

libzmq removes whatever file is at an ipc path before it binds, a living engine's too, so that is looked at
here.
"""

import ipaddress
import os
import socket
import stat

from engine import keys
from engine.errors import EngineError, UsageError
from engine.keys import needs_keys

_MAX_IPC_PATH = 100  # bytes; sockaddr_un has 108, libzmq and other systems take some


def checked_address(text: str) -> str:
    """The address in the form to bind. Raises UsageError."""
    scheme, _, rest = text.partition("://")
    if scheme == "ipc" and rest:
        return _checked_ipc(text, rest)
    if scheme == "tcp" and rest:
        return _checked_tcp(text, rest)
    raise UsageError(f"cannot listen on {text!r}: use ipc:///PATH or tcp://127.0.0.1:PORT")


def _checked_ipc(text: str, path: str) -> str:
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError(f"cannot listen on {text}: this system has no ipc sockets; use tcp://127.0.0.1:PORT")
    if len(os.fsencode(path)) > _MAX_IPC_PATH:
        raise UsageError(
            f"cannot listen on {text}: the path is longer than {_MAX_IPC_PATH} bytes; use a shorter one"
        )
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise UsageError(f"cannot listen on {text}: its directory does not exist; create it first")
    return text


def _checked_tcp(text: str, rest: str) -> str:
    host, _, port = rest.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"cannot listen on {text}: it needs a port, as in tcp://127.0.0.1:7878")
    host = {"localhost": "127.0.0.1"}.get(host, host.strip("[]"))
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(
            f"cannot listen on {text}: write this machine's address as numbers, or 0.0.0.0 for all of them"
        ) from None
    address = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    if needs_keys(address):
        _require_players(text)
    return address


def _require_players(text: str) -> None:
    try:
        players = keys.players()
    except keys.KeysError as error:
        raise UsageError(f"cannot listen on {text}: {error}") from None
    if not players:
        raise UsageError(
            f"will not listen on {text}: others could reach it, and no player is paired; run `dreamcade pair`"
            " on the player's machine and `dreamcade pair allow NAME KEY` here, or use tcp://127.0.0.1:PORT"
        )


def make_room(address: str) -> None:
    """Remove a dead engine's socket file. Raises EngineError when somebody lives there, or it is no
    socket."""
    if not address.startswith("ipc://"):
        return
    path = address.removeprefix("ipc://")
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(os.lstat(path).st_mode):  # a connect to a file is refused as a dead socket's is
        raise EngineError(f"cannot listen on {address}: {path} is there and no socket; choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            raise EngineError(
                f"cannot listen on {address}: {error.strerror or error}; choose another path"
            ) from None
    raise in_use(address)


def in_use(address: str) -> EngineError:
    return EngineError(
        f"address in use: another engine listens on {address}; stop it, or choose another --listen"
    )
