"""The addresses of the shop."""

from __future__ import annotations

from django.urls import include, path

from tests.hosts.django_shop import views

urlpatterns = [
    path("orders/<order>/ship/", views.ship),
    path("hooks/", include("buttdial_sync.contrib.django.urls")),
]
