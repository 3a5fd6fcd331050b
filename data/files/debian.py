"""Get files out of Debian's packages on any machine that has apt, without changing the system."""

import subprocess
from pathlib import Path

APT_OPTIONS = (
    "--option=APT::Sandbox::User=root",
    "--option=Acquire::Retries=0",
    "--option=Acquire::http::Timeout=10",
    "--option=Acquire::https::Timeout=10",
)
APT_SECONDS = 180


def unpack(package: str, folder: Path) -> Path:
    """Download a package into an empty folder and unpack it there.

    Returns:
        The folder with the files that the package would put below /.

    Raises:
        OSError: if a command is missing.
        RuntimeError: if a command fails.
        subprocess.TimeoutExpired: if a command does not end.
    """
    lists, cache = folder / "lists", folder / "cache"
    for place in (lists / "partial", cache / "archives" / "partial"):
        place.mkdir(parents=True)
    apt = ["apt-get", *APT_OPTIONS, f"--option=Dir::Cache={cache}"]
    try:
        run(*apt, "download", package, folder=folder)
    except RuntimeError:
        apt += [f"--option=Dir::State::lists={lists}"]
        run(*apt, "update", folder=folder)
        run(*apt, "download", package, folder=folder)
    run("dpkg-deb", "-x", *(archive.name for archive in folder.glob("*.deb")), "unpacked", folder=folder)
    return folder / "unpacked"


def run(*command: str, folder: Path) -> None:
    """Run a command in a folder.

    Raises:
        OSError: if there is no such command.
        RuntimeError: if the command fails; the message ends with the last line of the command's error output.
        subprocess.TimeoutExpired: if the command takes longer than APT_SECONDS.
    """
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=APT_SECONDS)
    if result.returncode:
        complaint = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{command[0]} says: {complaint}")
