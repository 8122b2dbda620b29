"""Training of the experts; prediction never imports it."""
