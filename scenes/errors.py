"""What aftermap says when it cannot go on; each error carries the exit code of the command line."""


class AftermapError(Exception):
    """An expected failure, told in words.

    A message says what was asked, what was found (with numbers and the path) and which argument
    fixes it. `exit_code` is what the command line returns.
    """

    exit_code = 1


class UsageError(AftermapError, ValueError):
    """The request itself makes no sense: an unknown method, a value out of range."""

    exit_code = 2


class Refused(AftermapError, ValueError):
    """Inputs, weights, plan or run folder were checked and turned down before any work."""

    exit_code = 3


class NothingToAnalyse(AftermapError):
    """The inputs are sound, but no pixel of them can be analysed."""

    exit_code = 5
