"""What a user gets: built, installed in clean environments, and tried, on every Python there is.

    make supply                     # or: python .ci/supply.py --only lowest wheel

For each of Python 3.11, 3.12 and 3.13 that is found (those that are not are named):
    lowest   the lowest versions that pyproject.toml declares, and the newest: a smoke run on each
    wheel    the wheel, installed without extras: its size, and a smoke run
    sdist    the same from the source distribution
Once:
    audit    known vulnerabilities of the locked versions, by pip-audit
    sbom     the locked versions as CycloneDX, in dist/farstep.cdx.json
Exit code 1 if one of them fails, or if a core install takes `MOST` bytes or more.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
MOST = 800 * 10**6
"""Bytes of a core install. JAX with NumPy and SciPy takes 513 of the 740 MB that were measured."""

# A user's first minutes, without a simulator: import, train, continue, export, act.
SMOKE = """
import os, subprocess, sys, tempfile
from pathlib import Path
import numpy as np
import farstep

place = Path(tempfile.mkdtemp())
os.environ["FARSTEP_DATA"] = str(place / "data")
rng = np.random.default_rng(0)
ends = np.zeros(200, bool)
ends[19::20] = True
np.savez(
    place / "logs.npz",
    observations=rng.normal(size=(200, 3)).astype(np.float32),
    actions=rng.uniform(-1, 1, (200, 2)).astype(np.float32),
    terminals=ends,
)

def command(*words):
    code = "import sys; from farstep.cli.main import main; main(sys.argv[1:])"
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, cwd=place)

command("data", "import", "logs.npz")
small = ["--hidden", 8, 8, "--latent", 16, "--groups", 2, "--batch-size", 8]
command("train", "logs", "--steps", 4, *small, "--out", "run")
command("train", "--resume", "run", "--steps", 6)
command("export", "run", "--out", "policy")
policy = farstep.load_policy(place / "policy")
action = policy.act(np.zeros((5, 3), np.float32), np.ones((5, 3), np.float32))
assert action.shape == (5, 2) and np.isfinite(action).all()
assert farstep.load_policy(place / "run").step == 6
"""


class Failed(Exception):
    """What went wrong, in a line or two."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CHECKS | ONCE, default=list(CHECKS | ONCE))
    parser.add_argument("--pythons", nargs="+", default=list(PYTHONS))
    asked = parser.parse_args()
    failed = False
    print("| Python | check | result | seconds |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="farstep-supply-") as place:
        for python, name, check in plan(asked.pythons, asked.only):
            began = time.monotonic()
            try:
                result = check(python, Path(place))
            except Failed as error:
                failed, result = True, f"FAILED: {error}"
            seconds = time.monotonic() - began
            print(f"| {python} | {name} | {result} | {seconds:.0f} |", flush=True)
    return int(failed)


def plan(pythons: list[str], only: list[str]) -> Iterator[tuple[str, str, Check]]:
    for python in pythons:
        found = interpreter(python)
        for name, check in CHECKS.items():
            if name in only:
                yield python, name, check if found else missing
    for name, check in ONCE.items():
        if name in only:
            yield "any", name, check


@functools.cache
def interpreter(python: str) -> str | None:
    """A Python of this version that really runs: a shim of pyenv's may start nothing."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{python}.*/bin/python"))
    code = f"import sys; sys.exit(sys.version_info[:2] != ({python.replace('.', ', ')}))"
    for candidate in (shutil.which(f"python{python}"), *map(str, reversed(installed))):
        if (
            candidate
            and not subprocess.run([candidate, "-c", code], capture_output=True).returncode
        ):
            return candidate
    return None


def missing(python: str, place: Path) -> str:
    return f"not run: there is no python{python} here"


def lowest(python: str, place: Path) -> str:
    """The smoke run with the lowest versions that are declared, then with the newest."""
    found = []
    for resolution in ("lowest-direct", "highest"):
        environment = venv(python, place / f"{resolution}-{python}")
        install(environment, "--resolution", resolution, ".")
        smoke(environment)
        versions = {
            one.split("==")[0]: one.split("==")[1]
            for one in uv("pip", "freeze", "--python", str(environment)).split()
            if "==" in one
        }
        shown = ("jax", "equinox", "optax", "orbax-checkpoint", "numpy")
        found.append(", ".join(f"{name} {versions[name]}" for name in shown))
    return "; ".join(found)


def wheel(python: str, place: Path) -> str:
    return core_install(python, place, "*.whl")


def sdist(python: str, place: Path) -> str:
    return core_install(python, place, "farstep-*.tar.gz")


def core_install(python: str, place: Path, pattern: str) -> str:
    """The size of what was built, installed without extras, after a smoke run from elsewhere."""
    built = place / "dist"
    if not built.exists():
        uv("build", "--out-dir", str(built))
    (package,) = built.glob(pattern)
    environment = venv(python, place / f"{package.suffix}-{python}")
    install(environment, str(package))
    size = sum(file.stat().st_size for file in environment.rglob("*") if not file.is_symlink())
    smoke(environment)
    if size >= MOST:
        raise Failed(f"a core install takes {size / 1e6:.0f} MB, and {MOST / 1e6:.0f} are too many")
    return f"{package.name}, {size / 1e6:.0f} MB installed"


def audit(python: str, place: Path) -> str:
    locked = place / "locked.txt"
    words = ("--frozen", "--all-extras", "--no-emit-workspace", "--no-hashes")
    locked.write_text(uv("export", *words, "--format", "requirements-txt"))
    # --strict: a package that cannot be looked up was not audited.
    return tool("pip-audit", "--strict", "--no-deps", "--disable-pip", "-r", str(locked))


def sbom(python: str, place: Path) -> str:
    out = ROOT / "dist" / "farstep.cdx.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(uv("export", "--frozen", "--all-extras", "--format", "cyclonedx1.5"))
    return f"{out.relative_to(ROOT)}, {out.read_text().count('bom-ref')} components"


Check = Callable[[str, Path], str]

CHECKS: dict[str, Check] = {"lowest": lowest, "wheel": wheel, "sdist": sdist}
ONCE: dict[str, Check] = {"audit": audit, "sbom": sbom}


def venv(python: str, place: Path) -> Path:
    uv("venv", "--quiet", "--python", str(interpreter(python)), str(place))
    return place


def install(environment: Path, *words: str) -> None:
    uv("pip", "install", "--quiet", "--python", str(environment), *words)


def smoke(environment: Path) -> None:
    """From another directory, so that nothing of the clone is imported."""
    run(str(environment / "bin" / "python"), "-W", "error::DeprecationWarning:farstep", "-c", SMOKE,
        cwd=environment)  # fmt: skip


def tool(name: str, *words: str) -> str:
    return run(uv_path(), "tool", "run", "--quiet", name, *words).strip().splitlines()[-1]


def uv(*words: str) -> str:
    return run(uv_path(), *words)


def uv_path() -> str:
    found = ROOT / ".tools" / "bin" / "uv"
    return str(found) if found.exists() else "uv"


def run(*words: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        said = " ".join([line for line in lines if line.startswith("farstep:")] or lines[-3:])
        raise Failed(f"{' '.join(words[:4])}: {said}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
