"""The shop's addresses: the admin, and webhooks under /butt-dial/whatsapp/ and so on."""

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("butt-dial/", include("buttdial_sync.contrib.django.urls")),
    # The styles of the admin. A real shop has its web server or WhiteNoise do that.
    path("static/<path:path>", serve, {"insecure": True}),
]
