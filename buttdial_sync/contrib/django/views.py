"""The webhooks and the operator API, as views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods

from buttdial_sync.contrib.django.conf import app_settings, imported
from buttdial_sync.contrib.django.process import get_handler, get_operator_api
from buttdial_sync.inbound.web import has_unknown_length, headers_of, lacks_length, read_body
from buttdial_sync.operator.api import OperatorResponse, error_response

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def webhook(request: HttpRequest, channel: str) -> HttpResponse:
    """
    Answer a webhook (POST), or WhatsApp's subscription challenge (GET).

    Args:
        request: The request. Its signature is checked over the body's bytes.
        channel: As in :meth:`InboundHandler.handle`.
    """
    inbound = get_handler()
    if request.method == "POST":
        # Django reads no body without a length from WSGI, and ASGI's is in one piece already.
        environ = getattr(request, "environ", {})
        if has_unknown_length(environ):
            return HttpResponse(status=411)
        if lacks_length(environ):
            body = read_body(environ, inbound.max_body_bytes)
        else:
            # One byte more than allowed is enough to refuse it: a stranger cannot fill the memory.
            body = request.read(inbound.max_body_bytes + 1)
        answer = inbound.handle(channel, body, headers_of(request.META))
    else:
        answer = inbound.verify_subscription(request.GET)
    return HttpResponse(answer.body, status=answer.status, content_type=answer.content_type)


@never_cache
@csrf_protect
def operator(request: HttpRequest, path: str) -> HttpResponse:
    """
    Answer an operator's request, if the user has the permission.

    Args:
        request: The request. One that changes something needs Django's CSRF token.
        path: As in :meth:`OperatorApi.respond`.
    """
    # Compared with True: whatever else it returns, such as a coroutine, is not a yes.
    if _permission()(request) is not True:
        return _as_json(error_response(403, "Forbidden"))
    api = get_operator_api()
    if api is None:
        return _as_json(error_response(404, "Not Found"))
    return _as_json(api.respond(request.method, path, request.GET))


def may_operate(request: HttpRequest) -> bool:
    """
    Tell whether an active member of the staff has logged in, with the admin page's permission.

    That is ``view_outboxmessage`` for requests that only read, ``change_outboxmessage`` for others.
    """
    user = getattr(request, "user", None)
    if user is None or not (user.is_active and user.is_staff):
        return False
    action = "view" if request.method in _READING else "change"
    allowed: bool = user.has_perm(f"buttdial_sync.{action}_outboxmessage")
    return allowed


def _permission() -> Callable[[HttpRequest], Any]:
    path = app_settings().operator_permission
    return imported(path, "OPERATOR_PERMISSION") if path else may_operate


def _as_json(response: OperatorResponse) -> HttpResponse:
    return JsonResponse(response.data, status=response.status, headers=response.headers, safe=False)
