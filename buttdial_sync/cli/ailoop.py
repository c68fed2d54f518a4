"""Ask a person: ``ailoop ask|authorize|say|navigate|pending|answer|tasks|listen|resume``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial, wraps
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand, needing_extra, wants_json, with_options
from buttdial_sync.cli.connection import log_event
from buttdial_sync.cli.database import check_is_there
from buttdial_sync.cli.report import Failure, Report, say
from buttdial_sync.cli.status_line import STATUS_LINE
from buttdial_sync.errors.exits import DONE, EXIT_CODES, REFUSED, TRY_LATER, UNREACHABLE

if TYPE_CHECKING:
    from buttdial_sync.ailoop import AiloopClient, Answer, Message, Task

_PRIORITIES = ("low", "normal", "high", "urgent")
_STATES = ("pending", "done", "abandoned")
_ANSWER_EXITS = {"answered": DONE, "lost": UNREACHABLE}
_server_options = with_options(
    click.option(
        "--server-url", metavar="URL", envvar="AILOOP_SERVER", help="The server.", show_envvar=True
    ),
    click.option("--channel", help="The channel; AILOOP_CHANNEL, or public, if absent."),
)
_timeout_option = partial(
    click.option,
    "--timeout",
    type=float,
    metavar="SECONDS",
    help="How long to wait for the person; if absent 60, and 300 for authorize.",
)
_context_option = click.option("--context", help="More about it.")


@click.group(epilog=EXIT_CODES)
def ailoop() -> None:
    """
    Ask a person through ailoop.

    A token, if the server wants one, comes from AILOOP_TOKEN.
    """


def _with_client(callback: Callable[..., Report]) -> Callable[..., Report]:
    """Give a command the options of a server, and a client for as long as it runs."""

    @_server_options
    @wraps(callback)
    def run(*args: Any, server_url: str | None, channel: str | None, **kwargs: Any) -> Report:
        with needing_extra("ailoop"):
            from buttdial_sync.ailoop.client import AiloopClient
        given = {"server_url": server_url, "channel": channel}
        options: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        with AiloopClient.from_env(on_event=log_event, **options) as client:
            return callback(client, *args, **kwargs)

    return run


@ailoop.command(cls=ReportingCommand)
@click.argument("question")
@click.argument("choices", nargs=-1)
@click.option("--recommend", help="The choice that you recommend.")
@_context_option
@_timeout_option(default=60.0)
@_with_client
def ask(
    client: AiloopClient,
    question: str,
    choices: tuple[str, ...],
    recommend: str | None,
    context: str | None,
    timeout: float,
) -> Report:
    """
    Ask a QUESTION with CHOICES, and print the choice.

    Exits with 0 for an answer only; with 75 if nobody answered in time.
    """
    STATUS_LINE.doing = "Waiting for an answer"
    answer = client.ask(
        question,
        choices or None,
        recommendation=recommend,
        context=context,
        timeout=timeout,
    )
    return _report_of_answer(answer)


@ailoop.command(cls=ReportingCommand)
@click.argument("action")
@_context_option
@_timeout_option(default=300.0)
@click.option(
    "--confirm-settled", is_flag=True, help="Make sure that the server took the approval."
)
@_with_client
def authorize(
    client: AiloopClient,
    action: str,
    context: str | None,
    timeout: float,
    confirm_settled: bool,
) -> Report:
    """
    Ask to approve an ACTION; exit with 0 for an approval only.

    So this is safe: buttdial-sync ailoop authorize "Deploy" && deploy
    """
    STATUS_LINE.doing = "Waiting for an answer"
    result = client.authorize(
        action,
        context=context,
        timeout=timeout,
        confirm_settled=confirm_settled,
    )
    approved = result.approved is True
    return Report(
        data=attrs.asdict(result),
        lines=["Approved."] if approved else (),
        failure=None if approved else Failure(message=f"not approved: {result.reason}"),
        exit_code=DONE if approved else REFUSED,
    )


@ailoop.command("say", cls=ReportingCommand)
@click.argument("text")
@click.option(
    "--priority",
    type=click.Choice(_PRIORITIES),
    default="normal",
    show_default=True,
    help="How urgent it is.",
)
@_with_client
def say_text(client: AiloopClient, text: str, priority: Any) -> Report:
    """Tell a TEXT; nobody answers."""
    message_id = client.say(text, priority)
    return Report(data={"message_id": message_id}, lines=[f"Said, id {message_id}"])


@ailoop.command(cls=ReportingCommand)
@click.argument("url")
@click.option(
    "--no-wait",
    is_flag=True,
    help="Do not wait. The server shows no other prompt until the person answers.",
)
@_timeout_option(default=60.0)
@_with_client
def navigate(client: AiloopClient, url: str, no_wait: bool, timeout: float) -> Report:
    """Ask to open a URL; exit with 0 if the person says yes."""
    if no_wait:
        message_id = client.navigate_without_waiting(url)
        return Report(data={"message_id": message_id}, lines=[f"Asked, id {message_id}"])
    STATUS_LINE.doing = "Waiting for an answer"
    answer = client.navigate(url, timeout=timeout)
    report = _report_of_answer(answer)
    if answer.text != "no":
        return report
    return attrs.evolve(report, exit_code=REFUSED)


@ailoop.command(cls=ReportingCommand)
@_with_client
def pending(client: AiloopClient) -> Report:
    """List the prompts that are shown now."""
    found = client.pending()
    return Report(
        data={"prompts": [_plain(prompt) for prompt in found]},
        lines=[f"{each.message_id}  {each.kind:<9}  {each.channel}  {each.label}" for each in found]
        or ["No prompt is shown."],
    )


@ailoop.command("answer", cls=ReportingCommand)
@click.argument("message_id")
@click.argument("text", required=False)
@click.option("--approve", "response_type", flag_value="authorization_approved", help="Say yes.")
@click.option("--deny", "response_type", flag_value="authorization_denied", help="Say no.")
@click.option("--skip", "response_type", flag_value="cancelled", help="Put it off.")
@click.option("--withdraw", "response_type", flag_value="timeout", help="End it without an answer.")
@_with_client
def answer_prompt(
    client: AiloopClient, message_id: str, text: str | None, response_type: Any
) -> Report:
    """Answer the prompt MESSAGE_ID with a TEXT (an option's id, label or number), or an option."""
    if (text is None) == (response_type is None):
        raise click.UsageError("Give a text, or one of --approve, --deny, --skip, --withdraw.")
    response = client.respond(message_id, text, response_type or "text")
    return Report(
        data={"message_id": message_id, "response_id": response.id},
        lines=["The server has the answer."],
    )


@ailoop.group(epilog=EXIT_CODES)
def tasks() -> None:
    """Tasks of a channel, and what blocks them."""


@tasks.command("list", cls=ReportingCommand)
@click.option("--state", type=click.Choice(_STATES), help="Only these.")
@click.option("--ready", "which", flag_value="ready", help="Only pending ones that nothing blocks.")
@click.option("--blocked", "which", flag_value="blocked", help="Only those that wait for others.")
@_with_client
def list_tasks(client: AiloopClient, state: Any, which: str | None) -> Report:
    """List the tasks of the channel."""
    if which and state:
        raise click.UsageError("--state cannot be combined with --ready or --blocked.")
    if which == "ready":
        found = client.tasks.ready()
    elif which == "blocked":
        found = client.tasks.blocked()
    else:
        found = client.tasks.list(state=state)
    return Report(
        data={"tasks": [_plain(task) for task in found]},
        lines=[_task_line(task) for task in found] or ["No tasks."],
    )


@tasks.command("create", cls=ReportingCommand)
@click.argument("title")
@click.argument("description", default="")
@click.option("--assignee", help="Who does it.")
@_with_client
def create_task(client: AiloopClient, title: str, description: str, assignee: str | None) -> Report:
    """Make a task."""
    return _report_of_task(client.tasks.create(title, description, assignee=assignee))


@tasks.command("update", cls=ReportingCommand)
@click.argument("task_id")
@click.argument("state", type=click.Choice(_STATES))
@_with_client
def update_task(client: AiloopClient, task_id: str, state: Any) -> Report:
    """Set a task's STATE."""
    return _report_of_task(client.tasks.update(task_id, state))


@tasks.command("depend", cls=ReportingCommand)
@click.argument("task_id")
@click.argument("on")
@click.option("--remove", is_flag=True, help="It waits no longer.")
@_with_client
def depend(client: AiloopClient, task_id: str, on: str, remove: bool) -> Report:
    """Have a task wait for the task ON."""
    if remove:
        client.tasks.remove_dependency(task_id, on)
    else:
        client.tasks.add_dependency(task_id, on)
    return _report_of_task(client.tasks.get(task_id))


@ailoop.command(cls=ReportingCommand)
@click.option("--no-replay", is_flag=True, help="Leave out what was said before.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N messages.")
@click.pass_context
@_with_client
def listen(client: AiloopClient, ctx: click.Context, no_replay: bool, count: int | None) -> Report:
    """Print what is said, on all channels or on --channel, until Ctrl-C; a line for each."""
    only = ctx.params["channel"]
    heard = 0
    with client.listen(channels=only and [only], replay=not no_replay) as messages:
        for message in islice(messages, count):
            say(json.dumps(message.raw) if wants_json(ctx) else _message_line(message))
            heard += 1
    return Report(data={"messages": heard})


@ailoop.command(cls=ReportingCommand)
@click.option(
    "--db", required=True, type=click.Path(dir_okay=False), help="A SQLite file of questions."
)
@click.option("--watch", is_flag=True, help="Go on, and hear the terminal and Telegram, too.")
@_with_client
def resume(client: AiloopClient, db: str, watch: bool) -> Report:
    """Print the answers to posted questions, a line of JSON for each, each once."""
    from buttdial_sync.ailoop.questions import AnsweredQuestion, PendingQuestions

    def show(answered: AnsweredQuestion) -> None:
        say(json.dumps(attrs.asdict(answered)))

    check_is_there(db)
    with PendingQuestions.in_sqlite(db) as questions:
        done = client.resume(questions, show, watch=watch)
    return Report(
        data={"ok": not done.failed, **attrs.asdict(done)},
        lines=[f"{done.handed_over} answered, {done.waiting} waiting"],
    )


def _report_of_answer(answer: Answer) -> Report:
    exit_code = _ANSWER_EXITS.get(answer.status, TRY_LATER)
    failure = None if answer.answered else Failure(message=f"no answer: {answer.status}")
    return Report(
        data=attrs.asdict(answer),
        lines=[answer.option_id or answer.text or ""] if answer.answered else (),
        failure=failure,
        exit_code=exit_code,
    )


def _report_of_task(task: Task) -> Report:
    return Report(data=_plain(task), lines=[_task_line(task)])


def _plain(value: Any) -> dict[str, Any]:
    return dict(value.raw)


def _task_line(task: Task) -> str:
    waits = f"  waits for {', '.join(task.depends_on)}" if task.blocked else ""
    return f"{task.id}  {task.state:<9}  {task.title}{waits}"


def _message_line(message: Message) -> str:
    content = {
        name: value
        for name, value in message.raw["content"].items()
        if value is not None and name != "timeout_seconds"
    }
    moment = message.timestamp.strftime("%Y-%m-%d %H:%M:%S")
    return f"{moment}  {message.channel}  {message.sender_type}  {json.dumps(content)}"
