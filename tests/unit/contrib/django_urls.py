"""The addresses of the tests' Django project."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("hooks/", include("buttdial_sync.contrib.django.urls"))]
