"""What every variant stands on: kernels, the plan that checks a call and runs it, backends, settings."""
