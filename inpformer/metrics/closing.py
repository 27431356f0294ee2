"""Context managers that keep temporary files and let go of them at the end, also after an error."""

from typing import Self


class Closing:
    """`with` calls `close` at its end."""

    def close(self) -> None:
        """Lets go of what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
