"""Configure, activate, deactivate: parameters, publishers, diagnostics, and what each state owns."""
