"""The page from logs to a policy: its commands run as printed, on samples of real files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "log_to_policy.md").read_text(encoding="utf-8")
SAMPLES = [ROOT.parent / "shared" / "samples", ROOT / "shared" / "samples"]


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    found = [place for place in SAMPLES if (place / "rlds_bridge").is_dir()]
    if not found:
        pytest.skip("the samples of real files are not here")
    (tmp_path / "samples").symlink_to(found[0])
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-m", "-c", "".join(blocks)],
        cwd=tmp_path,
        env=os.environ | {"PATH": tools, "FARSTEP_DATA": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"action \[.*\] steps to go \d", done.stdout, re.DOTALL), done.stdout
    assert "25 episodes, 250 steps, and 25 to validate" in done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "policy").iterdir()} == {
        "policy.json",
        "policy.safetensors",
    }
