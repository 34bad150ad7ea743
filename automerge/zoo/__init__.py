"""The zoo: tiny trained transformers, two adapters and the tasks they are measured on."""

from pathlib import Path

_ROOT = Path(__file__).resolve().parent


def path(relative: str) -> str:
    """The absolute path of a shipped file or folder, named like "models/base" or "tasks/sort/test.jsonl".

    Raises FileNotFoundError, naming what does exist beside it, when nothing is shipped under that name.
    """
    found = (_ROOT / relative).resolve()
    if found.exists() and found.is_relative_to(_ROOT):
        return str(found)
    parent = found.parent
    while not (parent.is_dir() and parent.is_relative_to(_ROOT)) and parent != parent.parent:
        parent = parent.parent
    if not parent.is_relative_to(_ROOT):
        parent = _ROOT
    shown = "" if parent == _ROOT else f"{parent.relative_to(_ROOT)}/"
    names = ", ".join(f"{shown}{name}" for name in _listed(parent))
    raise FileNotFoundError(f"the zoo has no {relative!r}; it has: {names}")


def _listed(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(("_", ".")))
