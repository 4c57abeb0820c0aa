"""What people see: status, readiness, figures, and the signed reports of what was proven."""
