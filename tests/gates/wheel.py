"""Checks a wheel and an sdist: no file is missing, and a run with the wheel alone ends well outside of the repository.

Run in the repository by the interpreter of an environment that has all dependencies:
``python tests/gates/wheel.py FILES``.
The wheel is installed beside them, into an environment of its own.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

QUICKSTART = Path("configs/quickstart.yaml")
SMALL = [
    *("--data.train.init_args.count", "8"),
    *("--data.val.init_args.count", "4"),
    *("--data.num_workers", "0"),
    *("--trainer.max_epochs", "1"),
    *("--trainer.accelerator", "cpu"),
    *("--trainer.logger", "true"),
]


def lost(file: Path) -> list[str]:
    """The files of the package that Git knows and the wheel or sdist lacks."""
    listed = subprocess.run(["git", "ls-files", "lightning_seg"], capture_output=True, text=True, check=True)
    known = set(listed.stdout.splitlines())
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            return sorted(known - set(wheel.namelist()))
    with tarfile.open(file) as sdist:
        return sorted(known - {name.partition("/")[2] for name in sdist.getnames()})


def run_outside(wheel: Path) -> None:
    """Install the wheel into an empty environment beside the dependencies, and train in an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        packages = folder / "venv" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            packages,
            wheel.resolve(),
        ]
        subprocess.run(install, check=True)
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        shutil.copy(QUICKSTART, folder)
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        for command in (
            ["-c", f"import lightning_seg as it; assert it.__file__.startswith({name!r}), it.__file__"],
            ["-m", "lightning_seg.installation"],
            ["-m", "lightning_seg", "fit", "--config", QUICKSTART.name, *SMALL],
        ):
            python = folder / "venv/bin/python"
            subprocess.run([python, *command], check=True, cwd=folder, env=environment)
        assert (folder / "runs/quickstart/version_0/checkpoints/best.ckpt").is_file()


def main(*names: str) -> None:
    """Check these files, exactly one of which is a wheel."""
    files = [Path(name) for name in names]
    for file in files:
        if lost(file):
            names = ", ".join(lost(file))
            sys.exit(f"error: {file} lacks {names}: name them in pyproject.toml, [tool.setuptools.package-data]")
    (wheel,) = (file for file in files if file.suffix == ".whl")
    run_outside(wheel)
    print(f"{', '.join(names)}: complete, and the wheel trains outside of the repository")


if __name__ == "__main__":
    main(*sys.argv[1:])
