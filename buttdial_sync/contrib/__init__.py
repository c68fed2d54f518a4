"""Faces for frameworks: each subpackage needs the extra of the same name, and nothing else does."""
