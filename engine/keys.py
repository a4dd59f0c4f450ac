"""Keys for play beyond one machine: CURVE key pairs, who may play here, which engines are known. No torch.

Each machine has one pair. Its public half is shown to others; a player's goes into the engine's list of
players, the engine's into the player's list of engines. Everything is in one folder that only its owner can
read: own.json (the pair), players.json (name -> public key), engines.json (address -> public key).

The client and the gateway both read it; DREAMCADE_CONFIG names another folder.
"""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs
import zmq
from zmq.utils import z85

OWN, PLAYERS, ENGINES = "own.json", "players.json", "engines.json"
_NAME = re.compile(r"[\w.-]{1,40}")


class KeysError(Exception):
    """Keys that are missing, damaged or badly kept; the text says what to do."""


@dataclass(frozen=True)
class KeyPair:
    """Both halves as 40 characters of Z85."""

    public: str
    secret: str


def folder() -> Path:
    """Where keys are kept."""
    chosen = os.environ.get("DREAMCADE_CONFIG")
    return Path(chosen) if chosen else platformdirs.user_config_path("dreamcade") / "keys"


def needs_keys(address: str) -> bool:
    """Whether others than this machine could reach it: then players are authenticated and the link is
    encrypted."""
    if not address.startswith("tcp://"):
        return False
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def own_keys() -> KeyPair:
    """This machine's pair, made on first use. Raises KeysError."""
    if not (folder() / OWN).exists():
        public, secret = zmq.curve_keypair()
        while public.startswith(b"-"):  # a command line would take it for an option
            public, secret = zmq.curve_keypair()
        _write(OWN, {"public": public.decode(), "secret": secret.decode()})
    kept = _read(OWN)
    if set(kept) != {"public", "secret"}:
        raise KeysError(f"{folder() / OWN} is damaged: remove it, and pair anew")
    return KeyPair(kept["public"], kept["secret"])


def players() -> dict[str, str]:
    """Who may play here: name -> public key."""
    return _read(PLAYERS)


def engines() -> dict[str, str]:
    """Engines that are known: address -> public key."""
    return _read(ENGINES)


def allow(name: str, key: str) -> None:
    """Let a player in."""
    if not _NAME.fullmatch(name):
        raise KeysError(f"{name!r} is no name for a player: use letters, digits, '-', '_' and '.'")
    _write(PLAYERS, players() | {name: checked_key(key)})


def revoke(name: str) -> None:
    """Let a player in no longer; a running engine notices and ends that player's session."""
    left = players()
    if name not in left:
        raise KeysError(f"no player is called {name!r} here; `dreamcade pair` lists them")
    del left[name]
    _write(PLAYERS, left)


def trust(address: str, key: str) -> None:
    """Remember an engine's key."""
    if not re.fullmatch(r"tcp://.+:\d{1,5}", address):
        raise KeysError(f"{address!r} is not an engine's address: write tcp://HOST:PORT")
    _write(ENGINES, engines() | {address: checked_key(key)})


def checked_key(key: str) -> str:
    """`key`, if it is a public key. Raises KeysError."""
    try:
        if len(key) == 40 and len(z85.decode(key.encode("ascii"))) == 32:
            return key
    except (ValueError, KeyError, UnicodeEncodeError):
        pass
    raise KeysError("that is not a key: copy the 40 characters that `dreamcade pair` shows, in 'quotes'")


def _read(name: str) -> dict[str, str]:
    path = folder() / name
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise KeysError(f"others can read {path}: run chmod 600 '{path}'")
        kept = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise KeysError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise KeysError(f"{path} is damaged: remove it, and pair anew") from None
    for key in kept.values():
        checked_key(key)
    return kept


def _write(name: str, kept: dict[str, str]) -> None:
    """Replace a file as a whole, never readable by others, not for a moment."""
    try:
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = folder() / f"{name}.new"
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder() / name)
    except OSError as error:
        raise KeysError(f"cannot write {folder() / name}: {error.strerror}") from None
