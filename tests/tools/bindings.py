"""TensorRT's Python bindings without TensorRT: enough to ask which names a version has, and of which types.

    python -m tests.tools.bindings [--folder build/bindings]

fetches the bindings' wheels, gives them libraries that are empty, and writes typing stubs of what they show. Nothing of
them is ever called. Needs pip, a C compiler and mypy's stubgen; `make bindings` runs it before the tests.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

VERSIONS = ("10.3.0", "10.13.3.9.post1", "10.16.1.11", "11.4.0.106")
"""JetPack 6.2, 7.0, 7.2 and the newest that a workstation gets."""
FOLDER = "JUDO_EDGE_BINDINGS"
"""Environment variable that names the folder of unpacked bindings."""
_USUAL = Path("build/bindings")
_LIBRARIES = ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin")
_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""Everything that the bindings look up in those libraries when they are loaded."""


def bindings_folder() -> Path:
    """Return where unpacked bindings are looked for, one folder for each version."""
    return Path(os.environ.get(FOLDER, "") or Path(__file__).parents[2] / _USUAL)


def environment_of(version: Path) -> dict[str, str]:
    """Return the environment in which `import tensorrt_bindings` works."""
    return {**os.environ, "PYTHONPATH": str(version), "LD_LIBRARY_PATH": str(version / "empty")}


def fetch(version: str, folder: Path) -> None:
    """Make one version ready; it is renamed into place when complete."""
    done = folder / version
    if (done / "typing" / "tensorrt" / "__init__.pyi").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        place = Path(work) / version
        _unpack(version, place)
        _add_empty_libraries(place, version)
        _add_typing(place)
        place.rename(done)


def _unpack(version: str, place: Path) -> None:
    wheel = f"tensorrt-cu12-bindings=={version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(place), wheel], check=True, timeout=120)
    for file in place.glob("*.whl"):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(place)
        file.unlink()


def _add_empty_libraries(place: Path, version: str) -> None:
    """Compile a library of functions that return nothing, once under each name."""
    source = place / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS))
    (place / "empty").mkdir()
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    for library in _LIBRARIES:
        name = f"{library}.so.{version.split('.')[0]}"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(place / "empty" / name), str(source)]
        subprocess.run(command, check=True)


def _add_typing(place: Path) -> None:
    """Write stubs of what the bindings show, and `tensorrt` as their other name."""
    start = "import sys; from mypy.stubgen import main; main(sys.argv[1:])"
    stubgen = [sys.executable, "-c", start, "--quiet", "--inspect-mode", "--output", str(place / "typing")]
    modules = ["-m", "tensorrt_bindings", "-m", "tensorrt_bindings.tensorrt"]
    subprocess.run([*stubgen, *modules], check=True, env=environment_of(place))
    stub = place / "typing" / "tensorrt_bindings" / "tensorrt.pyi"
    stub.write_text(_parsable(stub.read_text()))
    (place / "typing" / "tensorrt").mkdir()
    (place / "typing" / "tensorrt" / "__init__.pyi").write_text("from tensorrt_bindings.tensorrt import *\n")
    (place / "typing" / "tensorrt_bindings" / "__init__.pyi").write_text("")


def _parsable(stub: str) -> str:
    """Let the few signatures that are not Python, taken from docstrings, accept anything."""
    lines = ["# mypy: ignore-errors", *stub.splitlines()]
    while (wrong := _wrong_line(lines)) is not None:
        open_ended = re.sub(r"\(self.*\)( ->.*)?:", r"(self, *args, **kwargs)\1:", lines[wrong])
        if open_ended == lines[wrong]:
            raise ValueError(f"stubgen wrote {open_ended!r}")
        lines[wrong] = open_ended
    return "\n".join(lines) + "\n"


def _wrong_line(lines: list[str]) -> int | None:
    try:
        ast.parse("\n".join(lines))
    except SyntaxError as error:
        return (error.lineno or 1) - 1
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=bindings_folder())
    folder = parser.parse_args().folder
    for version in VERSIONS:
        fetch(version, folder.resolve())
        print(f"bindings {version}: {folder / version}")


if __name__ == "__main__":
    main()
