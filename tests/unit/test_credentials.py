"""What the stack draws as secrets is what services take for secrets."""

import json

from deploy.stack.credentials import fresh_identities, random_text
from libs.secret import weakness


def test_a_drawn_access_key_was_now_and_then_refused_for_too_little_variety() -> None:
    """One first `make up` in two thousand ended there: twenty hexadecimal digits can hold fewer than eight kinds."""
    drawn = [pair for _ in range(2000) for pair in json.loads(fresh_identities()).values()]
    assert [
        weakness(pair["access_key"].encode(), 16) for pair in drawn if weakness(pair["access_key"].encode(), 16)
    ] == []
    assert [pair for pair in drawn if weakness(pair["secret_key"].encode())] == []
    assert weakness(b"01" * 10, 16)  # the control: regular values are refused


def test_a_drawn_text_is_never_refused() -> None:
    assert [text for text in (random_text().strip() for _ in range(5000)) if weakness(text)] == []
