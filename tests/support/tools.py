"""Where the programs of the tools environment are (weed, envoy, …)."""

import os
import shutil
import sys
from pathlib import Path


def tool(name: str) -> str:
    """The path of program *name*: from HOLDFAST_TOOLS_BIN, else beside the running environment, else from PATH.

    Raises FileNotFoundError, so that a test which needs it fails instead of passing by absence.
    """
    beside = Path(sys.prefix).parent / "tools" / "bin"
    places = [os.environ.get("HOLDFAST_TOOLS_BIN", ""), str(beside), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(filter(None, places)))
    if found is None:
        raise FileNotFoundError(f"{name} is in none of HOLDFAST_TOOLS_BIN, {beside} and PATH")
    return found
