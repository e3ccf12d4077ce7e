"""What `make status` says of a part that is not there: words, and nothing of the interpreter's."""

import socket

from deploy.stack.parts import answered, greeted


def test_a_part_that_is_not_there_does_not_answer() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening: nobody else can take it
        port = taken.getsockname()[1]
        assert answered(f"http://127.0.0.1:{port}/ready") == "does not answer"
        assert greeted(port) == "does not answer"
