"""The operator API of the Django app."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings

from buttdial_sync.testing import FakeButtDialServer
from tests.unit.contrib.django_settings import BUTT_DIAL

pytestmark = pytest.mark.usefixtures("project")

ADDRESS = "/hooks/operator"


def allow_all(request: HttpRequest) -> bool:
    return True


class Asynchronous:
    """An asynchronous permission whose coroutine nobody awaits."""

    async def __call__(self, request: HttpRequest) -> bool:
        return False


def to_the_login(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=302)


def says_one(request: HttpRequest) -> int:
    return 1


nobody_awaits = Asynchronous()


def client_of(*permissions: str, enforce_csrf_checks: bool = False, **fields: Any) -> Client:
    http = Client(enforce_csrf_checks=enforce_csrf_checks)
    if fields:
        user = User.objects.create_user("somebody", **fields)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        http.force_login(user)
    return http


VIEW, CHANGE = "view_outboxmessage", "change_outboxmessage"
PAGES = ("overview", "agents", "failed-messages")
CHANGES = ("agents/7/activate", "failed-messages/2/retry", "failed-messages/2/dismiss")


@pytest.mark.parametrize(
    ("permissions", "user"),
    [
        ((), {}),
        ((VIEW, CHANGE), {"is_active": True}),
        ((), {"is_staff": True}),
        (("view_delivery", "change_delivery"), {"is_staff": True}),
    ],
    ids=["nobody", "no staff", "staff without permissions", "staff with others"],
)
def test_closed_by_default(permissions: tuple[str, ...], user: dict[str, Any]) -> None:
    """Without the staff's flag or the admin's permissions all is 403, whatever is asked for."""
    http = client_of(*permissions, **user)
    for path in (*PAGES, "nothing"):
        assert http.get(f"{ADDRESS}/{path}").status_code == 403
    for path in CHANGES:
        assert http.post(f"{ADDRESS}/{path}").status_code == 403


@pytest.mark.parametrize(
    ("permissions", "user", "reads", "changes"),
    [
        ((VIEW,), {"is_staff": True}, 200, 403),
        ((CHANGE,), {"is_staff": True}, 403, 200),
        ((VIEW, CHANGE), {"is_staff": True}, 200, 200),
        ((), {"is_staff": True, "is_superuser": True}, 200, 200),
        ((), {"is_staff": True, "is_superuser": True, "is_active": False}, 403, 403),
    ],
    ids=["view", "change", "both", "superuser", "inactive superuser"],
)
def test_the_admins_permissions_hold(
    permissions: tuple[str, ...],
    user: dict[str, Any],
    reads: int,
    changes: int,
    fake_server: FakeButtDialServer,
) -> None:
    """Reading takes the permission to view, retrying and the like the one to change."""
    http = client_of(*permissions, **user)
    assert [http.get(f"{ADDRESS}/{path}").status_code for path in PAGES] == [reads] * 3
    assert [http.post(f"{ADDRESS}/{path}").status_code for path in CHANGES] == [changes] * 3


def test_changes_need_the_csrf_token() -> None:
    """A POST of the staff without Django's token is 403, though the project has no middleware."""
    http = client_of(CHANGE, is_staff=True, enforce_csrf_checks=True)
    assert http.post(f"{ADDRESS}/agents/7/deactivate").status_code == 403
    token = {"X-CSRFToken": 32 * "a"}
    http.cookies["csrftoken"] = 32 * "a"
    assert http.post(f"{ADDRESS}/agents/7/deactivate", headers=token).status_code == 200


def test_the_staff_sees_and_changes() -> None:
    """The answers are the ones of the operator API, and not cached."""
    http = client_of(VIEW, CHANGE, is_staff=True)
    agents = http.get(f"{ADDRESS}/agents")
    assert [agent["name"] for agent in agents.json()] == ["Maya", "Yossi"]
    assert "no-store" in agents["Cache-Control"]
    assert http.post(f"{ADDRESS}/agents/8/activate").status_code == 400
    assert http.get(f"{ADDRESS}/failed-messages?limit=x").status_code == 422
    wrong = http.get(f"{ADDRESS}/agents/7/activate")
    assert (wrong.status_code, wrong["Allow"]) == (405, "POST")


def test_the_overview(fake_server: FakeButtDialServer) -> None:
    """The overview is that of the process's client."""
    overview = client_of(VIEW, is_staff=True).get(f"{ADDRESS}/overview").json()
    assert overview["connection_status"] == "connected"
    assert overview["failed_queue_size"] == 3


def test_a_permission_of_the_hosts_own() -> None:
    """OPERATOR_PERMISSION replaces the rule."""
    configured = {**BUTT_DIAL, "OPERATOR_PERMISSION": f"{__name__}.allow_all"}
    with override_settings(BUTT_DIAL=configured):
        assert client_of().get(f"{ADDRESS}/agents").status_code == 200


@pytest.mark.parametrize("name", ["to_the_login", "says_one", "nobody_awaits"])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_only_true_is_a_yes(name: str) -> None:
    """What else a permission returns, such as a response or a coroutine, lets nobody in."""
    configured = {**BUTT_DIAL, "OPERATOR_PERMISSION": f"{__name__}.{name}"}
    with override_settings(BUTT_DIAL=configured):
        assert client_of().get(f"{ADDRESS}/agents").status_code == 403
        assert client_of().post(f"{ADDRESS}/agents/7/activate").status_code == 403


def test_without_a_directory_there_is_no_api() -> None:
    """Where the settings name no directory, everything is 404."""
    configured = {name: BUTT_DIAL[name] for name in ("BASE_URL", "AGENT_TOKEN")}
    with override_settings(BUTT_DIAL=configured):
        assert client_of(VIEW, is_staff=True).get(f"{ADDRESS}/agents").status_code == 404
