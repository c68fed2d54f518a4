"""The operator API of the Django app."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client, override_settings

from buttdial_sync.testing import FakeButtDialServer
from tests.unit.contrib.django_settings import BUTT_DIAL

pytestmark = pytest.mark.usefixtures("project")

ADDRESS = "/hooks/operator"


def allow_all(request: HttpRequest) -> bool:
    return True


def client_of(*, enforce_csrf_checks: bool = False, **user: Any) -> Client:
    http = Client(enforce_csrf_checks=enforce_csrf_checks)
    if user:
        http.force_login(User.objects.create_user("somebody", **user))
    return http


@pytest.mark.parametrize("user", [{}, {"is_active": True}], ids=["nobody", "no staff"])
def test_closed_by_default(user: dict[str, Any]) -> None:
    """Whoever is not of the staff gets 403, whatever they ask for."""
    http = client_of(**user)
    for path in ("overview", "agents", "nothing"):
        assert http.get(f"{ADDRESS}/{path}").status_code == 403
    assert http.post(f"{ADDRESS}/agents/7/activate").status_code == 403


def test_changes_need_the_csrf_token() -> None:
    """A POST of the staff without Django's token is 403, though the project has no middleware."""
    http = client_of(is_staff=True, enforce_csrf_checks=True)
    assert http.post(f"{ADDRESS}/agents/7/deactivate").status_code == 403
    token = {"X-CSRFToken": 32 * "a"}
    http.cookies["csrftoken"] = 32 * "a"
    assert http.post(f"{ADDRESS}/agents/7/deactivate", headers=token).status_code == 200


def test_the_staff_sees_and_changes() -> None:
    """The answers are the ones of the operator API, and not cached."""
    http = client_of(is_staff=True)
    agents = http.get(f"{ADDRESS}/agents")
    assert [agent["name"] for agent in agents.json()] == ["Maya", "Yossi"]
    assert "no-store" in agents["Cache-Control"]
    assert http.post(f"{ADDRESS}/agents/8/activate").status_code == 400
    assert http.get(f"{ADDRESS}/failed-messages?limit=x").status_code == 422
    wrong = http.get(f"{ADDRESS}/agents/7/activate")
    assert (wrong.status_code, wrong["Allow"]) == (405, "POST")


def test_the_overview(fake_server: FakeButtDialServer) -> None:
    """The overview is that of the process's client."""
    overview = client_of(is_staff=True).get(f"{ADDRESS}/overview").json()
    assert overview["connection_status"] == "connected"
    assert overview["failed_queue_size"] == 3


def test_a_permission_of_the_hosts_own() -> None:
    """OPERATOR_PERMISSION replaces the rule."""
    configured = {**BUTT_DIAL, "OPERATOR_PERMISSION": f"{__name__}.allow_all"}
    with override_settings(BUTT_DIAL=configured):
        assert client_of().get(f"{ADDRESS}/agents").status_code == 200


def test_without_a_directory_there_is_no_api() -> None:
    """Where the settings name no directory, everything is 404."""
    configured = {name: BUTT_DIAL[name] for name in ("BASE_URL", "AGENT_TOKEN")}
    with override_settings(BUTT_DIAL=configured):
        assert client_of(is_staff=True).get(f"{ADDRESS}/agents").status_code == 404
