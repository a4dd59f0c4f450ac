"""What the player wants of the engine, as state: what may be lost with a link is said again over the next."""

from client.connection import Connection
from engine.protocol import Command

_MATTERS = {
    "pause": "pause",
    "resume": "pause",
    "beside": "beside",
    "alone": "beside",
    "reset": "start",
    "new_seed": "start",
}
"""What a command is about; the newest about a matter replaces those before it."""


class Wishes:
    """Each may be said twice: the engine does it once, or once more where nobody has seen that it did.
    `seed`: of the newest game asked for."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self.seed = seed
        self._connection = connection
        self._newest: dict[str, Command] = {}
        self._in_doubt = False
        self._epoch = self._left_epoch = 0  # of the newest picture; of the game that is to begin again

    @property
    def starting(self) -> bool:
        """No picture has come yet of the game that is to begin."""
        return "start" in self._newest

    def say(self, command: Command) -> None:
        self._newest[_MATTERS[command.kind]] = command
        self._tell(command)

    def start_again(self, seed: int | None = None) -> None:
        """With `seed`; None: with the same one."""
        self._left_epoch = max(self._epoch, self._connection.first_epoch)
        if seed is not None:
            self.seed = seed
            self.say(Command(kind="new_seed", seed=seed))
        else:  # the same is that of a start on its way, which may never have arrived
            self.say(self._newest.get("start", Command(kind="reset")))

    def saw(self, epoch: int) -> None:
        """A picture of this epoch has come."""
        self._epoch = epoch
        if epoch > self._left_epoch:
            self._newest.pop("start", None)

    def beside_stopped(self) -> None:
        """The engine took it away: it is wanted no longer."""
        self._newest.pop("beside", None)

    def in_doubt(self) -> bool:
        """Whether something said may be lost: the link was down then, or has been made anew since."""
        self._in_doubt |= self._connection.remade()
        return self._in_doubt

    def say_again(self) -> None:
        """Over the newest link."""
        self._connection.remade()
        self._in_doubt = False
        for command in self._newest.values():
            self._tell(command)

    def new_session(self, seed: int) -> None:
        """The engine began a game of `seed`, and knows of nothing else."""
        if seed == self.seed:
            self._newest.pop("start", None)
        self._left_epoch = self._connection.first_epoch
        self.say_again()

    def _tell(self, command: Command) -> None:
        self._in_doubt |= not self._connection.send(command)
