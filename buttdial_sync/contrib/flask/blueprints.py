"""The webhooks and the operator API, as blueprints."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, jsonify, request

from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.inbound.web import has_unknown_length, headers_of
from buttdial_sync.operator.api import (
    NOT_MEANT,
    OperatorApi,
    OperatorResponse,
    check_permission,
    error_response,
)
from buttdial_sync.operator.csrf import is_meant


def webhook_blueprint(inbound: InboundHandler, url_prefix: str) -> Blueprint:
    """
    Return the webhooks: POST for deliveries, GET for WhatsApp's subscription challenge.

    Args:
        inbound: Checks the signatures over the bodies' bytes, and hands over.
        url_prefix: Where the addresses begin.
    """
    blueprint = Blueprint("buttdial", __name__, url_prefix=url_prefix)

    # Senders do not follow the redirect that Flask makes of a missing slash.
    @blueprint.route("/<channel>/", methods=["GET", "POST"], strict_slashes=False)
    def webhook(channel: str) -> Response:
        if has_unknown_length(request.environ):
            return Response(status=411)
        if request.method == "POST":
            # One byte more than allowed is enough to refuse it; a stranger cannot fill the memory.
            # Where the host has read the body already, the stream is empty and Flask has kept it.
            body = request.stream.read(inbound.max_body_bytes + 1) or request.get_data(cache=False)
            answer = inbound.handle(channel, body, headers_of(request.environ))
        else:
            answer = inbound.verify_subscription(request.args)
        return Response(answer.body, answer.status, content_type=answer.content_type)

    return blueprint


def operator_blueprint(
    make_api: Callable[[], OperatorApi], permission: Callable[[], bool], url_prefix: str
) -> Blueprint:
    """
    Return the operator API.

    Args:
        make_api: Makes it, inside a request.
        permission: Returns True if the current request may use it. Any other value is a no.
        url_prefix: Where the addresses begin.

    Raises:
        ArgumentTypeError: ``permission`` is a coroutine function.
    """
    check_permission(permission)
    blueprint = Blueprint("buttdial_operator", __name__, url_prefix=f"{url_prefix}/operator")

    @blueprint.route("/<path:path>", methods=["GET", "POST"])
    def operator(path: str) -> Response:
        # Compared with True: whatever else it returns, such as a redirect, is not a yes.
        if permission() is not True:
            return _as_json(error_response(403, "Forbidden"))
        if not is_meant(request.method, dict(request.headers)):
            return _as_json(error_response(403, NOT_MEANT))
        return _as_json(make_api().respond(request.method, path, request.args))

    return blueprint


def _as_json(response: OperatorResponse) -> Response:
    answer = jsonify(response.data)
    answer.status_code = response.status
    answer.headers.extend({"Cache-Control": "no-store", **response.headers})
    return answer
