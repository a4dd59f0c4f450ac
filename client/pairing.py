"""`dreamcade pair`: who may play on this machine's engine, and which engines this machine plays on."""

from collections.abc import Callable
from typing import Annotated

import typer

from client.errors import UserError
from engine import keys

app = typer.Typer(
    help="Keys for playing over a network: each side is shown the other's once.",
    add_completion=False,
    rich_markup_mode=None,
)

KEYS_AS_THEY_ARE = {"ignore_unknown_options": True}
"""A key of another machine may begin with a dash."""
Name = Annotated[str, typer.Argument(metavar="NAME", help="What you call that player's machine.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="40 characters, in 'quotes'.")]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Of the engine: tcp://HOST:PORT.")]


@app.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """Show this machine's key, who may play here, and which engines are known."""
    if context.invoked_subcommand is not None:
        return
    own, players, engines = _own(), _kept(keys.players), _kept(keys.engines)
    print(f"this machine's key:  {own}")
    print(f"may play here:       {', '.join(players) or 'nobody yet'}")
    print(f"known engines:       {', '.join(engines) or 'none yet'}")
    print("\nTo play on another machine's engine:")
    print(f"  there:  dreamcade pair allow NAME '{own}'")
    print("          dreamcade serve --listen tcp://0.0.0.0:7878")
    print("  here:   dreamcade pair engine tcp://HOST:7878 'THE KEY SHOWN THERE'")
    print("          dreamcade play racing --engine tcp://HOST:7878")


@app.command(context_settings=KEYS_AS_THEY_ARE)
def allow(name: Name, key: Key) -> int:
    """Let a player's machine play here."""
    _do(lambda: keys.allow(name, key))
    print(f"{name} may play here; on that machine: dreamcade pair engine tcp://HOST:PORT '{_own()}'")
    return 0


@app.command()
def revoke(name: Name) -> int:
    """Let a player's machine play here no longer; its session ends at once."""
    _do(lambda: keys.revoke(name))
    print(f"{name} may play here no longer")
    return 0


@app.command(context_settings=KEYS_AS_THEY_ARE)
def engine(address: Address, key: Key) -> int:
    """Remember the key of an engine to play on."""
    _do(lambda: keys.trust(address, key))
    print(f"now: dreamcade play racing --engine {address}")
    return 0


def _own() -> str:
    try:
        return keys.own_keys().public
    except keys.KeysError as error:
        raise UserError(str(error)) from None


def _kept(read: Callable[[], dict[str, str]]) -> list[str]:
    try:
        return sorted(read())
    except keys.KeysError as error:
        raise UserError(str(error)) from None


def _do(change: Callable[[], None]) -> None:
    try:
        change()
    except keys.KeysError as error:
        raise UserError(str(error), 2) from None
