"""The consumer: both input topics into the inbox, each message once, and the bell after the commit."""
