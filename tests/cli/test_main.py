import signal
import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from farstep.cli.main import COMMANDS, main


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(words, capsys):
    main(words)
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


def test_a_group_lists_its_commands(capsys):
    main(["data"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("make", "get", "import", "info"))


def test_the_version_is_the_package_s(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"farstep {version('farstep')}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "'farstep' has no command 'trian'. Did you mean 'train'?"),
        (["data", "mkae"], "'farstep data' has no command 'mkae'. Did you mean 'make'?"),
    ],
)
def test_a_misspelled_command_gets_the_nearest(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def paths(commands, *prefix):
    for name, command in commands.items():
        if isinstance(command, dict):
            yield from paths(command, *prefix, name)
        else:
            yield [*prefix, name]


@pytest.mark.parametrize("words", list(paths(COMMANDS)), ids=" ".join)
def test_every_command_explains_itself(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*words, "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert f"usage: farstep {' '.join(words)}" in printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_stopped_leaves_no_more_than_it_needs_to_go_on(number, tmp_path):
    pytest.importorskip("ogbench")
    words = ["data", "make", "pointmaze-medium-stitch", "--out", str(tmp_path / "made")]
    with subprocess.Popen(
        [sys.executable, "-m", "farstep", *words], stderr=subprocess.PIPE
    ) as made:
        while not [file for file in tmp_path.glob(".*/episodes") if file.stat().st_size]:
            assert made.poll() is None, made.communicate()[1]
            time.sleep(0.02)
        made.send_signal(number)
        assert made.wait(60) == 128 + number
        assert made.stderr is not None
        assert "the same command goes on from here" in made.stderr.read().decode()
    assert [entry.name for entry in tmp_path.iterdir()] == [".made.unfinished"]


def test_help_answers_without_loading_the_learning_core():
    program = """
import sys
from farstep.cli.main import main
main(["--help"])
assert not {"jax", "mujoco", "matplotlib", "tyro"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_options(shell, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--tyro-print-completion", shell])
    assert not caught.value.code
    script = capsys.readouterr().out
    assert "quickstart" in script
    assert "--batch-size" in script
