"""One Django project for the process, and an empty database for each test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import django
import pytest
from django.conf import settings
from django.test.utils import (
    setup_databases,
    setup_test_environment,
    teardown_databases,
    teardown_test_environment,
)

from tests.unit.contrib import django_settings

# Not by DJANGO_SETTINGS_MODULE: Celery's workers, which other tests of this process start, would
# inherit it and look for these settings.
settings.configure(
    **{name: value for name, value in vars(django_settings).items() if name.isupper()}
)
django.setup()


@pytest.fixture(scope="session")
def _databases() -> Iterator[None]:
    setup_test_environment()
    before = setup_databases(verbosity=0, interactive=False)
    yield
    teardown_databases(before, verbosity=0)
    teardown_test_environment()


@pytest.fixture
def database(_databases: None) -> Iterator[None]:
    """Give empty tables; transactions are real, so that claims are too."""
    from django.contrib.auth.models import User

    from buttdial_sync.contrib.django.models import (
        AiloopQuestion,
        Delivery,
        InboxEvent,
        OutboxPause,
        OutboxReceipt,
    )

    yield
    for model in (AiloopQuestion, Delivery, InboxEvent, OutboxPause, OutboxReceipt, User):
        model.objects.all().delete()


@pytest.fixture
def project(database: None) -> Iterator[None]:
    """Give the app with a client, a handler and an operator API of this test only."""
    from buttdial_sync.contrib.django.process import forget_everything

    forget_everything()
    yield
    forget_everything()
