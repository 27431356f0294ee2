"""The commands that there are, and what each imports once its arguments are known to be right."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("pipelines", "demo", "serving", "benchmarks")
# Runs in an exported folder, not here.
ALONE = ROOT / "pipelines" / "export" / "alone"


def commands() -> dict[str, Path]:
    """What stands after `python -m`, and its file."""
    files = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py") if file.parent != ALONE)
    found = {}
    for file in files:
        if file.name == "__main__.py" or '\nif __name__ == "__main__":' in file.read_text():
            module = file.parent if file.name == "__main__.py" else file.with_suffix("")
            found[".".join(module.relative_to(ROOT).parts)] = file
    return found


def late_imports(file: Path) -> list[str]:
    """The modules that the functions of a command's file import, in their order."""
    functions = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    found: list[str] = []
    for node in (inner for function in functions for inner in ast.walk(function)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            files = [ROOT / f"{name.replace('.', '/')}.py" for name in names]
            found += [name if path.exists() else node.module for name, path in zip(names, files, strict=True)]
    return list(dict.fromkeys(found))
