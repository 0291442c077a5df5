"""Whatever is sent, the server stays up and says why it refused."""
