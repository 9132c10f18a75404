"""Which parts of `plugins/` this installation has, and why it lacks the others."""

from __future__ import annotations

import shutil

from d2export.doctor.finding import NativePart


def native_parts() -> tuple[NativePart, ...]:
    """What was built with the package; one part, the core, where nothing was."""
    from d2export.pruning import native

    again = "pip install --force-reinstall --no-deps ."
    if not native.available():
        failed = "pip install -v --force-reinstall --no-deps . shows why"
        compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
        return (
            NativePart(
                "native core",
                None,
                "there was no C++ compiler, or it failed; torch selects instead",
                failed if compiler else f"apt install g++, then {again}",
            ),
        )
    from d2export import _native

    info = _native.build_info()
    parts = []
    for name, part in info["parts"].items():
        built = part["built"] or None
        if name == "core":
            built = f"{info['vectors']}, {built}"
        add = part["add"]
        remedy = f"CMAKE_ARGS='-D{add}' {again}" if "=" in add else f"{add}, then {again}"
        parts.append(NativePart(f"native {name}", built, part["left_out"], remedy))
    return tuple(parts)
