"""The demo comes in a later version; its place is here."""
