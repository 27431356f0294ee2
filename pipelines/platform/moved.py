"""MLflow keeps absolute paths of artefacts in its database: here one that moved with its folder is told so."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from inpformer.errors import UserError

ARTIFACTS = "mlartifacts"
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def artifacts_beside(database: Path) -> Path:
    """Where the artefacts of a local database lie."""
    return database.resolve().parent / ARTIFACTS


def follow(database: Path, experiment: str) -> None:
    """Corrects the locations in a database whose artefacts now lie beside it, elsewhere than it says.

    Raises UserError if they stayed behind: what is written would go there, unseen.
    """
    here = artifacts_beside(database)
    there = _recorded(database, experiment)
    if there is None or there == here:
        return
    if there.is_dir() and not here.is_dir():
        raise UserError(
            f"{database} was moved or copied without its artefacts, which lie in {there}: move or copy that folder to "
            f"{here}, then run again."
        )
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in LOCATIONS:
            for old, new in ((there.as_uri(), here.as_uri()), (str(there), str(here))):
                connection.execute(
                    f"UPDATE {table} SET {column} = ?2 || substr({column}, length(?1) + 1) "
                    f"WHERE {column} = ?1 OR substr({column}, 1, length(?1) + 1) = ?1 || '/'",
                    (old, new),
                )


def _recorded(database: Path, experiment: str) -> Path | None:
    """The folder that the experiment's artefacts lie in, as MLflow knows it; None for one that we did not choose."""
    if not database.is_file():
        return None
    with closing(sqlite3.connect(database)) as connection:
        try:
            rows = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,))
            location = urlsplit((rows.fetchone() or ("",))[0])
        except sqlite3.DatabaseError:  # MLflow has not made its tables yet, or says itself what is wrong
            return None
    folder = Path(unquote(location.path))
    return folder if location.scheme in ("", "file") and folder.name == ARTIFACTS else None
