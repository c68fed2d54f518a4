"""
A shop that answers the messages of its customers.

Set BUTT_DIAL_BASE_URL, BUTT_DIAL_AGENT_TOKEN, WHATSAPP_VERIFY_TOKEN and WHATSAPP_WEBHOOK_SECRET.
Then, in examples/django_app:

    python manage.py migrate
    gunicorn --workers 2 shop.wsgi
"""
