"""The core that every variant uses: kernels, the plan that checks and runs a call, backends, settings."""
