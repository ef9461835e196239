"""The machine and what is installed on it. What cannot be found out is None."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlx.core as mx

from .. import __version__
from ..kernels.choice import remembered
from ..state import state_folder

PACKAGES = (
    *("mlx", "mlx-lm", "huggingface-hub", "tokenizers", "numpy", "transformers"),
    *("av", "sounddevice", "pillow-heif", "llguidance", "mcp"),
)
# Programs that read what the packages cannot.
PROGRAMS = ("ffmpeg", *(("afconvert", "sips") if sys.platform == "darwin" else ()))
ENVIRONMENT = (
    "GEMMA4_",
    "HF_",
    "HUGGINGFACE_",
    "HUGGING_FACE_",
    "MLX_",
    "TRANSFORMERS_",
)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
# Whose values are switches, or folders of one's own; of all others it is only told that
# they are set: they may hold tokens, or addresses with passwords in them.
SHOWN = frozenset(
    {
        *("GEMMA4_MODEL", "GEMMA4_KERNELS", "GEMMA4_DEBUG", "GEMMA4_NO_HISTORY"),
        *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"),
        *(
            "HF_HUB_DISABLE_XET",
            "HF_HUB_DISABLE_TELEMETRY",
            "HF_HUB_ENABLE_HF_TRANSFER",
        ),
        *("TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME", "XDG_STATE_HOME"),
    }
)
SET = "set"


@dataclass(frozen=True)
class Machine:
    """Versions by name, None for what is not there. Memory and disk in bytes.

    working_set, wired_limit: of the GPU; 0 of the second is the system's own choice.
    container: what a container may use.
    """

    versions: Mapping[str, str | None]
    programs: Mapping[str, bool]
    system: str
    arch: str
    chip: str | None
    cores: int | None
    metal: bool
    device: str
    memory: int | None
    working_set: int | None
    wired_limit: int | None
    container: int | None
    disk_free: int | None
    hub_cache: Path
    hub_token: bool
    state: Path
    kernels: int
    environment: Mapping[str, str]

    @classmethod
    def here(cls) -> "Machine":
        from huggingface_hub import constants, get_token

        cache = Path(constants.HF_HUB_CACHE)
        metal = mx.metal.is_available()
        working = mx.device_info().get("max_recommended_working_set_size")
        return cls(
            versions=_versions(),
            programs={name: shutil.which(name) is not None for name in PROGRAMS},
            system=_system(),
            arch=platform.machine(),
            chip=_chip(),
            cores=os.cpu_count(),
            metal=metal,
            device="GPU" if mx.default_device().type == mx.gpu else "CPU",
            memory=_memory(),
            working_set=int(working) if metal and working else None,
            wired_limit=_wired_limit(),
            container=_container(),
            disk_free=_free(cache),
            hub_cache=cache,
            hub_token=get_token() is not None,
            state=state_folder(),
            kernels=remembered(),
            environment=_environment(os.environ),
        )


def existing(folder: Path) -> Path:
    """`folder`, or the nearest above it that is there."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def _versions() -> dict[str, str | None]:
    python = f"{platform.python_version()} ({platform.machine()})"
    found: dict[str, str | None] = {"mlx-gemma4": __version__, "python": python}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0] or 'of unknown version'}"
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    kernel = f"{platform.system()} {platform.release()}"
    library = " ".join(platform.libc_ver()).strip()
    return ", ".join(part for part in (name, kernel, library) if part)


def _chip() -> str | None:
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string")
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    name = mx.device_info().get("device_name")
    return str(name) if name else None


def _sysctl(name: str) -> str | None:
    """A figure that macOS states; None elsewhere, and where it has no such figure."""
    if sys.platform != "darwin":
        return None
    command = ["/usr/sbin/sysctl", "-n", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _wired_limit() -> int | None:
    stated = _sysctl("iogpu.wired_limit_mb")
    return int(stated) * 2**20 if stated and stated.isdecimal() else None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _container() -> int | None:
    try:
        stated = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return None
    return int(stated) if stated.isdecimal() else None


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(existing(folder)).free
    except OSError:
        return None


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that change what we or the Hub's library do, but for our own."""
    found = {}
    for name in sorted(environ):
        if (name, environ[name]) == ("MLX_ENABLE_TF32", "0"):
            continue
        proxy = name.upper() in PROXIES
        if environ[name] and (proxy or name in SHOWN or name.startswith(ENVIRONMENT)):
            found[name] = environ[name] if name in SHOWN else SET
    return found
