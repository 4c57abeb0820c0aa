"""Real servers on loopback, each started by the tests that need it, as an ordinary user, in a folder of its own."""
