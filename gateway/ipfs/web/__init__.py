"""The HTTP gateway: paths to content, in every form that a client may ask for."""
