"""The addresses of the tests' Django project."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("hooks/", include("buttdial_sync.contrib.django.urls")),
]
