"""Log lines as a test reads them."""

import io
import json
from typing import Any


class Lines(io.StringIO):
    """Where logging writes during a test."""

    @property
    def text(self) -> str:
        return self.getvalue()

    def read(self, size: int | None = -1, /) -> Any:
        """Every line so far, parsed."""
        return [json.loads(line) for line in self.getvalue().splitlines()]
