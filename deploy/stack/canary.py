"""The canary: one organization of the installation's own, which full drills sign in as on the copies they restore.

It has an account, one file, and the event that the file's storing told. It is made by the way any person goes, through
the edge and the mail that came; nobody else's list shows it, for it is a tenant like any other.
"""

import hashlib
import json
from datetime import UTC, datetime

import grpc

from deploy.stack.credentials import STACK
from deploy.stack.edge import Edge, Refused
from deploy.stack.parts import Parts
from deploy.stack.pki import write
from deploy.stack.prepare import own
from deploy.stack.visitors import mailed_token
from holdfast.auth.v1 import auth_service_pb2 as auth
from holdfast.files.v1 import file_service_pb2 as files

EMAIL = "canary@example.com"
PATH = "canary.txt"
EVENT = "file.created"
CONTENT = b"This file belongs to the installation: each full drill reads it from the copy it restored.\n" * 64
_AUTH = "/holdfast.auth.v1.AuthService"
_FILES = "/holdfast.files.v1.FileService"
_THERE = "SELECT count(*) FROM auth.accounts WHERE email = %s AND disabled_at IS NULL"


def ensure(parts: Parts) -> bool:
    """Make what is missing of the canary; whether anything was. Raises Refused, Failed or OSError."""
    with parts.cluster.admin(parts.cluster.database) as connection:
        row = connection.execute(_THERE, [EMAIL]).fetchone()
    there = bool(row and row[0])
    if there and parts.where.canary_file.exists():
        return False
    password = parts.vault.text(f"{STACK}/canary_password")
    edge = Edge(parts.edge_url, str(parts.where.ca_file))
    user = _signed_in(parts, edge, password)
    stored = _file(edge, user) or _store(edge, user)
    known = {
        "email": EMAIL,
        "password": password,
        "user": user,
        "file": stored.name,
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "event": EVENT,
        "made_at": datetime.now(UTC).isoformat(),
    }
    write(parts.where.canary_file, json.dumps(known).encode())
    own(parts.where.canary_file)
    return True


def _signed_in(parts: Parts, edge: Edge, password: str) -> str:
    """The canary's user name; *edge* carries its session. It is registered when it cannot sign in."""
    asked = auth.SignInRequest(email=EMAIL, password=password, delivery=auth.DELIVERY_TOKENS)
    try:
        answer = edge.call(f"{_AUTH}/SignIn", asked, auth.SignInResponse)
    except Refused as refused:
        if refused.code not in (grpc.StatusCode.UNAUTHENTICATED.value[0], grpc.StatusCode.FAILED_PRECONDITION.value[0]):
            raise
        wanted = auth.RegisterRequest(email=EMAIL, password=password, display_name="Canary")
        edge.call(f"{_AUTH}/Register", wanted, auth.RegisterResponse)
        token = mailed_token(parts.where.mail, EMAIL)
        edge.call(f"{_AUTH}/VerifyEmail", auth.VerifyEmailRequest(token=token), auth.VerifyEmailResponse)
        answer = edge.call(f"{_AUTH}/SignIn", asked, auth.SignInResponse)
    edge.token = answer.session.access_token
    return str(answer.user.name)


def _file(edge: Edge, user: str) -> files.File | None:
    """The canary's file, None when it has not been stored."""
    answer = edge.call(f"{_FILES}/ListFiles", files.ListFilesRequest(parent=user), files.ListFilesResponse)
    return next((file for file in answer.files if file.path == PATH), None)


def _store(edge: Edge, user: str) -> files.File:
    edge.put(PATH, CONTENT, "text/plain")
    found = _file(edge, user)
    if found is None:
        raise FileNotFoundError(f"the canary's {PATH} was stored and is not listed")
    return found
