"""The verb sync: source → mirror. What is new comes in, what left goes out, and a crash repeats work only."""
