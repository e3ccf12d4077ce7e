"""A copy's server does not outlive the service that began it."""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

from services.backup.adapters.isolation import Isolation
from tests.support.waiting import DEADLINE_SECONDS

_SERVER = (
    "import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); print(os.getpid(), flush=True);"
    " signal.sigwait([signal.SIGINT]); print('asked to end', flush=True)"
)
_SERVICE = "import signal, subprocess, sys; subprocess.Popen(sys.argv[1:]); signal.pause()"


def test_what_was_begun_is_asked_to_end_when_the_service_is_killed() -> None:
    server = Isolation((), "none").wrap([sys.executable, "-c", _SERVER])
    with subprocess.Popen([sys.executable, "-c", _SERVICE, *server], stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        began = int(service.stdout.readline())
        try:
            service.kill()
            assert select.select([service.stdout], [], [], DEADLINE_SECONDS)[0]
            assert service.stdout.readline() == b"asked to end\n"
        finally:
            with suppress(ProcessLookupError):
                os.kill(began, signal.SIGKILL)
