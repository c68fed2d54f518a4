"""Sending again what could not be sent."""
