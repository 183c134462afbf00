"""What can go wrong with an exported graph."""

from robovae.errors import RobovaeError


class ExportError(RobovaeError):
    """A graph cannot be written, read or used as asked."""
