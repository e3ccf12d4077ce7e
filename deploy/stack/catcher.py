"""The mail catcher: an SMTP server on loopback that keeps each mail as one .eml file. Run by the tools environment,
as a
script:

python catcher.py DIRECTORY PORT

It delivers nothing anywhere. The name of a file begins with the time, so that names sort by arrival.
"""

import asyncio
import os
import signal
import sys
import time
import uuid
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

MAX_BYTES = 10 * 1024 * 1024


class Keep:
    """Writes every mail into a directory; a reader never sees half of one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep one mail."""
        self.keep(envelope.original_content or b"")
        return "250 kept"

    def keep(self, mail: bytes) -> None:
        """Write one file and name it when it is whole."""
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        fresh = self.directory / f"{name}.part"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(mail)
        fresh.replace(self.directory / f"{name}.eml")


async def serve(directory: Path, port: int) -> None:
    """Serve until told to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    controller = Controller(
        Keep(directory), hostname="127.0.0.1", port=port, data_size_limit=MAX_BYTES, enable_SMTPUTF8=True
    )
    controller.start()
    try:
        await stop.wait()
    finally:
        controller.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
