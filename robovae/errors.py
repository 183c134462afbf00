"""The one exception family that users see: one line with what was expected, what came, and the mend."""


class RobovaeError(Exception):
    """Bad input or a state that the user can mend; the command line prints it as one line and exits 2."""


class InterruptionError(RobovaeError):
    """Ctrl-C: what is finished is kept and the same command goes on; the command line exits with 130."""
