"""What `dreamcade play` takes on the command line, and `serve` as well: types with their help for typer.
client/options.py has the values."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from games import GAMES

NAMES = ", ".join(GAMES)

Game = Annotated[str | None, Argument(metavar="[GAME]", help=f"One of: {NAMES}. Default: a menu of them.")]
Engine = Annotated[str | None, Option(help="Attach to a remote engine, e.g. tcp://192.168.1.5:7878.")]
Seed = Annotated[int | None, Option(help="Which world, 0 to 2147483647. Default: any.")]
Record = Annotated[Path | None, Option(metavar="DIR", help="Record to a new directory.")]
Reference = Annotated[bool, Option("--reference", help="Play the game's simulator, not the dream.")]
UseAutopilot = Annotated[bool, Option("--autopilot", help="A scripted player presses the keys.")]
Headless = Annotated[bool, Option("--headless", help="Play without a window.")]
Seconds = Annotated[float | None, Option(help="Stop this long after the first picture.")]
AsJson = Annotated[bool, Option("--json", help="End with one JSON line of measurements.")]
Stride = Annotated[int, Option(help="Frames per true step, 1 to 8; 0 lets the engine choose.")]
Fullscreen = Annotated[bool, Option("--fullscreen", help="Start in full screen.")]
Device = Annotated[str | None, Option(help="Of the local engine: cpu or cuda.")]
Weights = Annotated[Path | None, Option(metavar="DIR", help="Other weights for the local engine.")]
WorldRanks = Annotated[int | None, Option(help="Processes that share the world model.")]
DecoderRanks = Annotated[int | None, Option(help="Processes that decode, frames in turn.")]
Layout = Annotated[str | None, Option(help="auto: the planner shares out this machine's GPUs.")]
Mute = Annotated[bool, Option("--mute", help="Begin without sound; M brings it.")]
Beside = Annotated[
    bool, Option("--beside", help="Begin with the simulator beside the dream, like the key V.")
]
Picture = Annotated[Path | None, Option(metavar="FILE", help="Save the last picture shown, as PNG.")]
