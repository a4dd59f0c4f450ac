"""The walls between the packages: imports run one way, and the thin client needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for package in ("client", "engine", "games") for p in (ROOT / package).rglob("*.py"))
HEAVY = ("torch", "openvino", "triton", "safetensors")


def name_of(path: Path) -> str:
    """The module's dotted name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """Dotted names `path` imports anywhere in it, also inside functions."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def inside(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def violation(module: str, name: str) -> bool:
    """Whether `module` must not import `name`."""
    if inside(name, "client.autopilot") and inside(module, "engine.training.evaluation"):
        return False  # long play is measured with the player's own scripted hand, which needs no torch
    if inside(name, "client") and not inside(module, "client"):
        return True
    if inside(name, "engine.training", "engine.bench") and not inside(
        module, "engine.training", "engine.bench"
    ):
        return True
    if inside(module, "client"):
        if inside(name, *HEAVY):
            return True
        if inside(name, "engine"):
            return not inside(name, "engine.protocol", "engine.keys")
        return inside(name, "games") and not is_thin_game_import(name)
    if (
        module in ("engine.protocol", "engine.keys")
        or module.endswith(".spec")
        or module in ("games", "games.spec")
    ):
        return inside(name, *HEAVY, "pygame")
    if inside(module, "games"):
        return inside(name, "engine", "zmq", "pygame")
    if inside(module, "engine.pacing"):
        own = inside(name, "engine.pacing", "engine.protocol")
        return (inside(name, "engine") and not own) or inside(name, *HEAVY, "zmq", "time")
    if inside(module, "engine.lobby", "engine.gateway"):
        return inside(name, *HEAVY, "engine.hosting", "engine.models", "engine.fast")
    if inside(module, "engine.fast") and inside(name, "engine.hosting", "engine.lobby", "engine.supervision"):
        return True
    if inside(module, "engine.models"):
        if inside(name, "engine"):
            return not inside(name, "engine.models", "engine.config", "engine.errors")
        return inside(name, "games", "zmq", "pygame", "msgspec")
    return False


def is_thin_game_import(name: str) -> bool:
    """games.GAMES, games.spec, games.<game>.spec and .units hold constants only."""
    return name in ("games", "games.GAMES") or ".spec" in name or ".units" in name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    wrong = sorted(name for name in imported(path) if violation(name_of(path), name))
    assert not wrong, f"{name_of(path)} must not import {wrong}"


def test_the_walls_see_what_they_should() -> None:
    assert violation("client.app", "engine.launch.Supervisor")
    assert violation("client.app", "torch")
    assert violation("client.app", "games.simulator")
    assert violation("client.app", "games.racing.world.World")
    assert violation("engine.gateway", "client.errors")
    assert violation("engine.training.evaluation.truth", "client.loop")
    assert violation("engine.training.world", "client.autopilot.Autopilot")
    assert not violation("engine.training.evaluation.truth", "client.autopilot.Autopilot")
    assert violation("engine.world_worker", "engine.training.data")
    assert violation("engine.models.layers", "zmq")
    assert violation("games.racing.world", "engine.protocol")
    assert violation("engine.pacing.clock", "engine.inner") and violation("engine.pacing.clock", "torch")
    assert violation("engine.lobby.attendant", "engine.hosting.host")
    assert violation("engine.fast.shared_backend", "engine.hosting.host")
    assert not violation("client.app", "engine.protocol.Frame")
    assert not violation("client.app", "games.racing.spec.SPEC")
    assert not violation("engine.training.world", "engine.training.data")


def test_the_thin_client_imports_without_torch() -> None:
    code = (
        "import sys, client.cli, client.app, client.replay\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert 'pygame.display' not in sys.modules or not sys.modules['pygame'].display.get_init()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_the_command_line_parses_without_pygame() -> None:
    code = "import sys, client.cli; assert 'pygame' not in sys.modules and 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
