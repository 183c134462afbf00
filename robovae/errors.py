"""The one exception family that users see: one line with what was expected, what came, and the mend."""


class RobovaeError(Exception):
    """Bad input or a state that the user can mend; the command line prints it as one line and exits 2."""
