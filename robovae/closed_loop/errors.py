"""What the judge of the closed loop refuses."""

from robovae.errors import RobovaeError


class ClosedLoopError(RobovaeError):
    """An episode, a comparison or a film that would mean nothing."""
