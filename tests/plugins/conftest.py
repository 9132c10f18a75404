"""The native code, built once."""

from __future__ import annotations

import pytest

from tests.plugins.drivers import Drivers, build


@pytest.fixture(scope="session")
def drivers() -> Drivers:
    """The CPU core and the phases of the CUDA kernel, in this process."""
    return Drivers(build())
