"""Unary methods as plain JSON over POST, for curl and for languages without gRPC: the edge makes gRPC of it."""

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support.stack import Person, Stack

AUTH = "/holdfast.auth.v1.AuthService"
FILES = "/holdfast.files.v1.FileService"


@pytest.fixture(scope="module")
def person(stack: Stack) -> Person:
    """Somebody signed in."""
    return stack.person()


def posted(stack: Stack, path: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
    """Status and answer of one POST of JSON; the answer as text when it is none."""
    sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(stack.edge_url + path, json.dumps(body).encode(), sent)
    trust = ssl.create_default_context(cafile=str(stack.ca_file))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as refused:
        text = refused.read().decode()
        return refused.code, json.loads(text) if text.startswith("{") else text


@pytest.mark.stack
def test_a_person_signs_in_and_lists_files_with_json_alone(stack: Stack, person: Person) -> None:
    status, answer = posted(stack, f"{AUTH}/SignIn", {"email": person.email, "password": person.password})
    assert status == 200
    bearer = "Bearer " + answer["session"]["accessToken"]
    assert answer["user"]["name"] == person.user
    status, listed = posted(stack, f"{FILES}/ListFiles", {"parent": person.user}, authorization=bearer)
    assert (status, listed.get("files", [])) == (200, [])


@pytest.mark.stack
def test_a_refusal_in_json_carries_reason_and_request_id(stack: Stack, person: Person) -> None:
    status, answer = posted(stack, f"{AUTH}/SignIn", {"email": person.email, "password": "not the password"})
    assert status == 401
    details = {detail["@type"].rsplit(".", 1)[1]: detail for detail in answer["details"]}
    assert details["ErrorInfo"]["reason"] == "SIGN_IN_FAILED"
    assert details["RequestInfo"]["requestId"]


@pytest.mark.stack
def test_json_without_a_credential_is_refused(stack: Stack, person: Person) -> None:
    status, answer = posted(stack, f"{FILES}/ListFiles", {"parent": person.user})
    assert (status, answer["error"]["reason"]) == (401, "UNAUTHENTICATED")


@pytest.mark.stack
def test_a_bound_is_checked_for_json_too(stack: Stack) -> None:
    status, answer = posted(stack, f"{AUTH}/SignIn", {"email": "x", "password": ""})
    assert status == 400
    assert "email" in answer["message"]


@pytest.mark.stack
@pytest.mark.control("S6", "only the declared content types are taken")
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_content_type_a_form_can_send_is_refused(stack: Stack, person: Person, content_type: str) -> None:
    body = {"email": person.email, "password": person.password}
    assert posted(stack, f"{AUTH}/SignIn", body)[0] == 200
    status, answer = posted(stack, f"{AUTH}/SignIn", body, content_type=content_type)
    assert (status, answer["error"]["reason"]) == (415, "CONTENT_TYPE_NOT_ALLOWED")


@pytest.mark.stack
def test_a_stream_takes_no_json(stack: Stack, person: Person) -> None:
    bearer = f"Bearer {person.token}"
    status, answer = posted(
        stack, "/holdfast.events.v1.EventService/Subscribe", {"parent": person.user}, authorization=bearer
    )
    assert (status, answer["error"]["reason"]) == (415, "CONTENT_TYPE_NOT_ALLOWED")


@pytest.mark.stack
def test_a_services_method_has_no_route_for_json_either(stack: Stack, person: Person) -> None:
    body = {"user": person.user, "audience": "files"}
    status, _ = posted(
        stack, "/holdfast.auth.v1.TokenService/ExchangeToken", body, authorization=f"Bearer {person.token}"
    )
    assert status == 404


@pytest.mark.stack
def test_a_query_beside_the_json_is_refused_and_not_a_part_being_away(stack: Stack, person: Person) -> None:
    bearer = f"Bearer {person.token}"
    assert posted(stack, f"{FILES}/ListFiles", {"parent": person.user}, authorization=bearer)[0] == 200
    assert posted(stack, f"{FILES}/ListFiles?x=1", {"parent": person.user}, authorization=bearer)[0] == 400


@pytest.mark.stack
def test_a_method_that_is_not_served_is_404_and_not_a_part_being_away(stack: Stack, person: Person) -> None:
    status, answer = posted(stack, "/v1/files/x", {}, authorization=f"Bearer {person.token}")
    assert (status, answer["error"]["reason"]) == (404, "UNIMPLEMENTED")


@pytest.mark.stack
def test_a_nul_in_a_text_is_refused_by_name(stack: Stack) -> None:
    status, answer = posted(stack, f"{AUTH}/SignIn", {"email": "a\0@example.com", "password": "x"})
    assert (status, "email" in answer["message"]) == (400, True)
