"""The command line: parse, call one verb, print. No logic lives here."""
