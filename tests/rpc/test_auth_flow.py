"""Registration, sign-in, refresh and sign-out, as a client lives them."""

import grpc
import pytest
from holdfast.auth.v1 import auth_service_pb2 as pb

from tests.support import people
from tests.support.auth import World, refused

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


async def test_a_person_registers_verifies_signs_in_and_is_known(auth: World) -> None:
    ada = await auth.join()
    me = await auth.one.me(ada)
    assert (me.user.email, me.user.name, me.user.role) == (ada.email, ada.name, pb.ROLE_OWNER)
    assert me.session.name.endswith(ada.session_id)
    assert not me.session.access_token
    assert not me.session.refresh_token
