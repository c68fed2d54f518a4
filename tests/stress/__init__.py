"""Long campaigns against the fake server, run by hand; a short one of each is in the tests."""
