"""The one exception for what a player can put right."""


class UserError(Exception):
    """An expected failure. Its text says what is wrong and what to do; `exit_code` is the process's."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code
