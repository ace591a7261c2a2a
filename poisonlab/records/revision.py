"""Which revision of the code made a record."""

from pathlib import Path

import poisonlab


def revision() -> str:
    """The commit that this code is of, in ten digits; where it is not known, the version, such as ``v0.1.0``."""
    app = poisonlab.app_folder()
    noted = app / "REVISION"  # written when a wheel is built
    found = noted.read_text(encoding="utf-8").strip() if noted.is_file() else checkout_revision(app)
    return found or f"v{poisonlab.__version__}"


def checkout_revision(root: Path) -> str:
    """Short hash of a checkout's commit, read without git; empty where there is no checkout."""
    try:
        git = root / ".git"
        if git.is_file():  # a worktree: the file names the folder
            git = (root / git.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head[:10]
        name = head.removeprefix("ref:").strip()
        shared = git / "commondir"
        common = (git / shared.read_text().strip()).resolve() if shared.exists() else git
        for folder in (git, common):
            if (folder / name).is_file():
                return (folder / name).read_text().strip()[:10]
        for line in (common / "packed-refs").read_text().splitlines():
            if line.endswith(f" {name}"):
                return line[:10]
    except OSError:
        pass
    return ""


LOADED = revision()  # of the code that this process runs: a checkout may move on under it
