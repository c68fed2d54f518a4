"""Its app."""
