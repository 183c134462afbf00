"""The error of this package."""

from robovae.errors import RobovaeError


class ControlError(RobovaeError):
    """Beliefs, actions or settings with which a policy cannot be fed or a robot controlled."""
