"""Fixtures that several test files share."""

from collections.abc import Iterator

import pytest

from tests.chromium import Tab, chromium, find


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    """A tab of a headless Chromium."""
    binary = find()
    if binary is None:
        pytest.skip("no chromium here")
    with chromium(binary) as one:
        yield one
