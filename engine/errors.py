"""Errors that a user can meet. The text says what is wrong and what to do; nobody shows a traceback for
one."""


class EngineError(Exception):
    """Something outside this program has to change: weights, a device, an address in use."""

    exit_code = 1


class UsageError(EngineError):
    """The command line asks for what there is not."""

    exit_code = 2
