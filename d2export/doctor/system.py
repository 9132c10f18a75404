"""Where the doctor looks: a test gives it another root and another driver."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# nvcc is not on a Jetson's PATH, nor system programs on that of every user.
MORE_PROGRAMS = ("/usr/local/cuda/bin", "/usr/sbin", "/usr/bin")


@dataclass(frozen=True)
class System:
    """The files and programs of a machine.

    Attributes:
        root: of its file system.
        driver: library of the CUDA driver, as `dlopen` takes it; None: the system's.
    """

    root: Path = Path("/")
    driver: str | None = None

    def path(self, absolute: str) -> Path:
        """Where `absolute` lies."""
        return self.root / absolute.lstrip("/")

    def text(self, absolute: str) -> str:
        """What a file says; nothing if it is not there or cannot be read."""
        try:
            return self.path(absolute).read_text(errors="replace")
        except OSError:
            return ""

    def find(self, pattern: str) -> Iterator[Path]:
        """Files whose absolute path is like `pattern`, in order."""
        yield from sorted(self.root.glob(pattern.lstrip("/")))

    def program(self, name: str) -> Path | None:
        """The first that is on the PATH or in a folder of its own."""
        for folder in (*os.environ.get("PATH", "").split(os.pathsep), *MORE_PROGRAMS):
            found = self.path(folder) / name
            if folder.startswith("/") and found.is_file() and os.access(found, os.X_OK):
                return found
        return None

    def output(self, name: str, *arguments: str) -> str:
        """What a program prints; nothing if there is none or it fails."""
        program = self.program(name)
        if program is None:
            return ""
        try:
            answer = subprocess.run(
                [program, *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            return ""
        return answer.stdout

    def package(self, name: str) -> str | None:
        """The version of a Debian package that is installed."""
        for entry in self.text("/var/lib/dpkg/status").split("\n\n"):
            fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", entry, re.MULTILINE))
            if fields.get("Package") == name and fields.get("Status", "").endswith(" installed"):
                return fields.get("Version")
        return None
