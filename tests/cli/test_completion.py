"""``--print-completion``: a script for the shell that knows all commands and their options."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from jaxsal.cli.main import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_script_is_printed_for_each_shell(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", shell])
    assert end.value.code == 0
    script = capsys.readouterr().out
    for name in ("explain", "plan", "sanity", "swin-unetr", "voxels-per-lesion", "sphere-volume"):
        assert name in script
    program = shutil.which(shell)
    if program:
        (tmp_path / "script").write_text(script, encoding="utf-8")
        subprocess.run([program, "-n", str(tmp_path / "script")], check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_and_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out, encoding="utf-8")

    def completed(line: str) -> list[str]:
        words = " ".join(f"'{word}'" for word in line.split(" "))
        program = (
            f"source {tmp_path}/script; COMP_WORDS=({words}); "
            f"COMP_CWORD={len(line.split(' ')) - 1}; _shtab_jaxsal; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        found = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        return found.stdout.split()

    assert completed("jaxsal expl") == ["explain"]
    assert completed("jaxsal cohort pl") == ["plan"]
    assert completed("jaxsal explain --sam") == ["--samples"]
    assert completed("jaxsal explain --aggregate m") == ["max", "mean"]
