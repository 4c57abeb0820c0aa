"""A simulated Microsoft 365 tenant: the default of the demo, and the double for Graph in tests."""
