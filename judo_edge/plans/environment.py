"""Where a plan was built or is to run: builder, version, GPU, driver, platform. A plan fits exactly one of these.

Imports no TensorRT: the version is read from the installed package's description.
"""

from __future__ import annotations

import platform
import re
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from judo_edge.config import Frozen
from judo_edge.errors import DependencyError, PlanError
from judo_edge.plans.gpu import gpu_of_driver

Backend = Literal["tensorrt", "tensorrt_rtx"]

_EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
_TEGRA = Path("/etc/nv_tegra_release")
_TEGRA_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")


class Environment(Frozen):
    """What a plan is bound to."""

    backend: Backend
    version: Annotated[str, Field(pattern=r"^\d+(\.\w+)*$")]
    """Version of the builder's package."""
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    """Of the GPU that the plan is for, e.g. `8.7`."""
    driver: str = ""
    """CUDA version of the driver; empty for TensorRT for RTX, whose plans are finished by the driver they meet."""
    platform: str
    """`jetson-<L4T release>` or `<system>-<machine>`."""

    @property
    def key(self) -> str:
        """Return a folder name that differs for every other environment."""
        driver = f"-driver{self.driver}" if self.driver else ""
        return f"{self.backend}-{self.version}-sm{self.compute_capability.replace('.', '')}{driver}-{self.platform}"

    def __str__(self) -> str:
        """Say it for a reader."""
        driver = f", driver CUDA {self.driver}" if self.driver else ""
        return f"{self.backend} {self.version} on {self.platform}, compute capability {self.compute_capability}{driver}"


def current_environment(backend: Backend, compute_capability: str | None = None) -> Environment:
    """Describe this machine; `compute_capability` names a GPU to build for that is not here (TensorRT for RTX only).

    Raises DependencyError when the builder is not installed, PlanError when there is no GPU and none is named, or one
    is named for a builder that builds only for the GPU it runs on.
    """
    installed, gpu = _installed_version(backend), gpu_of_driver()
    if backend == "tensorrt_rtx":
        driver, capability = "", compute_capability or (gpu.compute_capability if gpu else None)
    else:
        driver, capability = (gpu.driver, gpu.compute_capability) if gpu else ("", None)
        if gpu and compute_capability not in (None, capability):
            found = f"TensorRT builds only for the GPU it runs on, compute capability {capability}"
            raise PlanError(found, compute_capability or "", "build on the target, or pass --backend tensorrt_rtx")
    if capability is None:
        action = "build on the target" + ("" if backend == "tensorrt" else ", or pass --compute-capability, e.g. 8.6")
        raise PlanError("no NVIDIA driver with a GPU on this machine", "the compute capability to build for", action)
    return Environment(
        backend=backend, version=installed, compute_capability=capability, driver=driver, platform=current_platform()
    )


def current_platform(release: Path = _TEGRA) -> str:
    """Return `jetson-<L4T release>` on a Jetson, otherwise `<system>-<machine>`."""
    if release.is_file() and (found := _TEGRA_RELEASE.search(release.read_text(encoding="utf-8", errors="replace"))):
        return f"jetson-{found[1]}.{found[2]}"
    return f"{sys.platform}-{platform.machine().lower()}"


def _installed_version(backend: Backend) -> str:
    for package in (backend, f"{backend}_cu13", f"{backend}_cu12"):  # the first only names one of the others
        with suppress(PackageNotFoundError):
            return version(package)
    extra = _EXTRAS[backend]
    action = f"pip install 'judo-edge[{extra}]'" + (" (a Jetson's comes with JetPack)" if extra == backend else "")
    raise DependencyError(f"the package {backend} is not installed", f"the extra {extra}", action)
