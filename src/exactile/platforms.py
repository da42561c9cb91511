"""Where exactile runs."""

from __future__ import annotations

from exactile.errors import PlatformError

_NAMES = {"darwin": "macOS", "win32": "Windows", "cygwin": "Windows"}


def check_platform(platform: str) -> None:
    """Raise PlatformError unless `platform`, by Python's name, is one that exactile runs on."""
    if platform != "linux":
        raise PlatformError(
            f"exactile runs on Linux, and this is {_NAMES.get(platform, platform)}: use its "
            "container there (docker or podman), on Windows also WSL 2"
        )
