"""The shop's addresses: webhooks under /butt-dial/whatsapp/ and so on."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("butt-dial/", include("buttdial_sync.contrib.django.urls")),
]
