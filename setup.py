"""Build ``kaamos._fastpath``; everything else about the package stands in ``pyproject.toml``.

Switches, all read here and nowhere else (a value of ``1`` turns one on):

``KAAMOS_BUILD_DEBUG``     bounds checks and assertions, ``-O0 -g``
``KAAMOS_BUILD_SANITIZE``  comma separated sanitizers for the compiler, for example ``address,undefined``
``KAAMOS_BUILD_TRACE``     line tracing, for coverage of the Cython sources
``KAAMOS_BUILD_ANNOTATE``  an HTML page that shows what Cython made of each line
"""

import os
import platform
import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup


def is_on(switch: str) -> bool:
    return os.environ.get(f"KAAMOS_BUILD_{switch}", "") not in ("", "0")


def fastpath() -> list[Extension]:
    """Return the one extension module, as the switches ask for it."""
    debug, trace = is_on("DEBUG"), is_on("TRACE")
    compile_args = ["-O0", "-g", "-UNDEBUG"] if debug else ["-O3"]
    link_args = ["-pthread"]
    macros = [("KAAMOS_DEBUG", "1")] if debug else []
    if trace:
        macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]
    if sanitizers := os.environ.get("KAAMOS_BUILD_SANITIZE", ""):
        compile_args += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-g"]
        link_args.append(f"-fsanitize={sanitizers}")
    extension = Extension(
        "kaamos._fastpath",
        ["kaamos/_fastpath.pyx"],
        depends=["kaamos/_fastpath.pxd", *sorted(glob("kaamos/fastpath/*.pxi"))],
        extra_compile_args=[*compile_args, "-pthread"],
        extra_link_args=link_args,
        define_macros=macros,
    )
    return cythonize(
        [extension],
        build_dir="build",  # the generated C stays out of the package
        force=True,  # a changed switch changes no file, so time stamps would keep the old build
        annotate=is_on("ANNOTATE"),
        compiler_directives={
            "language_level": 3,
            "boundscheck": debug,
            "wraparound": False,
            "cdivision": True,
            "freethreading_compatible": True,
            "linetrace": trace,
        },
    )


if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
    sys.exit(
        f"Kaamos builds on Linux on x86_64 and aarch64 only, not on {sys.platform} {platform.machine()}."
    )

setup(ext_modules=fastpath())
